//! Changing refs, as git's own programs do it.
//!
//! 1. Every ref of the push is locked: `<ref>.lock`.
//! 2. The refs are read, and the rules of [`sluice_git::refs::plan`] decide: compare and swap, names
//!    that are in each other's way, all or nothing. Under the locks nobody else changes these refs,
//!    and whoever creates `a` meets our lock for `a/b` in the file system.
//! 3. The new values are written into the locks, and then what is deleted goes out of `packed-refs`, in
//!    one rewrite.
//! 4. Deletions: the files are removed.
//! 5. Updates: each lock is renamed to its ref.
//!
//! A push of all refs or none ends without a change if anything is not possible up to step 3. What can
//! go wrong later is a disk that fails between two renames.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::Path,
    time::Duration,
};

use sluice_git::{
    Command,
    refs::{Decision, plan, reason},
};

use crate::{
    lock::{Lock, prune},
    reflog::{self, Change},
    refs,
    settings::Reflogs,
};

/// As git waits by default.
const REF_PATIENCE: Duration = Duration::from_millis(100);
const PACKED_PATIENCE: Duration = Duration::from_secs(1);

/// Where refs are changed, and in whose name.
pub struct Update<'a> {
    pub folder: &'a Path,
    pub hash: gix_hash::Kind,
    pub reflogs: Reflogs,
    pub who: (String, String),
}

