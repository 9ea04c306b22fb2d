//! What a client asks for in a push: the command section of `git-receive-pack`.
//!
//! ```text
//! shallow <oid>                                  any number, first
//! <old> <new> <ref>\0<capabilities>              the first command
//! <old> <new> <ref>                              the others
//! 0000
//! <option>                                       only if push-options was asked for
//! 0000
//! PACK...                                        only if a command does not delete
//! ```
//!
//! A signed push has its commands inside a [`crate::certificate`], whose lines stand between
//! `push-cert\0<capabilities>` and `push-cert-end`.
//!
//! The section is found by reading pkt-lines to their flush, never by searching for `PACK`. It is
//! collected before anything is done, so its size is bounded by [`Limits`]: number of commands,
//! of shallow lines, of options, and bytes in all. Clients differ in small things that are all
//! accepted: a space before the capabilities or none, a newline after a line or none.
//! ([gitprotocol-pack](https://git-scm.com/docs/gitprotocol-pack#_reference_update_request_and_packfile_transfer))

use std::time::Duration;

use gix_hash::ObjectId;

use crate::{
    certificate::{self, Certificate, Nonces},
    oid::object_id,
    pkt::{self, Packet},
};

/// How much a client may say before its pack. Exceeding any of these ends the push with a sentence.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Commands in one push.
    pub commands: usize,
    /// `shallow` lines in one push.
    pub shallow: usize,
    /// Push options in one push.
    pub options: usize,
    /// Bytes of one push option.
    pub option_bytes: usize,
    /// Bytes of the whole section.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commands: 10_000, shallow: 10_000, options: 64, option_bytes: 1024, bytes: 4 << 20 }
    }
}

/// What the advertisement offered. A client that asks for what was not offered is not understood.
#[derive(Debug, Clone)]
pub struct Offered {
    /// The hash function of all ids.
    pub hash: gix_hash::Kind,
    /// All commands or none.
    pub atomic: bool,
    /// A section of options.
    pub push_options: bool,
    /// Signed pushes, whose nonces these are.
    pub certificates: Option<Nonces>,
    /// Ids of either kind, by the word of the client; `hash` is that of a client which says nothing.
    pub either: bool,
    /// Nobody knows what was offered, and nothing will come of the push: whatever makes sense is read,
    /// so that its refs can be named in the refusal.
    pub(crate) anything: bool,
}

impl Offered {
    /// For a push that is refused without a look at its repository.
    pub(crate) fn anything() -> Self {
        let certificates = Some(Nonces::new("", "", Duration::ZERO));
        Self { certificates, anything: true, ..Self::default() }
    }
}

impl Default for Offered {
    fn default() -> Self {
        Self {
            hash: gix_hash::Kind::Sha1,
            atomic: true,
            push_options: true,
            certificates: None,
            either: false,
            anything: false,
        }
    }
}

/// One wish: let `name` point to `new`, provided that it points to `old` now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Command {
    /// What the client saw; all zeros if there was no such ref.
    pub old: ObjectId,
    /// What it wants; all zeros to delete the ref.
    pub new: ObjectId,
    /// The full name of the ref. Bytes that are not UTF-8 are replaced, and such a name is refused.
    pub name: String,
}

impl Command {
    /// Whether the ref is to be removed.
    pub fn deletes(&self) -> bool {
        self.new.is_null()
    }

    /// Whether the client believes that the ref does not exist.
    pub fn creates(&self) -> bool {
        self.old.is_null() && !self.new.is_null()
    }
}

/// What the client can do and wishes, from the list behind the first command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It reads `unpack`, `ok` and `ng` lines.
    pub report_status: bool,
    /// It reads them with `option` lines in between.
    pub report_status_v2: bool,
    /// It takes the answer on numbered bands.
    pub side_band: bool,
    /// No progress is wanted.
    pub quiet: bool,
    /// All commands or none.
    pub atomic: bool,
    /// A section of push options follows.
    pub push_options: bool,
    /// The name of the hash function; absent means SHA-1.
    pub object_format: Option<String>,
    /// The program at the other end, such as `git/2.47.3`.
    pub agent: Option<String>,
    /// The client's own name for this push, for logs.
    pub session_id: Option<String>,
}

impl Capabilities {
    fn parse(list: &str) -> Self {
        let mut found = Self::default();
        for word in list.split_ascii_whitespace() {
            match word.split_once('=') {
                None => match word {
                    "report-status" => found.report_status = true,
                    "report-status-v2" => found.report_status_v2 = true,
                    "side-band-64k" => found.side_band = true,
                    "quiet" => found.quiet = true,
                    "atomic" => found.atomic = true,
                    "push-options" => found.push_options = true,
                    // `delete-refs` and `ofs-delta` change nothing in what the client may send, and
                    // unknown words are ignored as git does.
                    _ => {}
                },
                Some(("object-format", value)) => found.object_format = Some(printable(value)),
                Some(("agent", value)) => found.agent = Some(printable(value)),
                Some(("session-id", value)) => found.session_id = Some(printable(value)),
                Some(_) => {}
            }
        }
        found
    }
}

