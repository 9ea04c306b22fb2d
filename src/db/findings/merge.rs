//! What a scan brings, compared with what is known.
//!
//! | known as | seen by the scan | then |
//! |---|---|---|
//! | – | yes | new |
//! | new, unchanged | yes | unchanged |
//! | fixed | yes | new again; a dismissal ends unless it speaks of the code itself |
//! | new, unchanged | no, and the scan would have seen it | fixed, dismissed or not |
//! | new, unchanged | no, but the scan did not look there | stays as it is |
//!
//! A scan *would have seen* a finding if all of this holds, see [`Coverage`]:
//!
//! - it ran the engine of the finding;
//! - every place of the finding lies within its globs, and no such file was skipped;
//! - it looked at the history, if one of the places lies there. A finding of the
//!   head tree alone that a scan without history no longer sees is fixed; should a
//!   later scan with history meet it in an old commit, it is new again, as a finding
//!   in the history;
//! - nothing was cut off for being too much;
//! - it scanned the default branch: what another branch lacks is not fixed;
//! - no younger scan of the repository was merged before it.
//!
//! A comment in the source (`sluice:ignore`) dismisses with the reason `inline`,
//! and its removal opens again, as long as no person has decided on the finding.

use std::collections::{HashMap, HashSet};

use sqlx::types::Json;
use uuid::Uuid;

use super::{
    BATCH, Body, Change, Delta, LIVE, LOCK_SCAN, MACHINE, OVERTAKEN, ROWS, Reason, State, Status,
    is_open, lock, note, texts,
};
use crate::db::scans::{self, ScanRow, Summary};
use crate::db::{Conn, DbError, Result, Tx, Value, args, new_id, now};
use crate::scan::driver::{Globs, fingerprint};
use crate::scan::{Finding, RuleInfo, ScanConfig, Severity};

/// Live findings that are read at once.
const PAGE: usize = 5_000;

/// What a scan looked at.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// The configuration that the engine ran with, the excluded paths of the threat
    /// profile included.
    pub config: ScanConfig,
    /// Findings were dropped because there were too many, or files because there
    /// were.
    pub truncated: bool,
    /// Files that could not be looked at, or not to their end.
    pub skipped: HashSet<String>,
}

/// What is known of a finding.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Known {
    id: Uuid,
    fingerprint: String,
    engine: String,
    rule_id: String,
    title: String,
    priority: i64,
    path: String,
    in_history: bool,
    severity: String,
    #[sqlx(try_from = "String")]
    status: Status,
    #[sqlx(try_from = "String")]
    state: State,
    dismissal_reason: Option<String>,
    decided_by: Option<String>,
    last_seen_scan_id: Uuid,
}

/// What becomes of a finding that the scan saw.
struct Seen {
    id: Uuid,
    status: Status,
    state: State,
    dismissal: Dismissal,
}

/// What becomes of the columns of a dismissal.
#[derive(Clone, Copy)]
enum Dismissal {
    /// They stay.
    Kept,
    /// They are emptied.
    Ended,
    /// A comment in the source dismisses, for as long as it stands there.
    Inline,
}

/// A finding on its way to the database.
struct Write<'f> {
    finding: &'f Finding,
    seen: Seen,
    /// It has a row already.
    known: bool,
    /// Lists have it elsewhere now.
    moved: bool,
    /// A younger scan has seen it and knows better what it looks like.
    stale: bool,
}

impl Known {
    /// True if the finding now has another place in the lists of [`texts`].
    fn has_moved(&self, finding: &Finding) -> bool {
        self.path != finding.location.path
            || self.severity != finding.severity.as_str()
            || self.priority != i64::from(finding.priority)
            || self.rule_id != finding.rule_id
            || self.title != finding.title
    }
}

/// The findings whose places in the lists of [`texts`] change.
struct Moved<'f> {
    findings: Vec<&'f Finding>,
    new: Vec<Uuid>,
    changed: Vec<Uuid>,
}

