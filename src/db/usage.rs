//! Usage: what was used, row by row, and its sums by day.
//!
//! Rows are written by the transaction that writes what they count, so that a push
//! or a scan is there with its usage or not at all. Events are rows of `usage`: one
//! for each kind and subject, which makes a job that runs twice count once. What is
//! kept is a row of `usage_storage`, from `stored_at` until `removed_at`. Nothing
//! refers to other tables: usage outlives the project that it speaks of, whose name
//! is noted when it goes ([`project_deleted`]).
//!
//! `usage_daily` sums both by owner, day, project and kind; the same transaction adds
//! to it. Storage becomes additive by counting changes: `stored` and `removed` bytes,
//! and `weighted`, the bytes times the seconds from the change to the end of the day.
//! With the level at the start of a day, that day's byte-seconds are `level × 86400 +
//! weighted(stored) − weighted(removed)`, and nothing has to visit the objects that
//! did not change. Storage is metered by whole seconds; a day's changes of one owner
//! may come to 100 TB.
//!
//! `stored_bytes` has what each project keeps now, which quotas are compared with.
//!
//! Rows of `usage_daily` are the last that a transaction touches, in the order of
//! their kinds: pushes to one project wait there for each other for no longer than a
//! commit, and never in a circle. The row of `stored_bytes` comes before those that the
//! same change is summed in, and after those of events.

use uuid::Uuid;

use super::{Args, Conn, Db, Result, Tx, args, now, statements};

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

const SECOND: i64 = 1_000_000;

macro_rules! text_kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// The name in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        impl TryFrom<String> for Kind {
            type Error = String;

            fn try_from(text: String) -> std::result::Result<Self, String> {
                match text.as_str() {
                    $($text => Ok(Self::$name),)*
                    _ => Err(format!("{text:?} is no kind of usage")),
                }
            }
        }
    };
}

text_kinds! {
    /// Bytes of accepted pushes, as they came over the network.
    BytesReceived = "bytes_received";
    /// Files that a completed scan looked at, now or by a kept result.
    FilesScanned = "files_scanned";
    /// Accepted pushes.
    Pushes = "pushes";
    /// Bytes that are kept no longer; in the sums only.
    Removed = "removed";
    /// Processor time of completed scans in milliseconds.
    ScanCpuMs = "scan_cpu_ms";
    /// Completed scans.
    Scans = "scans";
    /// Bytes that are kept from then on; in the sums only.
    Stored = "stored";
}