/// Words of a client go to logs: no control characters, and not without end.
fn printable(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The whole section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The commits whose parents the client does not have.
    pub shallow: Vec<ObjectId>,
    /// The commands, in the order of the client.
    pub commands: Vec<Command>,
    /// What stood behind the first command.
    pub capabilities: Capabilities,
    /// The push options, in the order of the client.
    pub options: Vec<String>,
    /// The certificate, if the push is signed.
    pub certificate: Option<Certificate>,
}

impl Request {
    /// Whether a pack follows the section: it does unless all commands delete.
    pub fn expects_pack(&self) -> bool {
        self.commands.iter().any(|command| !command.deletes())
    }
}

/// The command section cannot be understood or is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Packet(#[from] pkt::Error),
    #[error("protocol error: expected \"<old> <new> <ref>\"")]
    Malformed,
    #[error("protocol error: a shallow line does not name an object")]
    MalformedShallow,
    #[error("protocol error: the first command has no list of capabilities")]
    NoCapabilities,
    #[error(
        "object format {client} is not offered here: this remote takes {server} repositories \
         (create one with `git init --object-format={server}`)"
    )]
    ObjectFormat { client: String, server: gix_hash::Kind },
    #[error("signed pushes are not offered here; push without --signed")]
    PushCertificate,
    #[error("malformed push certificate")]
    MalformedCertificate,
    #[error("protocol error: got both push certificate and unsigned commands")]
    CertificateAndCommands,
    #[error("inconsistent push options: those in the certificate are others")]
    InconsistentOptions,
    #[error("more than {0} refs in one push; push them in several goes")]
    TooManyCommands(usize),
    #[error("more than {0} shallow commits in one push")]
    TooManyShallow(usize),
    #[error("more than {0} push options")]
    TooManyOptions(usize),
    #[error("a push option is longer than {0} bytes")]
    OptionTooLong(usize),
    #[error("a push option is not UTF-8")]
    OptionNotUtf8,
    #[error("the list of refs is longer than {0} bytes; push in several goes")]
    TooLong(usize),
    #[error("the connection ended in the middle of the list of refs")]
    Unfinished,
}

impl Error {
    /// The limit that the client went beyond, if it did nothing else wrong.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::TooManyCommands(_) => Some("commands"),
            Self::TooManyShallow(_)
            | Self::TooManyOptions(_)
            | Self::OptionTooLong(_)
            | Self::TooLong(_) => Some("command_bytes"),
            _ => None,
        }
    }
}

enum Section {
    Commands,
    Certificate,
    Options,
    Done,
}

/// Collects the command section as its bytes arrive.
pub struct Parser {
    limits: Limits,
    offered: Offered,
    certificate: Vec<u8>,
    certified_options: Vec<String>,
    request: Request,
    section: Section,
    taken: usize,
}

impl Parser {
    /// A parser for one push.
    pub fn new(limits: Limits, offered: Offered) -> Self {
        Self {
            limits,
            offered,
            certificate: Vec::new(),
            certified_options: Vec::new(),
            request: Request::default(),
            section: Section::Commands,
            taken: 0,
        }
    }

    /// What is known so far. After an error it tells how the client can be answered.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Whether nothing at all has been read yet.
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Ends the parsing; an error if the section was not finished.
    pub fn into_request(self) -> Result<Request, Error> {
        match self.section {
            Section::Done
                if self.request.certificate.is_some()
                    && self.certified_options != self.request.options =>
            {
                Err(Error::InconsistentOptions)
            }
            Section::Done => Ok(self.request),
            _ => Err(Error::Unfinished),
        }
    }

