//! What a large scan costs the database, and each index of it. Nothing is asserted: times
//! are for people to read.
//!
//! `tests/run --release -E 'test(cost_of)' --run-ignored only --no-capture`

use std::time::Instant;

use super::*;

const FINDINGS: usize = 50_000;

/// Five in each of 10,000 files, four folders deep, of 60 rules.
fn many(line: u32) -> Vec<Finding> {
    (0..FINDINGS)
        .map(|n| {
            let file = n / 5;
            let path = format!("services/area{}/part{}/src/module_{file}.py", file % 13, file % 97);
            let severity = Severity::WORST_FIRST[n % 5];
            let mut finding = finding(&format!("n{n}"), &path, severity);
            finding.rule_id = format!("python/rule-number-{}", n % 60);
            finding.title = format!("Something dangerous of kind {} is done", n % 60);
            finding.priority = (n % 60) as u8;
            finding.location.span.start_line = line;
            finding
        })
        .collect()
}

async fn timed(db: &Db, tenant: Tenant, findings: Vec<Finding>) -> u128 {
    let scan = queued(db, tenant, None).await;
    let begin = Instant::now();
    let mut tx = db.begin().await.unwrap();
    let summary = merge(&mut tx, &scan, &everywhere(), findings, |_| RULES).await.unwrap();
    scans::finish(&mut tx, scan.id, &Ending::Completed(summary)).await.unwrap();
    tx.commit().await.unwrap();
    begin.elapsed().as_millis()
}

async fn measure(name: &str, db: &Db, tenant: Tenant) {
    let new = timed(db, tenant, many(1)).await;
    let again = timed(db, tenant, many(2)).await;
    let moved: Vec<Finding> = many(3)
        .into_iter()
        .map(|mut finding| {
            finding.location.path = finding.location.path.replace("services", "moved");
            finding
        })
        .collect();
    let moved = timed(db, tenant, moved).await;
    println!("{name:60} new {new:6} ms   again {again:6} ms   moved {moved:6} ms");
}

#[tokio::test]
#[ignore = "measures, for people to read"]
async fn cost_of_a_large_merge() {
    for test in both().await {
        let tenant = tenant(&test.db).await;
        measure(&format!("{} as it is", test.name), &test.db, tenant).await;
    }
}

/// The same without one index after the other.
#[tokio::test]
#[ignore = "measures, for people to read"]
async fn cost_of_each_index() {
    let all = both().await;
    for test in &all {
        let sql = if test.db.is_sqlite() {
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL \
             AND tbl_name IN ('findings', 'scan_findings', 'finding_entries', 'finding_texts')"
        } else {
            "SELECT indexname::TEXT FROM pg_indexes WHERE schemaname = 'public' AND tablename IN \
             ('findings', 'scan_findings', 'finding_entries', 'finding_texts') \
             AND indexdef NOT LIKE 'CREATE UNIQUE%'"
        };
        let names: Vec<(String,)> =
            test.db.conn().fetch_filtered(sql, Args::default()).await.unwrap();
        for (index,) in names {
            let all = both().await;
            let test = all.iter().find(|t| t.name == test.name).unwrap();
            let mut tx = test.db.begin().await.unwrap();
            tx.execute_built(&format!("DROP INDEX {index}"), Args::default()).await.unwrap();
            tx.commit().await.unwrap();
            let tenant = tenant(&test.db).await;
            measure(&format!("{} without {index}", test.name), &test.db, tenant).await;
        }
    }
}