statements! {
    STORE = "INSERT INTO usage_storage (storage_key, holder_id, owner_id, project_id, bytes, \
             stored_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    ADD = "INSERT INTO usage_daily (owner_id, day, project_id, kind, quantity, weighted) \
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (owner_id, day, project_id, kind) \
           DO UPDATE SET quantity = usage_daily.quantity + excluded.quantity, \
           weighted = usage_daily.weighted + excluded.weighted";
    CHANGE = "INSERT INTO stored_bytes (project_id, owner_id, bytes) VALUES ($1, $2, $3) \
              ON CONFLICT (project_id) DO UPDATE SET bytes = stored_bytes.bytes + excluded.bytes \
              RETURNING bytes";
    OF_PROJECT = "SELECT bytes FROM stored_bytes WHERE project_id = $1";
    OF_ALL = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM stored_bytes";
    REMOVE_HELD = "UPDATE usage_storage SET removed_at = $2 \
                   WHERE holder_id = $1 AND removed_at IS NULL \
                   RETURNING owner_id, project_id, bytes";
    REMOVE_OF_REPOSITORY = "UPDATE usage_storage SET removed_at = $2 \
                            WHERE removed_at IS NULL AND (holder_id = $1 \
                            OR holder_id IN (SELECT id FROM git_uploads WHERE repository_id = $1) \
                            OR holder_id IN (SELECT id FROM scans WHERE repository_id = $1)) \
                            RETURNING owner_id, project_id, bytes";
    REMOVE_OF_PROJECT = "UPDATE usage_storage SET removed_at = $2 WHERE removed_at IS NULL AND ( \
                         holder_id IN (SELECT id FROM repositories WHERE project_id = $1) \
                         OR holder_id IN (SELECT id FROM git_uploads WHERE project_id = $1) \
                         OR holder_id IN (SELECT id FROM scans WHERE project_id = $1)) \
                         RETURNING owner_id, project_id, bytes";
    REMOVE_KEY = "UPDATE usage_storage SET removed_at = $2 \
                  WHERE storage_key = $1 AND removed_at IS NULL \
                  RETURNING owner_id, project_id, bytes";
    DELETED = "INSERT INTO usage_projects (project_id, owner_id, name, deleted_at) \
               SELECT id, owner_id, name, $2 FROM projects WHERE id = $1 ON CONFLICT DO NOTHING";
    WAS = "SELECT project_id FROM usage_projects WHERE project_id = $1 AND owner_id = $2";
    MOST = "SELECT coalesce((SELECT max(n) FROM (SELECT count(*) AS n FROM projects \
            GROUP BY owner_id) AS p), 0) AS projects, \
            coalesce((SELECT max(n) FROM (SELECT count(*) AS n FROM git_uploads \
            WHERE deleted_at IS NULL AND expires_at > $1 GROUP BY owner_id) AS u), 0) AS uploads, \
            coalesce((SELECT max(n) FROM (SELECT count(*) AS n FROM api_keys \
            GROUP BY owner_id) AS k), 0) AS api_keys, \
            coalesce((SELECT max(stored_bytes) FROM git_uploads), 0) AS upload_bytes, \
            coalesce((SELECT max(bytes) FROM stored_bytes), 0) AS project_bytes, \
            CAST(coalesce((SELECT sum(bytes) FROM stored_bytes), 0) AS BIGINT) AS server_bytes";
    NAMES = "SELECT id, name FROM projects WHERE owner_id = $1 \
             UNION ALL SELECT project_id, name FROM usage_projects WHERE owner_id = $1";
    LEVEL = "SELECT project_id, kind, CAST(sum(quantity) AS BIGINT) FROM usage_daily \
             WHERE owner_id = $1 AND day < $2 AND kind IN ('stored', 'removed') \
             AND ($3 OR project_id = $4) GROUP BY project_id, kind";
    BY_DAY = "SELECT day, kind, CAST(sum(quantity) AS BIGINT), CAST(sum(weighted) AS BIGINT) \
              FROM usage_daily WHERE owner_id = $1 AND day >= $2 AND day < $3 \
              AND ($4 OR project_id = $5) GROUP BY day, kind";
    BY_PROJECT = "SELECT project_id, kind, CAST(sum(quantity) AS BIGINT), \
                  CAST(sum(weighted) AS BIGINT), CAST(sum(quantity * ($3 - 1 - day)) AS BIGINT) \
                  FROM usage_daily WHERE owner_id = $1 AND day >= $2 AND day < $3 \
                  AND ($4 OR project_id = $5) GROUP BY project_id, kind";
    EVENTS = "SELECT project_id, kind, CAST(sum(quantity) AS BIGINT), CAST(0 AS BIGINT) \
              FROM usage WHERE owner_id = $1 AND at >= $2 AND at < $3 \
              AND ($4 OR project_id = $5) GROUP BY project_id, kind";
    STORED = "SELECT project_id, 'stored', CAST(sum(bytes) AS BIGINT), \
              CAST(sum(bytes * ($3 / 1000000 - stored_at / 1000000)) AS BIGINT) \
              FROM usage_storage WHERE owner_id = $1 AND stored_at >= $2 AND stored_at < $3 \
              AND ($4 OR project_id = $5) GROUP BY project_id";
    REMOVED = "SELECT project_id, 'removed', CAST(sum(bytes) AS BIGINT), \
               CAST(sum(bytes * ($3 / 1000000 - removed_at / 1000000)) AS BIGINT) \
               FROM usage_storage WHERE owner_id = $1 AND removed_at >= $2 AND removed_at < $3 \
               AND ($4 OR project_id = $5) GROUP BY project_id";
}