impl<'f> Moved<'f> {
    fn of(writes: &[Write<'f>]) -> Self {
        let mut of = Self { findings: Vec::new(), new: Vec::new(), changed: Vec::new() };
        for write in writes.iter().filter(|write| write.moved && !write.stale) {
            of.findings.push(write.finding);
            if write.known { &mut of.changed } else { &mut of.new }.push(write.seen.id);
        }
        of.new.sort_unstable();
        of
    }
}

/// Merges the findings of a scan into those of its repository. To be called in the
/// transaction that ends the scan, with its job held. `rule` gives the texts of a
/// rule.
///
/// Memory: the findings, and about 400 bytes for each known one that is not fixed.
///
/// # Errors
///
/// [`DbError::Gone`] if the repository was deleted.
pub async fn merge<'r>(
    tx: &mut Tx,
    scan: &ScanRow,
    coverage: &Coverage,
    mut findings: Vec<Finding>,
    rule: impl Fn(&str) -> Option<&'r RuleInfo>,
) -> Result<Summary> {
    // The scan before its repository, as everywhere (see `db::scans`).
    if tx.fetch_optional::<(Uuid,)>(LOCK_SCAN, args![scan.id]).await?.is_none() {
        return Err(scans::gone());
    }
    let default_branch = lock(tx, scan.repository_id).await?;
    let younger: Option<(Uuid,)> =
        tx.fetch_optional(OVERTAKEN, args![scan.repository_id, scan.id]).await?;
    let overtaken = younger.is_some();

    let mut live = live(tx, scan.repository_id).await?;
    // Within a group of equal findings, each keeps the id that lay in its file.
    fingerprint::keep_places(&mut findings, |id| live.get(id).map(|k| k.path.as_str()));
    let mut met = HashSet::new();
    findings.retain(|f| met.insert(f.fingerprint.clone()));
    let unknown: Vec<&str> =
        met.iter().map(String::as_str).filter(|f| !live.contains_key(*f)).collect();
    let returned = fixed_before(tx, scan.repository_id, &unknown).await?;

    let mut summary = Summary::default();
    let mut delta = Delta::default();
    let mut changes = Vec::new();
    let mut writes = Vec::with_capacity(findings.len());
    for finding in &findings {
        let known = live
            .remove(&finding.fingerprint)
            .or_else(|| returned.get(&finding.fingerprint).cloned());
        let seen = judge(finding, known.as_ref(), overtaken, &mut changes);
        let stale = known.as_ref().is_some_and(|known| {
            overtaken && (known.last_seen_scan_id > scan.id || known.state == State::Fixed)
        });
        if let Some(known) = known.as_ref().filter(|_| !stale) {
            delta.add(&known.severity, -i64::from(is_open(known.status, known.state)));
        }
        if !stale {
            delta.add(finding.severity.as_str(), i64::from(is_open(seen.status, seen.state)));
        }
        count(&mut summary, finding.severity, &seen);
        let moved = known.as_ref().is_none_or(|known| known.has_moved(finding));
        writes.push(Write { finding, seen, known: known.is_some(), moved, stale });
    }
    let Moved { findings: moved, new, changed } = Moved::of(&writes);
    texts::forget(tx, scan.repository_id, &changed).await?;
    for batch in writes.chunks(ROWS) {
        write(tx, scan, batch, &rule).await?;
    }
    texts::keep(tx, scan, &moved, &new, &changed).await?;

    let fixes = !overtaken && !coverage.truncated && is_default(scan, default_branch.as_deref());
    let fixed = if fixes { no_longer_seen(tx, scan, coverage, live).await? } else { Vec::new() };
    for known in &fixed {
        delta.add(&known.severity, -i64::from(is_open(known.status, known.state)));
    }
    summary.fixed = fixed.len() as u64;
    for batch in fixed.chunks(BATCH) {
        close(tx, scan, batch).await?;
    }
    note(tx, &changes).await?;
    delta.apply(tx, scan.repository_id).await?;
    Ok(summary)
}

