//! Pages over a table that is large enough for the planners to care, with the plans.

use std::collections::BTreeSet;

use super::*;
use crate::db::testing::{Tenant, both, tenant};
use crate::db::{args, new_id};

/// Findings of the repository; every so many of them is a rare one.
const ROWS: i64 = 24_000;
/// Enough for a page to give up.
const FEWER: i64 = 12_000;

/// Fills the repository, and answers a scan that saw most of it and one that saw few.
async fn fill(db: &Db, tenant: Tenant, findings: i64) -> [Uuid; 2] {
    let sqlite = db.is_sqlite();
    let (id, series) = if sqlite {
        (
            "randomblob(16)",
            "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < $5) \
             SELECT n FROM s) s",
        )
    } else {
        ("gen_random_uuid()", "generate_series(1, $5) AS s(n)")
    };
    let insert = format!(
        "INSERT INTO findings (id, repository_id, project_id, owner_id, fingerprint, engine, \
         rule_id, title, severity, confidence, status, state, path, start_line, priority, \
         in_history, body, first_seen_scan_id, last_seen_scan_id, first_seen_at, last_seen_at, \
         updated_at) SELECT {id}, $1, $2, $3, 'f' || n, \
         CASE WHEN n % 4000 = 1 THEN 'secrets' ELSE 'code' END, \
         CASE WHEN n % 6000 = 2 THEN 'rule/rare' ELSE 'rule/' || (n % 3) END, \
         CASE WHEN n % 8000 = 3 THEN 'A needle' ELSE 'Hay' END, \
         CASE WHEN n % 3000 = 4 THEN 'critical' WHEN n % 2 = 0 THEN 'high' ELSE 'low' END, \
         'high', CASE WHEN n % 5000 = 5 THEN 'dismissed' ELSE 'open' END, \
         CASE WHEN n % 7000 = 6 THEN 'fixed' WHEN n % 2 = 0 THEN 'new' ELSE 'unchanged' END, \
         CASE WHEN n % 2000 = 7 THEN 'src/rare/' || n ELSE 'lib/' || (n % 9) || '.py' END, 1, \
         n % 101, n < 0, '{{}}', $4, $4, 0, 0, 0 FROM {series}"
    );
    let [most, few] = [new_id(), new_id()];
    let mut tx = db.begin().await.unwrap();
    let args = args![tenant.repository, tenant.project, tenant.owner, most, findings];
    tx.execute_built(&insert, args).await.unwrap();
    for (scan, which) in [(most, "priority >= 0"), (few, "rule_id = 'rule/rare'")] {
        tx.execute_built(
            "INSERT INTO scans (id, repository_id, project_id, owner_id, status, trigger, config, \
             progress, summary, created_at) VALUES ($1, $2, $3, $4, 'completed', 'api', '{}', \
             '{}', '{}', 0)",
            args![scan, tenant.repository, tenant.project, tenant.owner],
        )
        .await
        .unwrap();
        let sql = format!(
            "INSERT INTO scan_findings (scan_id, finding_id, state) \
             SELECT $1, id, state FROM findings WHERE {which}"
        );
        tx.execute_built(&sql, args![scan]).await.unwrap();
    }
    tx.commit().await.unwrap();
    if !sqlite {
        let mut tx = db.begin().await.unwrap();
        tx.execute_built("ANALYZE", Args::default()).await.unwrap();
        tx.commit().await.unwrap();
    }
    [most, few]
}

