//! Whether new tips have everything that they lead to, found by following what the old ones do not.
//!
//! A push into a closed store needs no walk, see [`crate::check`]. In a folder where others work
//! too, an object may be there whose links were pruned: then what is new is walked as if it were to
//! be sent, which is what git does as well.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use gix_hash::ObjectId;
use gix_object::Kind;

use super::{
    Error,
    count::{Goal, count},
    filter::Filter,
    graph::Graph,
    negotiate::peel,
    store::{Place, Store},
};

/// What is known about the store in which the tips are.
pub(crate) struct Known<'a> {
    /// The object folder.
    pub objects: &'a Path,
    pub hash: gix_hash::Kind,
    /// The commits whose parents may be missing.
    pub shallow: &'a [ObjectId],
    /// What has all that it leads to.
    pub complete: &'a [ObjectId],
}

/// A store in which tips are looked at. It is opened once for all of them.
pub(crate) struct Connected<'a> {
    known: &'a Known<'a>,
    store: Store,
    complete: Vec<Place>,
}

impl<'a> Connected<'a> {
    /// Blocking. `None` if nothing can be read, or once the flag is set.
    pub fn new(known: &'a Known<'a>, cancel: &AtomicBool) -> Option<Self> {
        let mut store = Store::open(known.objects, known.hash)
            .inspect_err(|error| tracing::error!(%error, "a store cannot be opened"))
            .ok()?;
        let mut complete = Vec::new();
        for id in known.complete {
            if cancel.load(Ordering::Relaxed) {
                return None;
            }
            let Some(place) = store.place(id) else { continue };
            if let Ok((commit, Kind::Commit)) = peel(&mut store, place) {
                complete.push(commit);
            }
        }
        Some(Self { known, store, complete })
    }

    /// Whether everything is there that `tips` lead to. What cannot be read is as good as missing.
    /// Blocking.
    pub fn lead_somewhere(&mut self, tips: &[ObjectId], cancel: &AtomicBool) -> bool {
        match self.walk(tips, cancel) {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(%error, "what was pushed is not complete");
                false
            }
        }
    }

    fn walk(&mut self, tips: &[ObjectId], cancel: &AtomicBool) -> Result<(), Error> {
        let Self { known, store, complete } = self;
        // What is wrong behind other refs was so before, and is not the fault of this push.
        let mut graph = Graph::new(known.shallow.iter().copied()).lenient();
        let mut goal = Goal::default();
        for tip in tips {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            goal.want(&mut graph, store, tip)?;
        }
        goal.haves.extend(complete.iter().map(|place| graph.at(*place, known.hash)));
        count(&mut graph, store, &goal, &Filter::default(), false, cancel).map(drop)
    }
}
