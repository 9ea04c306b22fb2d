//! The blocking half of a push: receive the pack, index it, look at every object.
//!
//! One call of [`run`] on one blocking thread, from the first byte of the pack to the verdict.

use std::{
    collections::{HashSet, VecDeque},
    io,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gix_hash::ObjectId;
use gix_object::{Find as _, Kind};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

use crate::{
    check::{
        Observation,
        closure::{self, Closure},
        fsck::Fsck,
        object,
    },
    fault,
    firewall::{Chunk, Counters, Limits, PackReader},
    index,
    quarantine::{Quarantine, QuarantinedPack},
    refs::reason,
    remote::RefusedBy,
    upload::{Connected, Known},
};

/// What a command of the push wants, as far as objects matter for it.
pub(super) struct Tip {
    pub new: ObjectId,
    /// The ref is a branch, so it has to point to a commit.
    pub branch: bool,
    /// The commit that `new` has to descend from, if the branch may only move forward.
    pub ancestor: Option<ObjectId>,
}

pub(super) struct Job {
    pub source: mpsc::Receiver<Chunk>,
    pub counters: Arc<Counters>,
    pub checks: Arc<Semaphore>,
    pub objects: PathBuf,
    pub quarantine_root: PathBuf,
    pub hash: gix_hash::Kind,
    pub limits: Limits,
    pub fsck: Fsck,
    /// One for each command; `None` if it deletes or was refused already.
    pub tips: Vec<Option<Tip>>,
    /// The client's shallow commits and the repository's.
    pub shallow: Vec<ObjectId>,
    pub known_shallow: Vec<ObjectId>,
    /// New commits without their parents are taken.
    pub shallow_updates: bool,
    /// What the refs had before, if what is new has to be followed up to there.
    pub complete: Option<Vec<ObjectId>>,
    pub cancel: Arc<AtomicBool>,
}

/// The verdict on a push whose pack is sound.
#[derive(Default)]
pub(super) struct Checked {
    pub pack: Option<QuarantinedPack>,
    /// For each command the reason why its objects do not allow it.
    pub rejected: Vec<Option<&'static str>>,
    pub new_shallow: Vec<ObjectId>,
    pub observations: Vec<Observation>,
    /// Lines for the person who pushed.
    pub warnings: Vec<String>,
}

/// Why there is no verdict.
#[derive(Debug)]
pub(super) enum Error {
    /// The pack is refused, for this reason.
    Refused(RefusedBy, String),
    /// Nobody waits for the answer any more, or the time is over.
    Cancelled,
    /// Our fault; the text is for the log.
    Internal(String),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                tracing::error!(%error, "no room for a push");
                let why = "the server has no room left for this push; tell its operator";
                Self::Refused(RefusedBy::Server, why.into())
            }
            _ => Self::Internal(error.to_string()),
        }
    }
}

/// Receives and judges the pack.
pub(super) fn run(job: Job) -> Result<Checked, Error> {
    match job.hash.len_in_bytes() {
        20 => run_with_ids_of::<20>(job),
        _ => run_with_ids_of::<32>(job),
    }
}

