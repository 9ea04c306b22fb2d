//! `-o wait`: follows ingest and scan of a push in the terminal of the one who pushed.
//!
//! The push is acknowledged in the database before this begins: whatever happens here
//! (the client goes away, the server stops, the time is over) changes nothing about it.
//! Waiting costs no query; a commit that touches the row wakes it.

use std::time::Duration;

use sluice_git::Messages;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::db::findings::{self, Filter, Scope, Sort, SortBy, State, Status};
use crate::db::scans::{ScanRow, ScanStatus};
use crate::db::uploads::{Status as UploadStatus, Upload};
use crate::db::{Result, events, now, scans, uploads};
use crate::server::App;

/// Findings that are shown.
const SHOWN: u32 = 10;

/// Events that are read at once.
const PAGE: u32 = 100;

/// Follows the push of `commit` until its scan has ended, and shows the findings.
pub(super) async fn follow(app: &App, upload: &Upload, commit: &str, messages: &mut Messages) {
    let limit = Duration::from_secs(app.config.limits.push_wait_seconds);
    let deadline = Instant::now() + limit;
    let gone = messages.clone();
    let followed = tokio::select! {
        followed = timeout_at(deadline, steps(app, upload, commit, messages)) => followed,
        () = gone.closed() => return,
        () = app.stopping.cancelled() => {
            return later(app, upload, "the server is stopping", &mut gone.clone()).await;
        }
    };
    match followed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!("cannot follow a push: {error}");
            later(app, upload, "the scan cannot be followed right now", messages).await;
        }
        Err(_) => {
            app.metrics.limit_hit("push_wait_seconds");
            let why = format!("it takes longer than the {} seconds of -o wait", limit.as_secs());
            later(app, upload, &why, messages).await;
        }
    }
}

/// The push is safe; only the following ends.
async fn later(app: &App, upload: &Upload, why: &str, messages: &mut Messages) {
    messages
        .say(&format!(
            "sluice: {why}; the push is safe, look at {}/v1/git-uploads/{}",
            app.public_url, upload.id
        ))
        .await;
}

async fn steps(app: &App, upload: &Upload, commit: &str, messages: &mut Messages) -> Result<()> {
    let Some(upload) = ingested(app, upload.id, commit, messages).await? else { return Ok(()) };
    let Some(scan) = upload.scan_id else {
        messages.say("sluice: ingested, not scanned").await;
        return Ok(());
    };
    if let Some(scan) = scanned(app, upload.owner_id, scan, messages).await? {
        tell(app, &scan, messages).await?;
    }
    Ok(())
}

/// Waits until the head that was pushed is ingested; none if it is not going to be.
async fn ingested(
    app: &App,
    id: Uuid,
    commit: &str,
    messages: &mut Messages,
) -> Result<Option<Upload>> {
    messages.progress("sluice: ingesting").await;
    let waiter = app.db.hub().waiter(id);
    let settled = || async {
        let row = uploads::by_id(&app.db, id).await?;
        Ok::<_, crate::db::DbError>(match row {
            Some(row)
                if row.head_commit.as_deref() == Some(commit)
                    && row.status(now()) == UploadStatus::Processing =>
            {
                None
            }
            other => Some(other),
        })
    };
    // The whole is under a deadline; this one only bounds a wait that nobody wakes.
    let row = loop {
        if let Some(row) = waiter.until(Duration::from_secs(30), settled).await? {
            break row;
        }
    };
    let Some(row) = row else {
        messages.say("sluice: the remote was deleted meanwhile").await;
        return Ok(None);
    };
    if row.head_commit.as_deref() != Some(commit) {
        messages.say("sluice: a later push took over; its scan covers this one").await;
        return Ok(None);
    }
    if let Some(error) = row.error() {
        messages.say(&format!("sluice: the ingest failed: {}", error.message)).await;
        return Ok(None);
    }
    Ok(Some(row))
}

/// Waits until a scan has ended and shows its steps meanwhile.
async fn scanned(
    app: &App,
    owner: Uuid,
    id: Uuid,
    messages: &mut Messages,
) -> Result<Option<ScanRow>> {
    let waiter = app.db.hub().waiter(id);
    let mut seen = 0;
    loop {
        let news = waiter
            .until(Duration::from_secs(30), || async {
                let Some(row) = scans::get(&app.db, owner, id).await? else {
                    return Ok::<_, crate::db::DbError>(Some(None));
                };
                let ended = row.status.has_ended() && row.last_event <= seen;
                Ok((row.last_event > seen || ended).then_some(Some(row)))
            })
            .await?;
        let Some(news) = news else { continue };
        let Some(row) = news else {
            messages.say("sluice: the scan was deleted meanwhile").await;
            return Ok(None);
        };
        let page = events::after(&app.db, id, seen, PAGE).await?;
        for event in &page {
            seen = event.seq;
            match event.kind.as_str() {
                "phase" => messages.progress(&format!("sluice: {}", event.message)).await,
                _ if event.level == "warning" => {
                    messages.say(&format!("sluice: warning: {}", event.message)).await;
                }
                _ => {}
            }
        }
        if page.is_empty() && row.status.has_ended() {
            return Ok(Some(row));
        }
    }
}

/// Shows what the scan found.
async fn tell(app: &App, scan: &ScanRow, messages: &mut Messages) -> Result<()> {
    match scan.status {
        ScanStatus::Completed => {}
        ScanStatus::Failed => {
            let why = scan.error.as_ref().map_or("", |error| error.message.as_str());
            messages.say(&format!("sluice: the scan failed: {why}")).await;
            return Ok(());
        }
        _ => {
            messages.say("sluice: the scan was cancelled").await;
            return Ok(());
        }
    }
    let counts = &scan.summary.0;
    let by_severity = [
        (counts.critical, "critical"),
        (counts.high, "high"),
        (counts.medium, "medium"),
        (counts.low, "low"),
        (counts.info, "info"),
    ];
    let open: Vec<String> = by_severity
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let found = if open.is_empty() { "nothing dangerous".to_owned() } else { open.join(", ") };
    let (new, fixed) = (counts.new, counts.fixed);
    messages.say(&format!("sluice: found {found} ({new} new, {fixed} fixed)")).await;
    let filter = Filter {
        scan_id: vec![scan.id],
        status: vec![Status::Open, Status::Confirmed],
        state: vec![State::New, State::Unchanged],
        ..Filter::default()
    };
    let sort = Sort { by: SortBy::Priority, descending: true };
    let scope = Scope::Repository(scan.repository_id);
    let found = findings::list(&app.db, scan.owner_id, scope, &filter, sort, None, SHOWN).await?;
    for row in &found.rows {
        let place =
            row.body.location.as_ref().map_or_else(String::new, |place| {
                format!("{}:{}", place.path, place.span.start_line)
            });
        messages
            .say(&format!("  {:<8} {place}  {}  [{}]", row.severity, row.title, row.rule_id))
            .await;
    }
    if found.next.is_some() {
        messages.say("  … and more").await;
    }
    messages
        .say(&format!(
            "sluice: all of them at {}/v1/repositories/{}/findings",
            app.public_url, scan.repository_id
        ))
        .await;
    Ok(())
}
