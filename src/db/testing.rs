//! Databases for tests: a fresh SQLite file, and a fresh database on the real
//! PostgreSQL server that `tests/run` starts and names in `TEST_POSTGRES_URL`.

use tempfile::TempDir;

use super::{Db, new_id};

/// A migrated database; dropping it removes the file.
pub(crate) struct TestDb {
    pub name: &'static str,
    pub db: Db,
    pub url: String,
    dir: TempDir,
}

impl TestDb {
    /// A folder of this test, removed with it.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

/// One of each kind. Every test of this room runs on both.
pub(crate) async fn both() -> Vec<TestDb> {
    vec![sqlite().await, postgres().await]
}

pub(crate) async fn sqlite() -> TestDb {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = super::sqlite_url(dir.path());
    let db = Db::open(&url).await.expect("SQLite opens");
    db.migrate().await.expect("SQLite migrates");
    TestDb { name: "sqlite", db, url, dir }
}

pub(crate) async fn postgres() -> TestDb {
    let server = std::env::var("TEST_POSTGRES_URL")
        .expect("TEST_POSTGRES_URL: run the tests with tests/run, which starts PostgreSQL");
    let name = format!("t{}", new_id().simple());
    let admin = sqlx::PgPool::connect(&format!("{server}/postgres")).await.expect("PostgreSQL");
    sqlx::query(&format!("CREATE DATABASE {name}")).execute(&admin).await.expect("a database");
    admin.close().await;
    let url = format!("{server}/{name}");
    let db = Db::open(&url).await.expect("PostgreSQL opens");
    db.migrate().await.expect("PostgreSQL migrates");
    TestDb { name: "postgres", db, url, dir: tempfile::tempdir().expect("a temporary folder") }
}