fn run_with_ids_of<const N: usize>(job: Job) -> Result<Checked, Error> {
    let hash = job.hash;
    let quarantine = Quarantine::create(&job.quarantine_root, &job.objects)?;
    fault::point("push.quarantined");
    // Streaming needs a thread, but resolving needs all cores: its permit is taken in between, by
    // the indexer, and kept until this function ends.
    let mut permit = None;
    let resolving = || {
        fault::point("push.received");
        permit = turn(job.checks, &job.cancel);
    };
    let mut reader = PackReader::new(job.source, job.limits.clone(), hash, job.counters);
    let declared = reader.declared_objects().map_err(|error| damaged(error.into(), &job.cancel))?;
    let shallow: HashSet<ObjectId> =
        job.shallow.iter().chain(&job.known_shallow).copied().collect();
    let closure = Closure::<N>::new(&shallow, declared.into(), &job.fsck, &job.limits, &job.cancel);
    let target = index::Target {
        packs: &quarantine.packs(),
        store: &job.objects,
        hash,
        limits: &job.limits,
        interrupt: &job.cancel,
    };
    let inspector = closure.inspector(index::open(&job.objects, hash)?);
    let indexed = index::receive(&mut reader, &target, inspector, resolving);
    let inflated_bytes = reader.inflated_bytes();
    drop(reader);
    if let Some((by, sentence)) = closure.unsound() {
        return Err(Error::Refused(by, sentence));
    }
    let indexed = indexed.map_err(|error| damaged(error, &job.cancel))?;

    let store = index::open(quarantine.objects(), hash)?;
    let mut checked = Checked::default();
    let mut incomplete = None;
    let mut pack = None;
    let mut written = None;
    if let Some(indexed) = indexed {
        let findings = closure.finish(&indexed.table, &store).ok_or(Error::Cancelled)?;
        if let Some(sentence) = findings.refused {
            return Err(Error::Refused(RefusedBy::Content, sentence));
        }
        checked.warnings = findings.warnings;
        let known: HashSet<&ObjectId> = job.known_shallow.iter().collect();
        checked.new_shallow = findings.new_shallow;
        checked.new_shallow.retain(|commit| !known.contains(commit));
        checked.observations = findings.observations;
        incomplete = findings.missing;
        pack = Some(indexed.table);
        written = Some(indexed.written);
    }
    for tip in &job.tips {
        if job.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let reason = tip.as_ref().and_then(|tip| {
            // A ref to what the repository had before is good even if the pack is not.
            let lost = incomplete.is_some()
                && pack.as_ref().is_some_and(|pack| pack.kind(&tip.new).is_some());
            if lost { Some(reason::MISSING_OBJECTS) } else { refuse_tip(tip, &store, &job.cancel) }
        });
        checked.rejected.push(reason);
    }
    if !job.shallow_updates && !checked.new_shallow.is_empty() {
        let roots: HashSet<ObjectId> = checked.new_shallow.drain(..).collect();
        let needs = |tip: &Tip| leads_to(&store, tip.new, &roots, &job.cancel);
        reject(&mut checked.rejected, &job.tips, needs, reason::SHALLOW);
    }
    if let Some(complete) = &job.complete {
        let shallow: Vec<ObjectId> =
            job.known_shallow.iter().chain(&checked.new_shallow).copied().collect();
        let known = Known { objects: quarantine.objects(), hash, shallow: &shallow, complete };
        let open = job.tips.iter().zip(&checked.rejected);
        let open = open.filter(|(_, rejected)| rejected.is_none());
        let tips: Vec<ObjectId> = open.filter_map(|(tip, _)| Some(tip.as_ref()?.new)).collect();
        let mut connected = Connected::new(&known, &job.cancel);
        let mut lead = |tips: &[ObjectId]| {
            connected.as_mut().is_some_and(|connected| connected.lead_somewhere(tips, &job.cancel))
        };
        // All at once, and one by one only to find out which of them it is.
        if !lead(&tips) {
            let lost = |tip: &Tip| !lead(&[tip.new]);
            reject(&mut checked.rejected, &job.tips, lost, reason::MISSING_OBJECTS);
        }
    }
    if job.cancel.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    match (written, incomplete) {
        (Some(written), None) => {
            checked.pack = Some(QuarantinedPack {
                quarantine,
                pack: written.pack,
                index: written.index,
                name: written.name,
                bytes: written.bytes,
                objects: written.objects,
                inflated_bytes,
            });
        }
        (_, Some(missing)) => {
            tracing::info!(%missing, "the pack links to an object that is nowhere");
            checked.new_shallow.clear();
            checked.observations.clear();
        }
        (None, None) => {}
    }
    drop(permit);
    fault::point("push.indexed");
    Ok(checked)
}