impl Update<'_> {
    /// Applies the commands that were not rejected before, and says what became of each.
    pub fn apply(
        &self,
        commands: &[Command],
        rejected: &[Option<&'static str>],
        atomic: bool,
    ) -> io::Result<Vec<Decision>> {
        // A symbolic ref stands for the one that it names. If both are changed alike, that is one
        // change.
        let mut meant: Vec<Command> = Vec::with_capacity(commands.len());
        let mut reasons = Vec::with_capacity(commands.len());
        let mut changes: HashMap<Command, (usize, &str)> = HashMap::new();
        let mut stands_for = Vec::with_capacity(commands.len());
        for (command, reason) in commands.iter().zip(rejected) {
            let name = refs::resolve(self.folder, &command.name)?;
            let change = Command { name, ..command.clone() };
            let known = changes.get(&change).filter(|(_, name)| *name != command.name);
            if let (Some((at, _)), None) = (known, reason) {
                stands_for.push(*at);
                continue;
            }
            stands_for.push(meant.len());
            if reason.is_none() {
                changes.entry(change.clone()).or_insert((meant.len(), &command.name));
            }
            meant.push(change);
            reasons.push(*reason);
        }
        let decisions = self.apply_meant(&meant, reasons, atomic)?;
        let decided = |at: usize| decisions.get(at).copied();
        let failed = Decision::Reject(reason::FAILED);
        Ok(stands_for.into_iter().map(|at| decided(at).unwrap_or(failed)).collect())
    }

    fn apply_meant(
        &self,
        meant: &[Command],
        mut rejected: Vec<Option<&'static str>>,
        atomic: bool,
    ) -> io::Result<Vec<Decision>> {
        let mut locks: Vec<Option<Lock>> = Vec::with_capacity(meant.len());
        for (command, rejected) in meant.iter().zip(&mut rejected) {
            let lock = rejected.is_none().then(|| self.lock(&command.name));
            locks.push(match lock {
                Some(Ok(lock)) => Some(lock),
                // The file may be a ref that this push deletes: the plan knows.
                Some(Err(error)) if error.kind() == io::ErrorKind::NotADirectory => None,
                Some(Err(error)) => {
                    tracing::warn!(name = command.name, %error, "a ref cannot be locked");
                    *rejected = Some(reason::FAILED);
                    None
                }
                None => None,
            });
        }
        let current = refs::all(self.folder, self.hash)?;
        let mut decisions = plan(&current, meant, &rejected, atomic);
        self.prepare(meant, &mut decisions, &mut locks, atomic);
        if atomic && decisions.iter().any(|decision| decision.rejection().is_some()) {
            for decision in &mut decisions {
                if decision.rejection().is_none() {
                    *decision = Decision::Reject(reason::ATOMIC);
                }
            }
            return Ok(decisions);
        }
        self.delete(meant, &mut decisions, &mut locks);
        for ((command, decision), lock) in meant.iter().zip(&mut decisions).zip(locks) {
            if *decision == Decision::Write
                && let Err(error) = self.write(command, lock)
            {
                failed(command, decision, &error);
            }
        }
        for (command, decision) in meant.iter().zip(&decisions) {
            match decision {
                Decision::Write => {
                    let null = gix_hash::ObjectId::null(self.hash);
                    let old = current.get(&command.name).copied().unwrap_or(null);
                    let (name, new, who) = (command.name.as_str(), command.new, &self.who);
                    reflog::append(self.folder, self.reflogs, &Change { name, old, new, who });
                }
                Decision::Delete => reflog::remove(self.folder, &command.name),
                Decision::AlreadyGone | Decision::Reject(_) => {}
            }
        }
        Ok(decisions)
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        Lock::acquire(self.folder, name, REF_PATIENCE)
    }

    /// What is most likely to fail, before any ref is at another place: the new values go into the
    /// locks, and what is deleted goes out of `packed-refs`, where its file still counts.
    fn prepare(
        &self,
        commands: &[Command],
        decisions: &mut [Decision],
        locks: &mut [Option<Lock>],
        atomic: bool,
    ) {
        for ((command, decision), lock) in commands.iter().zip(&mut *decisions).zip(locks) {
            if let (Decision::Write, Some(lock)) = (*decision, lock)
                && let Err(error) = lock.write(format!("{}\n", command.new).as_bytes())
            {
                failed(command, decision, &error);
            }
        }
        if atomic && decisions.iter().any(|decision| decision.rejection().is_some()) {
            return;
        }
        let deleted = |(command, decision): (&Command, &Decision)| {
            (*decision == Decision::Delete).then(|| command.name.clone())
        };
        let names: BTreeSet<String> =
            commands.iter().zip(decisions.iter()).filter_map(deleted).collect();
        if !names.is_empty()
            && let Err(error) = self.unpack(&names)
        {
            for (command, decision) in commands.iter().zip(decisions) {
                if *decision == Decision::Delete {
                    failed(command, decision, &error);
                }
            }
        }
    }

    fn write(&self, command: &Command, lock: Option<Lock>) -> io::Result<()> {
        match lock {
            Some(lock) => lock.commit(),
            // Only now is there room for it.
            None => {
                let mut lock = self.lock(&command.name)?;
                lock.write(format!("{}\n", command.new).as_bytes())?;
                lock.commit()
            }
        }
    }

    fn delete(&self, commands: &[Command], decisions: &mut [Decision], locks: &mut [Option<Lock>]) {
        for ((command, decision), lock) in commands.iter().zip(decisions).zip(locks) {
            if *decision != Decision::Delete {
                continue;
            }
            let path = self.folder.join(&command.name);
            if let Err(error) = fs::remove_file(&path)
                && !matches!(
                    error.kind(),
                    // It was in `packed-refs` only; a folder may be there for a ref of this push.
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::IsADirectory
                )
            {
                failed(command, decision, &error);
            }
            // The lock goes at once: its folder may be where another ref of this push goes.
            lock.take();
            prune(&path, self.folder);
        }
    }

    /// Takes refs out of `packed-refs`; everything else in it stays as it is.
    fn unpack(&self, names: &BTreeSet<String>) -> io::Result<()> {
        // Locked before it is read: a ref that is being packed right now must not come back.
        let mut lock = Lock::acquire(self.folder, "packed-refs", PACKED_PATIENCE)?;
        if !refs::packed(self.folder)?.keys().any(|name| names.contains(name)) {
            return Ok(());
        }
        let old = fs::read(self.folder.join("packed-refs"))?;
        let mut new = Vec::with_capacity(old.len());
        let mut skipped = false;
        for line in old.split_inclusive(|byte| *byte == b'\n') {
            // What a tag tags stands in a line of its own behind it.
            let peeled = line.starts_with(b"^");
            if !peeled {
                let text = std::str::from_utf8(line).unwrap_or_default().trim_end();
                let name = text.split_once(' ').map(|(_, name)| name);
                skipped = name.is_some_and(|name| names.contains(name));
            }
            if !skipped {
                new.extend_from_slice(line);
            }
        }
        lock.write(&new)?;
        lock.commit()
    }
}

fn failed(command: &Command, decision: &mut Decision, error: &io::Error) {
    tracing::error!(name = command.name, %error, "a ref could not be changed");
    *decision = Decision::Reject(reason::FAILED);
}
