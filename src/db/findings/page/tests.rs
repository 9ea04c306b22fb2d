//! Pages over a table that is large enough for the planners to care, with the plans.

use std::collections::BTreeSet;

use super::*;
use crate::db::findings::texts;
use crate::db::testing::{Tenant, both, explain, tenant};
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
    texts::tests::keep_all(&mut tx).await;
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
        ("search, over folders", Filter { q: Some("C/Rare/1".into()), ..all() }),
        ("search, of a folder", Filter { q: Some("src/".into()), ..all() }),
        ("search, short", Filter { q: Some("rc".into()), ..all() }),
        ("search, nothing", Filter { q: Some("nothing of the kind".into()), ..all() }),
        ("search in a folder", Filter { q: Some("hay".into()), path: rule("src/rare"), ..all() }),
        ("folder up to a wild card", Filter { path: rule("src/ra*/1?"), ..all() }),
        (
            "rare in a folder",
            Filter { path: rule("lib"), status: vec![Status::Dismissed], ..all() },
        ),
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

/// How many rows a step of PostgreSQL expects.
fn expected_rows(line: &str) -> u32 {
    let rows = line.split_once(" rows=").and_then(|(_, rest)| rest.split_once(' '));
    rows.and_then(|(rows, _)| rows.parse().ok()).unwrap_or(u32::MAX)
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
                let source = source::of(&test.db, scope, &filter).await.unwrap();
                let expected = match name {
                    "folder, rare"
                    | "folder"
                    | "file"
                    | "rule"
                    | "rule, rare"
                    | "no such rule"
                    | "search"
                    | "search, rare"
                    | "search, over folders"
                    | "search, of a folder"
                    | "search, nothing"
                    | "search in a folder"
                    | "folder up to a wild card" => "texts",
                    "scan, rare" => "scans",
                    _ => "table",
                };
                let got = match &source {
                    Source::Merged(_) | Source::Gathered(_) => "texts",
                    Source::Scans => "scans",
                    Source::Table => "table",
                };
                assert_eq!(got, expected, "{}: {name}: {source:?}", test.name);
                if source == Source::Merged(Vec::new()) {
                    continue;
                }
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
                        let source = &source;
                        let walk = Walk { sqlite, owner_id, scope, filter, sort, source };
                        let case = format!("{}: {name}, {sort:?}, deep: {deep}", test.name);
                        // Candidates: in order as they come.
                        for most in [walk.first_look(51), LOOKED_AT] {
                            if *source == Source::Scans {
                                break;
                            }
                            let (sql, args) = walk.last_candidate(after, most);
                            let plan = explain(&test.db, &sql, args).await;
                            for line in &plan {
                                let bad = if sqlite {
                                    line.starts_with("SCAN") || line.contains("TEMP B-TREE")
                                } else {
                                    // It may sort what is little. It also knows that its
                                    // 9,999th row is behind the end of most ranges here, and
                                    // then may as well read them all.
                                    most != LOOKED_AT
                                        && (line.contains("Seq Scan") || line.contains("Sort  "))
                                        && expected_rows(line) > RARE
                                };
                                assert!(!bad, "{case}: {line}\n{sql}\n{plan:#?}");
                            }
                        }
                        let (sql, args) = walk.statement(after, 51, walk.first_look(51));
                        let plan = explain(&test.db, &sql, args).await;
                        for line in &plan {
                            let bad = if sqlite {
                                // Of what came out of the ranges, any order may be made.
                                ["SCAN findings", "SCAN f", "SCAN sf", "SCAN scan_findings"]
                                    .contains(&line.as_str())
                            } else {
                                // A table this small may be cheaper read than asked for
                                // each candidate whether a scan saw it.
                                (line.contains("Seq Scan") || line.contains("Sort  "))
                                    && !line.contains("Seq Scan on scan_findings")
                                    && expected_rows(line) > RARE
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

/// What no index tells gives up, says where, and comes to an end.
#[tokio::test]
async fn a_page_gives_up_and_says_where_to_go_on() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        fill(db, tenant, ROWS).await;
        let filter = Filter { path: vec!["*nothing of the kind".into()], ..Filter::default() };
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
        // A search for what no text has knows it at once.
        let filter = Filter { q: Some("nothing of the kind".into()), ..Filter::default() };
        let found = list(db, tenant.owner, scope, &filter, Sort::default(), None, 50).await;
        let found = found.unwrap();
        assert!(found.rows.is_empty() && found.next.is_none(), "{}", test.name);
    }
}
