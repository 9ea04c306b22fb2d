//! The client's side of git's smart HTTP protocol, as much of it as a fetch into a
//! store needs: the advertisement, the refs that were asked for, the request for a
//! pack, and the pack's bytes out of the side-band.
//!
//! Protocol version 2 is asked for, and the answer of a server that speaks 0 or 1 is
//! understood as well
//! ([gitprotocol-v2](https://git-scm.com/docs/gitprotocol-v2),
//! [gitprotocol-pack](https://git-scm.com/docs/gitprotocol-pack),
//! [gitprotocol-http](https://git-scm.com/docs/gitprotocol-http)).
//!
//! Everything that is read is bounded: a packet by its four digits, an answer by the
//! bounds of the request, and what is kept of it by what was asked for. There is no
//! negotiation in rounds: what the store has is said once, and the server takes it into
//! account or not; the pack is complete in either case.

use bytes::{Buf as _, Bytes, BytesMut};
use sluice_git::{ObjectId, pkt};

use super::error::FetchError;
use crate::net::Answer;

/// What we call ourselves. Some servers speak the protocol only to clients whose names
/// begin like this.
pub(super) const AGENT: &str = concat!("git/sluice-", env!("CARGO_PKG_VERSION"));

/// One packet of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Line(Bytes),
    Flush,
    Delimiter,
}

/// Packets of an answer, as they arrive.
pub(super) struct Packets {
    answer: Answer,
    buffer: BytesMut,
    /// Bytes that were read.
    pub(super) read: u64,
}

impl Packets {
    pub(super) fn new(answer: Answer) -> Self {
        Self { answer, buffer: BytesMut::new(), read: 0 }
    }

    /// The next packet; `None` at the end of the answer.
    pub(super) async fn next(&mut self) -> Result<Option<Packet>, FetchError> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(Some(packet));
            }
            match self.answer.chunk().await? {
                Some(chunk) => {
                    self.read += chunk.len() as u64;
                    self.buffer.extend_from_slice(&chunk);
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FetchError::Protocol("its answer ends in the middle")),
            }
        }
    }

    fn buffered(&mut self) -> Result<Option<Packet>, FetchError> {
        match self.buffer.first_chunk::<4>() {
            None => return Ok(None),
            Some(b"0001") => {
                self.buffer.advance(4);
                return Ok(Some(Packet::Delimiter));
            }
            // The end of an answer, which the end of the body says too.
            Some(b"0002") => {
                self.buffer.advance(4);
                return Ok(Some(Packet::Flush));
            }
            // An empty line, which nobody sends and everybody may.
            Some(b"0004") => {
                self.buffer.advance(4);
                return Ok(Some(Packet::Line(Bytes::new())));
            }
            Some(_) => {}
        }
        let (length, line) = match pkt::decode(&self.buffer) {
            Ok(None) => return Ok(None),
            Ok(Some((pkt::Packet::Flush, length))) => (length, false),
            Ok(Some((pkt::Packet::Line(_), length))) => (length, true),
            Err(_) => return Err(FetchError::Protocol("its answer is not made of packets")),
        };
        let mut packet = self.buffer.split_to(length).freeze();
        if !line {
            return Ok(Some(Packet::Flush));
        }
        packet.advance(4);
        if let Some(message) = packet.strip_prefix(b"ERR ") {
            return Err(FetchError::said(message));
        }
        Ok(Some(Packet::Line(packet)))
    }

    /// A line that has to be there, as text without its newline.
    async fn text(&mut self) -> Result<Option<String>, FetchError> {
        match self.next().await? {
            Some(Packet::Line(line)) => Ok(Some(text(&line))),
            _ => Ok(None),
        }
    }
}

/// Names that are not UTF-8 carry the replacement character and match nothing.
fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned()
}

fn id(hex: &str) -> Result<ObjectId, FetchError> {
    sluice_git::object_id(hex.as_bytes(), gix_hash::Kind::Sha1)
        .ok_or(FetchError::Protocol("it names no object id"))
}

/// A ref as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteRef {
    pub(super) name: String,
    pub(super) oid: ObjectId,
    /// What an annotated tag leads to in the end.
    pub(super) peeled: Option<ObjectId>,
    /// The ref that this one is a name for.
    pub(super) target: Option<String>,
}

/// What the server can do.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) version_2: bool,
    capabilities: Vec<String>,
}

