//! Results of the engines, kept by content.
//!
//! A row belongs to an owner: what one tenant scanned tells another nothing, not
//! even by the time that a scan takes. A *set* names everything of a
//! [`ResultKey`] but the blob; there are a few hundred of them, so a row of the
//! large table stays small. Rows are written once and never changed, so two
//! workers that find the same at once do not disturb each other.

use std::collections::HashMap;

use serde::Serialize;
use uuid::Uuid;

use super::{Args, Conn, Db, Result, Value, args, new_id, statements};
use crate::scan::{EngineKind, FileResult, ResultKey};

/// Results above this size (bytes of JSON) are computed anew each time.
const MAX_RESULT: usize = 8 << 20;

/// Keys of one SELECT.
const READ_BATCH: usize = 5_000;

/// Rows of one INSERT.
const WRITE_BATCH: usize = 500;

/// Everything of a [`ResultKey`] but the blob.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetKey {
    /// The engine.
    pub engine: EngineKind,
    /// Digest over engine version and rules.
    pub rule_set: String,
    /// Under which the file is looked at.
    pub facet: String,
}

impl SetKey {
    /// The set of a key.
    pub fn of(key: &ResultKey) -> Self {
        Self { engine: key.engine, rule_set: key.rule_set.clone(), facet: key.facet.clone() }
    }
}

statements! {
    SETS = "SELECT id, facet FROM result_sets \
            WHERE owner_id = $1 AND engine = $2 AND rule_set = $3";
    // CROSS JOIN makes SQLite walk the keys and look each up.
    GET = pair(
        "SELECT k.value ->> 'n' AS n, r.result FROM json_each($1) k CROSS JOIN results r \
         WHERE r.set_id = unhex(k.value ->> 's') AND r.blob = unhex(k.value ->> 'b')",
        "SELECT k.n, r.result FROM jsonb_to_recordset($1) AS k (n bigint, s text, b text) \
         JOIN results r ON r.set_id = k.s::uuid AND r.blob = decode(k.b, 'hex')"
    );
    ADD_SET = "INSERT INTO result_sets (id, owner_id, engine, rule_set, facet) \
               VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (owner_id, engine, rule_set, facet) DO NOTHING";
}

/// One key on its way to the database; `n` is its place in the question.
#[derive(Serialize)]
struct Asked<'a> {
    n: usize,
    s: String,
    b: &'a str,
}

/// What is kept for each key, in the order of the keys.
pub async fn get(db: &Db, owner: Uuid, keys: &[ResultKey]) -> Result<Vec<Option<FileResult>>> {
    let mut out = vec![None; keys.len()];
    let sets = sets(db, owner, keys).await?;
    let asked: Vec<Asked<'_>> = keys
        .iter()
        .enumerate()
        .filter(|(_, key)| is_oid(&key.blob))
        .filter_map(|(n, key)| {
            let set = sets.get(&SetKey::of(key))?;
            Some(Asked { n, s: set.simple().to_string(), b: &key.blob })
        })
        .collect();
    for batch in asked.chunks(READ_BATCH) {
        let rows: Vec<(i64, Option<Vec<u8>>)> =
            db.conn().fetch_all(GET, args![Value::json(&batch)]).await?;
        for (n, bytes) in rows {
            let Some(slot) = usize::try_from(n).ok().and_then(|n| out.get_mut(n)) else {
                continue;
            };
            *slot = match bytes {
                None => Some(FileResult::default()),
                Some(bytes) => match serde_json::from_slice(&bytes) {
                    Ok(result) => Some(result),
                    Err(error) => {
                        tracing::warn!("a kept result cannot be read and is made anew: {error}");
                        None
                    }
                },
            };
        }
    }
    Ok(out)
}

/// Keeps new results, in one transaction. What is kept already stays as it is.
pub async fn put(db: &Db, owner: Uuid, results: &[(ResultKey, FileResult)]) -> Result<()> {
    let mut rows = Vec::with_capacity(results.len());
    for (key, result) in results {
        let Some(blob) = is_oid(&key.blob).then(|| unhex(&key.blob)) else { continue };
        let bytes = if result.is_empty() {
            None
        } else {
            match serde_json::to_vec(result) {
                Ok(bytes) if bytes.len() <= MAX_RESULT => Some(bytes),
                _ => continue,
            }
        };
        rows.push((SetKey::of(key), blob, bytes));
    }
    // Every transaction takes the rows in one order, so that two never wait for
    // each other.
    rows.sort_by(|(a, x, _), (b, y, _)| {
        (a.engine, &a.rule_set, &a.facet, x).cmp(&(b.engine, &b.rule_set, &b.facet, y))
    });
    let keys: Vec<ResultKey> = results.iter().map(|(key, _)| key.clone()).collect();
    let mut known = sets(db, owner, &keys).await?;
    let mut tx = db.begin().await?;
    let mut missing = false;
    let mut last = None;
    for (set, _, _) in rows.iter().filter(|(set, _, _)| !known.contains_key(set)) {
        if last.replace(set) == Some(set) {
            continue;
        }
        missing = true;
        let (engine, rules) = (set.engine.as_str(), &set.rule_set);
        tx.execute(ADD_SET, args![new_id(), owner, engine, rules, &set.facet]).await?;
    }
    if missing {
        known = sets(&mut tx, owner, &keys).await?;
    }
    for batch in rows.chunks(WRITE_BATCH) {
        let mut args = Args::default();
        let values: Vec<String> = batch
            .iter()
            .filter_map(|(set, blob, bytes)| {
                let set = *known.get(set)?;
                Some(format!(
                    "({}, {}, {})",
                    args.add(set),
                    args.add(blob.as_slice()),
                    args.add(Value::Bytes(bytes.clone()))
                ))
            })
            .collect();
        if values.is_empty() {
            continue;
        }
        let sql = format!(
            "INSERT INTO results (set_id, blob, result) VALUES {} \
             ON CONFLICT (set_id, blob) DO NOTHING",
            values.join(", ")
        );
        tx.execute_built(&sql, args).await?;
    }
    tx.commit().await
}

