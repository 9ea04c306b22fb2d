//! Programs and schemas of different versions on one database.

use serde_json::json;
use sqlx::{Executor as _, PgPool};

use crate::support::client::text;
use crate::support::{Git, Place, samples};

/// What a later version might add, as its `sluice migrate` would.
const LATER: &str = "
    ALTER TABLE scans ADD COLUMN later TEXT;
    ALTER TABLE jobs ADD COLUMN later BIGINT NOT NULL DEFAULT 7;
    ALTER TABLE findings ADD COLUMN later JSONB;
    ALTER TABLE git_uploads ADD COLUMN later BOOLEAN NOT NULL DEFAULT FALSE;
    ALTER TABLE users ADD COLUMN later TEXT;
    CREATE TABLE later (id UUID PRIMARY KEY, scan_id UUID REFERENCES scans (id) ON DELETE CASCADE);
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (9999, 'later', TRUE, '\\x00', 0);
";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_serves_on_when_a_later_one_has_migrated() {
    let mut place = Place::postgres().await;
    let server = place.start().await;
    let other = place.beside();
    let client = server.admin().await;
    let work = samples::small(&Git::any()).await;
    let made = client.upload(json!({})).await;
    let url = server.push_url(&made);
    work.push(&url, &["main"]).await.expect();
    client.scanned(&text(&made["id"])).await;

    let pool =
        PgPool::connect(place.postgres.as_deref().expect("PostgreSQL")).await.expect("there");
    pool.execute(LATER).await.expect("migrated");

    // All that was prepared before, and what was not.
    for round in 0..2 {
        work.write("more.py", samples::injectable(&format!("round{round}")));
        work.commit("more").await;
        work.push(&url, &["main"]).await.expect();
        let (upload, scan) = client.scanned(&text(&made["id"])).await;
        let repository = text(&upload["repository_id"]);
        assert!(!client.findings(&repository).await.is_empty());
        assert!(!client.events(&repository, &text(&scan["id"])).await.is_empty());
        let again = format!("/v1/repositories/{repository}/scans");
        let again = client.post(&again, json!({})).await.expect(201).json();
        assert_eq!(client.ended(&repository, &text(&again["id"])).await["status"], "completed");
    }
    client.get("/v1/ops/workers").await.expect(200);
    client.post("/v1/ops/cleanup", json!({})).await.expect(200);
    let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
    client.delete(&format!("/v1/projects/{}", text(&project["id"]))).await.expect(204);
    let log = server.log();
    assert!(!log.contains("ERROR"), "{log}");

    // Whatever starts now is told to be newer.
    for command in [&["serve"][..], &["serve", "--no-migrate"], &["worker"], &["migrate"]] {
        let refused = other.run(command, "").await;
        assert_eq!(refused.code, Some(2), "{command:?}: {refused:?}");
        assert!(refused.err.contains("version 9999"), "{}", refused.err);
        assert!(refused.err.contains("newer sluice"), "{}", refused.err);
        assert_eq!(refused.err.trim_end().lines().count(), 1, "{}", refused.err);
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_not_migrate_says_what_to_run() {
    for place in [Place::sqlite(), Place::postgres().await] {
        let mut commands = vec![&["serve", "--no-migrate"][..]];
        if place.postgres.is_some() {
            commands.push(&["worker"]);
        }
        for command in commands {
            let refused = place.run(command, "").await;
            assert_eq!(refused.code, Some(2), "{command:?}: {refused:?}");
            assert!(refused.err.contains("no schema yet"), "{}", refused.err);
            assert!(refused.err.contains("sluice migrate"), "{}", refused.err);
        }
        assert_eq!(place.run(&["migrate"], "").await.code, Some(0));
        if let Some(url) = &place.postgres {
            let pool = PgPool::connect(url).await.expect("there");
            let newest = "DELETE FROM _sqlx_migrations WHERE version = \
                          (SELECT max(version) FROM _sqlx_migrations)";
            pool.execute(newest).await.expect("taken back");
            let refused = place.run(&["serve", "--no-migrate"], "").await;
            assert_eq!(refused.code, Some(2), "{refused:?}");
            assert!(refused.err.contains("has the schema of version"), "{}", refused.err);
            assert!(refused.err.contains("sluice migrate"), "{}", refused.err);
            pool.close().await;
            continue;
        }
        place.start_with(&["--no-migrate"]).await;
    }
}