impl Server {
    /// Whether a fetch can stop at the newest commit.
    pub(super) fn shallow(&self) -> bool {
        if self.version_2 {
            self.capabilities.iter().any(|capability| {
                capability
                    .strip_prefix("fetch=")
                    .is_some_and(|features| features.split(' ').any(|feature| feature == "shallow"))
            })
        } else {
            self.has("shallow")
        }
    }

    fn has(&self, name: &str) -> bool {
        self.capabilities.iter().any(|capability| capability == name)
    }

    fn check_format(&self) -> Result<(), FetchError> {
        let other = self
            .capabilities
            .iter()
            .filter_map(|capability| capability.strip_prefix("object-format="))
            .any(|format| format != "sha1");
        if other { Err(FetchError::ObjectFormat) } else { Ok(()) }
    }
}

/// Most refs of which one is asked for that are kept: the ref itself, HEAD, a branch and
/// a tag of the same name.
const KEPT: usize = 16;

/// Most capabilities that are kept.
const CAPABILITIES: usize = 256;

/// Reads the advertisement: what the server can do, and of a server that does not speak
/// version 2 the refs for which `wanted` says yes.
pub(super) async fn advertisement(
    packets: &mut Packets,
    wanted: impl Fn(&str, &ObjectId) -> bool,
) -> Result<(Server, Option<Vec<RemoteRef>>), FetchError> {
    let no_git = || FetchError::NotGit;
    let mut first = packets.text().await?.ok_or_else(no_git)?;
    if first.starts_with("# service=") {
        if first != "# service=git-upload-pack" || packets.next().await? != Some(Packet::Flush) {
            return Err(no_git());
        }
        first = match packets.next().await? {
            Some(Packet::Line(line)) => text(&line),
            // Servers before version 2 say nothing at all of an empty repository, or
            // name their capabilities behind a ref that is none.
            Some(Packet::Flush) | None => return Ok((Server::default(), Some(Vec::new()))),
            Some(Packet::Delimiter) => return Err(no_git()),
        };
    }
    if first == "version 2" {
        let mut server = Server { version_2: true, ..Server::default() };
        while let Some(line) = packets.text().await? {
            if server.capabilities.len() < CAPABILITIES {
                server.capabilities.push(line);
            }
        }
        server.check_format()?;
        return Ok((server, None));
    }
    if first == "version 1" {
        first = packets.text().await?.unwrap_or_default();
    }
    let (line, capabilities) = first.split_once('\0').ok_or_else(no_git)?;
    let capabilities: Vec<String> =
        capabilities.split(' ').take(CAPABILITIES).map(str::to_owned).collect();
    let server = Server { version_2: false, capabilities };
    server.check_format()?;
    let head = server
        .capabilities
        .iter()
        .find_map(|capability| capability.strip_prefix("symref=HEAD:"))
        .map(str::to_owned);
    let mut refs: Vec<RemoteRef> = Vec::new();
    let mut line = Some(line.to_owned());
    while let Some(at) = line {
        if let Some((hex, name)) = at.split_once(' ')
            && hex != "shallow"
        {
            let oid = id(hex)?;
            if let Some(tag) = name.strip_suffix("^{}") {
                if let Some(last) = refs.last_mut().filter(|last| last.name == tag) {
                    last.peeled = Some(oid);
                }
            } else if refs.len() < KEPT && (name == "HEAD" || wanted(name, &oid)) {
                let target = head.clone().filter(|_| name == "HEAD");
                refs.push(RemoteRef { name: name.to_owned(), oid, peeled: None, target });
            }
        }
        line = packets.text().await?;
    }
    Ok((server, Some(refs)))
}

/// The request for refs in version 2.
pub(super) fn ls_refs(prefixes: &[String]) -> Bytes {
    let mut out = BytesMut::new();
    pkt::line(&mut out, b"command=ls-refs\n");
    pkt::line(&mut out, format!("agent={AGENT}\n").as_bytes());
    out.extend_from_slice(b"0001");
    pkt::line(&mut out, b"peel\n");
    pkt::line(&mut out, b"symrefs\n");
    for prefix in prefixes {
        pkt::line(&mut out, format!("ref-prefix {prefix}\n").as_bytes());
    }
    pkt::flush(&mut out);
    out.freeze()
}

