//! `-o fail-on=SEVERITY`: a push is checked before any ref moves.
//!
//! The engines look at what the push brings ([`Brought`]) while it is in quarantine.
//! Something counts if it is at or above the severity, is not dismissed by a comment
//! in the source, and is not a finding that the repository has already: that one came
//! with an earlier push, and to refuse this one would not take it back. If anything
//! counts, the push is refused with the places, and nothing of it is stored.
//!
//! The results are kept by content as those of any scan, so the scan of a push that
//! passes has them at hand.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value as JsonValue;
use sluice_git::{CheckedPush, Messages, ObjectId, Refusal};

use super::access::database;
use crate::bare;
use crate::db::findings;
use crate::db::uploads::Upload;
use crate::ingest::Brought;
use crate::jobs::{KeptResults, profiled};
use crate::scan::{
    Cancel, Finding, Level, Limits, Observer, Progress, ScanConfig, ScanError, Severity, driver,
    git,
};
use crate::server::App;

/// Findings that are shown to the person who pushed.
const SHOWN: usize = 20;

/// Warnings that are shown.
const WARNINGS: usize = 5;

/// Why a push is refused: one line for each of its refs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) String);

/// Checks what a push brings, and tells the person who pushed what is in the way.
///
/// # Errors
///
/// A [`Refusal`] if it could not be checked: the push is refused then, since nobody
/// knows what is in it.
pub(super) async fn check(
    app: &App,
    upload: &Upload,
    push: &CheckedPush,
    threshold: Severity,
    messages: &mut Messages,
) -> Result<Option<Refused>, Refusal> {
    let Some(pack) = &push.pack else { return Ok(None) };
    let tips: Vec<ObjectId> = push
        .commands
        .iter()
        .zip(&push.rejected)
        .filter(|(command, rejected)| rejected.is_none() && !command.deletes())
        .map(|(command, _)| command.new)
        .collect();
    messages.progress("sluice: checking what this push brings").await;
    let (brought, warnings) =
        scan(app, upload, pack.objects_dir().to_owned(), tips, messages).await?;
    for warning in &warnings {
        messages.say(&format!("sluice: warning: {warning}")).await;
    }

    let mut found: Vec<Finding> = brought
        .into_iter()
        .filter(|finding| finding.severity >= threshold && finding.suppressed.is_none())
        .collect();
    if let (Some(repository), false) = (upload.repository_id, found.is_empty()) {
        let fingerprints: Vec<&str> = found.iter().map(|f| f.fingerprint.as_str()).collect();
        let live: HashSet<String> = findings::live_among(&app.db, repository, &fingerprints)
            .await
            .map_err(database)?
            .into_iter()
            .collect();
        found.retain(|finding| !live.contains(&finding.fingerprint));
    }
    if found.is_empty() {
        messages.progress(&format!("sluice: nothing at or above {threshold}")).await;
        return Ok(None);
    }
    tell(app, &found, threshold, messages).await;
    let count = counted(found.len());
    Ok(Some(Refused(format!("push protection: {count} at or above {threshold}"))))
}

fn counted(findings: usize) -> String {
    if findings == 1 { "1 finding".to_owned() } else { format!("{findings} findings") }
}

/// Runs the engines. Stops when the client is gone or the time of a scan is over.
async fn scan(
    app: &App,
    upload: &Upload,
    quarantine: PathBuf,
    tips: Vec<ObjectId>,
    messages: &Messages,
) -> Result<(Vec<Finding>, Vec<String>), Refusal> {
    let before = bare::objects_root(app, upload.id).await.map_err(Refusal::internal)?;
    let wanted = ScanConfig { history: true, ..ScanConfig::default() };
    let config = match upload.repository_id {
        Some(repository) => {
            let profiled = profiled(app, upload.owner_id, repository, wanted).await;
            profiled.map_err(database)?.0
        }
        None => wanted,
    };
    let limits = Limits {
        max_file_bytes: app.config.limits.scan_file_bytes,
        max_findings: u32::try_from(app.config.limits.scan_findings).unwrap_or(u32::MAX),
        ..Limits::default()
    };
    let seconds = app.config.limits.scan_seconds.max(1);
    let most = usize::try_from(app.config.limits.snapshot_files).unwrap_or(usize::MAX);
    let kept = KeptResults::new(app.db.clone(), upload.owner_id);
    let cancel = Cancel::new();
    let work = tokio::task::spawn_blocking({
        let (app, cancel) = (app.clone(), cancel.clone());
        move || {
            // Held until the scan has ended.
            let source = Brought::open(&quarantine, &before, tips, most, limits.max_file_bytes)
                .map_err(|error| crate::scan::SourceError(error.to_string()))?;
            let warnings = Warnings::new(app.clone());
            let outcome =
                driver::run(&app.engines, &source, &kept, &config, &limits, &warnings, &cancel);
            if source.is_too_large() {
                app.metrics.limit_hit("snapshot_files");
            }
            let outcome = outcome?;
            kept.flush();
            Ok::<_, ScanError>((outcome.findings, warnings.take()))
        }
    });
    tokio::pin!(work);
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = messages.closed() => {
            cancel.cancel();
            work.await
        }
        () = app.stopping.cancelled() => {
            cancel.cancel();
            let _ = work.await;
            return Err(Refusal::unavailable(
                "The server is stopping; push again in a moment.",
                Duration::from_secs(5),
            ));
        }
        () = tokio::time::sleep(Duration::from_secs(seconds)) => {
            cancel.cancel();
            let _ = work.await;
            app.metrics.limit_hit("scan_seconds");
            return Err(Refusal::forbidden(format!(
                "The check of this push took longer than {seconds} seconds, so no ref was \
                 moved. Push in smaller parts, or without -o fail-on."
            )));
        }
    };
    match ended.map_err(Refusal::internal)? {
        Ok(outcome) => Ok(outcome),
        Err(ScanError::Cancelled) => Err(Refusal::forbidden("The push was given up.")),
        Err(ScanError::Config(why)) => Err(Refusal::forbidden(format!(
            "This push cannot be checked: {why}. No ref was moved."
        ))),
        Err(ScanError::Source(why)) => {
            tracing::warn!("a push cannot be checked: {why}");
            Err(Refusal::forbidden(format!(
                "This push cannot be checked: {why}. No ref was moved; push without -o fail-on \
                 to have it scanned afterwards."
            )))
        }
    }
}