/// Waits for the turn of this push to use all cores, unless nobody waits for the push any more.
fn turn(checks: Arc<Semaphore>, cancel: &AtomicBool) -> Option<OwnedSemaphorePermit> {
    const LOOK: Duration = Duration::from_millis(100);
    tokio::runtime::Handle::current().block_on(async {
        let mut turn = pin!(checks.acquire_owned());
        while !cancel.load(Ordering::Relaxed) {
            if let Ok(permit) = timeout(LOOK, &mut turn).await {
                return permit.ok();
            }
        }
        None
    })
}

fn damaged(error: index::Error, cancel: &AtomicBool) -> Error {
    if cancel.load(Ordering::Relaxed) {
        return Error::Cancelled;
    }
    match error {
        index::Error::Pack(text) => {
            tracing::warn!(error = %text, "a pack could not be indexed");
            let why = "the pack is damaged, or it builds on objects that are not here";
            Error::Refused(RefusedBy::Content, why.into())
        }
        index::Error::Panic(text) => {
            tracing::error!(panic = %text, "the pack decoder panicked");
            Error::Refused(RefusedBy::Content, "the pack cannot be decoded".into())
        }
        index::Error::Violation(violation) => {
            let by = violation.limit().map_or(RefusedBy::Content, RefusedBy::Limit);
            Error::Refused(by, violation.to_string())
        }
        index::Error::ClientGone | index::Error::Interrupted => Error::Cancelled,
        index::Error::Io(error) => error.into(),
    }
}

/// Rejects those tips that were not yet and for which `bad` holds.
fn reject(
    rejected: &mut [Option<&'static str>],
    tips: &[Option<Tip>],
    mut bad: impl FnMut(&Tip) -> bool,
    why: &'static str,
) {
    for (rejected, tip) in rejected.iter_mut().zip(tips) {
        if rejected.is_none() && tip.as_ref().is_some_and(&mut bad) {
            *rejected = Some(why);
        }
    }
}

fn refuse_tip(tip: &Tip, store: &gix_odb::Handle, cancel: &AtomicBool) -> Option<&'static str> {
    match closure::kind_of(store, &tip.new) {
        None => return Some(reason::MISSING_OBJECTS),
        Some(Kind::Commit) => {}
        Some(_) if tip.branch => return Some(reason::INVALID_VALUE),
        Some(_) => {}
    }
    let ancestor = tip.ancestor?;
    let ancestor = HashSet::from([ancestor]);
    (!leads_to(store, tip.new, &ancestor, cancel)).then_some(reason::NON_FAST_FORWARD)
}

/// Whether one of `ancestors` is reached from `commit` by going to parents, nearest first.
fn leads_to(
    store: &gix_odb::Handle,
    commit: ObjectId,
    ancestors: &HashSet<ObjectId>,
    cancel: &AtomicBool,
) -> bool {
    let mut seen = HashSet::from([commit]);
    let mut queue = VecDeque::from([commit]);
    let mut buffer = Vec::new();
    while let Some(id) = queue.pop_front() {
        if ancestors.contains(&id) {
            return true;
        }
        if cancel.load(Ordering::Relaxed) {
            return false;
        }
        let Ok(Some(found)) = store.try_find(&id, &mut buffer) else {
            continue;
        };
        if found.kind == Kind::Tag {
            queue.extend(object::tag_link(found.data, id.kind()).map(|tag| tag.target));
        } else if let Ok((_, parents)) = object::commit_links(found.data, id.kind()) {
            queue.extend(parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_turn_is_waited_for_as_long_as_somebody_waits_for_the_push() {
        let checks = Arc::new(Semaphore::new(1));
        let wait = |cancel: &Arc<AtomicBool>| {
            let (checks, cancel) = (checks.clone(), cancel.clone());
            tokio::task::spawn_blocking(move || turn(checks, &cancel))
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let first = wait(&cancel).await.unwrap();
        assert!(first.is_some());
        let second = wait(&cancel);
        tokio::time::sleep(Duration::from_millis(250)).await;
        drop(first);
        let second = second.await.unwrap();
        assert!(second.is_some(), "it keeps its place in the queue");
        let third = wait(&cancel);
        let started = Instant::now();
        cancel.store(true, Ordering::Relaxed);
        assert!(third.await.unwrap().is_none());
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