/// Everything that is not fixed, by fingerprint.
async fn live(tx: &mut Tx, repository_id: Uuid) -> Result<HashMap<String, Known>> {
    let mut out = HashMap::new();
    let mut after = Uuid::nil();
    loop {
        let page: Vec<Known> = tx.fetch_all(LIVE, args![repository_id, after, PAGE]).await?;
        let more = page.len() == PAGE;
        if let Some(last) = page.last() {
            after = last.id;
        }
        out.extend(page.into_iter().map(|known| (known.fingerprint.clone(), known)));
        if !more {
            return Ok(out);
        }
    }
}

/// Those of the fingerprints that belong to findings that were fixed.
async fn fixed_before(
    tx: &mut Tx,
    repository_id: Uuid,
    fingerprints: &[&str],
) -> Result<HashMap<String, Known>> {
    let mut out = HashMap::new();
    for batch in fingerprints.chunks(BATCH) {
        let mut args = args![repository_id];
        let list: Vec<String> = batch.iter().map(|f| args.add(*f)).collect();
        let sql = format!(
            "SELECT id, fingerprint, engine, rule_id, title, priority, path, in_history, \
             severity, status, state, dismissal_reason, decided_by, last_seen_scan_id FROM findings \
             WHERE repository_id = $1 AND fingerprint IN ({})",
            list.join(", ")
        );
        let rows: Vec<Known> = Conn::from(&mut *tx).fetch_filtered(&sql, args).await?;
        out.extend(rows.into_iter().map(|known| (known.fingerprint.clone(), known)));
    }
    Ok(out)
}

/// Decides on state and status of a finding that the scan saw.
fn judge(
    finding: &Finding,
    known: Option<&Known>,
    overtaken: bool,
    changes: &mut Vec<Change>,
) -> Seen {
    let inline = finding.suppressed.is_some();
    let Some(known) = known else {
        let mut seen = Seen {
            id: new_id(),
            status: Status::Open,
            state: State::New,
            dismissal: Dismissal::Kept,
        };
        if inline {
            dismiss_inline(&mut seen, finding, changes);
        }
        return seen;
    };
    let mut seen =
        Seen { id: known.id, status: known.status, state: known.state, dismissal: Dismissal::Kept };
    if overtaken {
        // A younger scan has said what became of it.
        return seen;
    }
    let reason = known.dismissal_reason.as_deref().and_then(|r| r.parse::<Reason>().ok());
    let mut decided = known.decided_by.is_some();
    if known.state == State::Fixed {
        seen.state = State::New;
        if decided
            && known.status == Status::Dismissed
            && !reason.is_some_and(Reason::outlives_a_fix)
        {
            decided = false;
            open_again(&mut seen, "reopened", changes);
        }
    } else {
        seen.state = State::Unchanged;
    }
    if !decided {
        match (inline, seen.status) {
            (true, Status::Open | Status::Confirmed) => {
                dismiss_inline(&mut seen, finding, changes);
            }
            (false, Status::Dismissed) => open_again(&mut seen, "inline_removed", changes),
            _ => {}
        }
    }
    seen
}

fn open_again(seen: &mut Seen, reason: &'static str, changes: &mut Vec<Change>) {
    changes.push(Change {
        finding_id: seen.id,
        actor: MACHINE.to_owned(),
        from: seen.status,
        to: Status::Open,
        reason: Some(reason),
        comment: None,
    });
    seen.status = Status::Open;
    seen.dismissal = Dismissal::Ended;
}

fn dismiss_inline(seen: &mut Seen, finding: &Finding, changes: &mut Vec<Change>) {
    changes.push(Change {
        finding_id: seen.id,
        actor: MACHINE.to_owned(),
        from: seen.status,
        to: Status::Dismissed,
        reason: Some(Reason::Inline.as_str()),
        comment: finding.suppressed.clone().filter(|words| !words.is_empty()),
    });
    seen.status = Status::Dismissed;
    seen.dismissal = Dismissal::Inline;
}

