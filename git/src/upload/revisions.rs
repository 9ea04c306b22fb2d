//! Which commits are sent: those that the wants lead to and the haves do not.
//!
//! The walk goes from young to old over both at once, so that it ends soon after it has left what is
//! new, whatever the length of the history. If dates are skewed it may send a commit too many, which
//! costs bytes and nothing else.

use std::{
    collections::BinaryHeap,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    Error,
    graph::{Commit, Graph, mark},
    store::Store,
};

/// How many commits are looked at after the last that seemed to matter.
const SLOP: u32 = 8;

/// The commits to be sent, youngest first. Commits with [`mark::CUT`] lead nowhere.
pub(super) fn select(
    graph: &mut Graph,
    store: &mut Store,
    wants: &[Commit],
    haves: &[Commit],
    cancel: &AtomicBool,
) -> Result<Vec<Commit>, Error> {
    let mut walk = Walk { graph, store, queue: BinaryHeap::new(), interesting: 0 };
    for commit in haves {
        walk.exclude(*commit);
        walk.push(*commit)?;
    }
    for commit in wants {
        walk.push(*commit)?;
    }
    let mut selected = Vec::new();
    let mut oldest = i64::MAX;
    let mut slop = SLOP;
    while let Some((date, commit)) = walk.queue.pop() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if walk.interesting == 0 && date < oldest {
            if slop == 0 {
                break;
            }
            slop -= 1;
        } else {
            slop = SLOP;
        }
        walk.graph.clear(commit, mark::QUEUED);
        let excluded = walk.graph.has(commit, mark::EXCLUDED);
        if !excluded {
            walk.interesting -= 1;
            oldest = oldest.min(date);
            selected.push(commit);
        }
        if walk.graph.has(commit, mark::CUT) {
            continue;
        }
        for parent in walk.graph.parents(commit).to_vec() {
            if excluded {
                walk.exclude(parent);
            }
            walk.push(parent)?;
        }
    }
    selected.retain(|commit| !graph.has(*commit, mark::EXCLUDED));
    Ok(selected)
}

struct Walk<'a> {
    graph: &'a mut Graph,
    store: &'a mut Store,
    queue: BinaryHeap<(i64, Commit)>,
    /// Commits in the queue that are not excluded.
    interesting: usize,
}

impl Walk<'_> {
    fn push(&mut self, commit: Commit) -> Result<(), Error> {
        if self.graph.has(commit, mark::SEEN) {
            return Ok(());
        }
        let excluded = self.graph.has(commit, mark::EXCLUDED);
        match self.graph.read(self.store, commit) {
            Ok(()) => {}
            Err(_) if excluded && self.graph.is_lenient() => return Ok(()),
            Err(error) => return Err(error),
        }
        self.graph.set(commit, mark::SEEN | mark::QUEUED);
        self.interesting += usize::from(!excluded);
        self.queue.push((self.graph.date(commit), commit));
        Ok(())
    }

    /// Excludes a commit and whatever was met behind it already.
    fn exclude(&mut self, commit: Commit) {
        let mut open = vec![commit];
        while let Some(commit) = open.pop() {
            if self.graph.has(commit, mark::EXCLUDED) {
                continue;
            }
            self.graph.set(commit, mark::EXCLUDED);
            if self.graph.has(commit, mark::QUEUED) {
                self.interesting -= 1;
            } else if self.graph.has(commit, mark::SEEN) && !self.graph.has(commit, mark::CUT) {
                open.extend(self.graph.parents(commit));
            }
        }
    }
}
