//! Which objects a client may ask for.
//!
//! What the visible refs point to, always. Over HTTP every request stands alone, so a ref may have
//! moved since the client saw it: commits that the visible refs lead to are given as well, as git
//! does. Trees and blobs by their id, which partial clones ask for, only if the policy allows what is
//! reachable. Hidden refs lead nowhere, and what only they reach is as if it were not here.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
};

use gix_hash::ObjectId;
use gix_object::Kind;

use super::{
    Error,
    filter::Filter,
    graph::{Commit, Graph},
    negotiate::peel,
    object,
    objects::{Base, Objects},
    revisions,
    store::{Place, Store},
};
use crate::remote::Wants;

/// The ids among `wanted` that may not be had. `tips` is what the visible refs point to.
pub(super) fn refused(
    store: &mut Store,
    shallow: &[ObjectId],
    tips: &[ObjectId],
    wanted: &[ObjectId],
    allowed: Wants,
    cancel: &AtomicBool,
) -> Result<HashSet<ObjectId>, Error> {
    let known: HashSet<&ObjectId> = tips.iter().collect();
    let mut refused = HashSet::new();
    let mut left: HashMap<Place, Kind> = HashMap::new();
    for id in wanted {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if known.contains(id) {
            continue;
        }
        match store.place(id) {
            None => {
                refused.insert(*id);
            }
            Some(_) if allowed == Wants::Any => {}
            Some(place) => {
                let (kind, _) = store.header(place)?;
                if allowed == Wants::Tips && kind != Kind::Commit {
                    refused.insert(*id);
                } else {
                    left.insert(place, kind);
                }
            }
        }
    }
    if !left.is_empty() {
        let tags = left.values().filter(|kind| **kind == Kind::Tag).count();
        let mut search = Search { store, left, tags, cancel };
        search.run(shallow, tips)?;
        let left = search.left;
        refused.extend(left.into_keys().map(|place| store.id(place)));
    }
    Ok(refused)
}

struct Search<'a> {
    store: &'a mut Store,
    /// What was not reached yet.
    left: HashMap<Place, Kind>,
    /// How many tags are among that.
    tags: usize,
    cancel: &'a AtomicBool,
}

impl Search<'_> {
    /// Goes from the tips, youngest commits first, until everything was reached or all was seen.
    fn run(&mut self, shallow: &[ObjectId], tips: &[ObjectId]) -> Result<(), Error> {
        let mut graph = Graph::new(shallow.iter().copied());
        let mut commits = Vec::new();
        let mut others = Vec::new();
        for tip in tips {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let Some(place) = self.store.place(tip) else {
                continue;
            };
            self.tags(place)?;
            // A tip that leads nowhere is no reason to refuse what others lead to.
            match peel(self.store, place) {
                Ok((place, Kind::Commit)) => commits.push(graph.at(place, self.store.hash())),
                Ok(other) => others.push(other),
                Err(_) => {}
            }
        }
        self.commits(&mut graph, &commits)?;
        if self.left.is_empty() {
            return Ok(());
        }
        self.contents(&mut graph, &commits, &others)
    }

    fn reached(&mut self, place: Place) {
        self.tags -= usize::from(self.left.remove(&place) == Some(Kind::Tag));
    }

    /// Tags of tags are reached by their tags.
    fn tags(&mut self, tip: Place) -> Result<(), Error> {
        let mut buffer = Vec::new();
        let mut here = Some(tip);
        while let Some(place) = here.take().filter(|_| self.tags > 0) {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            if matches!(self.store.header(place), Ok((Kind::Tag, _))) {
                self.reached(place);
                if self.store.read(place, &mut buffer).is_ok() {
                    here = object::tag_target(&buffer).and_then(|target| self.store.place(&target));
                }
            }
        }
        Ok(())
    }

    fn commits(&mut self, graph: &mut Graph, from: &[Commit]) -> Result<(), Error> {
        let mut wanted: HashSet<Place> = self
            .left
            .iter()
            .filter(|(_, kind)| **kind == Kind::Commit)
            .map(|(place, _)| *place)
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        graph.walk(self.store, from, self.cancel, |graph, commit| {
            wanted.remove(&graph.place(commit));
            !wanted.is_empty()
        })?;
        self.left.retain(|place, kind| *kind != Kind::Commit || wanted.contains(place));
        Ok(())
    }

    fn contents(
        &mut self,
        graph: &mut Graph,
        commits: &[Commit],
        others: &[(Place, Kind)],
    ) -> Result<(), Error> {
        if !self.left.values().any(|kind| matches!(kind, Kind::Tree | Kind::Blob)) {
            return Ok(());
        }
        let selected = revisions::select(graph, self.store, commits, &[], self.cancel)?;
        let filter = Filter::default();
        let mut objects = Objects::new(self.store, &filter, false, self.cancel);
        for (place, kind) in others {
            objects.take(*place);
            if *kind == Kind::Tree {
                objects.take_below(*place)?;
            }
        }
        // The youngest tree is taken whole, since what a checkout asks for is most often there, and
        // each further one is compared with the one before.
        let mut before = None;
        for (number, commit) in selected.into_iter().enumerate() {
            let tree = graph.tree(commit);
            objects.take_tree(&tree, before.as_slice())?;
            before = Some(Base { tree, theirs: false });
            // Not after each commit, or many wants would cost more than the walk.
            if number < 2 || number % 256 == 0 {
                self.left.retain(|place, _| !objects.has_met(*place));
                if self.left.is_empty() {
                    return Ok(());
                }
            }
        }
        self.left.retain(|place, _| !objects.has_met(*place));
        Ok(())
    }
}