    /// Takes as many packets from the front of `input` as are complete.
    ///
    /// Returns how many bytes were used and whether the section is finished; what follows then is
    /// the pack. What was not used has to be given again together with more.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, bool), Error> {
        let mut used = 0;
        while !matches!(self.section, Section::Done) {
            let Some((packet, length)) = pkt::decode(&input[used..])? else {
                break;
            };
            used += length;
            self.taken += length;
            if self.taken > self.limits.bytes {
                return Err(Error::TooLong(self.limits.bytes));
            }
            match (&self.section, packet) {
                (Section::Commands, Packet::Flush) => {
                    let more =
                        self.request.capabilities.push_options && !self.request.commands.is_empty();
                    self.section = if more { Section::Options } else { Section::Done };
                }
                (Section::Options, Packet::Flush) => self.section = Section::Done,
                (Section::Commands, Packet::Line(line)) => self.line(line)?,
                (Section::Certificate, Packet::Line(b"push-cert-end\n" | b"push-cert-end")) => {
                    self.certified()?;
                    self.section = Section::Commands;
                }
                (Section::Certificate, Packet::Line(line)) => {
                    self.certificate.extend_from_slice(line);
                }
                (Section::Certificate, Packet::Flush) => return Err(Error::MalformedCertificate),
                (Section::Options, Packet::Line(line)) => self.option(line)?,
                (Section::Done, _) => break,
            }
        }
        Ok((used, matches!(self.section, Section::Done)))
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Error> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(id) = line.strip_prefix(b"shallow ") {
            if self.request.shallow.len() >= self.limits.shallow {
                return Err(Error::TooManyShallow(self.limits.shallow));
            }
            // These come before the client says of which kind its ids are.
            let hash = match id.len() {
                64 if self.offered.either => gix_hash::Kind::Sha256,
                _ => self.offered.hash,
            };
            let id = object_id(id, hash).ok_or(Error::MalformedShallow)?;
            self.request.shallow.push(id);
            return Ok(());
        }
        if self.request.certificate.is_some() {
            return Err(Error::CertificateAndCommands);
        }
        let (command, capabilities) = match line.iter().position(|byte| *byte == 0) {
            Some(nul) => (&line[..nul], Some(&line[nul + 1..])),
            None => (line, None),
        };
        // The capabilities come first: a refusal of the line itself can then be put in a form that
        // the client reads.
        if self.request.commands.is_empty() {
            let list = String::from_utf8_lossy(capabilities.ok_or(Error::NoCapabilities)?);
            let mut wished = Capabilities::parse(&list);
            wished.atomic &= self.offered.atomic;
            wished.push_options &= self.offered.push_options;
            let client = wished.object_format.clone().unwrap_or_else(|| "sha1".to_owned());
            self.request.capabilities = wished;
            if (self.offered.anything || self.offered.either)
                && let Ok(kind) = client.parse()
            {
                self.offered.hash = kind;
            }
            let server = self.offered.hash;
            if client != server.to_string() {
                return Err(Error::ObjectFormat { client, server });
            }
            if self.request.shallow.iter().any(|id| id.kind() != server) {
                return Err(Error::MalformedShallow);
            }
        }
        if command == b"push-cert" {
            if !self.request.commands.is_empty() {
                return Err(Error::CertificateAndCommands);
            }
            if self.offered.certificates.is_none() {
                return Err(Error::PushCertificate);
            }
            self.section = Section::Certificate;
            return Ok(());
        }
        self.command(command)
    }

    fn command(&mut self, line: &[u8]) -> Result<(), Error> {
        if self.request.commands.len() >= self.limits.commands {
            return Err(Error::TooManyCommands(self.limits.commands));
        }
        let command = parse_command(line, self.offered.hash).ok_or(Error::Malformed)?;
        self.request.commands.push(command);
        Ok(())
    }

    /// The certificate is complete: its commands are those of the push.
    fn certified(&mut self) -> Result<(), Error> {
        let nonces = self.offered.certificates.as_ref().ok_or(Error::PushCertificate)?;
        let bytes = std::mem::take(&mut self.certificate);
        let parsed = certificate::parse(bytes, nonces, self.limits.options)
            .ok_or(Error::MalformedCertificate)?;
        if parsed.options.len() > self.limits.options {
            return Err(Error::TooManyOptions(self.limits.options));
        }
        for line in parsed.commands() {
            self.command(line)?;
        }
        self.certified_options = parsed.options;
        self.request.certificate = Some(parsed.certificate);
        Ok(())
    }

    fn option(&mut self, line: &[u8]) -> Result<(), Error> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if self.request.options.len() >= self.limits.options {
            return Err(Error::TooManyOptions(self.limits.options));
        }
        if line.len() > self.limits.option_bytes {
            return Err(Error::OptionTooLong(self.limits.option_bytes));
        }
        let option = std::str::from_utf8(line).map_err(|_| Error::OptionNotUtf8)?;
        self.request.options.push(option.to_owned());
        Ok(())
    }
}

fn parse_command(line: &[u8], hash: gix_hash::Kind) -> Option<Command> {
    let (old, rest) = line.split_at_checked(hash.len_in_hex())?;
    let (new, name) = rest.strip_prefix(b" ")?.split_at_checked(hash.len_in_hex())?;
    let name = name.strip_prefix(b" ")?;
    if name.is_empty() {
        return None;
    }
    Some(Command {
        old: object_id(old, hash)?,
        new: object_id(new, hash)?,
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

#[cfg(test)]
mod tests;
