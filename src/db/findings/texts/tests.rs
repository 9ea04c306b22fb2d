//! Texts, their entries and grams are at every time what the findings say.

use std::collections::BTreeSet;

use super::*;
use crate::db::Db;
use crate::db::findings::tests::{everywhere, finding, scan};
use crate::db::findings::{Filter, Scope, Sort, list};
use crate::db::testing::{Tenant, both, tenant};
use crate::scan::Severity;

/// Makes texts and entries of rows that no scan brought: what the migration does.
pub(in crate::db::findings) async fn keep_all(tx: &mut Tx) {
    let migration = if tx.is_sqlite() {
        include_str!("../../../../migrations/sqlite/0021_finding_texts.sql")
    } else {
        include_str!("../../../../migrations/postgres/0021_finding_texts.sql")
    };
    let (_, fill) = migration.split_once("-- What is there already.").unwrap();
    let (_, fill) = fill.split_once('\n').unwrap();
    for statement in fill.split(';').filter(|statement| !statement.trim().is_empty()) {
        tx.execute_built(statement, Args::default()).await.unwrap();
    }
}

/// Everything that is kept, without the numbers of texts.
async fn kept(db: &Db) -> [BTreeSet<String>; 2] {
    let cast = if db.is_sqlite() { "hex" } else { "" };
    let text = format!(
        "t.kind || ' ' || t.text || ' ' || t.title || ' ' \
         || coalesce(CAST({cast}(t.repository_id) AS TEXT), '')"
    );
    let entries = format!(
        "SELECT {text} || ' ' || e.severity || ' ' || CAST(e.priority AS TEXT) || ' ' || \
         CAST({cast}(e.finding_id) AS TEXT) \
         FROM finding_entries e LEFT JOIN finding_texts t ON t.id = e.text_id"
    );
    let grams = format!(
        "SELECT {text} || ' ' || CAST({cast}(g.scope_id) AS TEXT) || ' ' || CAST(g.gram AS TEXT) \
         FROM finding_grams g LEFT JOIN finding_texts t ON t.id = g.text_id"
    );
    let mut out = [BTreeSet::new(), BTreeSet::new()];
    for (sql, out) in [entries, grams].iter().zip(&mut out) {
        // A row of no text is NULL, which cannot be read.
        let rows: Vec<(String,)> = db.conn().fetch_filtered(sql, Args::default()).await.unwrap();
        out.extend(rows.into_iter().map(|row| row.0));
    }
    out
}

fn hostile() -> Vec<String> {
    vec![
        "a".into(),
        "a/b//c.py".into(),
        "a/b//d/c.py".into(),
        "a/Größe/Ünder.rs".into(),
        "a/%_\\/x".into(),
        "/rooted/file".into(),
        "d/".repeat(16) + "last",
        "d/".repeat(17) + "deeper",
        "d/".repeat(300) + "deepest",
        "long/".to_owned() + &"n".repeat(495),
        "long/".to_owned() + &"n".repeat(496),
        "long/".to_owned() + &"ü".repeat(3_000),
    ]
}

async fn check(db: &Db, name: &str) {
    let before = kept(db).await;
    let mut tx = db.begin().await.unwrap();
    for table in ["finding_entries", "finding_grams", "finding_texts"] {
        tx.execute_built(&format!("DELETE FROM {table}"), Args::default()).await.unwrap();
    }
    keep_all(&mut tx).await;
    tx.commit().await.unwrap();
    let after = kept(db).await;
    let (lost, left): (Vec<_>, Vec<_>) =
        (after[0].difference(&before[0]).collect(), before[0].difference(&after[0]).collect());
    assert!(lost.is_empty() && left.is_empty(), "{name}: lost {lost:#?}, left {left:#?}");
    // Texts that nothing belongs to any more stay, and with them their grams.
    let lost: Vec<_> = after[1].difference(&before[1]).collect();
    assert!(lost.is_empty(), "{name}: lost {lost:#?}");
    assert!(!after[0].is_empty() && !after[1].is_empty(), "{name}");
}

#[tokio::test]
async fn entries_follow_the_findings_from_scan_to_scan() {
    for test in both().await {
        let (db, one) = (&test.db, tenant(&test.db).await);
        let other = tenant(db).await;
        let all = |change: fn(usize, &mut Finding)| -> Vec<Finding> {
            hostile()
                .iter()
                .enumerate()
                .map(|(n, path)| {
                    let mut finding = finding(&format!("n{n}"), path, Severity::High);
                    change(n, &mut finding);
                    finding
                })
                .collect()
        };
        scan(db, other, &everywhere(), all(|_, _| {})).await;
        scan(db, one, &everywhere(), all(|_, _| {})).await;
        check(db, "new").await;
        scan(db, one, &everywhere(), all(|_, _| {})).await;
        check(db, "again").await;
        let changes: [(&str, fn(usize, &mut Finding)); 5] = [
            ("severity", |n, f| f.severity = Severity::WORST_FIRST[n % 5]),
            ("priority", |n, f| f.priority = n as u8),
            ("path", |n, f| f.location.path = format!("moved/{n}/{}", f.location.path)),
            ("title", |n, f| f.title = "Ä long title ".repeat(n * 8)),
            ("rule", |n, f| f.rule_id = format!("rule/{}", n % 3)),
        ];
        for (name, change) in changes {
            scan(db, one, &everywhere(), all(change)).await;
            check(db, &format!("{}: {name}", test.name)).await;
            // Fixed and back.
            scan(db, one, &everywhere(), Vec::new()).await;
            scan(db, one, &everywhere(), all(change)).await;
            check(db, &format!("{}: {name}, fixed and back", test.name)).await;
        }
    }
}

