//! The plans of the lists other than those of findings, which have a test of their own
//! (`findings::page`): a page is a range of an index that lies in the order of the list,
//! and a row costs a look-up in each table that it is joined with.

use super::super::testing::{both, explain, tenant};
use super::*;

/// Rows of each table: enough for PostgreSQL to care.
const ROWS: i64 = 6_000;

fn statement(file: &str, name: &str) -> Sql {
    let (_, list) = statements().into_iter().find(|(of, _)| *of == file).expect(file);
    list.iter().find(|(of, _)| *of == name).expect(name).1
}

#[tokio::test]
async fn no_list_reads_a_table_or_sorts_it() {
    for test in both().await {
        let (db, sqlite) = (&test.db, test.db.is_sqlite());
        let tenant = tenant(db).await;
        let (owner, project, repository) = (tenant.owner, tenant.project, tenant.repository);
        let [scan, webhook] = [(); 2].map(|()| new_id());
        let (id, series) = if sqlite {
            (
                "randomblob(16)",
                "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < $1) \
                 SELECT n FROM s) s",
            )
        } else {
            ("gen_random_uuid()", "generate_series(1, $1) AS s(n)")
        };
        let mut tx = db.begin().await.unwrap();
        for (table, values, args) in [
            (
                "projects (id, owner_id, name, description, created_at, updated_at, is_default)",
                "$2, 'p', '', 0, 0, $3",
                args![ROWS, owner, false],
            ),
            (
                "repositories (id, project_id, owner_id, name, description, source_type, \
                 ingest_status, languages, created_at, updated_at)",
                "$2, $3, 'r', '', 'git_upload', 'ready', '[]', 0, 0",
                args![ROWS, project, owner],
            ),
            (
                "scans (id, repository_id, project_id, owner_id, status, trigger, config, \
                 progress, summary, created_at)",
                "$2, $3, $4, 'completed', 'api', '{}', '{}', '{}', 0",
                args![ROWS, repository, project, owner],
            ),
            (
                "snapshots (id, repository_id, owner_id, commit_id, manifest_key, file_count, \
                 total_bytes, created_at)",
                "$2, $3, 'c', 'k', 0, 0, 0",
                args![ROWS, repository, owner],
            ),
            (
                "git_uploads (id, owner_id, project_id, name, token_hash, status, created_at, \
                 expires_at, scan)",
                "$2, $3, 'u', $4, 'ready', 0, 0, $5",
                args![ROWS, owner, project, vec![1_u8], true],
            ),
            (
                "api_keys (id, owner_id, name, prefix, scopes, created_at, hash)",
                "$2, 'k', 'slk', '[]', 0, CAST($3 || n AS BYTEA)",
                args![ROWS, owner, "hash"],
            ),
            (
                "webhooks (id, project_id, owner_id, url, description, events, enabled, secret, \
                 created_at, updated_at)",
                "$2, $3, 'https://example.org', '', '[]', $4, $5, 0, 0",
                args![ROWS, project, owner, true, vec![1_u8]],
            ),
        ] {
            let values = if sqlite {
                values.replace("AS BYTEA", "AS BLOB")
            } else {
                values.replace("$3 || n", "CAST($3 || CAST(n AS TEXT) AS TEXT)")
            };
            let sql = format!("INSERT INTO {table} SELECT {id}, {values} FROM {series}");
            tx.execute_built(&sql, args).await.unwrap_or_else(|e| panic!("{}: {e:?}", sql));
        }
        for (sql, args) in [
            (
                "INSERT INTO webhooks (id, project_id, owner_id, url, description, events, \
                 enabled, secret, created_at, updated_at) \
                 VALUES ($1, $2, $3, 'https://example.org', '', '[]', $4, $5, 0, 0)",
                args![webhook, project, owner, true, vec![1_u8]],
            ),
            (
                "INSERT INTO scans (id, repository_id, project_id, owner_id, status, trigger, \
                 config, progress, summary, created_at) \
                 VALUES ($1, $2, $3, $4, 'completed', 'api', '{}', '{}', '{}', 0)",
                args![scan, repository, project, owner],
            ),
        ] {
            tx.execute_built(sql, args).await.unwrap();
        }
        for (into, values, args) in [
            (
                "webhook_deliveries (id, webhook_id, owner_id, message_id, event, payload, \
                 status, created_at)",
                format!("{id}, $2, $3, {id}, 'e', '', 'delivered', 0"),
                args![ROWS, webhook, owner],
            ),
            (
                "scan_events (scan_id, seq, at, level, type, message, data)",
                "$2, n, 0, 'info', 't', '', '{}'".to_owned(),
                args![ROWS, scan],
            ),
            (
                "project_events (project_id, seq, at, level, type, message, data)",
                "$2, n, 0, 'info', 't', '', '{}'".to_owned(),
                args![ROWS, project],
            ),
        ] {
            let sql = format!("INSERT INTO {into} SELECT {values} FROM {series}");
            tx.execute_built(&sql, args).await.unwrap_or_else(|e| panic!("{}: {e:?}", sql));
        }
        tx.execute_built("ANALYZE", Args::default()).await.unwrap();
        tx.commit().await.unwrap();

        let middle = Uuid::from_u128(u128::MAX / 2);
        for (file, name, args) in [
            ("projects", "LIST", args![owner, middle, 51_i64]),
            ("projects", "ROLLUP", args![project]),
            ("repositories", "LIST", args![project, owner, middle, 51_i64]),
            ("scans", "OF_REPOSITORY", args![repository, owner, middle, 51_i64]),
            ("scans", "OF_PROJECT", args![project, owner, middle, 51_i64]),
            ("uploads", "LIST", args![owner, middle, 51_i64]),
            ("api_keys", "LIST", args![owner, middle, 51_i64]),
            ("webhooks", "LIST", args![project, owner, middle, 51_i64]),
            ("webhooks", "DELIVERIES", args![webhook, owner, middle, 51_i64]),
            ("events", "AFTER", args![scan, 3_000_i64, 51_i64]),
            ("project_events", "AFTER", args![project, 3_000_i64, 51_i64]),
        ] {
            let sql = statement(file, name);
            let sql = if sqlite { sql.sqlite } else { sql.postgres };
            let plan = explain(db, sql, args).await;
            let bad = plan.iter().any(|line| {
                if sqlite {
                    line.starts_with("SCAN") || line.contains("TEMP B-TREE")
                } else {
                    line.contains("Seq Scan") || line.contains("Sort")
                }
            });
            assert!(!bad, "{}: {file}::{name}: {plan:#?}\n{sql}", test.name);
        }
    }
}