fn count(summary: &mut Summary, severity: Severity, seen: &Seen) {
    if !is_open(seen.status, seen.state) {
        return;
    }
    *match severity {
        Severity::Critical => &mut summary.critical,
        Severity::High => &mut summary.high,
        Severity::Medium => &mut summary.medium,
        Severity::Low => &mut summary.low,
        Severity::Info => &mut summary.info,
    } += 1;
    *match seen.state {
        State::New => &mut summary.new,
        State::Unchanged | State::Fixed => &mut summary.unchanged,
    } += 1;
}

/// Inserts what is new, updates what is known, and notes that the scan saw it.
async fn write<'r>(
    tx: &mut Tx,
    scan: &ScanRow,
    batch: &[Write<'_>],
    rule: &impl Fn(&str) -> Option<&'r RuleInfo>,
) -> Result<()> {
    let mut args = args![scan.repository_id, scan.project_id, scan.owner_id, scan.id, now()];
    let mut rows = Vec::with_capacity(batch.len());
    for Write { finding, seen, known, .. } in batch.iter().filter(|w| !w.stale) {
        // A known row is met by its fingerprint. It must not be met by its id too:
        // SQLite resolves conflicts of the named columns only.
        let id = if *known { new_id() } else { seen.id };
        // An empty reason says that the columns of the dismissal stay.
        let reason = match seen.dismissal {
            Dismissal::Kept if *known => Some(""),
            Dismissal::Kept | Dismissal::Ended => None,
            Dismissal::Inline => Some(Reason::Inline.as_str()),
        };
        rows.push(format!(
            "({}, $1, $2, $3, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, \
             $4, $4, $5, $5, $5)",
            args.add(id),
            args.add(&finding.fingerprint),
            args.add(finding.engine.as_str()),
            args.add(&finding.rule_id),
            args.add(&finding.title),
            args.add(finding.severity.as_str()),
            args.add(finding.confidence.as_str()),
            args.add(seen.status.as_str()),
            args.add(seen.state.as_str()),
            args.add(&finding.location.path),
            args.add(finding.location.span.start_line),
            args.add(u32::from(finding.priority)),
            args.add(finding.location.in_history),
            args.add(Value::json(&body(finding, rule(&finding.rule_id)))),
            args.add(reason),
        ));
    }
    if !rows.is_empty() {
        let sql = format!(
            "INSERT INTO findings (id, repository_id, project_id, owner_id, fingerprint, engine, \
             rule_id, title, severity, confidence, status, state, path, start_line, priority, \
             in_history, body, dismissal_reason, first_seen_scan_id, last_seen_scan_id, \
             first_seen_at, last_seen_at, updated_at) VALUES {} \
             ON CONFLICT (repository_id, fingerprint) DO UPDATE SET \
             engine = excluded.engine, rule_id = excluded.rule_id, title = excluded.title, \
             severity = excluded.severity, confidence = excluded.confidence, \
             status = excluded.status, state = excluded.state, path = excluded.path, \
             start_line = excluded.start_line, priority = excluded.priority, \
             in_history = excluded.in_history, body = excluded.body, \
             decided_by = CASE excluded.dismissal_reason WHEN '' THEN findings.decided_by END, \
             dismissal_expires_at = CASE excluded.dismissal_reason WHEN '' \
             THEN findings.dismissal_expires_at END, \
             dismissal_reason = CASE excluded.dismissal_reason WHEN '' \
             THEN findings.dismissal_reason ELSE excluded.dismissal_reason END, \
             last_seen_scan_id = excluded.last_seen_scan_id, \
             last_seen_at = excluded.last_seen_at, updated_at = excluded.updated_at",
            rows.join(", ")
        );
        tx.execute_built(&sql, args).await?;
    }
    // What a younger scan calls fixed was there for this one.
    let seen: Vec<(Uuid, State)> = batch
        .iter()
        .map(|Write { seen, .. }| match seen.state {
            State::New => (seen.id, State::New),
            State::Unchanged | State::Fixed => (seen.id, State::Unchanged),
        })
        .collect();
    saw(tx, scan.id, &seen).await
}

