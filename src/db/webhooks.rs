//! Webhooks: who is told of what happens in a project, and what was sent.
//!
//! A delivery is the outbox: [`emit`] inserts it, with its job, in the transaction of
//! what it tells, so that a message is sent if and only if that is committed. A job
//! then tries until the receiver takes it or [`RETRIES`] are used up. A message may
//! come twice (the process dies between the answer and its note), never with another
//! `webhook-id`.

use serde_json::{Value as JsonValue, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::jobs::{self, JobKind, NewJob};
use super::scans::{ScanRow, Summary};
use super::uploads::Upload;
use super::{Conn, Db, Result, Tx, Value, args, new_id, now, statements};
use crate::words::words;

words! {
    /// What a webhook may be told of.
    #[schema(as = WebhookEvent)]
    Event: "event" {
        /// What was pushed can be read.
        UploadReady = "upload.ready",
        /// A scan has ended as planned.
        ScanCompleted = "scan.completed",
        /// A scan found what was not known.
        FindingNew = "finding.new",
    }
}

/// Pauses between the tries of a delivery, in seconds; after the last one it has failed.
pub const RETRIES: [i64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The longest pause that a receiver may ask for, microseconds: no longer than the last of
/// [`RETRIES`], or a number written carelessly would hold messages back for ever.
pub const MAX_RETRY_AFTER: i64 = 24 * 3_600_000_000;
/// A webhook that takes nothing for so long is disabled, microseconds.
pub const PATIENCE: i64 = 5 * 24 * 3_600_000_000;
/// How long the secret before a rotation still signs, microseconds.
pub const OVERLAP: i64 = 24 * 3_600_000_000;
/// How long deliveries are kept, microseconds.
pub const KEPT: i64 = 30 * 24 * 3_600_000_000;
/// Webhooks of one project.
pub const MAX_WEBHOOKS: usize = 20;
/// Messages that may wait for one webhook before none is added by hand.
pub const MAX_PENDING: u32 = 100;
/// Messages that may wait for one webhook before it is disabled.
pub const MAX_WAITING: u32 = 10_000;
/// Findings that one `finding.new` names; `count` tells how many there are.
pub const MAX_FINDINGS: u32 = 50;

macro_rules! columns {
    () => {
        "id, project_id, owner_id, url, description, events, enabled, disabled_reason, secret, \
         previous_secret, previous_until, failing_since, paused_until, created_at, updated_at"
    };
}
macro_rules! delivery {
    () => {
        "id, webhook_id, owner_id, message_id, event, payload, status, attempts, \
         next_attempt_at, last_attempt_at, response_status, response_body, duration_ms, error, \
         created_at"
    };
}

statements! {
    INSERT = "INSERT INTO webhooks (id, project_id, owner_id, url, description, events, enabled, \
              secret, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)";
    COUNT = "SELECT count(*) FROM webhooks WHERE project_id = $1";
    LOCK_PROJECT = pair(
        "SELECT id FROM projects WHERE id = $1 AND owner_id = $2",
        "SELECT id FROM projects WHERE id = $1 AND owner_id = $2 FOR NO KEY UPDATE"
    );
    GET = concat("SELECT ", columns!(), " FROM webhooks WHERE id = $1 AND owner_id = $2");
    BY_ID = concat("SELECT ", columns!(), " FROM webhooks WHERE id = $1");
    LIST = concat("SELECT ", columns!(), " FROM webhooks WHERE project_id = $1 \
                   AND owner_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4");
    ENABLED = pair(
        "SELECT id, owner_id, events, paused_until FROM webhooks WHERE project_id = $1 \
         AND enabled = $2 ORDER BY id",
        // One that is being deleted meanwhile is waited for and is not told; one that is
        // told is deleted afterwards. A message to one that is gone would break the
        // transaction of what it tells.
        "SELECT id, owner_id, events, paused_until FROM webhooks WHERE project_id = $1 \
         AND enabled = $2 ORDER BY id FOR KEY SHARE"
    );
    UPDATE = "UPDATE webhooks SET url = $3, description = $4, events = $5, enabled = $6, \
              disabled_reason = NULL, failing_since = NULL, paused_until = NULL, \
              updated_at = $7 \
              WHERE id = $1 AND owner_id = $2";
    ROTATE = "UPDATE webhooks SET previous_secret = secret, previous_until = $4, secret = $3, \
              updated_at = $5 WHERE id = $1 AND owner_id = $2";
    SEALED = "SELECT id, secret, previous_secret FROM webhooks WHERE id > $1 \
              ORDER BY id LIMIT $2";
    RESEAL = "UPDATE webhooks SET secret = $3, previous_secret = $4 \
              WHERE id = $1 AND secret = $2";
    DELETE = "DELETE FROM webhooks WHERE id = $1 AND owner_id = $2";
    DISABLE = "UPDATE webhooks SET enabled = $2, disabled_reason = $3, updated_at = $4 \
               WHERE id = $1";
    TOOK = "UPDATE webhooks SET failing_since = NULL, paused_until = NULL \
            WHERE id = $1 AND (failing_since IS NOT NULL OR paused_until IS NOT NULL)";
    PAUSE = "UPDATE webhooks SET paused_until = $2 WHERE id = $1";
    POSTPONE = "UPDATE webhook_deliveries SET next_attempt_at = $2 \
                WHERE webhook_id = $1 AND status = 'pending' AND next_attempt_at < $2";
    FAILING = "UPDATE webhooks SET failing_since = COALESCE(failing_since, $2) WHERE id = $1 \
               RETURNING failing_since";
    ADD = "INSERT INTO webhook_deliveries (id, webhook_id, owner_id, message_id, event, payload, \
           status, next_attempt_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, 'pending', $8, $7)";
    PENDING = "SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries \
               WHERE webhook_id = $1 AND status = 'pending' LIMIT $2) AS waiting";
    DELIVERY = concat("SELECT ", delivery!(), " FROM webhook_deliveries \
                       WHERE id = $1 AND webhook_id = $2 AND owner_id = $3");
    DELIVERY_BY_ID = concat("SELECT ", delivery!(), " FROM webhook_deliveries WHERE id = $1");
    DELIVERIES = concat("SELECT ", delivery!(), " FROM webhook_deliveries WHERE webhook_id = $1 \
                         AND owner_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4");
    TRIED = "UPDATE webhook_deliveries SET status = $2, attempts = attempts + $3, \
             next_attempt_at = $4, last_attempt_at = $5, response_status = $6, \
             response_body = $7, duration_ms = $8, error = $9 WHERE id = $1";
    FORGET = "DELETE FROM webhook_deliveries WHERE created_at < $1 AND status <> 'pending'";
    NEW_FINDINGS = "SELECT f.id, f.engine, f.rule_id, f.title, f.severity, f.confidence, f.path, \
                    f.start_line, f.priority FROM scan_findings sf \
                    JOIN findings f ON f.id = sf.finding_id \
                    WHERE sf.scan_id = $1 AND sf.state = 'new' AND f.status <> 'dismissed' \
                    ORDER BY f.priority DESC, f.id DESC LIMIT $2";
}

/// A webhook.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Webhook {
    /// Its id.
    pub id: Uuid,
    /// What it hears of.
    pub project_id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// Where messages go.
    pub url: String,
    /// Text for people.
    pub description: String,
    /// What it is told of.
    pub events: Json<Vec<Event>>,
    /// It is told at all.
    pub enabled: bool,
    /// Why the server disabled it.
    pub disabled_reason: Option<String>,
    /// Encrypted.
    pub secret: Vec<u8>,
    /// Encrypted: the one before the last rotation.
    pub previous_secret: Option<Vec<u8>>,
    /// Until when that still signs, microseconds.
    pub previous_until: Option<i64>,
    /// Since when every try has failed, microseconds.
    pub failing_since: Option<i64>,
    /// Until when the receiver wants no message, microseconds.
    pub paused_until: Option<i64>,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

/// What people say about a webhook.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where messages go.
    pub url: String,
    /// Text for people.
    pub description: String,
    /// What it is told of.
    pub events: Vec<Event>,
    /// It is told at all.
    pub enabled: bool,
}

/// A message to a webhook, and what became of it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Delivery {
    /// Its id.
    pub id: Uuid,
    /// To whom.
    pub webhook_id: Uuid,
    /// Whose webhook it is.
    pub owner_id: Uuid,
    /// The header `webhook-id`.
    pub message_id: Uuid,
    /// What it tells: an [`Event`], or `ping`.
    pub event: String,
    /// The exact body.
    pub payload: String,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// Tries so far.
    pub attempts: i64,
    /// When the next try is due, microseconds.
    pub next_attempt_at: Option<i64>,
    /// When it was tried last, microseconds.
    pub last_attempt_at: Option<i64>,
    /// Status of the last answer.
    pub response_status: Option<i64>,
    /// The beginning of the last answer.
    pub response_body: Option<String>,
    /// How long the last try took, milliseconds.
    pub duration_ms: Option<i64>,
    /// Why the last try failed.
    pub error: Option<String>,
    /// Microseconds.
    pub created_at: i64,
}