/// The answer to [`ls_refs`]: those for which `wanted` says yes.
pub(super) async fn refs(
    packets: &mut Packets,
    wanted: impl Fn(&str, &ObjectId) -> bool,
) -> Result<Vec<RemoteRef>, FetchError> {
    let mut refs = Vec::new();
    while let Some(line) = packets.text().await? {
        let mut words = line.split(' ');
        let (Some(hex), Some(name)) = (words.next(), words.next()) else {
            return Err(FetchError::Protocol("its list of refs cannot be read"));
        };
        let oid = id(hex)?;
        if refs.len() >= KEPT || !(name == "HEAD" || wanted(name, &oid)) {
            continue;
        }
        let mut found = RemoteRef { name: name.to_owned(), oid, peeled: None, target: None };
        for word in words {
            if let Some(hex) = word.strip_prefix("peeled:") {
                found.peeled = Some(id(hex)?);
            } else if let Some(target) = word.strip_prefix("symref-target:") {
                found.target = Some(target.to_owned());
            }
        }
        refs.push(found);
    }
    Ok(refs)
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) want: ObjectId,
    pub(super) have: &'a [ObjectId],
    /// Commits of the store whose parents are missing.
    pub(super) shallow: &'a [ObjectId],
    /// The newest commit alone.
    pub(super) newest: bool,
}

/// The request for a pack.
pub(super) fn fetch(server: &Server, wish: &Wish<'_>) -> Bytes {
    let mut out = BytesMut::new();
    let say = |out: &mut BytesMut, text: String| pkt::line(out, text.as_bytes());
    let said = |out: &mut BytesMut| {
        for oid in wish.shallow {
            say(out, format!("shallow {oid}\n"));
        }
        if wish.newest {
            say(out, "deepen 1\n".into());
        }
    };
    if server.version_2 {
        say(&mut out, "command=fetch\n".into());
        say(&mut out, format!("agent={AGENT}\n"));
        out.extend_from_slice(b"0001");
        say(&mut out, "thin-pack\n".into());
        say(&mut out, "no-progress\n".into());
        say(&mut out, "ofs-delta\n".into());
        said(&mut out);
        say(&mut out, format!("want {}\n", wish.want));
    } else {
        let mut words = vec!["side-band-64k".to_owned(), format!("agent={AGENT}")];
        for word in ["ofs-delta", "thin-pack", "no-progress"] {
            if server.has(word) {
                words.push(word.to_owned());
            }
        }
        say(&mut out, format!("want {} {}\n", wish.want, words.join(" ")));
        said(&mut out);
        pkt::flush(&mut out);
    }
    for oid in wish.have {
        say(&mut out, format!("have {oid}\n"));
    }
    say(&mut out, "done\n".into());
    if server.version_2 {
        pkt::flush(&mut out);
    }
    out.freeze()
}

/// Most shallow commits that a server may tell of.
const SHALLOW: usize = 10_000;

/// Reads the answer to [`fetch`] up to the pack, and says which commits come without
/// their parents.
pub(super) async fn until_pack(
    server: &Server,
    wish: &Wish<'_>,
    packets: &mut Packets,
) -> Result<Vec<ObjectId>, FetchError> {
    let mut shallow = Vec::new();
    let mut note = |line: &str| -> Result<(), FetchError> {
        if let Some(hex) = line.strip_prefix("shallow ") {
            if shallow.len() >= SHALLOW {
                return Err(FetchError::Protocol("it tells of too many shallow commits"));
            }
            shallow.push(id(hex)?);
        }
        Ok(())
    };
    if server.version_2 {
        loop {
            match packets.next().await? {
                Some(Packet::Line(line)) => match text(&line).as_str() {
                    "packfile" => return Ok(shallow),
                    other => note(other)?,
                },
                Some(Packet::Delimiter) => {}
                Some(Packet::Flush) | None => {
                    return Err(FetchError::Protocol("it sent no pack"));
                }
            }
        }
    }
    if wish.newest {
        while let Some(line) = packets.text().await? {
            note(&line)?;
        }
    }
    match packets.text().await? {
        Some(line) if line == "NAK" || line.starts_with("ACK ") => Ok(shallow),
        _ => Err(FetchError::Protocol("it sent no pack")),
    }
}

/// The next bytes of the pack; `None` at its end.
pub(super) async fn pack(packets: &mut Packets) -> Result<Option<Bytes>, FetchError> {
    loop {
        match packets.next().await? {
            Some(Packet::Line(mut line)) => match line.first() {
                Some(1) if line.len() > 1 => {
                    line.advance(1);
                    return Ok(Some(line));
                }
                Some(3) => return Err(FetchError::said(&line[1..])),
                Some(1 | 2) | None => {}
                Some(_) => return Err(FetchError::Protocol("it sent the pack without bands")),
            },
            Some(Packet::Delimiter) => {
                return Err(FetchError::Protocol("it sent more than a pack"));
            }
            Some(Packet::Flush) | None => return Ok(None),
        }
    }
}
