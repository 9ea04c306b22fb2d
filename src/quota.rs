//! Quotas of stored bytes: of a remote, of a project, of the server.
//!
//! What is kept is what billing counts ([`crate::db::usage`]). It is asked for before a
//! pack, an archive or an object of Git LFS is read, so that what does not fit is refused
//! while it arrives; and once more by the transaction that records it, which alone is
//! exact. The total of the server has no row of its own, for which all would wait: it is
//! summed up now and then, so what arrives at the same moment may go beyond it a little.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use sluice_git::firewall::{Room, Size};

use crate::db::usage::{self, Full, Quotas};
use crate::db::{Db, DbError};
use crate::server::App;

/// How long the total of the server is good.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// What is kept of all projects, as far as this process knows.
#[derive(Debug, Default)]
pub struct Total(Mutex<Option<(Instant, u64)>>);

impl Total {
    /// More is kept from now on.
    pub fn add(&self, bytes: u64) {
        if let Some((_, total)) = &mut *self.lock() {
            *total = total.saturating_add(bytes);
        }
    }

    async fn read(&self, db: &Db) -> Result<u64, DbError> {
        let known = *self.lock();
        if let Some((_, total)) = known.filter(|(at, _)| at.elapsed() < GOOD_FOR) {
            return Ok(total);
        }
        let total = u64::try_from(usage::stored_in_all(db).await?).unwrap_or(0);
        *self.lock() = Some((Instant::now(), total));
        Ok(total)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, u64)>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What is kept where something is to be added.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// Bytes of the remote; `None` if it goes to none.
    pub upload: Option<i64>,
    /// Bytes of the project.
    pub project: i64,
}

/// How much more may be kept; `None` if nothing bounds it. Its sentence begins in lower
/// case and has no full stop, as git shows it behind words of its own.
pub async fn room(app: &App, stored: Stored) -> Result<Option<Room>, DbError> {
    let limits = &app.config.limits;
    let left = |most: u64, bytes: i64| most.saturating_sub(u64::try_from(bytes).unwrap_or(0));
    let mut rooms = Vec::with_capacity(3);
    if let Some(bytes) = stored.upload.filter(|_| limits.upload_stored_bytes > 0) {
        rooms.push(of_upload(app, left(limits.upload_stored_bytes, bytes)));
    }
    if limits.project_stored_bytes > 0 {
        rooms.push(of_project(app, left(limits.project_stored_bytes, stored.project)));
    }
    if limits.server_stored_bytes > 0 {
        let total = app.stored.read(&app.db).await?;
        rooms.push(Room {
            bytes: limits.server_stored_bytes.saturating_sub(total),
            quota: "server_stored_bytes",
            sentence: "the server has no room for this within its quota; ask its operator to make \
                       room, or to raise SLUICE_LIMIT_SERVER_STORED_BYTES"
                .to_owned(),
        });
    }
    Ok(rooms.into_iter().min_by_key(|room| room.bytes))
}

fn of_upload(app: &App, left: u64) -> Room {
    let most = app.config.limits.upload_stored_bytes;
    Room {
        bytes: left,
        quota: "upload_stored_bytes",
        sentence: format!(
            "this remote has room for {} more of the {} that one may keep; push less of the \
             history, or to a new remote (SLUICE_LIMIT_UPLOAD_STORED_BYTES)",
            Size(left),
            Size(most)
        ),
    }
}

fn of_project(app: &App, left: u64) -> Room {
    let most = app.config.limits.project_stored_bytes;
    Room {
        bytes: left,
        quota: "project_stored_bytes",
        sentence: format!(
            "the project has room for {} more of the {} that one may keep; delete repositories \
             that nobody needs, or use another project (SLUICE_LIMIT_PROJECT_STORED_BYTES)",
            Size(left),
            Size(most)
        ),
    }
}

/// What a transaction that records compares with.
pub fn quotas(app: &App) -> Quotas {
    let limits = &app.config.limits;
    Quotas { upload: limits.upload_stored_bytes, project: limits.project_stored_bytes }
}

/// A quota that the transaction found not to suffice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Name of the limit.
    pub name: &'static str,
    /// What to do about it; as in [`room`].
    pub sentence: String,
}

/// Explains what a transaction found out.
pub fn refused(app: &App, full: Full) -> Refused {
    let limits = &app.config.limits;
    let (name, sentence) = match full {
        Full::Upload => (
            "upload_stored_bytes",
            format!(
                "with this the remote would keep more than the {} that one may keep; push \
                 less of the history, or to a new remote (SLUICE_LIMIT_UPLOAD_STORED_BYTES)",
                Size(limits.upload_stored_bytes)
            ),
        ),
        Full::Project => (
            "project_stored_bytes",
            format!(
                "with this the project would keep more than the {} that one may keep; delete \
                 repositories that nobody needs, or use another project \
                 (SLUICE_LIMIT_PROJECT_STORED_BYTES)",
                Size(limits.project_stored_bytes)
            ),
        ),
    };
    Refused { name, sentence }
}
