use std::path::Path;

use super::super::testing::{both, both_before};
use super::super::{Sql, now};
use super::*;

#[tokio::test]
async fn a_schema_that_is_older_or_newer_is_named_with_both_versions() {
    for test in both_before(6).await {
        let schema = test.db.schema().await.unwrap();
        assert_eq!(schema.database, 5, "{}", test.name);
        let refused = test.db.check_schema().await.unwrap_err().to_string();
        assert!(refused.contains("version 5"), "{refused}");
        assert!(refused.contains(&schema.program.to_string()), "{refused}");
        assert!(refused.contains("sluice migrate"), "{refused}");
        test.db.migrate().await.unwrap();
        test.db.check_schema().await.unwrap();
    }
    const LATER: Sql = Sql::both(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES ($1, 'later', $2, $3, $4)",
    );
    for test in both().await {
        let mut tx = test.db.begin().await.unwrap();
        tx.execute(LATER, args![9_999_i64, true, b"sum".as_slice(), now()]).await.unwrap();
        tx.commit().await.unwrap();
        let program = test.db.schema().await.unwrap().program;
        for refused in [test.db.check_schema().await, test.db.migrate().await] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, DbError::Schema(_)), "{refused:?}");
            let refused = refused.to_string();
            assert!(
                refused.contains("9999") && refused.contains(&program.to_string()),
                "{refused}"
            );
        }
    }
}

#[tokio::test]
async fn many_migrate_at_once_and_all_succeed() {
    for test in both_before(1).await {
        if test.db.is_sqlite() {
            // One process holds its folder.
            continue;
        }
        assert_eq!(test.db.schema().await.unwrap().database, 0);
        let refused = test.db.check_schema().await.unwrap_err().to_string();
        assert!(refused.contains("no schema yet"), "{refused}");
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let url = test.url.clone();
            tasks.spawn(async move { Db::open(&url).await.unwrap().migrate().await });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
        test.db.check_schema().await.unwrap();
    }
}

/// Tables that grow with use: nothing may lock or rewrite one of them while servers serve. Of jobs
/// those of a day are kept.
const LARGE: [&str; 21] = [
    "finding_entries",
    "finding_grams",
    "finding_history",
    "finding_texts",
    "findings",
    "git_uploads",
    "lfs_objects",
    "project_events",
    "pushes",
    "repositories",
    "result_sets",
    "results",
    "scan_artifacts",
    "scan_events",
    "scan_findings",
    "scans",
    "snapshots",
    "upload_packs",
    "upload_refs",
    "usage_storage",
    "webhook_deliveries",
];

/// The first migration that is held to the rules of [`crate::db`].
const SINCE: i64 = 24;

