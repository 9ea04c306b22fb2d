//! Where a shallow history is cut.
//!
//! The client names the commits whose parents it does not have, and how deep the history should be.
//! The answer names the commits that it will have without their parents from now on (`shallow`), and
//! those whose parents it gets now (`unshallow`).
//! ([gitprotocol-pack](https://git-scm.com/docs/gitprotocol-pack#_packfile_negotiation))

use std::{
    collections::{HashSet, VecDeque},
    sync::atomic::{AtomicBool, Ordering},
};

use gix_hash::ObjectId;

use super::{
    Error,
    graph::{Commit, Graph, mark},
    store::Store,
};

/// As deep as the history goes: what git sends for `--unshallow`.
pub(super) const INFINITE: u32 = 0x7fff_ffff;

/// How deep the client wants its history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Depth {
    /// So many commits from each want.
    pub depth: Option<u32>,
    /// Counted from where the client's history ends now.
    pub relative: bool,
    /// Commits of this time or later, in seconds since 1970.
    pub since: Option<i64>,
    /// Commits that these refs do not lead to.
    pub not: Vec<String>,
}

impl Depth {
    pub fn is_given(&self) -> bool {
        self.depth.is_some() || self.by_rule()
    }

    fn by_rule(&self) -> bool {
        self.since.is_some() || !self.not.is_empty()
    }
}

/// What changes for the client.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub shallow: Vec<ObjectId>,
    pub unshallow: Vec<ObjectId>,
    /// What is sent besides the wants: the parents of those that are no longer shallow.
    pub more_wants: Vec<Commit>,
    /// Those themselves, which the client has.
    pub edges: Vec<Commit>,
}

/// Decides the new ends. `client` are the commits that are shallow at the client and known here,
/// `not` the commits of the refs of [`Depth::not`].
pub(super) fn change(
    graph: &mut Graph,
    store: &mut Store,
    wants: &[Commit],
    client: &[Commit],
    depth: &Depth,
    not: &[Commit],
    cancel: &AtomicBool,
) -> Result<Change, Error> {
    if depth.depth.is_some() && depth.by_rule() {
        return Err(Error::Protocol(
            "deepen and deepen-since (or deepen-not) cannot be used together".into(),
        ));
    }
    for commit in client {
        graph.set(*commit, mark::CLIENT_SHALLOW);
    }
    let ends = if depth.by_rule() {
        by_rule(graph, store, wants, depth, not, cancel)?
    } else {
        match depth.depth {
            Some(INFINITE) if !graph.is_shallow() => {
                for commit in client {
                    graph.set(*commit, mark::DEEP);
                }
                Vec::new()
            }
            Some(wanted) if depth.relative => {
                let from = reachable(graph, store, wants, client, cancel)?;
                by_depth(graph, store, &from, Some(wanted.saturating_add(1)), cancel)?
            }
            depth => by_depth(graph, store, wants, depth, cancel)?,
        }
    };
    let mut change = Change::default();
    for end in ends {
        if !graph.has(end, mark::CLIENT_SHALLOW | mark::DEEP) {
            change.shallow.push(graph.id(store, end));
        }
        if !graph.has(end, mark::DEEP) {
            graph.set(end, mark::CUT);
        }
    }
    for commit in client {
        // What the client has without parents leads nowhere for the walk that counts, also if the
        // parents come now: they are wants of their own.
        graph.set(*commit, mark::CUT);
        if graph.has(*commit, mark::DEEP) {
            change.unshallow.push(graph.id(store, *commit));
            graph.read(store, *commit)?;
            change.more_wants.extend(graph.parents(*commit));
            change.edges.push(*commit);
        }
    }
    Ok(change)
}

/// The commits at which a history of `depth` ends; all others in it are marked deep. Without a depth
/// it ends where it ends here or at the client.
fn by_depth(
    graph: &mut Graph,
    store: &mut Store,
    from: &[Commit],
    depth: Option<u32>,
    cancel: &AtomicBool,
) -> Result<Vec<Commit>, Error> {
    let mut ends = Vec::new();
    // By breadth, so the first visit is by the shortest way.
    let mut seen: HashSet<Commit> = from.iter().copied().collect();
    let mut queue: VecDeque<(Commit, u32)> = seen.iter().map(|commit| (*commit, 1)).collect();
    while let Some((commit, level)) = queue.pop_front() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        graph.read(store, commit)?;
        let too_deep = depth.is_some_and(|depth| level >= depth);
        // Without a wish for another depth, the client's history ends where it does.
        let stays = depth.is_none() && graph.has(commit, mark::CLIENT_SHALLOW);
        if too_deep || stays || graph.is_root(store, commit) {
            graph.set(commit, mark::SHALLOW);
            ends.push(commit);
            continue;
        }
        graph.set(commit, mark::DEEP);
        let new = graph.parents(commit).iter().filter(|parent| seen.insert(**parent));
        queue.extend(new.map(|parent| (*parent, level + 1)));
    }
    Ok(ends)
}

/// The commits at which a history ends that holds what is young enough and not reached by `not`.
fn by_rule(
    graph: &mut Graph,
    store: &mut Store,
    wants: &[Commit],
    depth: &Depth,
    not: &[Commit],
    cancel: &AtomicBool,
) -> Result<Vec<Commit>, Error> {
    let mut hidden = HashSet::new();
    graph.walk(store, not, cancel, |_, commit| hidden.insert(commit))?;
    let mut selected = Vec::new();
    let inside = |graph: &Graph, commit: Commit| {
        !hidden.contains(&commit) && depth.since.is_none_or(|since| graph.date(commit) >= since)
    };
    graph.walk(store, wants, cancel, |graph, commit| {
        let inside = inside(graph, commit);
        if inside {
            selected.push(commit);
        }
        inside
    })?;
    if selected.is_empty() {
        return Err(Error::Protocol("no commits selected for shallow requests".into()));
    }
    for commit in &selected {
        graph.set(*commit, mark::DEEP);
    }
    let ends: Vec<Commit> = selected
        .into_iter()
        .filter(|commit| {
            graph.is_root(store, *commit)
                || graph.parents(*commit).iter().any(|parent| !graph.has(*parent, mark::DEEP))
        })
        .collect();
    for end in &ends {
        graph.clear(*end, mark::DEEP);
        graph.set(*end, mark::SHALLOW);
    }
    Ok(ends)
}

/// Those of the client's shallow commits that the wants lead to.
fn reachable(
    graph: &mut Graph,
    store: &mut Store,
    wants: &[Commit],
    client: &[Commit],
    cancel: &AtomicBool,
) -> Result<Vec<Commit>, Error> {
    let mut left: HashSet<Commit> = client.iter().copied().collect();
    let mut found = Vec::new();
    graph.walk(store, wants, cancel, |_, commit| {
        if left.remove(&commit) {
            found.push(commit);
        }
        !left.is_empty()
    })?;
    Ok(found)
}
