//! Findings, their identity from scan to scan, and what people decided on them.
//!
//! A finding is one row for each (repository, fingerprint), however many scans see
//! it. [`merge()`] tells what a scan brings, [`list()`] shows it, [`triage`] keeps what
//! a person says about it.
//!
//! # State and status
//!
//! `state` is what the scans see (`new`, `unchanged`, `fixed`), `status` is what is
//! thought of it (`open`, `confirmed`, `dismissed`). A finding is *open* in the
//! counters if it is not fixed and not dismissed. The counters `open_*` of the
//! repository and of its project change in the transaction that changes a finding,
//! under the lock of the repository's row.

mod bulk;
mod list;
mod merge;
mod page;
pub(super) mod texts;

use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Args, Conn, Db, Result, Tx, Value, args, new_id, now, project_counters, statements};
use crate::scan::{FlowStep, Location, PackageRef, Severity};
use crate::words::words;

pub use bulk::{Bulk, triage_by_filter, triage_by_ids};
pub use list::{Filter, Key, Scope, Sort, SortBy};
pub use merge::{Coverage, merge};
pub use page::{Found, list};

words! {
    /// What is thought of a finding.
    #[schema(as = FindingStatus)]
    Status: "status" {
        /// Nobody has said anything against it.
        Open = "open",
        /// Somebody says that it is right.
        Confirmed = "confirmed",
        /// Nothing is going to be done about it.
        Dismissed = "dismissed",
    }
}

words! {
    /// What the scans see.
    #[schema(as = FindingState)]
    State: "state" {
        /// The last scan saw it for the first time, or again after it was fixed.
        New = "new",
        /// The last scan saw it, and so did one before.
        Unchanged = "unchanged",
        /// The last scan that could have seen it did not.
        Fixed = "fixed",
    }
}

words! {
    /// Why a finding was dismissed.
    #[schema(as = DismissalReason)]
    Reason: "reason" {
        /// The engine is wrong here.
        FalsePositive = "false_positive",
        /// Right, and somebody bears the risk.
        AcceptedRisk = "accepted_risk",
        /// Right, but only in code for tests.
        UsedInTests = "used_in_tests",
        /// Right, and it stays.
        WontFix = "wont_fix",
        /// A comment in the source says so; never said by a person through the API.
        Inline = "inline",
    }
}

impl Reason {
    /// True for what is said about the code itself and so holds when the same code
    /// comes back after a fix. What is said about a risk ends with the fix.
    pub const fn outlives_a_fix(self) -> bool {
        matches!(self, Self::FalsePositive | Self::UsedInTests)
    }
}

/// What is shown of a finding and never filtered by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Body {
    /// What the engine says about this very place.
    pub message: String,
    /// What the rule says.
    pub description: String,
    /// Where, without what has a column of its own.
    pub location: Option<Location>,
    /// Further places of the same finding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_locations: Vec<Location>,
    /// The lines, secrets masked.
    pub snippet: String,
    /// Enclosing symbols.
    pub symbol: String,
    /// The way of the data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flow: Vec<FlowStep>,
    /// `CWE-89` and the like.
    pub cwe: Vec<String>,
    /// `A03:2021` and the like.
    pub owasp: Vec<String>,
    /// How to repair it.
    pub remediation: String,
    /// Addresses to read on.
    pub references: Vec<String>,
    /// The package, for the dependency engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageRef>,
    /// The words of the comment that dismisses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<String>,
}

/// A finding.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct FindingRow {
    /// Its id, the same from scan to scan.
    pub id: Uuid,
    /// The repository.
    pub repository_id: Uuid,
    /// The project of the repository.
    pub project_id: Uuid,
    /// Identity in the repository.
    pub fingerprint: String,
    /// The engine.
    pub engine: String,
    /// Id of the rule.
    pub rule_id: String,
    /// Title of the rule.
    pub title: String,
    /// How bad.
    pub severity: String,
    /// How sure.
    pub confidence: String,
    /// What is thought of it.
    #[sqlx(try_from = "String")]
    pub status: Status,
    /// What the scans see.
    #[sqlx(try_from = "String")]
    pub state: State,
    /// 0 to 100.
    pub priority: i64,
    /// The rest.
    pub body: Json<Body>,
    /// The scan that saw it first.
    pub first_seen_scan_id: Uuid,
    /// The scan that saw it last.
    pub last_seen_scan_id: Uuid,
    /// Microseconds since 1970.
    pub first_seen_at: i64,
    /// Microseconds since 1970.
    pub last_seen_at: i64,
    /// When a dismissal ends, microseconds since 1970.
    pub dismissal_expires_at: Option<i64>,
}