/// What an event adds to its project.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The push or the scan.
    pub subject_id: Uuid,
    /// Who pays.
    pub owner_id: Uuid,
    /// For what.
    pub project_id: Uuid,
    /// When (microseconds).
    pub at: i64,
    /// What and how much.
    pub quantities: &'a [(Kind, u64)],
}

/// Counts an event, unless it is counted already. To be the last write of its
/// transaction: see the module.
pub async fn record(tx: &mut Tx, event: &Event<'_>) -> Result<()> {
    let mut args = Args::default();
    let (subject, owner) = (args.add(event.subject_id), args.add(event.owner_id));
    let (project, at) = (args.add(event.project_id), args.add(event.at));
    let rows: Vec<String> = event
        .quantities
        .iter()
        .map(|(kind, quantity)| {
            let (kind, quantity) = (args.add(kind.as_str()), args.add(*quantity));
            format!("({kind}, {subject}, {owner}, {project}, {quantity}, {at})")
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO usage (kind, subject_id, owner_id, project_id, quantity, at) VALUES {} \
         ON CONFLICT DO NOTHING RETURNING kind",
        rows.join(", ")
    );
    let new: Vec<(String,)> = Conn::from(&mut *tx).fetch_filtered(&sql, args).await?;
    let mut counted: Vec<&(Kind, u64)> = event
        .quantities
        .iter()
        .filter(|(kind, _)| new.iter().any(|(name,)| name == kind.as_str()))
        .collect();
    counted.sort_unstable_by_key(|(kind, _)| kind.as_str());
    let day = event.at.div_euclid(DAY);
    for (kind, quantity) in counted {
        let quantity = i64::try_from(*quantity).unwrap_or(i64::MAX);
        let args = args![event.owner_id, day, event.project_id, kind.as_str(), quantity, 0_i64];
        tx.execute(ADD, args).await?;
    }
    Ok(())
}

/// Something that is kept from now on.
#[derive(Debug, Clone)]
pub struct Kept<'a> {
    /// Its key in storage.
    pub key: &'a str,
    /// The row with which it goes: an upload, a repository or a scan.
    pub holder_id: Uuid,
    /// Who pays.
    pub owner_id: Uuid,
    /// For what.
    pub project_id: Uuid,
    /// Its size.
    pub bytes: u64,
}

/// Most bytes that may be kept; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// By one remote.
    pub upload: u64,
    /// By one project.
    pub project: u64,
}

/// Which quota does not suffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of the remote.
    Upload,
    /// That of the project.
    Project,
}

impl Quotas {
    /// Compares what would be kept with the quotas. Inside the transaction that adds to
    /// both, whose rows nobody else changes before it ends, that is exact.
    pub fn exceeded(&self, upload: i64, project: i64) -> Option<Full> {
        let more = |bytes: i64, most: u64| most > 0 && u64::try_from(bytes).unwrap_or(0) > most;
        if more(upload, self.upload) {
            Some(Full::Upload)
        } else if more(project, self.project) {
            Some(Full::Project)
        } else {
            None
        }
    }
}

