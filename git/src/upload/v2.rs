//! Version 2: one command in a request.
//!
//! ```text
//! command=<name>
//! <capability>                        agent=, object-format=, server-option=, session-id=
//! 0001
//! <argument>                          any number
//! 0000
//! ```
//!
//! What is not known is an error, both capabilities and arguments, so that a client never believes
//! that something was understood which was not.
//! ([gitprotocol-v2](https://git-scm.com/docs/gitprotocol-v2))

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{Arc, atomic::AtomicBool},
};

use super::{
    Answer, Error,
    exchange::Exchange,
    lines::{Item, Lines, Reader},
    ls_refs::{self, LsRefs},
    object_info::{self, ObjectInfo},
    request::{Bands, Fetch, printable},
    view::View,
};
use crate::remote::FetchPolicy;

/// Capabilities that one request may name.
const MAX_CAPABILITIES: usize = 256;

/// A command with its arguments.
#[derive(Debug)]
pub(super) enum Command {
    LsRefs(LsRefs),
    Fetch(Box<Fetch>),
    ObjectInfo(ObjectInfo),
}

/// Who asks, for logs.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub agent: Option<String>,
    pub session_id: Option<String>,
}

/// Reads a request; `None` if it holds no command.
pub(super) fn parse(
    body: &[u8],
    policy: &FetchPolicy,
    hash: gix_hash::Kind,
) -> Result<Option<(Command, Client)>, Error> {
    let mut reader = Reader::new(body);
    let mut name = None;
    let mut client = Client::default();
    let mut object_format = "sha1".to_owned();
    let mut count = 0;
    let arguments = loop {
        match reader.next()? {
            Some(Item::Line(line)) => {
                count += 1;
                if count > MAX_CAPABILITIES {
                    return Err(Error::Protocol("too many capabilities in one request".into()));
                }
                match line.split_once('=') {
                    Some(("command", value)) if name.is_none() => name = Some(value.to_owned()),
                    Some(("agent", value)) => client.agent = Some(printable(value)),
                    Some(("session-id", value)) => client.session_id = Some(printable(value)),
                    Some(("object-format", value)) => value.clone_into(&mut object_format),
                    Some(("server-option", _)) => {}
                    _ => {
                        let line = printable(&line);
                        return Err(Error::Protocol(format!("unknown capability '{line}'")));
                    }
                }
            }
            Some(Item::Delimiter) => break true,
            Some(Item::Flush) => break false,
            None if count == 0 => return Ok(None),
            None => return Err(Error::Protocol("the request ends before its flush".into())),
        }
    };
    let Some(name) = name else {
        return match (count, arguments) {
            (0, false) => Ok(None),
            _ => Err(Error::Protocol("no command requested".into())),
        };
    };
    if object_format != hash.to_string() {
        let format = printable(&object_format);
        return Err(Error::Protocol(format!(
            "mismatched object format: server {hash}; client {format}"
        )));
    }
    let mut lines = Arguments { reader, open: arguments };
    let command = match name.as_str() {
        "ls-refs" => {
            let mut command = LsRefs::default();
            while let Some(line) = lines.next()? {
                command.argument(&line, policy)?;
            }
            Command::LsRefs(command)
        }
        "fetch" => {
            let mut command = Fetch { bands: Bands::Large, ..Fetch::default() };
            while let Some(line) = lines.next()? {
                fetch_argument(&mut command, &line, policy, hash)?;
            }
            let mut names = HashSet::new();
            if let Some(name) = command.want_refs.iter().find(|name| !names.insert(*name)) {
                let name = printable(name);
                return Err(Error::Protocol(format!("duplicate want-ref {name}")));
            }
            Command::Fetch(Box::new(command))
        }
        "object-info" => {
            let mut command = ObjectInfo::default();
            while let Some(line) = lines.next()? {
                command.argument(&line, policy, hash)?;
            }
            Command::ObjectInfo(command)
        }
        other => {
            return Err(Error::Protocol(format!("invalid command '{}'", printable(other))));
        }
    };
    Ok(Some((command, client)))
}