/// One change of a finding's status.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct HistoryRow {
    /// The finding.
    pub finding_id: Uuid,
    /// Microseconds since 1970.
    pub at: i64,
    /// E-mail of who did it, or [`MACHINE`].
    pub actor: String,
    /// Status before.
    pub from_status: String,
    /// Status after.
    pub to_status: String,
    /// A [`Reason`], or why the server did it: `inline_removed`, `reopened`,
    /// `expired`.
    pub reason: Option<String>,
    /// In the person's own words.
    pub comment: Option<String>,
}

/// The actor in a history where the server itself changed a status.
pub const MACHINE: &str = "sluice";

/// What a person says about a finding.
#[derive(Debug, Clone)]
pub struct Triage {
    /// The new status.
    pub status: Status,
    /// Why, for a dismissal.
    pub reason: Option<Reason>,
    /// In the person's own words.
    pub comment: Option<String>,
    /// When a dismissal ends, microseconds since 1970.
    pub expires_at: Option<i64>,
}

/// Keys of one statement.
const BATCH: usize = 500;

/// Rows of one INSERT with many columns. SQLite finds the name of a placeholder by
/// walking all of them, so the time of a statement grows with their square.
const ROWS: usize = 50;

/// Newest changes that a finding shows.
const SHOWN_HISTORY: u32 = 50;

macro_rules! columns {
    () => {
        "f.id, f.repository_id, f.project_id, f.fingerprint, f.engine, f.rule_id, f.title, \
         f.severity, f.confidence, f.status, f.state, f.priority, f.body, f.first_seen_scan_id, \
         f.last_seen_scan_id, f.first_seen_at, f.last_seen_at, f.dismissal_expires_at"
    };
}
use columns;

statements! {
    LOCK = pair(
        "SELECT default_branch FROM repositories WHERE id = $1",
        "SELECT default_branch FROM repositories WHERE id = $1 FOR NO KEY UPDATE"
    );
    LOCK_SCAN = pair(
        "SELECT id FROM scans WHERE id = $1",
        "SELECT id FROM scans WHERE id = $1 FOR UPDATE"
    );
    COUNTERS = "UPDATE repositories SET open_critical = open_critical + $2, \
                open_high = open_high + $3, open_medium = open_medium + $4, \
                open_low = open_low + $5, open_info = open_info + $6, \
                version = version + 1, updated_at = $7 WHERE id = $1";
    GET = concat("SELECT ", columns!(), " FROM findings f \
                  WHERE f.id = $1 AND f.repository_id = $2 AND f.owner_id = $3");
    LIVE = "SELECT id, fingerprint, engine, rule_id, title, priority, path, in_history, \
            severity, status, state, dismissal_reason, decided_by, last_seen_scan_id FROM findings \
            WHERE repository_id = $1 AND id > $2 AND state <> 'fixed' ORDER BY id LIMIT $3";
    OVERTAKEN = "SELECT id FROM scans WHERE repository_id = $1 AND id > $2 \
                 AND status = 'completed' LIMIT 1";
    REASON = "SELECT dismissal_reason FROM findings WHERE id = $1";
    TRIAGE = "UPDATE findings SET status = $2, dismissal_reason = $3, dismissal_expires_at = $4, \
              decided_by = $5, updated_at = $6 WHERE id = $1";
    EXPIRED = "SELECT id, repository_id FROM findings \
               WHERE dismissal_expires_at IS NOT NULL AND dismissal_expires_at <= $1 \
               ORDER BY repository_id, id LIMIT $2";
    STILL_EXPIRED = "SELECT severity, state FROM findings WHERE id = $1 \
                     AND status = 'dismissed' AND dismissal_expires_at <= $2";
}