/// Counts the time of these from now on, unless they are counted already; answers the
/// bytes that their project keeps then, or 0 if nothing was new. To be among the last
/// writes of its transaction: see the module.
pub async fn keep(tx: &mut Tx, kept: &[Kept<'_>]) -> Result<i64> {
    let at = now();
    let mut changes = Vec::with_capacity(kept.len());
    for one in kept {
        let bytes = i64::try_from(one.bytes).unwrap_or(i64::MAX);
        let args = args![one.key, one.holder_id, one.owner_id, one.project_id, bytes, at];
        if tx.execute(STORE, args).await? == 1 {
            changes.push((one.owner_id, one.project_id, bytes));
        }
    }
    add(tx, Kind::Stored, at, changes).await
}

/// What is to be removed.
#[derive(Debug, Clone, Copy)]
pub enum Gone<'a> {
    /// Everything that goes with a row.
    Holder(Uuid),
    /// Everything of a repository, its remotes and its scans.
    Repository(Uuid),
    /// Everything of a project.
    Project(Uuid),
    /// One object.
    Key(&'a str),
}

/// Ends the time of what is removed, with the second that has begun: so no sum that
/// was shown grows smaller. To be called before the rows that it goes with are deleted.
pub async fn remove(tx: &mut Tx, gone: Gone<'_>) -> Result<()> {
    let at = (now().div_euclid(SECOND) + 1) * SECOND;
    let changes = match gone {
        Gone::Holder(id) => tx.fetch_all(REMOVE_HELD, args![id, at]).await?,
        Gone::Repository(id) => tx.fetch_all(REMOVE_OF_REPOSITORY, args![id, at]).await?,
        Gone::Project(id) => tx.fetch_all(REMOVE_OF_PROJECT, args![id, at]).await?,
        Gone::Key(key) => tx.fetch_all(REMOVE_KEY, args![key, at]).await?,
    };
    add(tx, Kind::Removed, at, changes).await?;
    Ok(())
}

/// Bytes that a project keeps now.
pub async fn stored(conn: impl Into<Conn<'_>>, project_id: Uuid) -> Result<i64> {
    let row: Option<(i64,)> = conn.into().fetch_optional(OF_PROJECT, args![project_id]).await?;
    Ok(row.map_or(0, |row| row.0))
}

/// Bytes that all projects keep now.
pub async fn stored_in_all(db: &Db) -> Result<i64> {
    Ok(db.conn().fetch_one::<(i64,)>(OF_ALL, args![]).await?.0)
}

/// Adds changes of what is kept (owner, project, bytes) to the sums; answers what the
/// last of the projects keeps then.
async fn add(tx: &mut Tx, kind: Kind, at: i64, mut changes: Vec<(Uuid, Uuid, i64)>) -> Result<i64> {
    let mut now_kept = 0;
    changes.sort_unstable();
    let left = 86_400 - at.rem_euclid(DAY) / SECOND;
    for same in changes.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let Some((owner, project, _)) = same.first() else { continue };
        let bytes: i64 = same.iter().map(|change| change.2).fold(0, i64::saturating_add);
        let change = if kind == Kind::Removed { -bytes } else { bytes };
        let args = args![project, owner, change];
        now_kept = Conn::from(&mut *tx).fetch_one::<(i64,)>(CHANGE, args).await?.0;
        let weighted = bytes.saturating_mul(left);
        let day = at.div_euclid(DAY);
        let args = args![owner, day, project, kind.as_str(), bytes, weighted];
        tx.execute(ADD, args).await?;
    }
    Ok(now_kept)
}

/// Keeps the name of a project that is about to be deleted.
pub async fn project_deleted(tx: &mut Tx, id: Uuid) -> Result<()> {
    tx.execute(DELETED, args![id, now()]).await?;
    Ok(())
}

/// True if this owner had such a project that is gone.
pub async fn was_project(db: &Db, owner_id: Uuid, id: Uuid) -> Result<bool> {
    Ok(db.conn().fetch_optional::<(Uuid,)>(WAS, args![id, owner_id]).await?.is_some())
}

/// The most that any account, remote or project has of what has a quota for each, and what
/// the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Most {
    /// Projects.
    pub projects: i64,
    /// Remotes that still answer.
    pub uploads: i64,
    /// API keys.
    pub api_keys: i64,
    /// Bytes that one remote keeps.
    pub upload_bytes: i64,
    /// Bytes that one project keeps.
    pub project_bytes: i64,
    /// Bytes that all projects keep.
    pub server_bytes: i64,
}

/// See [`Most`].
pub async fn most(db: &Db) -> Result<Most> {
    db.conn().fetch_one(MOST, args![now()]).await
}