/// The lines between the delimiter and the flush.
struct Arguments<'a> {
    reader: Reader<'a>,
    open: bool,
}

impl<'a> Arguments<'a> {
    fn next(&mut self) -> Result<Option<Cow<'a, str>>, Error> {
        if !self.open {
            return Ok(None);
        }
        match self.reader.next()? {
            Some(Item::Line(line)) => Ok(Some(line)),
            Some(Item::Flush) => {
                self.open = false;
                Ok(None)
            }
            _ => Err(Error::Protocol("expected a flush after the arguments".into())),
        }
    }
}

/// An argument that a command does not know.
pub(super) fn unexpected(command: &str, line: &str) -> Error {
    Error::Protocol(format!("{command}: unexpected argument: '{}'", printable(line)))
}

fn fetch_argument(
    fetch: &mut Fetch,
    line: &str,
    policy: &FetchPolicy,
    hash: gix_hash::Kind,
) -> Result<(), Error> {
    match line {
        "thin-pack" => fetch.thin = true,
        "ofs-delta" => fetch.ofs_delta = true,
        "no-progress" => fetch.no_progress = true,
        "include-tag" => fetch.include_tag = true,
        "done" => fetch.done = true,
        "deepen-relative" => fetch.depth.relative = true,
        "wait-for-done" => fetch.wait_for_done = true,
        "sideband-all" => fetch.sideband_all = true,
        _ => match line.split_once(' ') {
            Some(("want-ref", name)) if policy.ref_in_want => {
                if fetch.want_refs.len() >= policy.limits.wants {
                    return Err(Error::Protocol("too many want-refs in one request".into()));
                }
                fetch.want_refs.push(name.to_owned());
            }
            _ if fetch.argument(line, policy, hash)? => {}
            _ => return Err(unexpected("fetch", line)),
        },
    }
    Ok(())
}

/// Answers a command. Blocking.
pub(super) fn answer(
    view: &View,
    command: &Command,
    cancel: &Arc<AtomicBool>,
) -> Result<Answer, Error> {
    match command {
        Command::LsRefs(command) => ls_refs::answer(view, command, cancel),
        Command::ObjectInfo(command) => object_info::answer(view, command, cancel),
        Command::Fetch(request) => fetch(view, request, cancel),
    }
}

fn fetch(view: &View, request: &Fetch, cancel: &Arc<AtomicBool>) -> Result<Answer, Error> {
    let mut lines = Lines::new(request.sideband_all);
    let nothing = request.wants.is_empty() && request.want_refs.is_empty();
    if nothing && !request.wait_for_done {
        return Ok(Answer { head: lines.into_bytes(), job: None });
    }
    let mut exchange = Exchange::open(view, request, cancel)?;
    let known = exchange.negotiate()?;
    // A client that has nothing to say gets its pack at once.
    if !request.done && !request.haves.is_empty() {
        lines.line("acknowledgments\n");
        if exchange.last_common().is_none() {
            lines.line("NAK\n");
        }
        for (have, _) in request.haves.iter().zip(&known).filter(|(_, known)| **known) {
            lines.line(format!("ACK {have}\n"));
        }
        if request.wait_for_done || !exchange.enough()? {
            lines.flush();
            return Ok(Answer { head: lines.into_bytes(), job: None });
        }
        lines.line("ready\n");
        lines.delimiter();
    }
    if exchange.shallow_matters() {
        let change = exchange.shallow()?;
        lines.line("shallow-info\n");
        for id in &change.shallow {
            lines.line(format!("shallow {id}"));
        }
        for id in &change.unshallow {
            lines.line(format!("unshallow {id}"));
        }
        lines.delimiter();
    }
    if !request.want_refs.is_empty() {
        lines.line("wanted-refs\n");
        for name in &request.want_refs {
            if let Some(id) = view.wanted(name) {
                lines.line(format!("{id} {name}\n"));
            }
        }
        lines.delimiter();
    }
    lines.line("packfile\n");
    Ok(Answer { head: lines.into_bytes(), job: Some(exchange.into_job()) })
}