/// Whatever the names are, a list is what its filter leaves.
#[tokio::test]
async fn hostile_names_are_found() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        let findings: Vec<Finding> = hostile()
            .iter()
            .enumerate()
            .map(|(n, path)| finding(&format!("n{n}"), path, Severity::High))
            .collect();
        scan(db, tenant, &everywhere(), findings.clone()).await;
        let mut filters = Vec::new();
        for path in hostile() {
            for folder in std::iter::successors(Some(path.as_str()), |path| parent(path)) {
                filters.push(Filter { path: vec![folder.to_owned()], ..Filter::default() });
                filters.push(Filter { path: vec![format!("{folder}/")], ..Filter::default() });
            }
            let from = path.len().saturating_sub(30);
            let from = (from..=path.len()).find(|at| path.is_char_boundary(*at)).unwrap();
            filters.push(Filter { q: Some(path[from..].to_owned()), ..Filter::default() });
        }
        for q in ["nnn", "b//c", "d/d/d/last", "Title of n1", "python/n2", "GRÖSSE", "%_\\", "/"] {
            filters.push(Filter { q: Some(q.to_owned()), ..Filter::default() });
        }
        for path in ["long/*", "a/b/*", "d/d/*/last"] {
            filters.push(Filter { path: vec![path.to_owned()], ..Filter::default() });
        }
        for filter in filters {
            let scope = Scope::Repository(tenant.repository);
            let got = found(db, tenant, scope, &filter).await;
            assert_eq!(found(db, tenant, Scope::Project(tenant.project), &filter).await, got);
            let expected: BTreeSet<String> = findings
                .iter()
                .filter(|finding| names(db.is_sqlite(), &filter, finding))
                .map(|finding| finding.rule_id.clone())
                .collect();
            assert_eq!(got, expected, "{}: {filter:?}", test.name);
        }
    }
}

async fn found(db: &Db, tenant: Tenant, scope: Scope, filter: &Filter) -> BTreeSet<String> {
    let found = list(db, tenant.owner, scope, filter, Sort::default(), None, 200).await.unwrap();
    assert!(found.next.is_none());
    found.rows.into_iter().map(|row| row.rule_id).collect()
}

/// What the documents say of `path` and `q`.
fn names(sqlite: bool, filter: &Filter, finding: &Finding) -> bool {
    let path = &finding.location.path;
    let on_path = |name: &String| {
        if let Some((before, after)) = name.split_once('*') {
            return path.len() >= before.len() + after.len()
                && path.starts_with(before)
                && path.ends_with(after);
        }
        let bare = name.trim_end_matches('/');
        path == bare || path.starts_with(&format!("{bare}/"))
    };
    let lower = |text: &str| if sqlite { text.to_ascii_lowercase() } else { text.to_lowercase() };
    let has = |q: &String| {
        [path, &finding.title, &finding.rule_id].iter().any(|text| lower(text).contains(&lower(q)))
    };
    (filter.path.is_empty() || filter.path.iter().any(on_path)) && filter.q.iter().all(has)
}

#[tokio::test]
async fn a_deleted_repository_leaves_nothing_behind() {
    for test in both().await {
        let (db, one) = (&test.db, tenant(&test.db).await);
        let other = tenant(db).await;
        for tenant in [one, other] {
            let found = vec![finding("n1", "src/a.py", Severity::Low)];
            scan(db, tenant, &everywhere(), found).await;
        }
        let of = |kept: &[BTreeSet<String>; 2], id: Uuid| -> usize {
            let id = if db.is_sqlite() {
                id.simple().to_string().to_uppercase()
            } else {
                id.to_string()
            };
            kept.iter().flatten().filter(|row| row.contains(&id)).count()
        };
        let before = kept(db).await;
        assert!(of(&before, one.repository) > 0);
        crate::db::repositories::delete(db, one.owner, one.repository).await.unwrap();
        let after = kept(db).await;
        assert_eq!(of(&after, one.repository), 0, "{}", test.name);
        assert_eq!(of(&after, other.repository), of(&before, other.repository), "{}", test.name);
        // Its rule is still known in the project, without a finding.
        assert_eq!(after[0].len() * 2, before[0].len(), "{}", test.name);
        for project in [one, other] {
            crate::db::projects::delete(db, project.owner, project.project).await.unwrap();
        }
        assert_eq!(kept(db).await, [BTreeSet::new(), BTreeSet::new()], "{}", test.name);
    }
}
