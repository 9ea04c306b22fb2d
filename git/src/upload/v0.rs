//! Versions 0 and 1 of a fetch, as one request and one answer over HTTP.
//!
//! ```text
//! want <oid> <capabilities>           any number of wants, capabilities behind the first
//! shallow <oid>                       what the client has without parents
//! deepen… / filter …
//! 0000
//! have <oid>                          everything found to be common so far, and new ones
//! 0000                                more will come, in the next request; or: done
//! ```
//!
//! The answer: `shallow` and `unshallow` lines up to a flush if a depth was asked for, the
//! acknowledgements, and the pack once the client is done or ready. A request that ends behind its
//! wants only asks where the history would be cut.
//! ([gitprotocol-pack](https://git-scm.com/docs/gitprotocol-pack#_packfile_negotiation))

use std::sync::{Arc, atomic::AtomicBool};

use super::{
    Answer, Error,
    exchange::Exchange,
    lines::{Item, Lines, Reader},
    request::{Bands, Fetch, MultiAck, printable},
    view::View,
};
use crate::remote::FetchPolicy;

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Behind the wants.
    Wants,
    /// In the middle of the haves: more will come.
    Flush,
    Done,
}

/// Reads a request; `None` if it wants nothing.
pub(super) fn parse(
    body: &[u8],
    policy: &FetchPolicy,
    hash: gix_hash::Kind,
) -> Result<Option<(Fetch, End)>, Error> {
    let mut reader = Reader::new(body);
    let mut fetch = Fetch::default();
    while let Some(Item::Line(line)) = reader.next()? {
        let line = &*line;
        let line = match line.strip_prefix("want ") {
            Some(want) if fetch.wants.is_empty() => {
                let end = want.find([' ', '\0']).unwrap_or(want.len());
                capabilities(&mut fetch, &want[end..], hash)?;
                &line[..end + "want ".len()]
            }
            _ => line,
        };
        if line.starts_with("have ") || !fetch.argument(line, policy, hash)? {
            return Err(Error::Protocol(format!(
                "upload-pack: protocol error, expected to get object ID, not '{}'",
                printable(line)
            )));
        }
    }
    if fetch.wants.is_empty() {
        return Ok(None);
    }
    let mut end = End::Wants;
    while let Some(item) = reader.next()? {
        match item {
            Item::Line(line) if line == "done" => {
                end = End::Done;
                break;
            }
            Item::Line(line) => {
                if !line.starts_with("have ") || !fetch.argument(&line, policy, hash)? {
                    return Err(Error::Protocol(format!(
                        "upload-pack: expected a have or done, got '{}'",
                        printable(&line)
                    )));
                }
                end = End::Flush;
            }
            Item::Flush => {
                end = End::Flush;
                break;
            }
            Item::Delimiter => {
                return Err(Error::Protocol("a delimiter has no meaning in version 0".into()));
            }
        }
    }
    Ok(Some((fetch, end)))
}

fn capabilities(fetch: &mut Fetch, list: &str, hash: gix_hash::Kind) -> Result<(), Error> {
    for word in list.split([' ', '\0']).filter(|word| !word.is_empty()) {
        match word.split_once('=').map_or((word, ""), |pair| pair) {
            ("multi_ack_detailed", _) => fetch.multi_ack = MultiAck::Detailed,
            ("multi_ack", _) if fetch.multi_ack == MultiAck::No => {
                fetch.multi_ack = MultiAck::Plain;
            }
            ("no-done", _) => fetch.no_done = true,
            ("thin-pack", _) => fetch.thin = true,
            ("ofs-delta", _) => fetch.ofs_delta = true,
            ("no-progress", _) => fetch.no_progress = true,
            ("include-tag", _) => fetch.include_tag = true,
            ("deepen-relative", _) => fetch.depth.relative = true,
            ("side-band-64k", _) => fetch.bands = Bands::Large,
            ("side-band", _) if fetch.bands == Bands::None => fetch.bands = Bands::Small,
            ("agent", value) => fetch.agent = Some(printable(value)),
            ("session-id", value) => fetch.session_id = Some(printable(value)),
            ("object-format", value) if value != hash.to_string() => {
                return Err(Error::Protocol(format!(
                    "mismatched object format: this repository is {hash}, the client's {}",
                    printable(value)
                )));
            }
            // Unknown words are ignored, as git does.
            _ => {}
        }
    }
    Ok(())
}

/// Answers a request. Blocking.
pub(super) fn answer(
    view: &View,
    request: &Fetch,
    end: End,
    cancel: &Arc<AtomicBool>,
) -> Result<Answer, Error> {
    let mut exchange = Exchange::open(view, request, cancel)?;
    let mut lines = Lines::new(false);
    if request.depth.is_given() {
        let change = exchange.shallow()?;
        for id in &change.shallow {
            lines.line(format!("shallow {id}"));
        }
        for id in &change.unshallow {
            lines.line(format!("unshallow {id}"));
        }
        lines.flush();
    }
    if end == End::Wants {
        return Ok(Answer { head: lines.into_bytes(), job: None });
    }
    let known = exchange.negotiate()?;
    let mut ready = false;
    if end == End::Flush && request.multi_ack != MultiAck::No {
        ready = exchange.enough()?;
    }
    let mut first = true;
    for (have, known) in request.haves.iter().zip(&known) {
        match request.multi_ack {
            MultiAck::Detailed if *known => lines.line(format!("ACK {have} common\n")),
            // What is not here but older than enough need not be followed further.
            MultiAck::Plain if *known || ready => lines.line(format!("ACK {have} continue\n")),
            MultiAck::No if *known && first => lines.line(format!("ACK {have}\n")),
            _ => {}
        }
        first &= !*known;
    }
    let last = exchange.last_common();
    let mut go_on = end == End::Done;
    match (end, last) {
        (End::Done, Some(last)) if request.multi_ack != MultiAck::No => {
            lines.line(format!("ACK {last}\n"));
        }
        (End::Done, Some(_)) => {}
        (End::Done, None) => lines.line("NAK\n"),
        (_, last) => {
            let ready = last.filter(|_| ready && request.multi_ack == MultiAck::Detailed);
            if let Some(last) = ready {
                lines.line(format!("ACK {last} ready\n"));
            }
            if last.is_none() || request.multi_ack != MultiAck::No {
                lines.line("NAK\n");
            }
            if let Some(last) = ready.filter(|_| request.no_done) {
                lines.line(format!("ACK {last}\n"));
                go_on = true;
            }
        }
    }
    let head = lines.into_bytes();
    Ok(Answer { head, job: go_on.then(|| exchange.into_job()) })
}