/// Says what is in the way, where, and what can be done about it.
async fn tell(app: &App, found: &[Finding], threshold: Severity, messages: &mut Messages) {
    let count = counted(found.len());
    messages
        .say(&format!(
            "sluice: this push brings {count} at or above {threshold}, so no ref was moved:"
        ))
        .await;
    let mut explained = HashSet::new();
    for finding in found.iter().take(SHOWN) {
        let place = &finding.location;
        let commit = place.commit.as_deref().filter(|_| place.in_history);
        let commit = commit.map_or_else(String::new, |commit| {
            format!(" (in commit {}, no longer in the tree)", commit.get(..12).unwrap_or(commit))
        });
        messages
            .say(&format!(
                "  {:<8} {}:{}  {}  [{}]{commit}",
                finding.severity.as_str(),
                line(&place.path),
                place.span.start_line,
                line(&finding.title),
                finding.rule_id,
            ))
            .await;
        let rule = app.engines.rule(&finding.rule_id);
        let fix = match rule.map(|rule| line(&rule.remediation)).filter(|fix| !fix.is_empty()) {
            Some(fix) if explained.insert(finding.rule_id.as_str()) => format!("fix: {fix}"),
            Some(_) => "fix: as above".to_owned(),
            None => "fix: see the rule".to_owned(),
        };
        messages.say(&format!("           {fix}")).await;
        messages.say(&format!("           {}", way_past(finding))).await;
    }
    if found.len() > SHOWN {
        messages.say(&format!("  … and {} more", found.len() - SHOWN)).await;
    }
    if found.iter().any(|finding| finding.location.in_history) {
        messages
            .say(
                "sluice: what a commit holds stays in the history, also when a later one removes \
                 it. Replace a secret in any case, since others may have seen it.",
            )
            .await;
    }
    messages.say("sluice: mend it and push again; to let all pass, push without -o fail-on.").await;
}

/// How this one finding is let past.
fn way_past(finding: &Finding) -> String {
    let place = &finding.location;
    let rule = &finding.rule_id;
    if let (true, Some(commit)) = (place.in_history, &place.commit) {
        let commit = commit.get(..12).unwrap_or(commit);
        return format!("out: rewrite commit {commit} (git rebase -i {commit}^)");
    }
    if git::owns(rule) && finding.snippet.is_empty() {
        return "out: no comment lets a name pass; remove or rename it".to_owned();
    }
    format!(
        "let pass: write `sluice:ignore {rule} -- reason` in a comment on line {}",
        place.span.start_line
    )
}

/// One line of text that comes from a repository.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// Collects what was not looked at.
#[derive(Debug)]
struct Warnings {
    app: App,
    /// Those that are shown, and how many there are.
    held: Mutex<(Vec<String>, usize)>,
}

impl Warnings {
    fn new(app: App) -> Self {
        Self { app, held: Mutex::default() }
    }

    fn take(self) -> Vec<String> {
        let (mut shown, all) = self.held.into_inner().unwrap_or_else(|e| e.into_inner());
        if all > shown.len() {
            shown.push(format!("and {} more", all - shown.len()));
        }
        shown
    }
}

impl Observer for Warnings {
    fn event(&self, level: Level, kind: &str, message: &str, data: JsonValue) {
        if let Some(quota) = crate::jobs::quota_of_event(kind, &data) {
            self.app.metrics.limit_hit(quota);
        }
        if level == Level::Info {
            return;
        }
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.1 += 1;
        if held.0.len() < WARNINGS {
            held.0.push(line(message));
        }
    }

    fn progress(&self, _: &Progress) {}
}