/// Whose usage is read, and of which project if not of all.
#[derive(Debug, Clone, Copy)]
pub struct Of {
    /// Who pays.
    pub owner_id: Uuid,
    /// Only this one; it may be gone already.
    pub project_id: Option<Uuid>,
}

impl Of {
    fn all(&self) -> bool {
        self.project_id.is_none()
    }

    fn project(&self) -> Uuid {
        self.project_id.unwrap_or_default()
    }
}

/// A sum of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum<K> {
    /// The day or the project.
    pub of: K,
    /// Of what.
    pub kind: Kind,
    /// How much.
    pub quantity: i64,
    /// Of `stored` and `removed`: bytes times the seconds from then to the end.
    pub weighted: i128,
}

fn sums<K>(rows: Vec<(K, String, i64, i64)>) -> Result<Vec<Sum<K>>> {
    rows.into_iter()
        .map(|(of, kind, quantity, weighted)| {
            Ok(Sum { of, kind: kind_of(kind)?, quantity, weighted: i128::from(weighted) })
        })
        .collect()
}

fn kind_of(text: String) -> Result<Kind> {
    Kind::try_from(text).map_err(|error| super::DbError::Defect(sqlx::Error::Decode(error.into())))
}

/// Names of all projects of an owner, those that are gone included.
pub async fn names(tx: &mut Tx, owner_id: Uuid) -> Result<Vec<(Uuid, String)>> {
    tx.fetch_all(NAMES, args![owner_id]).await
}

/// Bytes kept at the start of a day (days since 1970), by project.
pub async fn level(tx: &mut Tx, of: Of, day: i64) -> Result<Vec<(Uuid, i64)>> {
    let rows: Vec<(Uuid, String, i64)> =
        tx.fetch_all(LEVEL, args![of.owner_id, day, of.all(), of.project()]).await?;
    rows.into_iter()
        .map(|(project, kind, bytes)| {
            Ok((project, if kind_of(kind)? == Kind::Removed { -bytes } else { bytes }))
        })
        .collect()
}

/// Sums of whole days from `first` up to `end` (days since 1970), by day; `weighted`
/// runs to the end of its day.
pub async fn by_day(tx: &mut Tx, of: Of, first: i64, end: i64) -> Result<Vec<Sum<i64>>> {
    sums(tx.fetch_all(BY_DAY, args![of.owner_id, first, end, of.all(), of.project()]).await?)
}

/// The same by project; `weighted` runs to the end of the last day.
pub async fn by_project(tx: &mut Tx, of: Of, first: i64, end: i64) -> Result<Vec<Sum<Uuid>>> {
    let rows: Vec<(Uuid, String, i64, i64, i64)> =
        tx.fetch_all(BY_PROJECT, args![of.owner_id, first, end, of.all(), of.project()]).await?;
    rows.into_iter()
        .map(|(of, kind, quantity, weighted, days)| {
            let kind = kind_of(kind)?;
            let stored = matches!(kind, Kind::Stored | Kind::Removed);
            let later = if stored { i128::from(days) * 86_400 } else { 0 };
            Ok(Sum { of, kind, quantity, weighted: i128::from(weighted) + later })
        })
        .collect()
}

/// Sums of the rows themselves from a time up to another (microseconds, whole
/// seconds), by project; `weighted` runs to `end`.
pub async fn of_rows(tx: &mut Tx, of: Of, from: i64, end: i64) -> Result<Vec<Sum<Uuid>>> {
    let args = || args![of.owner_id, from, end, of.all(), of.project()];
    let mut rows: Vec<(Uuid, String, i64, i64)> = tx.fetch_all(EVENTS, args()).await?;
    rows.extend(tx.fetch_all(STORED, args()).await?);
    rows.extend(tx.fetch_all(REMOVED, args()).await?);
    sums(rows)
}

/// A view of the database at one moment, in which several sums agree.
pub async fn view(db: &Db) -> Result<Tx> {
    Tx::begin_reading(db).await
}

#[cfg(test)]
mod tests;
