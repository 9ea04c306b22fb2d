//! The database: one file for each aggregate. SQL lives here only.
//!
//! One SQL text serves SQLite and PostgreSQL. Statements are declared at the top
//! of each aggregate's file with [`statements!`] and run through [`Conn`], which
//! binds a list of [`Value`]s: so there is one place that knows both drivers, a
//! filter can add its arguments one by one, and the test `prepare_all` prepares
//! every statement on both databases. The few statements that differ are named
//! pairs.
//!
//! # Rules
//!
//! - Times are microseconds since 1970 ([`now`]), ids are UUIDv7 ([`new_id`]).
//! - Placeholders are `$1, $2, …` in both.
//! - Every row of a tenant carries `owner_id`, every `WHERE` that serves a tenant
//!   names it.
//! - Writes run in a [`Tx`]. In SQLite it is `BEGIN IMMEDIATE` on the one writer
//!   connection: a deferred transaction that upgrades to a write fails with BUSY
//!   whatever the time-out is. Readers have connections of their own, which WAL
//!   never blocks. A transaction must not wait for anything but the database.
//! - A committed transaction wakes those who wait for what it changed: note the
//!   topic with [`Tx::wake`], never by hand.
//!
//! # How the schema changes
//!
//! `sluice migrate` runs while servers of the version before serve, and they go on
//! until the last one is replaced. So a change that takes something away has two steps
//! in two releases, **expand, then contract**:
//!
//! - A migration only adds: tables, columns that may be NULL or have a default, indexes.
//!   What the version before writes must stay valid, and what it reads must stay there:
//!   nothing is dropped or renamed, no type is changed, no column becomes NOT NULL, no
//!   CHECK becomes narrower. A CHECK that a new word needs is widened one release before
//!   anybody writes the word.
//! - The program of that version writes the old form and the new one, and reads both.
//! - When no older program runs any more, a later release stops using the old form; the
//!   release after that may drop it.
//! - A migration locks nothing that serves for longer than a moment. On PostgreSQL an
//!   index on a table that grows with use is made CONCURRENTLY, in a file of its own that
//!   begins with `-- no-transaction`; rows are filled in by a job, not by the migration.
//! - Statements name their columns: `SELECT *` of a table breaks when a column is added.
//!
//! A test holds the files from 0024 on to the rules that a text can be held to. A program
//! does not start on a schema that is newer than itself ([`Db::check_schema`]): it could
//! break the rules that the newer one relies on. One that runs already goes on.

//!
//! # How large it gets
//!
//! Measured by `benches/run scale` on PostgreSQL, with indexes: the first push of a
//! repository of 300 files with its scan leaves 351 rows and 85 kB here. 300 rows and 45 kB
//! of that are results, one for each file that no scan had met before; a push that changes
//! ten files leaves about 60 rows and 41 kB (at most: with few rows every index counts for
//! a page). So a million repositories are 85 GB, and 10 million pushes a month 600 million
//! rows and 410 GB a month.
//!
//! **That growth is the first limit that a large installation meets**, before the rate: 10
//! million pushes a month are four a second, and one machine of two cores that also runs
//! servers, workers, store, queue and clients takes sixty. Jobs that ended, deliveries of
//! webhooks, sessions, keys of idempotency and old events of projects are removed by
//! themselves; events of scans, rows of artefacts, usage and results stay until what they
//! belong to is deleted. What can be done today is to delete projects and remotes that are no longer
//! used; every table is read by keys that begin with its owner, so size alone slows nothing
//! down (`benches/run flat`). The next limit is the one writer of the primary: rows are
//! never counted or locked across tenants, so tenants can be divided among installations.

mod conn;
mod error;
mod gate;
mod hub;
mod project_counters;
mod schema;
mod value;

