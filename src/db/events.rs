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
const BATCH: usize = 100;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::{both, tenant};

    /// Sixteen writers, each tenth transaction given up: neither hole nor double.
    #[tokio::test]
    async fn numbers_have_no_hole_and_no_double() {
        for test in both().await {
            let scan = scans::tests::new_scan(tenant(&test.db).await);
            let mut tx = test.db.begin().await.unwrap();
            let id = scans::create(&mut tx, &scan).await.unwrap();
            tx.commit().await.unwrap();
            let mut writers = tokio::task::JoinSet::new();
            for writer in 0..16_u32 {
                let db = test.db.clone();
                writers.spawn(async move {
                    for n in 0..10_u32 {
                        let data = serde_json::json!({ "writer": writer, "n": n });
                        let event = NewEvent::info("file_skipped", "Too large.", data);
                        let mut tx = db.begin().await.unwrap();
                        append(&mut tx, id, &[event.clone(), event]).await.unwrap();
                        if (writer + n) % 10 == 0 {
                            tx.rollback().await.unwrap();
                        } else {
                            tx.commit().await.unwrap();
                        }
                    }
                });
            }
            writers.join_all().await;
            let kept = 1 + 2 * (160 - 16);
            let rows = after(&test.db, id, 0, 1_000).await.unwrap();
            let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
            assert_eq!(seqs, (1..=kept).collect::<Vec<_>>(), "{}", test.name);
            let page = after(&test.db, id, 5, 3).await.unwrap();
            assert_eq!(page.iter().map(|row| row.seq).collect::<Vec<_>>(), [6, 7, 8]);
            // Each writer finds its own in the order in which it wrote them.
            for writer in 0..16 {
                let order: Vec<i64> = rows
                    .iter()
                    .filter(|row| row.data["writer"] == writer)
                    .filter_map(|row| row.data["n"].as_i64())
                    .collect();
                assert!(order.is_sorted(), "{}: {order:?}", test.name);
            }
        }
    }

    #[tokio::test]
    async fn many_events_at_once_keep_their_order() {
        for test in both().await {
            let scan = scans::tests::new_scan(tenant(&test.db).await);
            let mut tx = test.db.begin().await.unwrap();
            let id = scans::create(&mut tx, &scan).await.unwrap();
            let many: Vec<NewEvent> = (0..1_201)
                .map(|n| NewEvent::info("note", &n.to_string(), serde_json::json!({})))
                .collect();
            append(&mut tx, id, &many).await.unwrap();
            tx.commit().await.unwrap();
            let rows = after(&test.db, id, 1, 2_000).await.unwrap();
            assert_eq!(rows.len(), 1_201, "{}", test.name);
            assert!(rows.iter().all(|row| row.message == (row.seq - 2).to_string()));
        }
    }

    #[tokio::test]
    async fn a_scan_that_is_gone_takes_no_event() {
        for test in both().await {
            let event = NewEvent::info("note", "Nobody hears this.", serde_json::json!({}));
            let mut tx = test.db.begin().await.unwrap();
            let outcome = append(&mut tx, crate::db::new_id(), &[event]).await;
            assert!(matches!(outcome, Err(crate::db::DbError::Gone(_))), "{}", test.name);
        }
    }
}