/// What a migration does that the version before it cannot bear, or that locks a table for
/// long.
fn faults(postgres: bool, text: &str) -> Vec<String> {
    let bare: String = text
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let mut made: Vec<String> = Vec::new();
    let mut faults = Vec::new();
    for statement in bare.split(';') {
        let words: Vec<String> = statement
            .replace(['(', ')', ','], " ")
            .split_whitespace()
            .map(str::to_uppercase)
            .collect();
        let line = words.join(" ");
        let fault = |why: &str| format!("{why}: {line}");
        let has = |words: &str| format!(" {line} ").contains(&format!(" {words} "));
        let after = |word: &str| {
            let mut rest = words.iter().skip_while(|w| *w != word).skip(1);
            rest.find(|w| !["IF", "NOT", "EXISTS", "ONLY"].contains(&w.as_str())).cloned()
        };
        if line.starts_with("CREATE TABLE") {
            made.extend(after("TABLE"));
            continue;
        }
        let is_large = |table: &Option<String>| {
            table.as_ref().is_some_and(|table| {
                !made.contains(table) && LARGE.iter().any(|large| large.to_uppercase() == *table)
            })
        };
        if line.starts_with("DROP TABLE") || line.starts_with("TRUNCATE") {
            faults.push(fault("takes a table away"));
        } else if line.starts_with("ALTER TABLE") {
            let table = after("TABLE");
            let new = table.as_ref().is_some_and(|table| made.contains(table));
            if !new
                && (has("DROP COLUMN")
                    || has("RENAME")
                    || (has("ALTER COLUMN") && has("TYPE"))
                    || has("SET NOT NULL"))
            {
                faults.push(fault("takes away or changes what the version before uses"));
            }
            if !new && has("ADD COLUMN") && has("NOT NULL") && !has("DEFAULT") {
                faults.push(fault("the version before does not fill this column"));
            }
            if postgres && is_large(&table) && has("ADD CONSTRAINT") && !has("NOT VALID") {
                faults.push(fault("reads a whole table under a lock"));
            }
        } else if line.starts_with("CREATE INDEX") || line.starts_with("CREATE UNIQUE INDEX") {
            if postgres && is_large(&after("ON")) && !has("CONCURRENTLY") {
                faults.push(fault("locks a table until the index is made"));
            }
            if has("CONCURRENTLY") && !text.starts_with("-- no-transaction") {
                faults.push(fault("needs `-- no-transaction` in the first line"));
            }
        } else if (line.starts_with("UPDATE") && is_large(&words.get(1).cloned()))
            || (line.starts_with("DELETE FROM") && is_large(&words.get(2).cloned()))
        {
            faults.push(fault("rewrites a whole table: let a job do it"));
        }
    }
    faults
}

#[test]
fn migrations_expand_and_lock_nothing_for_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut names = Vec::new();
    for kind in ["sqlite", "postgres"] {
        let mut of_kind: Vec<String> = std::fs::read_dir(root.join(kind))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        of_kind.sort();
        for name in &of_kind {
            let number: i64 = name.split('_').next().unwrap().parse().unwrap();
            let text = std::fs::read_to_string(root.join(kind).join(name)).unwrap();
            if number >= SINCE {
                let faults = faults(kind == "postgres", &text);
                assert!(faults.is_empty(), "{kind}/{name}: {faults:#?}");
            }
        }
        names.push(of_kind);
    }
    assert_eq!(names[0], names[1], "both databases have the same steps");
}

/// The rules find what they are for.
#[test]
fn what_a_migration_may_not_do_is_found() {
    for bad in [
        "DROP TABLE scans;",
        "ALTER TABLE scans DROP COLUMN config;",
        "ALTER TABLE users RENAME COLUMN name TO title;",
        "ALTER TABLE users RENAME TO people;",
        "ALTER TABLE users ALTER COLUMN name SET NOT NULL;",
        "ALTER TABLE users ALTER COLUMN name TYPE BYTEA;",
        "ALTER TABLE users ADD COLUMN age BIGINT NOT NULL;",
        "ALTER TABLE scans ADD CONSTRAINT c CHECK (total > 0);",
        "CREATE INDEX i ON findings (id);",
        "CREATE UNIQUE INDEX i\n  ON scans(id) WHERE status = 'queued';",
        "CREATE INDEX CONCURRENTLY i ON findings (id);",
        "UPDATE findings SET title = '';",
        "-- a comment\nDELETE FROM scans;",
    ] {
        assert_eq!(faults(true, bad).len(), 1, "{bad}");
    }
    for good in [
        "CREATE TABLE new (id UUID NOT NULL); CREATE INDEX i ON new (id);",
        "ALTER TABLE users ADD COLUMN age BIGINT; -- DROP TABLE users;",
        "ALTER TABLE findings ADD COLUMN age BIGINT NOT NULL DEFAULT 0;",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS i ON findings (id);",
        "CREATE INDEX i ON users (email);",
        "INSERT INTO new (id) SELECT id FROM users;",
    ] {
        assert_eq!(faults(true, good), [""; 0], "{good}");
    }
}
