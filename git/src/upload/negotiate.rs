//! What client and server have in common.

use std::sync::atomic::{AtomicBool, Ordering};

use gix_hash::ObjectId;
use gix_object::Kind;

use super::{
    Error,
    graph::{Commit, Graph, mark},
    object,
    store::{Place, Store},
};

/// How far tags are followed to what they tag, where nothing but that one tag is lost by it.
pub(super) const MAX_TAGS: usize = 64;

/// The haves of one request: for each whether the object is here. Commits are marked as the client's.
pub(super) fn common(
    graph: &mut Graph,
    store: &mut Store,
    haves: &[ObjectId],
    cancel: &AtomicBool,
) -> Result<(Vec<bool>, Vec<Commit>), Error> {
    let mut known = Vec::with_capacity(haves.len());
    let mut commits = Vec::new();
    for have in haves {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let place = store.place(have);
        known.push(place.is_some());
        let Some(place) = place else {
            continue;
        };
        // What leads nowhere is no common ground, and nothing worse.
        if let Ok((place, Kind::Commit)) = peel(store, place) {
            let commit = graph.at(place, store.hash());
            if !graph.has(commit, mark::THEIRS) {
                graph.set(commit, mark::THEIRS);
                commits.push(commit);
            }
        }
    }
    Ok((known, commits))
}

/// What a tag tags in the end, and its kind; any other object as it is.
pub(super) fn peel(store: &mut Store, place: Place) -> Result<(Place, Kind), Error> {
    peel_through(store, place, MAX_TAGS, |_| {})
}

/// The same, by at most `limit` tags; each tag on the way is shown.
pub(super) fn peel_through(
    store: &mut Store,
    place: Place,
    limit: usize,
    mut tag: impl FnMut(Place),
) -> Result<(Place, Kind), Error> {
    let mut here = place;
    let mut buffer = Vec::new();
    for _ in 0..=limit {
        let (kind, _) = store.header(here)?;
        if kind != Kind::Tag {
            return Ok((here, kind));
        }
        tag(here);
        store.read(here, &mut buffer)?;
        let target = object::tag_target(&buffer).ok_or(Error::Damaged(store.id(here)))?;
        here = store.place(&target).ok_or(Error::Missing(target))?;
    }
    Err(Error::Damaged(store.id(place)))
}

/// Whether each of these commits leads to one that the client has, so that there is no need to find
/// more. Every commit is looked at once, however many wants there are, and none that is older than
/// all of `haves`: it leads to nothing among them, unless dates are skewed, and then more is said
/// than need be.
pub(super) fn enough(
    graph: &mut Graph,
    store: &mut Store,
    wants: &[Commit],
    haves: &[Commit],
    cancel: &AtomicBool,
) -> Result<bool, Error> {
    const NEW: u8 = 0;
    const OPEN: u8 = 1;
    const NO: u8 = 2;
    const YES: u8 = 3;
    let mut oldest = i64::MAX;
    for have in haves {
        graph.read(store, *have)?;
        oldest = oldest.min(graph.date(*have));
    }
    let mut states: Vec<u8> = Vec::new();
    // The path from a want to the commit in hand, with how many parents were tried.
    let mut path: Vec<(Commit, usize)> = Vec::new();
    for want in wants {
        path.push((*want, 0));
        let mut answer = NO;
        while let Some((commit, tried)) = path.last_mut() {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let commit = *commit;
            if states.len() <= commit as usize {
                states.resize(graph.len().max(commit as usize + 1), NEW);
            }
            let state = &mut states[commit as usize];
            if *tried == 0 && *state >= NO {
                answer = *state;
                path.pop();
                continue;
            }
            if graph.has(commit, mark::THEIRS) || answer == YES {
                *state = YES;
                answer = YES;
                path.pop();
                continue;
            }
            *state = OPEN;
            graph.read(store, commit)?;
            let old = graph.date(commit) < oldest;
            match graph.parents(commit).get(*tried).filter(|_| !old) {
                Some(parent) => {
                    *tried += 1;
                    path.push((*parent, 0));
                }
                None => {
                    states[commit as usize] = NO;
                    answer = NO;
                    path.pop();
                }
            }
        }
        if answer != YES {
            return Ok(false);
        }
    }
    Ok(true)
}
