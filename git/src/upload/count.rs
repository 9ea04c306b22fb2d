//! From what is wanted to the list of objects that are sent.

use std::sync::atomic::{AtomicBool, Ordering};

use gix_hash::ObjectId;
use gix_object::Kind;

use super::{
    Error,
    filter::Filter,
    graph::{Commit, Graph, mark},
    negotiate::peel_through,
    objects::{Base, Collected, Objects},
    revisions,
    store::{Place, Store},
};

/// A tree is compared with at most so many others: with those of its parents, or with the client's
/// where a history is cut. A commit may have thousands of parents.
const MAX_BASES: usize = 8;

/// What is wanted, resolved.
#[derive(Debug, Default)]
pub(super) struct Goal {
    /// The commits that the wants lead to, and further ones that deepen a history.
    pub commits: Vec<Commit>,
    /// Everything that was asked for by its id, with its kind.
    pub explicit: Vec<(Place, Kind)>,
    /// The client's commits.
    pub haves: Vec<Commit>,
    /// Annotated tags that are sent along if what they tag is sent.
    pub tags: Vec<ObjectId>,
}

impl Goal {
    /// Adds a want: the object itself, what it tags, and the tags on the way, which need no ref.
    pub fn want(
        &mut self,
        graph: &mut Graph,
        store: &mut Store,
        id: &ObjectId,
    ) -> Result<(), Error> {
        let place = store.place(id).ok_or(Error::Missing(*id))?;
        let explicit = &mut self.explicit;
        let tag = |tag| explicit.push((tag, Kind::Tag));
        let (target, kind) = peel_through(store, place, usize::MAX, tag)?;
        if kind == Kind::Commit {
            self.commits.push(graph.at(target, store.hash()));
        }
        if kind != Kind::Commit || target == place {
            self.explicit.push((target, kind));
        }
        Ok(())
    }
}

/// Lists the objects. Blocking; takes as long as the history that is sent is large.
pub(super) fn count(
    graph: &mut Graph,
    store: &mut Store,
    goal: &Goal,
    filter: &Filter,
    thin: bool,
    cancel: &AtomicBool,
) -> Result<Collected, Error> {
    let selected = revisions::select(graph, store, &goal.commits, &goal.haves, cancel)?;
    // A client that left things out the last time may lack the bases of a thin pack.
    let mut objects = Objects::new(store, filter, thin && !filter.is_active(), cancel);
    let edges: Vec<Base> = goal
        .haves
        .iter()
        .take(MAX_BASES)
        .map(|commit| Base { tree: graph.tree(*commit), theirs: true })
        .collect();
    for commit in &selected {
        objects.take_filtered(graph.place(*commit), Kind::Commit);
    }
    for commit in selected.iter().rev() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let mut bases = Vec::new();
        if !graph.has(*commit, mark::CUT) {
            for parent in graph.parents(*commit).iter().take(MAX_BASES) {
                let theirs = graph.has(*parent, mark::EXCLUDED);
                if theirs || graph.has(*parent, mark::TAKEN) {
                    bases.push(Base { tree: graph.tree(*parent), theirs });
                }
            }
        }
        let bases = if bases.is_empty() { &edges } else { &bases };
        objects.take_tree(&graph.tree(*commit), bases)?;
        graph.set(*commit, mark::TAKEN);
    }
    for (place, kind) in &goal.explicit {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        // What the client has is not sent again, even if it asks.
        let theirs = *kind == Kind::Commit && {
            let commit = graph.at(*place, objects.hash());
            graph.has(commit, mark::EXCLUDED)
        };
        if !theirs {
            objects.take(*place);
        }
        if *kind == Kind::Tree {
            objects.take_below(*place)?;
        }
    }
    objects.take_tags(&goal.tags)?;
    Ok(objects.finish())
}