pub mod api_keys;
pub mod artifacts;
pub mod backup;
pub mod callers;
pub mod cleanup;
pub mod events;
pub mod findings;
pub mod idempotency;
pub mod jobs;
pub mod lasting_keys;
pub mod lfs;
pub mod project_events;
pub mod projects;
pub mod rates;
pub mod repositories;
pub mod results;
pub mod scans;
pub mod sessions;
pub mod signing_keys;
pub mod snapshots;
pub mod sources;
pub mod uploads;
pub mod usage;
pub mod users;
pub mod webhooks;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use uuid::Uuid;

pub use conn::{Conn, Row, Tx};
pub use error::DbError;
pub use hub::{Hub, Waiter};
pub use value::{Args, Value};

/// What every function of this room answers.
pub type Result<T, E = DbError> = std::result::Result<T, E>;

/// A statement, for both databases.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    /// For SQLite.
    pub sqlite: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static str,
}

impl Sql {
    /// The same text for both.
    pub const fn both(text: &'static str) -> Self {
        Self { sqlite: text, postgres: text }
    }

    /// A named pair.
    pub const fn pair(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { sqlite, postgres }
    }
}

/// Declares the statements of a file as constants, and `STATEMENTS`, which the
/// test that prepares them all reads.
///
/// ```ignore
/// statements! {
///     GET = "SELECT … WHERE id = $1";
///     CLAIM = pair("… for SQLite", "… for PostgreSQL");
/// }
/// ```
macro_rules! statements {
    (@sql $text:literal) => { $crate::db::Sql::both($text) };
    (@sql pair($sqlite:expr, $postgres:expr)) => { $crate::db::Sql::pair($sqlite, $postgres) };
    (@sql concat($($part:expr),+ $(,)?)) => { $crate::db::Sql::both(concat!($($part),+)) };
    (@all { $($done:ident)* }) => {
        #[cfg(test)]
        pub(in crate::db) const STATEMENTS: &[(&str, $crate::db::Sql)] =
            &[$((stringify!($done), $done)),*];
    };
    (@all { $($done:ident)* } $(#[$m:meta])* $name:ident = $text:literal; $($rest:tt)*) => {
        $(#[$m])* const $name: $crate::db::Sql = statements!(@sql $text);
        statements!(@all { $($done)* $name } $($rest)*);
    };
    (@all { $($done:ident)* } $(#[$m:meta])* $name:ident = $kind:ident ( $($arg:tt)* ); $($rest:tt)*) => {
        $(#[$m])* const $name: $crate::db::Sql = statements!(@sql $kind($($arg)*));
        statements!(@all { $($done)* $name } $($rest)*);
    };
    ($($rest:tt)*) => { statements!(@all { } $($rest)*); };
}
pub(crate) use statements;

/// The arguments of a statement: `args![id, name, now]`.
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        $crate::db::Args::from(vec![$($crate::db::Value::from($value)),*])
    };
}
pub(crate) use args;

/// Microseconds since 1970 in UTC.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// A new UUIDv7: ids of later rows are greater, so that order by id is order by age.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// A connection pool of one of the two databases, and the hub that wakes waiters.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    backend: Backend,
    hub: Hub,
    callers: callers::Callers,
    #[cfg(test)]
    statements: testing::Statements,
}

#[derive(Debug, Clone)]
enum Backend {
    Sqlite {
        /// Read-only connections.
        read: SqlitePool,
        /// The one writer.
        write: SqlitePool,
        /// Bounds those who wait for it.
        gate: gate::Gate,
    },
    Postgres(gate::Postgres),
}

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// How long a request may wait for a connection before it is answered with 503.
const ACQUIRE: Duration = Duration::from_secs(5);

impl Db {
    /// Opens `sqlite://PATH` (made if missing) or `postgres://…`.
    ///
    /// # Errors
    ///
    /// [`DbError::Config`] for any other address, [`DbError::Unavailable`] if the
    /// database cannot be reached.
    pub async fn open(url: &str) -> Result<Self> {
        let mut hub = Hub::default();
        let backend = if url.starts_with("sqlite:") {
            Self::open_sqlite(url).await?
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let options = PgConnectOptions::from_str(url)
                .map_err(|_| DbError::Config("SLUICE_DATABASE_URL is no PostgreSQL URL".into()))?
                .application_name("sluice");
            let gate = gate::Gate::default();
            hub = Hub::listening(options.clone(), gate.clone());
            Backend::Postgres(gate::Postgres::open(options, gate).await?)
        } else {
            return Err(DbError::Config(
                "SLUICE_DATABASE_URL must start with sqlite:// or postgres://".into(),
            ));
        };
        Ok(Self {
            backend,
            hub,
            callers: callers::Callers::default(),
            #[cfg(test)]
            statements: testing::Statements::default(),
        })
    }

    async fn open_sqlite(url: &str) -> Result<Backend> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|_| DbError::Config("SLUICE_DATABASE_URL is no SQLite URL".into()))?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: an acknowledged push survives the loss of power, not only of
            // the process.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(ACQUIRE)
            .pragma("cache_size", "-16384")
            .pragma("temp_store", "MEMORY")
            .pragma("trusted_schema", "OFF");
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            // A file does not hang up: asking it before each use only costs a change of
            // threads there and back.
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options.clone())
            .await?;
        let read = SqlitePoolOptions::new()
            .max_connections(8)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        Ok(Backend::Sqlite { read, write, gate: gate::Gate::default() })
    }

    /// Brings the schema up to date. Several may do so at once: one does it, the others
    /// wait (PostgreSQL; of SQLite one process holds the folder).
    ///
    /// # Errors
    ///
    /// [`DbError::Schema`] if it is newer than this program.
    pub async fn migrate(&self) -> Result<()> {
        self.schema().await?.not_newer()?;
        match &self.backend {
            Backend::Sqlite { write, .. } => SQLITE.run(write).await?,
            Backend::Postgres(postgres) => POSTGRES.run(&postgres.pool()).await?,
        }
        Ok(())
    }

    /// Begins a transaction that writes.
    pub async fn begin(&self) -> Result<Tx> {
        Tx::begin(self).await
    }

    /// A connection for reading outside of a transaction.
    pub fn conn(&self) -> Conn<'_> {
        Conn::from(self)
    }

    /// Wakes those who wait for a row.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Name, open and idle connections of each pool.
    pub fn pools(&self) -> Vec<(&'static str, u32, usize)> {
        match &self.backend {
            Backend::Sqlite { read, write, .. } => vec![
                ("read", read.size(), read.num_idle()),
                ("write", write.size(), write.num_idle()),
            ],
            Backend::Postgres(postgres) => {
                let pool = postgres.pool();
                vec![("main", pool.size(), pool.num_idle())]
            }
        }
    }

    /// True for the embedded database.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.backend, Backend::Sqlite { .. })
    }

    /// True while PostgreSQL is known not to answer. That is logged already: whoever only
    /// waits for it says nothing more.
    pub fn is_away(&self) -> bool {
        match &self.backend {
            Backend::Sqlite { .. } => false,
            Backend::Postgres(postgres) => !postgres.gate().is_open(),
        }
    }

    /// One trip to the database, for readiness.
    pub async fn ping(&self) -> Result<()> {
        const PING: Sql = Sql::both("SELECT 1");
        self.conn()
            .fetch_one::<(i64,)>(Sql::pair(PING.sqlite, "SELECT 1::BIGINT"), args![])
            .await?;
        Ok(())
    }

    /// Begins a transaction and ends it, for readiness: a database that can be read may
    /// still be locked.
    pub async fn try_write(&self) -> Result<()> {
        self.begin().await?.rollback().await
    }

    /// Gives all connections back; SQLite folds its log into the file.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite { read, write, .. } => {
                read.close().await;
                write.close().await;
            }
            Backend::Postgres(postgres) => postgres.close().await,
        }
    }
}

/// The address of the embedded database in a data folder.
pub fn sqlite_url(data: &Path) -> String {
    format!("sqlite://{}", data.join("sluice.db").display())
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