fn filters_of([most, few]: [Uuid; 2]) -> Vec<(&'static str, Filter)> {
    let all = Filter::default;
    let rule = |rule: &str| vec![rule.to_owned()];
    vec![
        ("none", all()),
        ("severity, rare", Filter { severity: vec![Severity::Critical], ..all() }),
        ("severity", Filter { severity: vec![Severity::High, Severity::Low], ..all() }),
        ("status, rare", Filter { status: vec![Status::Dismissed], ..all() }),
        ("status", Filter { status: vec![Status::Open, Status::Confirmed], ..all() }),
        ("state, rare", Filter { state: vec![State::Fixed], ..all() }),
        ("engine, rare", Filter { engine: vec![EngineKind::Secrets], ..all() }),
        (
            "status and severity",
            Filter { status: vec![Status::Dismissed], severity: vec![Severity::Critical], ..all() },
        ),
        ("rule, rare", Filter { rule_id: rule("rule/rare"), ..all() }),
        ("rule", Filter { rule_id: rule("rule/1"), ..all() }),
        ("no such rule", Filter { rule_id: rule("rule/none"), ..all() }),
        (
            "rule and status",
            Filter { rule_id: rule("rule/2"), status: vec![Status::Dismissed], ..all() },
        ),
        ("folder, rare", Filter { path: rule("src"), ..all() }),
        ("folder", Filter { path: rule("lib"), ..all() }),
        ("file", Filter { path: rule("lib/1.py"), ..all() }),
        ("wild cards", Filter { path: rule("*/rare/*"), ..all() }),
        ("search, rare", Filter { q: Some("needle".into()), ..all() }),
        ("search", Filter { q: Some("hay".into()), ..all() }),
        ("scan", Filter { scan_id: vec![most], ..all() }),
        ("scan, rare", Filter { scan_id: vec![few], ..all() }),
        ("scans", Filter { scan_id: vec![few, most], ..all() }),
        ("scan and state", Filter { scan_id: vec![most], state: vec![State::Fixed], ..all() }),
    ]
}

fn sorts() -> Vec<Sort> {
    [SortBy::Created, SortBy::Priority, SortBy::Severity]
        .into_iter()
        .flat_map(|by| [true, false].map(|descending| Sort { by, descending }))
        .collect()
}

async fn explain(db: &Db, sql: &str, args: Args) -> Vec<String> {
    if db.is_sqlite() {
        let rows: Vec<(i64, i64, i64, String)> =
            db.conn().fetch_filtered(&format!("EXPLAIN QUERY PLAN {sql}"), args).await.unwrap();
        rows.into_iter().map(|row| row.3).collect()
    } else {
        let rows: Vec<(String,)> =
            db.conn().fetch_filtered(&format!("EXPLAIN {sql}"), args).await.unwrap();
        rows.into_iter().map(|row| row.0.trim().to_owned()).collect()
    }
}

/// Candidates come from ranges of indexes that lie in order; so do their rows.
#[tokio::test]
async fn no_page_reads_a_table_or_sorts_it() {
    for test in both().await {
        let tenant = tenant(&test.db).await;
        let scans = fill(&test.db, tenant, ROWS).await;
        let sqlite = test.db.is_sqlite();
        let middle = Uuid::from_u128(u128::MAX / 2);
        for scope in [Scope::Repository(tenant.repository), Scope::Project(tenant.project)] {
            for (name, filter) in filters_of(scans) {
                let few = few(&test.db, scope, &filter).await.unwrap();
                let rare_by_index = ["folder, rare", "scan, rare"].contains(&name);
                assert_eq!(few.is_some(), rare_by_index, "{}: {name}", test.name);
                for sort in sorts() {
                    for deep in [false, true] {
                        let severity = *filter.severity.first().unwrap_or(&Severity::High);
                        let key = Key { sort, priority: 50, severity, id: middle };
                        let after = deep.then_some(&key);
                        let mut filter = filter.clone();
                        if sort.by == SortBy::Severity {
                            filter.severity = vec![severity];
                        }
                        let owner_id = tenant.owner;
                        let walk = Walk { sqlite, owner_id, scope, filter, sort, few };
                        let case = format!("{}: {name}, {sort:?}, deep: {deep}", test.name);
                        if few.is_none() && !walk.is_exact() {
                            let (sql, args) = walk.last_candidate(after);
                            let plan = explain(&test.db, &sql, args).await;
                            for line in &plan {
                                // PostgreSQL knows that its 9,999th row is behind the end
                                // of most ranges here, and then may as well read them all.
                                let bad = sqlite
                                    && (line.starts_with("SCAN") || line.contains("TEMP B-TREE"));
                                assert!(!bad, "{case}: {line}\n{sql}\n{plan:#?}");
                            }
                        }
                        let (sql, args) = walk.statement(after, 51);
                        let plan = explain(&test.db, &sql, args).await;
                        for line in &plan {
                            let bad = if sqlite {
                                // Of what came out of the ranges, any order may be made.
                                ["SCAN findings", "SCAN f", "SCAN sf", "SCAN scan_findings"]
                                    .contains(&line.as_str())
                            } else {
                                walk.is_exact() && line.contains("Seq Scan on findings")
                            };
                            assert!(!bad, "{case}: {line}\n{sql}\n{plan:#?}");
                        }
                    }
                }
            }
        }
    }
}