/// What one try gave.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    /// Status of the answer, if there was one.
    pub response_status: Option<u16>,
    /// The beginning of the answer.
    pub response_body: Option<String>,
    /// How long it took, milliseconds.
    pub duration_ms: i64,
    /// Why it failed; `None`: it was taken.
    pub error: Option<String>,
    /// Another try cannot help.
    pub hopeless: bool,
    /// The receiver wants no more messages.
    pub gone: bool,
    /// For how long the receiver wants no message, microseconds.
    pub retry_after: Option<i64>,
}

/// Makes a webhook with an encrypted secret. `None`: this owner has no such project;
/// `Some(None)`: it has [`MAX_WEBHOOKS`] already.
pub async fn create(
    tx: &mut Tx,
    owner_id: Uuid,
    project_id: Uuid,
    id: Uuid,
    wanted: &Wanted,
    secret: Vec<u8>,
) -> Result<Option<Option<Webhook>>> {
    let project: Option<(Uuid,)> =
        tx.fetch_optional(LOCK_PROJECT, args![project_id, owner_id]).await?;
    if project.is_none() {
        return Ok(None);
    }
    let (count,): (i64,) = tx.fetch_one(COUNT, args![project_id]).await?;
    if count >= MAX_WEBHOOKS as i64 {
        return Ok(Some(None));
    }
    tx.execute(
        INSERT,
        args![
            id,
            project_id,
            owner_id,
            &wanted.url,
            &wanted.description,
            Value::json(&wanted.events),
            wanted.enabled,
            secret.as_slice(),
            now()
        ],
    )
    .await?;
    Ok(Some(get(&mut *tx, owner_id, id).await?))
}

