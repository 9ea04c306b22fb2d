//! Looking into `.gitmodules`: values that have been used to attack git.
//!
//! The file is read as git reads its configuration ([git-config, syntax](
//! https://git-scm.com/docs/git-config#_syntax)), since the attacks live on what a
//! simpler reader does not see: quotes, escapes, lines that go on, carriage returns. A
//! line that git could not read is passed over, and what follows is looked at.

use percent_encoding::percent_decode;

use super::Oddity;

/// Looks for submodules whose name, address, path or update setting has been used to attack git
/// (fsck: `gitmodulesName`, `gitmodulesUrl`, `gitmodulesPath`, `gitmodulesUpdate`). `odd` gets the
/// line, from 1, and the offending value.
pub fn read(data: &[u8], mut odd: impl FnMut(Oddity, u32, &[u8])) {
    let mut reader = Reader { data, at: 0, line: 1 };
    let mut in_submodule = true;
    while let Some(byte) = reader.peek() {
        let line = reader.line;
        match byte {
            b'[' => {
                let section = reader.section();
                in_submodule = section.as_ref().is_none_or(|s| s.kind == b"submodule");
                if let Some(name) = section.filter(|s| s.kind == b"submodule").and_then(|s| s.name)
                    && bad_name(&name)
                {
                    odd(Oddity::SubmoduleName, line, &name);
                }
            }
            b'#' | b';' => reader.rest_of_line(),
            byte if byte.is_ascii_alphabetic() => {
                let Some((key, value)) = reader.setting() else { continue };
                if in_submodule && let Some(oddity) = bad_value(&key, &value) {
                    odd(oddity, line, &value);
                }
            }
            byte if byte.is_ascii_whitespace() => {
                reader.next();
            }
            _ => reader.rest_of_line(),
        }
    }
}

fn bad_name(name: &[u8]) -> bool {
    gix_validate::submodule::name(name.into()).is_err()
}

fn bad_value(key: &[u8], value: &[u8]) -> Option<Oddity> {
    let option = value.starts_with(b"-");
    match key {
        b"url" if option || bad_url(value) => Some(Oddity::SubmoduleUrl),
        // Git writes such a value without its carriage return and reads another path then.
        b"path" if option || value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) => {
            Some(Oddity::SubmodulePath)
        }
        b"update" if value.starts_with(b"!") => Some(Oddity::SubmoduleUpdate),
        _ => None,
    }
}

/// Addresses with which git or its credential helpers were made to talk to another host, or to run
/// a program.
fn bad_url(url: &[u8]) -> bool {
    let decoded: Vec<u8> = percent_decode(url).collect();
    let newline = decoded.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0));
    let lower = url.to_ascii_lowercase();
    if newline || lower.starts_with(b"ext::") || lower.starts_with(b"fd::") {
        return true;
    }
    if url.starts_with(b"./") || url.starts_with(b"../") {
        return leaves_its_root(url);
    }
    // `http::<address>` names the program that fetches, and means the address behind it.
    let helper = [b"https::".as_slice(), b"http::", b"ftps::", b"ftp::"]
        .into_iter()
        .find(|helper| lower.starts_with(helper));
    let address = url.get(helper.map_or(0, <[u8]>::len)..).unwrap_or_default();
    let Some((scheme, rest)) = split_scheme(address) else {
        // The program would take the whole for a host without a scheme.
        return helper.is_some();
    };
    let authority = rest.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next();
    let host = authority.unwrap_or_default().rsplit(|byte| *byte == b'@').next();
    let host = host.unwrap_or_default();
    // Git hands the host to ssh as a word of its own.
    let by_curl = matches!(&*scheme, b"http" | b"https" | b"ftp" | b"ftps");
    host.starts_with(b"-") || (by_curl && matches!(host.first(), None | Some(b':')))
}

fn split_scheme(address: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let at = address.windows(3).position(|part| part == b"://")?;
    let (scheme, rest) = address.split_at_checked(at)?;
    Some((scheme.to_ascii_lowercase(), rest.get(3..)?))
}

/// `../` takes components off the address of the repository; what takes off its host as well and
/// goes on with a colon or a slash makes an address without one.
fn leaves_its_root(url: &[u8]) -> bool {
    let mut rest = url;
    let mut up = false;
    loop {
        if let Some(behind) = rest.strip_prefix(b"../") {
            (rest, up) = (behind, true);
        } else if let Some(behind) = rest.strip_prefix(b"./") {
            rest = behind;
        } else {
            return up && matches!(rest.first(), Some(b':' | b'/'));
        }
    }
}

