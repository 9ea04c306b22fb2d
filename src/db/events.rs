//! Events of scans.
//!
//! `seq` counts 1, 2, 3 … for each scan. The numbers are taken from
//! `scans.last_event` in the transaction that inserts the rows: the row of the scan
//! is locked from then on, so writers queue up, a transaction that is rolled back
//! leaves no hole, and a reader who sees number n can see all before it.

use serde_json::Value as JsonValue;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Args, Conn, Result, Tx, Value, args, now, scans, statements};
use crate::scan::Level;

/// An event to append.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// How loud.
    pub level: Level,
    /// A stable word.
    pub kind: String,
    /// A sentence.
    pub message: String,
    /// A JSON object.
    pub data: JsonValue,
}

impl NewEvent {
    /// Something that went as planned.
    pub fn info(kind: &str, message: &str, data: JsonValue) -> Self {
        Self { level: Level::Info, kind: kind.to_owned(), message: message.to_owned(), data }
    }
}

/// An event.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EventRow {
    /// The scan.
    pub scan_id: Uuid,
    /// Its number, from 1.
    pub seq: i64,
    /// Microseconds since 1970.
    pub at: i64,
    /// `info`, `warning` or `error`.
    pub level: String,
    /// A stable word.
    #[sqlx(rename = "type")]
    pub kind: String,
    /// A sentence.
    pub message: String,
    /// A JSON object.
    pub data: Json<JsonValue>,
}

/// Rows of one INSERT.
const BATCH: usize = 500;

statements! {
    TAKE = "UPDATE scans SET last_event = last_event + $2 WHERE id = $1 RETURNING last_event";
    AFTER = "SELECT scan_id, seq, at, level, type, message, data FROM scan_events \
             WHERE scan_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
}

/// Appends events in their order and wakes who waits for the scan.
///
/// # Errors
///
/// [`super::DbError::Gone`] if the scan was deleted.
pub async fn append(tx: &mut Tx, scan_id: Uuid, events: &[NewEvent]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let taken: Option<(i64,)> = tx.fetch_optional(TAKE, args![scan_id, events.len()]).await?;
    let Some((last,)) = taken else { return Err(scans::gone()) };
    let at = now();
    let mut seq = last - events.len() as i64;
    for batch in events.chunks(BATCH) {
        let mut args = Args::default();
        let scan = args.add(scan_id);
        let at = args.add(at);
        let mut rows = Vec::with_capacity(batch.len());
        for event in batch {
            seq += 1;
            rows.push(format!(
                "({scan}, {}, {at}, {}, {}, {}, {})",
                args.add(seq),
                args.add(event.level.as_str()),
                args.add(&event.kind),
                args.add(&event.message),
                args.add(Value::json(&event.data)),
            ));
        }
        let sql = format!(
            "INSERT INTO scan_events (scan_id, seq, at, level, type, message, data) VALUES {}",
            rows.join(", ")
        );
        tx.execute_built(&sql, args).await?;
    }
    tx.wake(scan_id);
    Ok(())
}

/// Up to `limit` events behind number `after`, oldest first. Who asks has made sure
/// that the scan belongs to the caller.
pub async fn after(
    conn: impl Into<Conn<'_>>,
    scan_id: Uuid,
    after: i64,
    limit: u32,
) -> Result<Vec<EventRow>> {
    conn.into().fetch_all(AFTER, args![scan_id, after, limit]).await
}
