//! Databases for tests: a fresh SQLite file, and a fresh database on the real
//! PostgreSQL server that `tests/run` starts and names in `TEST_POSTGRES_URL`.

use std::sync::{Arc, Mutex};

use sqlx::migrate::Migrator;
use tempfile::TempDir;

use uuid::Uuid;

use super::{Args, Backend, Db, Sql, new_id, now};

/// The statements that were run, while somebody asks for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Statements(Arc<Mutex<Option<Vec<String>>>>);

impl Statements {
    pub(super) fn note(&self, sql: &str) {
        if let Some(noted) = self.0.lock().unwrap().as_mut() {
            noted.push(sql.to_owned());
        }
    }
}

impl Db {
    /// Begins to note the statements that are run outside of [`super::Tx::execute`].
    pub(crate) fn note_statements(&self) {
        *self.statements.0.lock().unwrap() = Some(Vec::new());
    }

    /// Those that were run since.
    pub(crate) fn noted_statements(&self) -> Vec<String> {
        self.statements.0.lock().unwrap().take().unwrap_or_default()
    }
}

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

/// One of each kind with the schema as it was before a migration.
pub(super) async fn both_before(version: i64) -> Vec<TestDb> {
    let tests = vec![empty_sqlite().await, empty_postgres().await];
    for test in &tests {
        let all = if test.db.is_sqlite() { &super::SQLITE } else { &super::POSTGRES };
        let some = all.iter().filter(|migration| migration.version < version).cloned();
        let some = Migrator { migrations: some.collect(), ..Migrator::DEFAULT };
        match &test.db.backend {
            Backend::Sqlite { write, .. } => some.run(write).await,
            Backend::Postgres(postgres) => some.run(&postgres.pool()).await,
        }
        .expect("an older schema");
    }
    tests
}

pub(crate) async fn sqlite() -> TestDb {
    let test = empty_sqlite().await;
    test.db.migrate().await.expect("SQLite migrates");
    test
}

pub(crate) async fn postgres() -> TestDb {
    let test = empty_postgres().await;
    test.db.migrate().await.expect("PostgreSQL migrates");
    test
}

async fn empty_sqlite() -> TestDb {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = super::sqlite_url(dir.path());
    let db = Db::open(&url).await.expect("SQLite opens");
    TestDb { name: "sqlite", db, url, dir }
}

async fn empty_postgres() -> TestDb {
    let server = std::env::var("TEST_POSTGRES_URL")
        .expect("TEST_POSTGRES_URL: run the tests with tests/run, which starts PostgreSQL");
    let name = format!("t{}", new_id().simple());
    let admin = sqlx::PgPool::connect(&format!("{server}/postgres")).await.expect("PostgreSQL");
    sqlx::query(&format!("CREATE DATABASE {name}")).execute(&admin).await.expect("a database");
    admin.close().await;
    let url = format!("{server}/{name}");
    let db = Db::open(&url).await.expect("PostgreSQL opens");
    TestDb { name: "postgres", db, url, dir: tempfile::tempdir().expect("a temporary folder") }
}

/// The plan of a statement, a line for each step.
pub(super) async fn explain(db: &Db, sql: &str, args: Args) -> Vec<String> {
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

/// Somebody with a project and a repository that is ready to be scanned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenant {
    pub owner: Uuid,
    pub project: Uuid,
    pub repository: Uuid,
}

pub(crate) async fn tenant(db: &Db) -> Tenant {
    let owner = new_id();
    const USER: Sql = Sql::both(
        "INSERT INTO users (id, email, name, password_hash, groups, created_at, updated_at) \
         VALUES ($1, $2, 'Ada', '', $4, $3, $3)",
    );
    let mut tx = db.begin().await.expect("a transaction");
    let email = format!("{owner}@example.org");
    let groups = super::Value::json(&[""; 0]);
    tx.execute(USER, args![owner, email, now(), groups]).await.expect("a user");
    tx.commit().await.expect("a commit");
    repository_of(db, owner).await
}

/// One more project and repository of somebody.
pub(crate) async fn repository_of(db: &Db, owner: Uuid) -> Tenant {
    const PROJECT: Sql = Sql::both(
        "INSERT INTO projects (id, owner_id, name, description, is_default, created_at, \
         updated_at) VALUES ($1, $2, 'project', '', $4, $3, $3)",
    );
    const REPOSITORY: Sql = Sql::both(
        "INSERT INTO repositories (id, project_id, owner_id, name, description, source_type, \
         ingest_status, default_branch, head_commit, languages, created_at, updated_at) \
         VALUES ($1, $2, $3, 'repository', '', 'git_upload', 'ready', 'main', 'c0ffee', $5, $4, $4)",
    );
    let (project, repository) = (new_id(), new_id());
    let mut tx = db.begin().await.expect("a transaction");
    tx.execute(PROJECT, args![project, owner, now(), false]).await.expect("a project");
    let languages = super::Value::json(&[""; 0]);
    tx.execute(REPOSITORY, args![repository, project, owner, now(), languages])
        .await
        .expect("a repository");
    tx.commit().await.expect("a commit");
    Tenant { owner, project, repository }
}
