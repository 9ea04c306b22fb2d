//! What a repository allows and how much of it: rules and limits of a push and of a fetch.
//!
//! The defaults are for a remote of sluice's own, which only pushes write to. What differs for a
//! folder in which git works too is said where it differs; `examples/serve` sets it so.

use std::{collections::BTreeMap, time::Duration};

use crate::{certificate::Nonces, check::fsck::Fsck, command, firewall};

/// What a repository allows and how much of it.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What the pack may cost.
    pub limits: firewall::Limits,
    /// How much may stand before the pack.
    pub commands: command::Limits,
    /// A refused push is read to its end, so that the client reads the reason; but not beyond this
    /// many bytes more than the pack limit.
    pub drain_bytes: u64,
    /// Refs may not be deleted.
    pub deny_deletes: bool,
    /// Branches may only move forward.
    pub deny_non_fast_forwards: bool,
    /// The full name of a branch that may not be deleted, because `HEAD` points to it.
    pub current_branch: Option<String>,
    /// Refs that are neither shown nor changed, by the rules of [`crate::refs::hidden`].
    pub hidden_refs: Vec<String>,
    /// Refs that the repository may have after the push.
    pub max_refs: usize,
    /// How closely the objects are looked at.
    pub fsck: Fsck,
    /// A push of all refs or none is offered.
    pub atomic: bool,
    /// Push options are offered.
    pub push_options: bool,
    /// Signed pushes are offered, with these nonces.
    pub certificates: Option<Nonces>,
    /// Nothing is here yet, and the first push decides of which kind ids are. It is offered to
    /// clients that are known to understand two kinds in one advertisement; the others are offered
    /// [`crate::Repository::object_hash`].
    pub either_hash: bool,
    /// A push may bring commits whose parents nobody has, as every shallow clone does.
    pub shallow_updates: bool,
    /// Everything in the store has all that it links to, because nothing comes into it but by pushes
    /// and nothing is removed piecemeal. In a folder where others work too that does not hold, and
    /// what is new is followed until it meets what the refs had before.
    pub closed_store: bool,
}

impl Policy {
    /// What the advertisement of a push says.
    pub(crate) fn offered(&self, hash: gix_hash::Kind) -> command::Offered {
        command::Offered {
            hash,
            atomic: self.atomic,
            push_options: self.push_options,
            certificates: self.certificates.clone(),
            either: self.either_hash,
            ..command::Offered::default()
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: firewall::Limits::default(),
            commands: command::Limits::default(),
            drain_bytes: 1 << 30,
            deny_deletes: false,
            deny_non_fast_forwards: false,
            current_branch: None,
            hidden_refs: vec!["refs/_internal/".into()],
            max_refs: 100_000,
            fsck: Fsck::default(),
            atomic: true,
            push_options: true,
            certificates: None,
            either_hash: false,
            shallow_updates: true,
            closed_store: true,
        }
    }
}

/// Which objects a client may ask for by their id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wants {
    /// What visible refs point to, and the commits that they lead to, since a ref may have moved
    /// between two requests.
    Tips,
    /// Everything that visible refs lead to. Partial clones need it to fetch what they left out.
    #[default]
    Reachable,
    /// Everything that is stored, hidden or forgotten as it may be.
    Any,
}

/// What a client learns of a `HEAD` whose branch does not exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unborn {
    /// Its name, and that it can be asked for.
    #[default]
    Advertised,
    /// Its name, if it asks without having been told that it can.
    Allowed,
    /// Nothing.
    Ignored,
}

/// Which filters are offered to partial clones, by git's names for them: `blob:none`, `blob:limit`,
/// `tree`, `object:type` and `combine`.
#[derive(Debug, Clone)]
pub struct Filters {
    /// Filters that are not named below.
    pub others: bool,
    /// Whether each of these is offered.
    pub named: BTreeMap<String, bool>,
    /// The highest depth of `tree`.
    pub tree_depth: Option<u32>,
}

impl Default for Filters {
    fn default() -> Self {
        Self { others: true, named: BTreeMap::new(), tree_depth: None }
    }
}

impl Filters {
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.named.get(name).copied().unwrap_or(self.others)
    }
}

/// What may be fetched from a repository and how.
#[derive(Debug, Clone)]
pub struct FetchPolicy {
    /// Which objects may be asked for.
    pub wants: Wants,
    /// The same for version 2 of the protocol, if it differs.
    pub wants_v2: Option<Wants>,
    /// What hidden refs point to may be asked for too, though not what that leads to.
    pub hidden_tips: bool,
    /// Partial clones are offered.
    pub filter: bool,
    /// Which ones, if they are.
    pub filters: Filters,
    /// Refs may be asked for by name, so that a ref that moves meanwhile is no error.
    pub ref_in_want: bool,
    /// The branch of `HEAD` is told while it does not exist, so that a clone of an empty repository
    /// begins with it.
    pub unborn: Unborn,
    /// The highest version of the protocol that is spoken.
    pub max_version: u8,
    /// Refs that are neither shown nor followed, by the rules of [`crate::refs::hidden`].
    pub hidden_refs: Vec<String>,
    /// What one request may cost.
    pub limits: FetchLimits,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            wants: Wants::default(),
            wants_v2: None,
            hidden_tips: false,
            filter: true,
            filters: Filters::default(),
            ref_in_want: true,
            unborn: Unborn::default(),
            max_version: 2,
            hidden_refs: vec!["refs/_internal/".into()],
            limits: FetchLimits::default(),
        }
    }
}

/// Limits of one request of a fetch.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    /// Bytes of the request, inflated. It is held in memory.
    pub request_bytes: usize,
    /// Objects or refs asked for.
    pub wants: usize,
    /// Objects that the client says it has.
    pub haves: usize,
    /// Commits that the client says are shallow.
    pub shallow: usize,
    /// From the first byte of the request to the last of the pack.
    pub wall_time: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            request_bytes: 16 << 20,
            wants: 200_000,
            haves: 200_000,
            shallow: 100_000,
            wall_time: Duration::from_hours(1),
        }
    }
}