/// A webhook of this owner.
pub async fn get(conn: impl Into<Conn<'_>>, owner_id: Uuid, id: Uuid) -> Result<Option<Webhook>> {
    conn.into().fetch_optional(GET, args![id, owner_id]).await
}

/// A webhook whoever owns it: for jobs.
pub async fn by_id(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Option<Webhook>> {
    conn.into().fetch_optional(BY_ID, args![id]).await
}

/// Webhooks of a project of this owner, newest first, from behind `after` on.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    project_id: Uuid,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Webhook>> {
    let after = after.unwrap_or(Uuid::max());
    conn.into().fetch_all(LIST, args![project_id, owner_id, after, limit]).await
}

/// Replaces what people say, and forgets past failures. `None` if there is none.
pub async fn update(
    tx: &mut Tx,
    owner_id: Uuid,
    id: Uuid,
    wanted: &Wanted,
) -> Result<Option<Webhook>> {
    let events = Value::json(&wanted.events);
    let args = args![id, owner_id, &wanted.url, &wanted.description, events, wanted.enabled, now()];
    tx.execute(UPDATE, args).await?;
    get(tx, owner_id, id).await
}

/// The secrets of a webhook, for whoever seals them anew.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Sealed {
    /// Its id.
    pub id: Uuid,
    /// See [`Webhook::secret`].
    pub secret: Vec<u8>,
    /// See [`Webhook::previous_secret`].
    pub previous_secret: Option<Vec<u8>>,
}

