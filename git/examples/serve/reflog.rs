//! Reflogs: a line for each change of a ref, in `logs/<name>`.
//!
//! A log that is there is continued; whether one is begun is for `core.logAllRefUpdates` to say. A
//! log is a help for people: if it cannot be written, the push counts all the same.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use sluice_git::{Head, ObjectId};

use crate::{
    lock::{prune, remove_empty},
    refs,
    settings::Reflogs,
};

/// One change, as it stands in the logs.
pub struct Change<'a> {
    pub name: &'a str,
    pub old: ObjectId,
    pub new: ObjectId,
    /// Name and e-mail address.
    pub who: &'a (String, String),
}

/// Notes a change of a ref, and of `HEAD` if it points there.
pub fn append(folder: &Path, which: Reflogs, change: &Change<'_>) {
    let created = match which {
        Reflogs::None => false,
        Reflogs::All => true,
        Reflogs::Branches => ["refs/heads/", "refs/remotes/", "refs/notes/"]
            .iter()
            .any(|below| change.name.starts_with(below)),
    };
    let mut noted = line(folder, change.name, created, change);
    if matches!(refs::head(folder), Ok(Some(Head::Branch(name))) if name == change.name) {
        noted = noted.and(line(folder, "HEAD", which != Reflogs::None, change));
    }
    if let Err(error) = noted {
        tracing::warn!(name = change.name, %error, "a reflog could not be written");
    }
}

fn line(folder: &Path, name: &str, create: bool, change: &Change<'_>) -> io::Result<()> {
    let path = folder.join("logs").join(name);
    if create {
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        if path.is_dir() {
            remove_empty(&path)?;
        }
    }
    let mut file = match OpenOptions::new().append(true).create(create).open(&path) {
        Ok(file) => file,
        Err(_) if !create => return Ok(()),
        Err(error) => return Err(error),
    };
    let Change { old, new, who: (user, email), .. } = change;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // In one write, so that two lines never mix.
    file.write_all(format!("{old} {new} {user} <{email}> {seconds} +0000\tpush\n").as_bytes())
}

/// Removes the log of a ref that is gone.
pub fn remove(folder: &Path, name: &str) {
    let path = folder.join("logs").join(name);
    if fs::remove_file(&path).is_ok() {
        prune(&path, folder);
    }
}