/// Open findings that come and go, by severity from worst to least.
#[derive(Debug, Default, PartialEq, Eq)]
struct Delta([i64; 5]);

impl Delta {
    fn add(&mut self, severity: &str, n: i64) {
        let at = Severity::WORST_FIRST.iter().position(|s| s.as_str() == severity);
        if let Some(slot) = at.and_then(|at| self.0.get_mut(at)) {
            *slot += n;
        }
    }

    /// Applies it to the counters of a repository and of its project and wakes who waits
    /// for the former. To be called behind everything else that is locked: see
    /// [`project_counters`].
    async fn apply(self, tx: &mut Tx, repository_id: Uuid) -> Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        let [critical, high, medium, low, info] = self.0;
        tx.execute(COUNTERS, args![repository_id, critical, high, medium, low, info, now()])
            .await?;
        project_counters::findings_changed(tx, repository_id, self.0).await?;
        tx.wake(repository_id);
        Ok(())
    }
}

fn is_open(status: Status, state: State) -> bool {
    status != Status::Dismissed && state != State::Fixed
}

/// A change of status to be noted.
struct Change {
    finding_id: Uuid,
    actor: String,
    from: Status,
    to: Status,
    reason: Option<&'static str>,
    comment: Option<String>,
}

async fn note(tx: &mut Tx, changes: &[Change]) -> Result<()> {
    for batch in changes.chunks(ROWS) {
        let mut args = Args::default();
        let at = args.add(now());
        let rows: Vec<String> = batch
            .iter()
            .map(|change| {
                format!(
                    "({}, {}, {at}, {}, {}, {}, {}, {})",
                    args.add(new_id()),
                    args.add(change.finding_id),
                    args.add(&change.actor),
                    args.add(change.from.as_str()),
                    args.add(change.to.as_str()),
                    args.add(change.reason),
                    args.add(&change.comment),
                )
            })
            .collect();
        let sql = format!(
            "INSERT INTO finding_history (id, finding_id, at, actor, from_status, to_status, \
             reason, comment) VALUES {}",
            rows.join(", ")
        );
        tx.execute_built(&sql, args).await?;
    }
    Ok(())
}

/// Locks the repository against other merges and triage; answers its branch.
async fn lock(tx: &mut Tx, repository_id: Uuid) -> Result<Option<String>> {
    let row: Option<(Option<String>,)> = tx.fetch_optional(LOCK, args![repository_id]).await?;
    row.map(|row| row.0).ok_or_else(super::scans::gone)
}

/// A finding of this owner.
pub async fn get(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    repository_id: Uuid,
    id: Uuid,
) -> Result<Option<FindingRow>> {
    conn.into().fetch_optional(GET, args![id, repository_id, owner_id]).await
}

/// Those of the fingerprints under which the repository has a finding that is not fixed.
pub async fn live_among(
    db: &Db,
    repository_id: Uuid,
    fingerprints: &[&str],
) -> Result<Vec<String>> {
    let mut live = Vec::new();
    for batch in fingerprints.chunks(BATCH) {
        let mut args = Args::default();
        let repository = args.add(repository_id);
        let list: Vec<String> = batch.iter().map(|f| args.add(*f)).collect();
        let sql = format!(
            "SELECT fingerprint FROM findings WHERE repository_id = {repository} \
             AND state <> 'fixed' AND fingerprint IN ({})",
            list.join(", ")
        );
        let rows: Vec<(String,)> = db.conn().fetch_filtered(&sql, args).await?;
        live.extend(rows.into_iter().map(|row| row.0));
    }
    Ok(live)
}

/// The newest changes of each of these findings, oldest first.
pub async fn history(conn: impl Into<Conn<'_>>, ids: &[Uuid]) -> Result<Vec<HistoryRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = Args::default();
    let shown = args.add(SHOWN_HISTORY);
    let ids: Vec<String> = ids.iter().map(|id| args.add(id)).collect();
    let sql = format!(
        "SELECT finding_id, at, actor, from_status, to_status, reason, comment FROM \
         (SELECT finding_id, id, at, actor, from_status, to_status, reason, comment, \
          row_number() OVER (PARTITION BY finding_id ORDER BY id DESC) AS n \
          FROM finding_history WHERE finding_id IN ({})) h WHERE n <= {shown} \
         ORDER BY finding_id, id",
        ids.join(", ")
    );
    conn.into().fetch_filtered(&sql, args).await
}

