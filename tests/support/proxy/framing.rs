//! Where a message of HTTP/1.1 ends, told from its bytes and from nothing else.

/// Longer heads and lines are nobody's: what begins with one is passed on as it is.
const MOST: usize = 256 << 10;

/// One request or one response while it passes.
#[derive(Debug)]
pub struct Message {
    response: bool,
    state: State,
    /// The head or line that is not complete yet.
    line: Vec<u8>,
    /// The connection ends with this message, as its head says.
    pub close: bool,
    /// A request whose answer has no body whatever its head says.
    pub is_head: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes follow.
    Length(u64),
    /// The line with the size of a chunk.
    Size,
    /// So many bytes of a chunk follow, its line end included.
    Chunk(u64),
    Trailer,
    /// Until somebody closes: no message of HTTP/1.1, or one without a length.
    Open,
    Done,
}

impl Message {
    pub fn request() -> Self {
        Self { response: false, state: State::Head, line: Vec::new(), close: false, is_head: false }
    }

    /// The answer to a request; `is_head`: to HEAD.
    pub fn response(is_head: bool) -> Self {
        Self { response: true, is_head, ..Self::request() }
    }

    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Only the end of the connection ends it.
    pub fn open(&self) -> bool {
        self.state == State::Open
    }

    /// Takes the next bytes; answers how many of them belong to the message.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            let rest = &bytes[at..];
            at += match self.state {
                State::Head | State::Size | State::Trailer => self.line(rest),
                State::Length(left) => {
                    let taken = left.min(rest.len() as u64);
                    self.state = match left - taken {
                        0 => State::Done,
                        left => State::Length(left),
                    };
                    taken as usize
                }
                State::Chunk(left) => {
                    let taken = left.min(rest.len() as u64);
                    self.state = match left - taken {
                        0 => State::Size,
                        left => State::Chunk(left),
                    };
                    taken as usize
                }
                State::Open => rest.len(),
                State::Done => 0,
            };
        }
        at
    }

    /// Takes bytes up to the end of a line; a head is all its lines.
    fn line(&mut self, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        self.line.extend_from_slice(&bytes[..end]);
        if self.line.len() > MOST {
            self.state = State::Open;
        } else if self.line.ends_with(b"\n") {
            match self.state {
                State::Head if self.line.ends_with(b"\n\r\n") || self.line.ends_with(b"\n\n") => {
                    let head =
                        String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                    self.state = self.head(&head);
                }
                State::Size => {
                    let line =
                        String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                    let size = line.split(';').next().unwrap_or_default().trim();
                    self.state = match u64::from_str_radix(size, 16) {
                        Ok(0) => State::Trailer,
                        Ok(size) => State::Chunk(size.saturating_add(2)),
                        Err(_) => State::Open,
                    };
                }
                State::Trailer => {
                    let line = std::mem::take(&mut self.line);
                    if line == b"\r\n" || line == b"\n" {
                        self.state = State::Done;
                    }
                }
                _ => {}
            }
        }
        end
    }

    fn head(&mut self, head: &str) -> State {
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let (mut length, mut chunked, mut keep) = (None, false, false);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim().to_ascii_lowercase();
            match name.trim().to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.parse::<u64>()),
                "transfer-encoding" => chunked = value.ends_with("chunked"),
                "connection" => {
                    self.close |= value.contains("close");
                    keep |= value.contains("keep-alive");
                }
                _ => {}
            }
        }
        let body = match length {
            _ if chunked => State::Size,
            Some(Ok(0)) => State::Done,
            Some(Ok(length)) => State::Length(length),
            Some(Err(_)) => State::Open,
            None if self.response => State::Open,
            None => State::Done,
        };
        if !self.response {
            self.is_head = first.starts_with("HEAD ");
            self.close |= first.ends_with("HTTP/1.0") && !keep;
            let known = first.ends_with("HTTP/1.1") || first.ends_with("HTTP/1.0");
            return if known && !first.starts_with("CONNECT ") { body } else { State::Open };
        }
        self.close |= first.starts_with("HTTP/1.0") && !keep;
        match first.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()) {
            None | Some(101) => State::Open,
            // Only the beginning of an answer.
            Some(100..200) => State::Head,
            Some(204 | 304) => State::Done,
            Some(_) if self.is_head => State::Done,
            Some(_) => body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    /// How much of some bytes is the message, however they are cut.
    fn ends(make: impl Fn() -> Message, bytes: &[u8]) -> Option<usize> {
        let whole = {
            let mut message = make();
            let taken = message.feed(bytes);
            message.done().then_some(taken)
        };
        let mut message = make();
        let mut taken = 0;
        while taken < bytes.len() && !message.done() {
            assert_eq!(message.feed(&bytes[taken..=taken]), 1);
            taken += 1;
        }
        assert_eq!(message.done().then_some(taken), whole, "{bytes:?}");
        whole
    }

    #[test]
    fn messages_end_where_their_heads_say() {
        const CHUNKED: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\na: b\r\n\r\n";
        for message in [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            CHUNKED,
        ] {
            let more = format!("{message}GET");
            assert_eq!(ends(Message::request, more.as_bytes()), Some(message.len()), "{message}");
        }
        for without_end in [
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\nabc",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/1.1\r\nHost",
        ] {
            assert_eq!(ends(Message::request, without_end.as_bytes()), None, "{without_end}");
        }
        for (to_head, message) in [
            (false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            (false, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n"),
            (true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ] {
            let more = format!("{message}x");
            let found = ends(|| Message::response(to_head), more.as_bytes());
            assert_eq!(found, Some(message.len()), "{message}");
        }
        let until_the_end = b"HTTP/1.1 200 OK\r\n\r\nuntil the end";
        assert_eq!(ends(|| Message::response(false), until_the_end), None);
    }

    #[test]
    fn who_ends_the_connection_is_told() {
        for (bytes, close) in [
            ("GET / HTTP/1.1\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
        ] {
            let mut message = Message::request();
            message.feed(bytes.as_bytes());
            assert_eq!(message.close, close, "{bytes}");
        }
    }
}
