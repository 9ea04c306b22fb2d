//! Whether new tips have everything that they lead to, found by following what the old ones do not.
//!
//! A push into a closed store needs no walk, see [`crate::check`]. In a folder where others work
//! too, an object may be there whose links were pruned: then what is new is walked as if it were to
//! be sent, which is what git does as well.

use std::{path::Path, sync::atomic::AtomicBool};

use gix_hash::ObjectId;
use gix_object::Kind;

use super::{
    Error,
    count::{Goal, count},
    filter::Filter,
    graph::Graph,
    negotiate::peel,
    store::Store,
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

/// Whether everything is there that `tips` lead to. What cannot be read is as good as missing.
/// Blocking.
pub(crate) fn connected(known: &Known<'_>, tips: &[ObjectId], cancel: &AtomicBool) -> bool {
    match walk(known, tips, cancel) {
        Ok(()) => true,
        Err(error) => {
            tracing::info!(%error, "what was pushed is not complete");
            false
        }
    }
}

fn walk(known: &Known<'_>, tips: &[ObjectId], cancel: &AtomicBool) -> Result<(), Error> {
    let mut store = Store::open(known.objects, known.hash)?;
    let mut graph = Graph::new(known.shallow.iter().copied());
    let mut goal = Goal::default();
    for tip in tips {
        goal.want(&mut graph, &mut store, tip)?;
    }
    for id in known.complete {
        let Some(place) = store.place(id) else { continue };
        if let Ok((commit, Kind::Commit)) = peel(&mut store, place) {
            goal.haves.push(graph.at(commit, known.hash));
        }
    }
    count(&mut graph, &mut store, &goal, &Filter::default(), false, cancel).map(drop)
}