/// Page by page, each list is what its filter leaves of all findings, in order.
#[tokio::test]
async fn pages_hold_what_the_filter_says() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        let scans = fill(db, tenant, FEWER).await;
        let scope = Scope::Repository(tenant.repository);
        for (name, filter) in filters_of(scans) {
            let mut args = Args::default();
            let (from, state) = if filter.scan_id.is_empty() {
                ("", "f.state")
            } else {
                (", scan_findings sf", "sf.state")
            };
            let mut terms = filters(db.is_sqlite(), &mut args, tenant.owner, scope, &filter, state);
            if !filter.scan_id.is_empty() {
                terms.push("sf.finding_id = f.id".into());
                terms.extend(seen_by(&mut args, &filter));
            }
            let sql = format!("SELECT f.id FROM findings f{from} WHERE {}", terms.join(" AND "));
            let expected: Vec<(Uuid,)> = db.conn().fetch_filtered(&sql, args).await.unwrap();
            let expected: BTreeSet<Uuid> = expected.into_iter().map(|row| row.0).collect();
            for sort in sorts() {
                // The way back is the same code, and most of the time goes into reading rows.
                if expected.len() > 3_000 && !sort.descending {
                    continue;
                }
                let case = format!("{}: {name}, {sort:?}", test.name);
                let (mut got, mut seen, mut pages) = (Vec::new(), BTreeSet::new(), 0);
                let mut after = None;
                loop {
                    let limit = 4_000;
                    let found = list(db, tenant.owner, scope, &filter, sort, after.as_ref(), limit);
                    let found = found.await.unwrap();
                    pages += 1;
                    assert!(found.rows.len() <= limit as usize, "{case}");
                    seen.extend(found.rows.iter().map(|row| row.id));
                    got.extend(found.rows.into_iter().map(|row| Key::of(sort, &row)));
                    let Some(next) = found.next else { break };
                    after = Some(next);
                }
                assert_eq!(got.len(), seen.len(), "{case}: twice");
                assert!(seen == expected, "{case}: {} of {}", seen.len(), expected.len());
                assert!(pages < 20, "{case}: {pages}");
                let place = |key: &Key| match sort.by {
                    SortBy::Created => (0, 0, key.id),
                    SortBy::Priority => (0, key.priority, key.id),
                    SortBy::Severity => {
                        let at =
                            Severity::WORST_FIRST.iter().position(|s| *s == key.severity).unwrap();
                        (at as i64, 0, key.id)
                    }
                };
                for pair in got.windows(2) {
                    let (a, b) = (place(&pair[0]), place(&pair[1]));
                    let right = match sort.by {
                        // The worst severity is the first of all.
                        SortBy::Severity if a.0 != b.0 => (a.0 < b.0) == sort.descending,
                        _ => (a > b) == sort.descending,
                    };
                    assert!(right, "{case}: {a:?} before {b:?}");
                }
            }
        }
    }
}

/// A search that finds nothing gives up, says where, and comes to an end.
#[tokio::test]
async fn a_page_gives_up_and_says_where_to_go_on() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        fill(db, tenant, ROWS).await;
        let filter = Filter { q: Some("nothing of the kind".into()), ..Filter::default() };
        let scope = Scope::Repository(tenant.repository);
        let mut after = None;
        for page in 1..=3 {
            let found =
                list(db, tenant.owner, scope, &filter, Sort::default(), after.as_ref(), 50).await;
            let found = found.unwrap();
            assert!(found.rows.is_empty(), "{}", test.name);
            assert_eq!(found.next.is_some(), page < 3, "{}: page {page}", test.name);
            after = found.next;
        }
    }
}
