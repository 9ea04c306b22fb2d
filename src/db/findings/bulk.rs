//! Triage of many findings of a repository at once.
//!
//! By ids it is one transaction: all or nothing. A filter may name a million findings,
//! and one transaction over them would keep every other writer waiting, so it goes on
//! in steps of [`STEP`], oldest first, each a transaction that leaves counters, history
//! and events right. A process that dies on the way leaves whole steps done, and the
//! same request again does the rest. What is found while it runs is left alone, and
//! each finding is checked again, under the lock of the repository, before it changes.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use uuid::Uuid;

use super::list::{ids as named, still};
use super::{BATCH, Change, Delta, Filter, Reason, State, Status, Triage, is_open, lock, note};
use crate::db::project_events::{self, NewProjectEvent};
use crate::db::{Conn, Db, Result, Tx, args, new_id, now};

/// Findings of one transaction.
const STEP: u32 = 1_000;

/// What became of the findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bulk {
    /// How many changed.
    pub updated: u64,
    /// How many were already as they should be.
    pub unchanged: u64,
    /// Ids that the repository does not have.
    pub not_found: Vec<Uuid>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    severity: String,
    #[sqlx(try_from = "String")]
    status: Status,
    #[sqlx(try_from = "String")]
    state: State,
    dismissal_reason: Option<String>,
    dismissal_expires_at: Option<i64>,
}

/// Keeps what a person says about these findings of a repository of this owner, in one
/// transaction. `None`: there is no such repository.
pub async fn triage_by_ids(
    db: &Db,
    owner_id: Uuid,
    repository_id: Uuid,
    ids: &[Uuid],
    actor: &str,
    triage: &Triage,
) -> Result<Option<Bulk>> {
    if crate::db::scans::scannable(db, owner_id, repository_id).await?.is_none() {
        return Ok(None);
    }
    let mut tx = db.begin().await?;
    lock(&mut tx, repository_id).await?;
    let mut seen = HashSet::new();
    let ids: Vec<Uuid> = ids.iter().copied().filter(|id| seen.insert(*id)).collect();
    let bulk = apply(&mut tx, owner_id, repository_id, &ids, actor, triage).await?;
    tx.commit().await?;
    Ok(Some(bulk))
}

/// The same for all findings that a filter names; see the module for what is atomic.
pub async fn triage_by_filter(
    db: &Db,
    owner_id: Uuid,
    repository_id: Uuid,
    filter: &Filter,
    actor: &str,
    triage: &Triage,
) -> Result<Option<Bulk>> {
    if crate::db::scans::scannable(db, owner_id, repository_id).await?.is_none() {
        return Ok(None);
    }
    let until = new_id();
    let mut after = Uuid::nil();
    let mut all = Bulk::default();
    loop {
        // Outside of the transaction: a filter that names little may read much.
        let mut ids = named(db, owner_id, repository_id, filter, after, STEP).await?;
        let full = ids.len() == STEP as usize;
        ids.retain(|id| *id < until);
        let Some(last) = ids.last().copied() else { return Ok(Some(all)) };
        let mut tx = db.begin().await?;
        lock(&mut tx, repository_id).await?;
        let ids = still(&mut tx, owner_id, repository_id, filter, &ids).await?;
        let step = apply(&mut tx, owner_id, repository_id, &ids, actor, triage).await?;
        tx.commit().await?;
        all.updated += step.updated;
        all.unchanged += step.unchanged;
        if !full {
            return Ok(Some(all));
        }
        after = last;
    }
}

/// With the repository locked.
async fn apply(
    tx: &mut Tx,
    owner_id: Uuid,
    repository_id: Uuid,
    ids: &[Uuid],
    actor: &str,
    triage: &Triage,
) -> Result<Bulk> {
    let dismissed = triage.status == Status::Dismissed;
    let reason = triage.reason.filter(|_| dismissed).map(Reason::as_str);
    let expires_at = triage.expires_at.filter(|_| dismissed);
    let mut bulk = Bulk::default();
    let mut delta = Delta::default();
    for batch in ids.chunks(BATCH) {
        let mut rows = read(tx, owner_id, repository_id, batch).await?;
        let mut changes = Vec::new();
        for id in batch {
            let Some(row) = rows.remove(id) else {
                bulk.not_found.push(*id);
                continue;
            };
            if row.status == triage.status
                && row.dismissal_reason.as_deref() == reason
                && row.dismissal_expires_at == expires_at
            {
                bulk.unchanged += 1;
                continue;
            }
            delta.add(&row.severity, -i64::from(is_open(row.status, row.state)));
            delta.add(&row.severity, i64::from(is_open(triage.status, row.state)));
            changes.push(Change {
                finding_id: row.id,
                actor: actor.to_owned(),
                from: row.status,
                to: triage.status,
                reason,
                comment: triage.comment.clone(),
            });
        }
        if changes.is_empty() {
            continue;
        }
        bulk.updated += changes.len() as u64;
        let mut args =
            args![triage.status.as_str(), reason, expires_at, actor, now(), repository_id];
        let changed: Vec<String> =
            changes.iter().map(|change| args.add(change.finding_id)).collect();
        let sql = format!(
            "UPDATE findings SET status = $1, dismissal_reason = $2, dismissal_expires_at = $3, \
             decided_by = $4, updated_at = $5 WHERE repository_id = $6 AND id IN ({})",
            changed.join(", ")
        );
        tx.execute_built(&sql, args).await?;
        note(tx, &changes).await?;
    }
    delta.apply(tx, repository_id).await?;
    if bulk.updated > 0 {
        told(tx, repository_id, bulk.updated, actor, triage).await?;
    }
    Ok(bulk)
}

/// Tells the project of a triage.
pub(super) async fn told(
    tx: &mut Tx,
    repository_id: Uuid,
    count: u64,
    actor: &str,
    triage: &Triage,
) -> Result<()> {
    let status = triage.status.as_str();
    let message = match count {
        1 => format!("A finding is {status} now."),
        n => format!("{n} findings are {status} now."),
    };
    let data = json!({
        "count": count, "status": status, "reason": triage.reason, "by": actor,
    });
    let event = NewProjectEvent::info(repository_id, "findings.triaged", &message, data);
    project_events::tell(tx, repository_id, event).await
}

async fn read(
    tx: &mut Tx,
    owner_id: Uuid,
    repository_id: Uuid,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Row>> {
    let mut args = args![repository_id, owner_id];
    let list: Vec<String> = ids.iter().map(|id| args.add(id)).collect();
    let sql = format!(
        "SELECT id, severity, status, state, dismissal_reason, dismissal_expires_at \
         FROM findings WHERE repository_id = $1 AND owner_id = $2 AND id IN ({})",
        list.join(", ")
    );
    let rows: Vec<Row> = Conn::from(tx).fetch_filtered(&sql, args).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}