/// The ids of the sets that the keys speak of, as far as there are any.
async fn sets(
    conn: impl Into<Conn<'_>>,
    owner: Uuid,
    keys: &[ResultKey],
) -> Result<HashMap<SetKey, Uuid>> {
    let mut conn = conn.into();
    let mut wanted: Vec<(EngineKind, &str)> =
        keys.iter().map(|key| (key.engine, key.rule_set.as_str())).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut out = HashMap::new();
    for (engine, rule_set) in wanted {
        let again = match &mut conn {
            Conn::Pool(db) => Conn::Pool(db),
            Conn::Tx(tx) => Conn::Tx(tx),
        };
        let rows: Vec<(Uuid, String)> =
            again.fetch_all(SETS, args![owner, engine.as_str(), rule_set]).await?;
        out.extend(
            rows.into_iter()
                .map(|(id, facet)| (SetKey { engine, rule_set: rule_set.to_owned(), facet }, id)),
        );
    }
    Ok(out)
}

fn is_oid(hex: &str) -> bool {
    matches!(hex.len(), 40 | 64) && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The bytes of a hex string that [`is_oid`] has checked.
fn unhex(hex: &str) -> Vec<u8> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => b - b'0',
        b'a'..=b'f' => b - b'a' + 10,
        _ => b.to_ascii_lowercase().wrapping_sub(b'a').wrapping_add(10),
    };
    hex.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => digit(*high) << 4 | digit(*low),
            _ => 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::{both, tenant};
    use crate::scan::Suppression;

    fn key(n: usize, facet: &str) -> ResultKey {
        ResultKey {
            blob: format!("{n:040x}"),
            engine: EngineKind::Code,
            rule_set: "r1".into(),
            facet: facet.into(),
        }
    }

    fn result(n: usize) -> FileResult {
        let suppression =
            Suppression { line: n as u32, rule_id: "*".into(), reason: "\u{0}\"ü".into() };
        FileResult { suppressions: vec![suppression], ..FileResult::default() }
    }

    #[tokio::test]
    async fn what_is_kept_is_found_by_all_parts_of_its_key() {
        for test in both().await {
            let ada = tenant(&test.db).await.owner;
            let eve = tenant(&test.db).await.owner;
            let empty = FileResult::default();
            let kept = [
                (key(1, "python"), result(1)),
                (key(1, "java"), result(2)),
                (key(2, "python"), empty.clone()),
            ];
            put(&test.db, ada, &kept).await.unwrap();
            let other_rules = ResultKey { rule_set: "r2".into(), ..key(1, "python") };
            let other_engine = ResultKey { engine: EngineKind::Secrets, ..key(1, "python") };
            let no_blob = ResultKey { blob: "x'; --".into(), ..key(1, "python") };
            let asked = [
                key(2, "python"),
                key(1, "java"),
                no_blob,
                other_rules,
                key(3, "python"),
                other_engine,
                key(1, "python"),
                key(1, "python"),
            ];
            let found = get(&test.db, ada, &asked).await.unwrap();
            let expected = [
                Some(empty),
                Some(result(2)),
                None,
                None,
                None,
                None,
                Some(result(1)),
                Some(result(1)),
            ];
            assert_eq!(found, expected, "{}", test.name);
            let found = get(&test.db, eve, &asked).await.unwrap();
            assert!(found.iter().all(Option::is_none), "{}: of somebody else", test.name);
            // The first one stays.
            put(&test.db, ada, &[(key(1, "python"), result(9))]).await.unwrap();
            let found = get(&test.db, ada, &[key(1, "python")]).await.unwrap();
            assert_eq!(found, [Some(result(1))]);
        }
    }

    #[tokio::test]
    async fn many_are_kept_and_found_at_once_by_several_workers() {
        for test in both().await {
            let owner = tenant(&test.db).await.owner;
            let mut workers = tokio::task::JoinSet::new();
            for worker in 0..4_usize {
                let db = test.db.clone();
                workers.spawn(async move {
                    let rows: Vec<_> = (0..3_000)
                        .map(|n| n + worker * 1_000)
                        .rev()
                        .map(|n| (key(n, if n % 2 == 0 { "a" } else { "b" }), result(n)))
                        .collect();
                    put(&db, owner, &rows).await.unwrap();
                });
            }
            workers.join_all().await;
            let keys: Vec<_> =
                (0..7_000).map(|n| key(n, if n % 2 == 0 { "a" } else { "b" })).collect();
            let found = get(&test.db, owner, &keys).await.unwrap();
            for (n, found) in found.into_iter().enumerate() {
                assert_eq!(found, (n < 6_000).then(|| result(n)), "{}: {n}", test.name);
            }
        }
    }
}