/// Keeps what a person says about a finding. False: this owner has no such finding.
///
/// What a person has decided is never changed by a comment in the source, and only
/// ends with a fix (see [`Reason::outlives_a_fix`]) or at its own end.
pub async fn triage(
    tx: &mut Tx,
    owner_id: Uuid,
    repository_id: Uuid,
    id: Uuid,
    actor: &str,
    triage: &Triage,
) -> Result<bool> {
    // Found before anything of another owner could be locked.
    if get(&mut *tx, owner_id, repository_id, id).await?.is_none() {
        return Ok(false);
    }
    lock(tx, repository_id).await?;
    let Some(before) = get(&mut *tx, owner_id, repository_id, id).await? else {
        return Ok(false);
    };
    let dismissed = triage.status == Status::Dismissed;
    let reason = triage.reason.filter(|_| dismissed).map(Reason::as_str);
    let expires_at = triage.expires_at.filter(|_| dismissed);
    let (decided,): (Option<String>,) = tx.fetch_one(REASON, args![id]).await?;
    if before.status == triage.status
        && decided.as_deref() == reason
        && before.dismissal_expires_at == expires_at
        && triage.comment.is_none()
    {
        // Said already, and nothing is added to it.
        return Ok(true);
    }
    let at = now();
    tx.execute(TRIAGE, args![id, triage.status.as_str(), reason, expires_at, actor, at]).await?;
    let change = Change {
        finding_id: id,
        actor: actor.to_owned(),
        from: before.status,
        to: triage.status,
        reason,
        comment: triage.comment.clone(),
    };
    note(tx, &[change]).await?;
    let mut delta = Delta::default();
    delta.add(&before.severity, -i64::from(is_open(before.status, before.state)));
    delta.add(&before.severity, i64::from(is_open(triage.status, before.state)));
    delta.apply(tx, repository_id).await?;
    bulk::told(tx, repository_id, 1, actor, triage).await?;
    Ok(true)
}

/// Opens what was dismissed until a time that has come; answers how many. For the
/// sweeper: several may do it at once.
pub async fn expire_dismissals(db: &Db, at: i64) -> Result<u64> {
    let mut expired = 0;
    loop {
        let due: Vec<(Uuid, Uuid)> = db.conn().fetch_all(EXPIRED, args![at, BATCH]).await?;
        let full = due.len() == BATCH;
        for group in due.chunk_by(|a, b| a.1 == b.1) {
            let Some((_, repository_id)) = group.first() else { continue };
            let mut tx = db.begin().await?;
            if tx.fetch_optional::<(Option<String>,)>(LOCK, args![*repository_id]).await?.is_none()
            {
                continue;
            }
            let mut delta = Delta::default();
            let mut changes = Vec::new();
            for (id, _) in group {
                // Somebody may have been faster.
                let row: Option<(String, String)> =
                    tx.fetch_optional(STILL_EXPIRED, args![*id, at]).await?;
                let Some((severity, state)) = row else { continue };
                let nobody = Value::Text(None);
                let open = Status::Open.as_str();
                let (no_reason, no_end) = (Value::Text(None), Value::Int(None));
                tx.execute(TRIAGE, args![*id, open, no_reason, no_end, nobody, now()]).await?;
                delta.add(&severity, i64::from(state != State::Fixed.as_str()));
                changes.push(Change {
                    finding_id: *id,
                    actor: MACHINE.to_owned(),
                    from: Status::Dismissed,
                    to: Status::Open,
                    reason: Some("expired"),
                    comment: None,
                });
            }
            note(&mut tx, &changes).await?;
            delta.apply(&mut tx, *repository_id).await?;
            tx.commit().await?;
            expired += changes.len() as u64;
        }
        if !full {
            return Ok(expired);
        }
    }
}

#[cfg(test)]
mod tests;
