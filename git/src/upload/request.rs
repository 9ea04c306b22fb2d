//! What a client asks for in a fetch, in whichever version of the protocol.

use gix_hash::ObjectId;

use super::{Error, filter::Filter, shallow::Depth};
use crate::remote::FetchPolicy;

/// How the pack is wrapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Bands {
    /// Not at all: nothing but the pack can be said.
    #[default]
    None,
    /// In packets of up to 1000 bytes.
    Small,
    /// In packets of up to 65520 bytes.
    Large,
}

/// What the client can do in version 0, where acknowledgements come in three forms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum MultiAck {
    #[default]
    No,
    Plain,
    Detailed,
}

/// The request.
#[derive(Debug, Default)]
pub(super) struct Fetch {
    pub wants: Vec<ObjectId>,
    /// Full names of refs, of which the client wants what they point to.
    pub want_refs: Vec<String>,
    pub haves: Vec<ObjectId>,
    /// The commits that the client has without their parents.
    pub shallow: Vec<ObjectId>,
    pub depth: Depth,
    pub filter: Filter,
    /// Deltas may build on what the client has.
    pub thin: bool,
    /// Bases may be named by their distance.
    pub ofs_delta: bool,
    pub no_progress: bool,
    pub include_tag: bool,
    /// The client has said everything.
    pub done: bool,
    /// The pack is not sent before `done`.
    pub wait_for_done: bool,
    pub sideband_all: bool,
    pub bands: Bands,
    pub multi_ack: MultiAck,
    /// The pack may follow `ready` without `done`.
    pub no_done: bool,
    /// The program at the other end, such as `git/2.47.3`, for logs.
    pub agent: Option<String>,
    pub session_id: Option<String>,
}

impl Fetch {
    /// Takes one of the lines that both versions have; false if it is another.
    pub fn argument(
        &mut self,
        line: &str,
        policy: &FetchPolicy,
        hash: gix_hash::Kind,
    ) -> Result<bool, Error> {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let limits = &policy.limits;
        let room = |used: usize, limit: usize, what: &str| {
            if used < limit {
                Ok(())
            } else {
                Err(Error::Protocol(format!("more than {limit} {what} in one request")))
            }
        };
        match key {
            "want" => {
                room(self.wants.len(), limits.wants, "wants")?;
                self.wants.push(object_id(value, hash)?);
            }
            "have" => {
                room(self.haves.len(), limits.haves, "haves")?;
                self.haves.push(object_id(value, hash)?);
            }
            "shallow" => {
                room(self.shallow.len(), limits.shallow, "shallow commits")?;
                self.shallow.push(object_id(value, hash)?);
            }
            "deepen" => {
                let depth =
                    value.parse().ok().filter(|depth| (1..=i32::MAX as u32).contains(depth));
                let depth = depth.ok_or_else(|| invalid("deepen", value))?;
                self.depth.depth = Some(depth);
            }
            "deepen-since" => {
                let since = value.parse().ok().filter(|since| *since > 0);
                self.depth.since = Some(since.ok_or_else(|| invalid("deepen-since", value))?);
            }
            "deepen-not" => {
                room(self.depth.not.len(), limits.wants, "deepen-not lines")?;
                self.depth.not.push(value.to_owned());
            }
            "filter" if policy.filter => {
                self.filter = Filter::parse(value, &policy.filters)
                    .map_err(|error| Error::Protocol(error.to_string()))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn invalid(key: &str, value: &str) -> Error {
    Error::Protocol(format!("invalid {key}: {}", printable(value)))
}

/// An id in full.
pub(super) fn object_id(hex: &str, hash: gix_hash::Kind) -> Result<ObjectId, Error> {
    crate::object_id(hex.as_bytes(), hash)
        .ok_or_else(|| Error::Protocol(format!("expected an object id, not '{}'", printable(hex))))
}

/// Words of a client go to logs and into errors: no control characters, and not without end.
pub(super) fn printable(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(200).collect()
}