struct Section {
    /// Lower case.
    kind: Vec<u8>,
    /// What stands in quotes, or behind the dot of the old form.
    name: Option<Vec<u8>>,
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    line: u32,
}

impl Reader<'_> {
    /// The next byte; a carriage return before a newline is not one.
    fn peek(&self) -> Option<u8> {
        match self.data.get(self.at..)? {
            [b'\r', b'\n', ..] => Some(b'\n'),
            rest => rest.first().copied(),
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        // Of the two bytes of such a line end only the second counts.
        self.at += if byte == b'\n' && self.data.get(self.at) == Some(&b'\r') { 2 } else { 1 };
        self.line = self.line.saturating_add(u32::from(byte == b'\n'));
        Some(byte)
    }

    fn rest_of_line(&mut self) {
        while !matches!(self.next(), None | Some(b'\n')) {}
    }

    /// `[kind "name"]` or `[kind.name]`; what is malformed ends with its line.
    fn section(&mut self) -> Option<Section> {
        self.next();
        let mut kind = Vec::new();
        while let Some(byte) = self.peek() {
            match byte {
                b']' => {
                    self.next();
                    let dot = kind.iter().position(|byte| *byte == b'.');
                    let name = dot.map(|dot| kind.split_off(dot).split_off(1));
                    return Some(Section { kind, name });
                }
                b'"' => {
                    self.next();
                    let name = self.quoted()?;
                    return (self.next()? == b']').then_some(Section { kind, name: Some(name) });
                }
                b'\n' => return None,
                b' ' | b'\t' => {}
                byte => kind.push(byte.to_ascii_lowercase()),
            }
            self.next();
        }
        None
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(name),
                b'\n' => return None,
                b'\\' => name.push(self.next().filter(|byte| *byte != b'\n')?),
                byte => name.push(byte),
            }
        }
    }

    /// `key = value`; `None` for a key alone, and for what git cannot read.
    fn setting(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut key = Vec::new();
        while let Some(byte) =
            self.peek().filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        {
            key.push(byte.to_ascii_lowercase());
            self.next();
        }
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.next();
        }
        if self.peek() != Some(b'=') {
            self.rest_of_line();
            return None;
        }
        self.next();
        Some((key, self.value()))
    }

    fn value(&mut self) -> Vec<u8> {
        let mut value = Vec::new();
        // Spaces at the end do not count, those in quotes do.
        let mut length = 0;
        let (mut quoted, mut comment) = (false, false);
        loop {
            match self.next() {
                None | Some(b'\n') => break,
                Some(_) if comment => {}
                Some(b'"') => {
                    quoted = !quoted;
                    length = value.len();
                }
                Some(b'#' | b';') if !quoted => comment = true,
                Some(byte) if !quoted && byte.is_ascii_whitespace() => {
                    if !value.is_empty() {
                        value.push(byte);
                    }
                }
                Some(b'\\') => {
                    match self.next() {
                        None => break,
                        Some(b'\n') => {}
                        Some(b'n') => value.push(b'\n'),
                        Some(b't') => value.push(b'\t'),
                        Some(b'b') => value.push(8),
                        Some(byte) => value.push(byte),
                    }
                    length = value.len();
                }
                Some(byte) => {
                    value.push(byte);
                    length = value.len();
                }
            }
        }
        value.truncate(length);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd(text: &str) -> Vec<Oddity> {
        let mut found = Vec::new();
        read(text.as_bytes(), |oddity, _, _| found.push(oddity));
        found
    }

    fn values(text: &str) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        read(text.as_bytes(), |_, line, value| {
            found.push((line, String::from_utf8_lossy(value).into_owned()));
        });
        found
    }

    #[test]
    fn ordinary_submodules_pass() {
        let text = "[submodule \"libs/zlib\"]\n\tpath = libs/zlib\n\turl = https://example.com/z-lib.git\n";
        assert_eq!(odd(text), []);
        assert_eq!(odd(&text.replace('\n', "\r\n")), [], "a file with Windows line ends");
        let quoted = text.replace("= libs/zlib", "= \"libs/zlib\"").replace('\n', "\r\n");
        assert_eq!(odd(&quoted), []);
        for url in [
            "../zlib.git",
            "../../other/zlib",
            "./zlib",
            "git@example.com:zlib.git",
            "ssh://git@example.com:22/zlib",
            "https://u:p@example.com:8443/z%20lib",
            "/srv/git/zlib",
            "file:///srv/git/zlib",
            "git://example.com/zlib",
        ] {
            assert_eq!(odd(&format!("[submodule \"z\"]\nurl = {url}\n")), [], "{url}");
        }
        assert_eq!(odd("[submodule \"z\"]\nupdate = rebase\nbranch = -x\n"), []);
        assert_eq!(odd("[alias]\nurl = -u./payload\n"), [], "another section");
    }

    #[test]
    fn cve_2018_11235_names_that_leave_their_folder() {
        for section in ["\"../../x\"", "\"a/../..\"", "\"..\"", "\"a\\\\..\\\\b\"", "\"\\../x\""] {
            let text = format!("[submodule {section}]\n");
            assert_eq!(odd(&text), [Oddity::SubmoduleName], "{section}");
        }
        assert_eq!(odd("[SubModule   \"../x\"] path = x\n"), [Oddity::SubmoduleName]);
        assert_eq!(odd("[submodule.../x]\n"), [Oddity::SubmoduleName]);
    }

    #[test]
    fn cve_2018_17456_addresses_that_are_options() {
        assert_eq!(odd("url = -u./payload\n"), [Oddity::SubmoduleUrl]);
        assert_eq!(odd("url = \"-u./payload\"\n"), [Oddity::SubmoduleUrl]);
        assert_eq!(odd("url = \\\n  -u./payload\n"), [Oddity::SubmoduleUrl], "a line that goes on");
        assert_eq!(odd("url = ssh://-oProxyCommand=x/y\n"), [Oddity::SubmoduleUrl]);
        assert_eq!(odd("url = ext::sh -c whoami\n"), [Oddity::SubmoduleUrl]);
        assert_eq!(odd("path = -rf\n"), [Oddity::SubmodulePath]);
    }

    #[test]
    fn cve_2020_5260_newlines_in_addresses() {
        assert_eq!(odd("URL = https://host/%0ahost=evil\n"), [Oddity::SubmoduleUrl]);
        assert_eq!(odd("url = ../a%0Ahost=evil\n"), [Oddity::SubmoduleUrl]);
        assert_eq!(odd("url = \"https://host/\\nhost=evil\"\n"), [Oddity::SubmoduleUrl]);
    }

    #[test]
    fn cve_2020_11008_addresses_without_a_host() {
        for url in [
            "https:///path",
            "http://",
            "https::example.com/x",
            "http::https:///x",
            "https://:80/x",
            "../../../../:host/x",
            "..//host/x",
            "./..//x",
        ] {
            assert_eq!(odd(&format!("url = {url}\n")), [Oddity::SubmoduleUrl], "{url}");
        }
    }

    #[test]
    fn cve_2019_19604_commands_as_update() {
        assert_eq!(odd("update = !touch x\n"), [Oddity::SubmoduleUpdate]);
    }

    #[test]
    fn cve_2025_48384_a_carriage_return_at_the_end_of_a_path() {
        assert_eq!(odd("path = \"a\r\"\n"), [Oddity::SubmodulePath]);
        assert_eq!(odd("path = a\\\r\"\"\n"), [Oddity::SubmodulePath]);
        assert_eq!(odd("path = a\r\r\n"), [], "git trims it");
    }

    #[test]
    fn places_and_values_are_told() {
        let text = "# x\r\n[submodule \"a\"] ; y\n\turl = \"-a \" # z\n\n\tpath = -b ; c\n";
        assert_eq!(values(text), [(3, "-a ".to_owned()), (5, "-b".to_owned())]);
    }

    #[test]
    fn whatever_is_malformed_is_passed_over() {
        for text in [
            "[",
            "[submodule",
            "[submodule \"",
            "[submodule \"a",
            "\0\0",
            "url",
            "url =",
            "a\\",
            "]",
        ] {
            assert_eq!(odd(text), [], "{text:?}");
            let behind = format!("{text}\n[submodule \"x\"]\nurl = -x\n");
            assert!(odd(&behind).contains(&Oddity::SubmoduleUrl), "{text:?}");
        }
    }
}