/// The secrets of all webhooks behind one, by id.
pub async fn sealed(db: &Db, after: Uuid, limit: u32) -> Result<Vec<Sealed>> {
    db.conn().fetch_all(SEALED, args![after, limit]).await
}

/// Puts the same secrets in their place, sealed otherwise; false if they were replaced
/// meanwhile.
pub async fn reseal(db: &Db, old: &Sealed, secret: &[u8], previous: Option<&[u8]>) -> Result<bool> {
    let mut tx = db.begin().await?;
    let rows = tx.execute(RESEAL, args![old.id, old.secret.as_slice(), secret, previous]).await?;
    tx.commit().await?;
    Ok(rows == 1)
}

/// Gives a webhook another secret; the one before signs for [`OVERLAP`] too.
pub async fn rotate(
    tx: &mut Tx,
    owner_id: Uuid,
    id: Uuid,
    secret: Vec<u8>,
) -> Result<Option<Webhook>> {
    let at = now();
    tx.execute(ROTATE, args![id, owner_id, secret.as_slice(), at + OVERLAP, at]).await?;
    get(tx, owner_id, id).await
}

/// Deletes a webhook of this owner and its deliveries; false if there is none.
pub async fn delete(tx: &mut Tx, owner_id: Uuid, id: Uuid) -> Result<bool> {
    Ok(tx.execute(DELETE, args![id, owner_id]).await? > 0)
}

/// A message as it is signed and sent.
fn message(event: &str, data: &JsonValue) -> String {
    let at = jiff::Timestamp::from_microsecond(now()).unwrap_or_default();
    json!({ "type": event, "timestamp": format!("{at:.3}"), "data": data }).to_string()
}

async fn add(
    tx: &mut Tx,
    webhook: Uuid,
    owner: Uuid,
    message_id: Uuid,
    event: &str,
    payload: &str,
    not_before: Option<i64>,
) -> Result<Uuid> {
    let (id, at) = (new_id(), now());
    let due = not_before.map_or(at, |time| time.max(at));
    tx.execute(ADD, args![id, webhook, owner, message_id, event, payload, at, due]).await?;
    let job = NewJob {
        kind: JobKind::Webhook,
        subject_id: id,
        owner_id: Some(owner),
        payload: json!({}),
    };
    jobs::insert_serial(tx, &job, Some(webhook), due).await?;
    Ok(id)
}

/// An enabled webhook: its id, its owner, what it wants, and until when it wants nothing.
type Listener = (Uuid, Uuid, Json<Vec<Event>>, Option<i64>);

/// The enabled webhooks of a project.
async fn listeners(tx: &mut Tx, project_id: Uuid) -> Result<Vec<Listener>> {
    tx.fetch_all(ENABLED, args![project_id, true]).await
}

/// Sends a message to every webhook of the project that wants it.
async fn emit(tx: &mut Tx, project_id: Uuid, event: Event, data: &JsonValue) -> Result<()> {
    let listeners = listeners(tx, project_id).await?;
    let payload = message(event.as_str(), data);
    for (webhook, owner, _, paused) in listeners.iter().filter(|l| l.2.contains(&event)) {
        if pending(&mut *tx, *webhook, MAX_WAITING).await? {
            let reason = "Too many messages wait for the receiver. It takes fewer than come in.";
            tx.execute(DISABLE, args![*webhook, false, reason, now()]).await?;
            continue;
        }
        add(tx, *webhook, *owner, new_id(), event.as_str(), &payload, *paused).await?;
    }
    Ok(())
}