/// Notes what a scan saw, or no longer saw.
async fn saw(tx: &mut Tx, scan_id: Uuid, rows: &[(Uuid, State)]) -> Result<()> {
    let mut args = args![scan_id];
    let rows: Vec<String> = rows
        .iter()
        .map(|(id, state)| format!("($1, {}, {})", args.add(id), args.add(state.as_str())))
        .collect();
    let sql = format!(
        "INSERT INTO scan_findings (scan_id, finding_id, state) VALUES {}",
        rows.join(", ")
    );
    tx.execute_built(&sql, args).await?;
    Ok(())
}

async fn close(tx: &mut Tx, scan: &ScanRow, batch: &[Known]) -> Result<()> {
    let mut args = args![scan.repository_id, now()];
    let ids: Vec<String> = batch.iter().map(|known| args.add(known.id)).collect();
    let sql = format!(
        "UPDATE findings SET state = 'fixed', updated_at = $2 \
         WHERE repository_id = $1 AND id IN ({})",
        ids.join(", ")
    );
    tx.execute_built(&sql, args).await?;
    let rows: Vec<(Uuid, State)> = batch.iter().map(|known| (known.id, State::Fixed)).collect();
    saw(tx, scan.id, &rows).await
}

/// True if the scan looked at the branch whose findings the repository shows.
fn is_default(scan: &ScanRow, default_branch: Option<&str>) -> bool {
    fn short(name: &str) -> &str {
        name.strip_prefix("refs/heads/").unwrap_or(name)
    }
    match (&scan.config.git_ref, default_branch) {
        (None, _) => true,
        (Some(asked), Some(default)) => short(asked) == short(default),
        (Some(_), None) => false,
    }
}

/// Those of the findings left over that the scan would have seen.
async fn no_longer_seen(
    tx: &mut Tx,
    scan: &ScanRow,
    coverage: &Coverage,
    left: HashMap<String, Known>,
) -> Result<Vec<Known>> {
    let globs = Globs::new(&coverage.config)
        .map_err(|error| DbError::Defect(sqlx::Error::Configuration(error.into())))?;
    let looked_at = |path: &str, in_history: bool| {
        (coverage.config.history || !in_history)
            && globs.wants(path)
            && !coverage.skipped.contains(path)
    };
    let mut candidates: Vec<Known> = left
        .into_values()
        .filter(|known| {
            known.engine.parse().is_ok_and(|engine| coverage.config.engines.contains(&engine))
                && looked_at(&known.path, known.in_history)
        })
        .collect();
    candidates.sort_unstable_by_key(|known| known.id);

    // A secret or a package may lie in other places too.
    let mut elsewhere = HashSet::new();
    for batch in candidates.chunks(BATCH) {
        let mut args = args![scan.repository_id];
        let ids: Vec<String> = batch.iter().map(|known| args.add(known.id)).collect();
        let sql = format!(
            "SELECT id, body FROM findings WHERE repository_id = $1 AND id IN ({})",
            ids.join(", ")
        );
        let rows: Vec<(Uuid, Json<Body>)> = Conn::from(&mut *tx).fetch_filtered(&sql, args).await?;
        elsewhere.extend(
            rows.into_iter()
                .filter(|(_, body)| {
                    body.other_locations.iter().any(|l| !looked_at(&l.path, l.in_history))
                })
                .map(|(id, _)| id),
        );
    }
    candidates.retain(|known| !elsewhere.contains(&known.id));
    Ok(candidates)
}

fn body(finding: &Finding, rule: Option<&RuleInfo>) -> Body {
    let mut body = Body {
        message: finding.message.clone(),
        location: Some(finding.location.clone()),
        other_locations: finding.other_locations.clone(),
        snippet: finding.snippet.clone(),
        symbol: finding.symbol.clone(),
        flow: finding.flow.clone(),
        package: finding.package.clone(),
        suppressed: finding.suppressed.clone(),
        ..Body::default()
    };
    if let Some(rule) = rule {
        body.description.clone_from(&rule.description);
        body.remediation.clone_from(&rule.remediation);
        body.cwe.clone_from(&rule.cwe);
        body.owasp.clone_from(&rule.owasp);
        body.references.clone_from(&rule.references);
    }
    body
}
