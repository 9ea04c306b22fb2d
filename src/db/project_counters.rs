//! Figures of a project: its scans by status and its open findings by severity.
//!
//! They are columns of the project's row, so that its page costs the same however much
//! it holds. Each changes in the transaction that changes what it counts:
//!
//! | what | by |
//! |---|---|
//! | a scan is created, started, ended | [`scan_moved`] |
//! | findings open or close (merge, triage, expiry) | [`findings_changed`] |
//! | a repository is deleted with its scans and findings | [`repository_gone`] |
//!
//! # Contention
//!
//! The row of the project is where all its writers meet. Each of these transactions
//! appends to the events of the project anyway (see [`super::project_events`]), which
//! locks the same row, so the counters add no lock. They are changed where the events
//! are appended: behind upload, job, scan and repository, as the last row that is
//! locked, and the commit follows.

use uuid::Uuid;

use super::repositories::OpenFindings;
use super::scans::ScanStatus;
use super::{Result, Tx, args, statements};

statements! {
    SCANS = "UPDATE projects SET scans_queued = scans_queued + $2, \
             scans_running = scans_running + $3, scans_completed = scans_completed + $4, \
             scans_failed = scans_failed + $5, scans_cancelled = scans_cancelled + $6 \
             WHERE id = $1";
    OPEN = "UPDATE projects SET open_critical = open_critical + $2, \
            open_high = open_high + $3, open_medium = open_medium + $4, \
            open_low = open_low + $5, open_info = open_info + $6 \
            WHERE id = (SELECT project_id FROM repositories WHERE id = $1)";
    GONE = "UPDATE projects SET open_critical = open_critical - $2, \
            open_high = open_high - $3, open_medium = open_medium - $4, \
            open_low = open_low - $5, open_info = open_info - $6 WHERE id = $1";
}

/// In the order of the columns in [`SCANS`].
const STATUSES: [ScanStatus; 5] = [
    ScanStatus::Queued,
    ScanStatus::Running,
    ScanStatus::Completed,
    ScanStatus::Failed,
    ScanStatus::Cancelled,
];

async fn add_scans(
    tx: &mut Tx,
    project_id: Uuid,
    change: impl Fn(ScanStatus) -> i64,
) -> Result<()> {
    let changes = STATUSES.map(change);
    if changes.iter().all(|change| *change == 0) {
        return Ok(());
    }
    let mut args = args![project_id];
    for change in changes {
        args.add(change);
    }
    tx.execute(SCANS, args).await?;
    Ok(())
}

/// A scan came (`from` none) or went from one status to another.
pub(super) async fn scan_moved(
    tx: &mut Tx,
    project_id: Uuid,
    from: Option<ScanStatus>,
    to: ScanStatus,
) -> Result<()> {
    add_scans(tx, project_id, |status| i64::from(status == to) - i64::from(Some(status) == from))
        .await
}

/// So many findings of a repository more are open, from critical to info.
pub(super) async fn findings_changed(
    tx: &mut Tx,
    repository_id: Uuid,
    [critical, high, medium, low, info]: [i64; 5],
) -> Result<()> {
    tx.execute(OPEN, args![repository_id, critical, high, medium, low, info]).await?;
    Ok(())
}

/// A repository went, with these open findings and these scans.
pub(super) async fn repository_gone(
    tx: &mut Tx,
    project_id: Uuid,
    open: OpenFindings,
    scans: &[ScanStatus],
) -> Result<()> {
    let OpenFindings { critical, high, medium, low, info } = open;
    tx.execute(GONE, args![project_id, critical, high, medium, low, info]).await?;
    add_scans(tx, project_id, |status| -(scans.iter().filter(|s| **s == status).count() as i64))
        .await
}