/// What was pushed can be read.
pub(super) async fn upload_ready(
    tx: &mut Tx,
    upload: &Upload,
    scan_id: Option<Uuid>,
) -> Result<()> {
    let data = json!({
        "upload_id": upload.id,
        "repository_id": upload.repository_id,
        "project_id": upload.project_id,
        "ref": upload.head_ref,
        "commit": upload.head_commit,
        "scan_id": scan_id,
    });
    emit(tx, upload.project_id, Event::UploadReady, &data).await
}

#[derive(sqlx::FromRow)]
struct NewFinding {
    id: Uuid,
    engine: String,
    rule_id: String,
    title: String,
    severity: String,
    confidence: String,
    path: String,
    start_line: i64,
    priority: i64,
}

/// A scan has ended as planned, in the transaction in which its findings were merged.
/// Messages name rule and place of a finding, never a snippet: that may hold a secret.
pub(super) async fn scan_completed(tx: &mut Tx, scan: &ScanRow, summary: &Summary) -> Result<()> {
    if listeners(tx, scan.project_id).await?.is_empty() {
        return Ok(());
    }
    let mut data = json!({
        "scan_id": scan.id,
        "repository_id": scan.repository_id,
        "project_id": scan.project_id,
        "trigger": scan.trigger,
        "commit": scan.commit_id,
        "summary": summary,
    });
    emit(tx, scan.project_id, Event::ScanCompleted, &data).await?;
    if summary.new == 0 {
        return Ok(());
    }
    let found: Vec<NewFinding> = tx.fetch_all(NEW_FINDINGS, args![scan.id, MAX_FINDINGS]).await?;
    let found: Vec<JsonValue> = found
        .into_iter()
        .map(|f| {
            json!({
                "id": f.id, "engine": f.engine, "rule_id": f.rule_id, "title": f.title,
                "severity": f.severity, "confidence": f.confidence, "priority": f.priority,
                "path": f.path, "start_line": f.start_line,
            })
        })
        .collect();
    if let Some(fields) = data.as_object_mut() {
        fields.remove("summary");
        fields.insert("count".into(), summary.new.into());
        fields.insert("findings".into(), found.into());
    }
    emit(tx, scan.project_id, Event::FindingNew, &data).await
}

/// Sends a `ping` to a webhook.
pub async fn ping(tx: &mut Tx, webhook: &Webhook) -> Result<Option<Delivery>> {
    let data = json!({ "webhook_id": webhook.id, "project_id": webhook.project_id });
    let payload = message("ping", &data);
    // Somebody asked for it: it is sent at once.
    let id = add(tx, webhook.id, webhook.owner_id, new_id(), "ping", &payload, None).await?;
    tx.fetch_optional(DELIVERY_BY_ID, args![id]).await
}

/// True if so many messages wait for this webhook that none may be added by hand.
pub async fn is_full(conn: impl Into<Conn<'_>>, webhook_id: Uuid) -> Result<bool> {
    pending(conn, webhook_id, MAX_PENDING).await
}

/// True if at least so many messages wait for a webhook.
async fn pending(conn: impl Into<Conn<'_>>, webhook_id: Uuid, most: u32) -> Result<bool> {
    let (count,): (i64,) = conn.into().fetch_one(PENDING, args![webhook_id, most]).await?;
    Ok(count >= i64::from(most))
}

/// Sends a message again, as a new delivery with the same `webhook-id`, so that a
/// receiver that has it already notices.
pub async fn redeliver(tx: &mut Tx, of: &Delivery) -> Result<Option<Delivery>> {
    let (message, payload) = (of.message_id, &of.payload);
    let id = add(tx, of.webhook_id, of.owner_id, message, &of.event, payload, None).await?;
    tx.fetch_optional(DELIVERY_BY_ID, args![id]).await
}

/// A delivery of a webhook of this owner.
pub async fn delivery(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    webhook_id: Uuid,
    id: Uuid,
) -> Result<Option<Delivery>> {
    conn.into().fetch_optional(DELIVERY, args![id, webhook_id, owner_id]).await
}

/// A delivery whoever owns it: for jobs.
pub async fn delivery_by_id(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Option<Delivery>> {
    conn.into().fetch_optional(DELIVERY_BY_ID, args![id]).await
}

/// Deliveries of a webhook of this owner, newest first, from behind `after` on.
pub async fn deliveries(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    webhook_id: Uuid,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Delivery>> {
    let after = after.unwrap_or(Uuid::max());
    conn.into().fetch_all(DELIVERIES, args![webhook_id, owner_id, after, limit]).await
}

/// Notes a try; answers the pause before the next one in microseconds, or `None` if
/// there will be none. With the job held.
///
/// A receiver that names a time is tried no earlier, up to [`MAX_RETRY_AFTER`], with this
/// message or with another one. A time that is shorter than the pause that is due anyway
/// changes nothing about this message.
pub async fn tried(tx: &mut Tx, delivery: &Delivery, attempt: &Attempt) -> Result<Option<i64>> {
    let at = now();
    let pause = match &attempt.error {
        None => None,
        Some(_) if attempt.hopeless || attempt.gone => None,
        Some(_) => usize::try_from(delivery.attempts)
            .ok()
            .and_then(|tries| RETRIES.get(tries))
            .map(|seconds| seconds * 1_000_000),
    };
    let wish = attempt.retry_after.map(|wish| wish.clamp(0, MAX_RETRY_AFTER));
    let pause = pause.map(|pause| pause.max(wish.unwrap_or(0)));
    let status = match (&attempt.error, pause) {
        (None, _) => "delivered",
        (Some(_), Some(_)) => "pending",
        (Some(_), None) => "failed",
    };
    // The webhook's row first, as whoever deletes it locks them.
    if attempt.error.is_none() {
        tx.execute(TOOK, args![delivery.webhook_id]).await?;
    } else {
        let since: Option<(i64,)> =
            tx.fetch_optional(FAILING, args![delivery.webhook_id, at]).await?;
        let reason = if attempt.gone {
            Some("The receiver answered 410 Gone: it wants no more messages.")
        } else if since.is_some_and(|(since,)| at - since > PATIENCE) {
            Some("The receiver took no message for five days.")
        } else {
            None
        };
        if let Some(reason) = reason {
            tx.execute(DISABLE, args![delivery.webhook_id, false, reason, at]).await?;
        }
        if let Some(wish) = wish {
            let until = args![delivery.webhook_id, at + wish];
            tx.execute(PAUSE, until).await?;
            tx.execute(POSTPONE, args![delivery.webhook_id, at + wish]).await?;
            jobs::postpone(tx, delivery.webhook_id, at + wish).await?;
        }
    }
    tx.execute(
        TRIED,
        args![
            delivery.id,
            status,
            1_i64,
            pause.map(|pause| at + pause),
            at,
            attempt.response_status.map(i64::from),
            attempt.response_body.clone(),
            attempt.duration_ms,
            attempt.error.clone()
        ],
    )
    .await?;
    Ok(pause)
}

/// Ends a delivery that was not tried.
pub async fn give_up(tx: &mut Tx, id: Uuid, why: &str) -> Result<()> {
    let nothing = || Value::Int(None);
    let args =
        args![id, "failed", 0_i64, nothing(), now(), nothing(), Value::Text(None), nothing(), why];
    tx.execute(TRIED, args).await?;
    Ok(())
}

/// Forgets deliveries that ended before a time.
pub async fn forget(db: &Db, before: i64) -> Result<u64> {
    let mut tx = db.begin().await?;
    let rows = tx.execute(FORGET, args![before]).await?;
    tx.commit().await?;
    Ok(rows)
}

#[cfg(test)]
mod tests;
