//! Runs statements: the one place that knows both drivers.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::types::Json;
use sqlx::{Arguments, FromRow, Postgres, Sqlite, Transaction};
use uuid::Uuid;

use super::callers::Forget;
use super::gate::Gate;
use super::jobs::Pointer;
use super::{Args, Backend, Db, DbError, Result, Sql, Value, args};

/// A row that both databases can give; derive it with `sqlx::FromRow`.
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{}

fn sqlite_arguments(args: Args) -> Result<SqliteArguments<'static>> {
    let mut out = SqliteArguments::default();
    for value in args.0 {
        match value {
            Value::Int(v) => out.add(v),
            Value::Text(v) => out.add(v),
            Value::Id(v) => out.add(v),
            Value::Bytes(v) => out.add(v),
            Value::Bool(v) => out.add(v),
            Value::Json(v) => out.add(v.map(Json)),
        }
        .map_err(encode)?;
    }
    Ok(out)
}

fn postgres_arguments(args: Args) -> Result<PgArguments> {
    let mut out = PgArguments::default();
    for value in args.0 {
        match value {
            Value::Int(v) => out.add(v),
            Value::Text(v) => out.add(v),
            Value::Id(v) => out.add(v),
            Value::Bytes(v) => out.add(v),
            Value::Bool(v) => out.add(v),
            Value::Json(v) => out.add(v.map(Json)),
        }
        .map_err(encode)?;
    }
    Ok(out)
}

fn encode(error: BoxDynError) -> DbError {
    DbError::Defect(sqlx::Error::Encode(error))
}

/// Where a statement runs: on a reading connection, or in a transaction. Functions
/// that only read take `impl Into<Conn<'_>>` and so serve both.
#[derive(Debug)]
pub enum Conn<'a> {
    /// Any reading connection of the pool.
    Pool(&'a Db),
    /// Inside a transaction.
    Tx(&'a mut Tx),
}

impl<'a> From<&'a Db> for Conn<'a> {
    fn from(db: &'a Db) -> Self {
        Self::Pool(db)
    }
}

impl<'a> From<&'a mut Tx> for Conn<'a> {
    fn from(tx: &'a mut Tx) -> Self {
        Self::Tx(tx)
    }
}

/// Expands one call of sqlx for each of the four places where it may run.
macro_rules! run {
    ($conn:expr, $sqlite:expr, $postgres:expr, $args:expr, $T:ty, $fetch:ident) => {{
        #[cfg(test)]
        $conn.note($sqlite);
        match $conn {
            Conn::Pool(db) => match &db.backend {
                Backend::Sqlite { read, .. } => {
                    sqlx::query_as_with::<Sqlite, $T, _>($sqlite, sqlite_arguments($args)?)
                        .$fetch(read)
                        .await?
                }
                Backend::Postgres(postgres) => {
                    let pool = postgres.pool();
                    let query = sqlx::query_as_with::<Postgres, $T, _>(
                        $postgres,
                        postgres_arguments($args)?,
                    );
                    postgres.gate().pass(query.$fetch(&pool)).await?
                }
            },
            Conn::Tx(Tx { inner: Inner::Sqlite(tx), .. }) => {
                sqlx::query_as_with::<Sqlite, $T, _>($sqlite, sqlite_arguments($args)?)
                    .$fetch(&mut **tx)
                    .await?
            }
            Conn::Tx(Tx { inner: Inner::Postgres(tx, gate), .. }) => {
                let query =
                    sqlx::query_as_with::<Postgres, $T, _>($postgres, postgres_arguments($args)?);
                gate.pass(query.$fetch(&mut **tx)).await?
            }
        }
    }};
}

impl Conn<'_> {
    #[cfg(test)]
    fn note(&self, sql: &str) {
        match self {
            Self::Pool(db) => db.statements.note(sql),
            Self::Tx(tx) => tx.db.statements.note(sql),
        }
    }

    /// All rows.
    pub async fn fetch_all<T: Row>(self, sql: Sql, args: Args) -> Result<Vec<T>> {
        Ok(run!(self, sql.sqlite, sql.postgres, args, T, fetch_all))
    }

    /// The first row, if any.
    pub async fn fetch_optional<T: Row>(self, sql: Sql, args: Args) -> Result<Option<T>> {
        Ok(run!(self, sql.sqlite, sql.postgres, args, T, fetch_optional))
    }

    /// The first row; none is a defect.
    pub async fn fetch_one<T: Row>(self, sql: Sql, args: Args) -> Result<T> {
        Ok(run!(self, sql.sqlite, sql.postgres, args, T, fetch_one))
    }

    /// All rows of a statement put together from constant parts and placeholders,
    /// for lists with filters. Never put input into the text: that is what
    /// [`Args::add`] is for.
    pub async fn fetch_filtered<T: Row>(self, sql: &str, args: Args) -> Result<Vec<T>> {
        Ok(run!(self, sql, sql, args, T, fetch_all))
    }
}

/// Tells the other processes on this database; PostgreSQL sends it with the commit.
const TELL: Sql = Sql::pair("SELECT $1", "SELECT pg_notify('sluice_rows', $1)");

/// A transaction that writes. Dropped without [`Tx::commit`] it changes nothing.
#[derive(Debug)]
pub struct Tx {
    inner: Inner,
    db: Db,
    topics: Vec<Uuid>,
    workers: bool,
    jobs: Vec<Pointer>,
    forget: bool,
}

#[derive(Debug)]
enum Inner {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>, Gate),
}

/// Begins a transaction to the end, even if nobody waits for it any more: of a BEGIN that is
/// dropped while its answer is on the way, sqlx knows nothing, and the connection would go
/// back to the pool inside of the transaction. One that nobody takes is rolled back.
async fn whole<T: Send + 'static>(
    begin: impl Future<Output = sqlx::Result<T>> + Send + 'static,
) -> sqlx::Result<T> {
    tokio::spawn(begin).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

impl Tx {
    fn new(inner: Inner, db: &Db) -> Self {
        let (topics, jobs) = (Vec::new(), Vec::new());
        Self { inner, db: db.clone(), topics, workers: false, jobs, forget: false }
    }

    pub(super) async fn begin(db: &Db) -> Result<Self> {
        let inner = match &db.backend {
            Backend::Sqlite { write, gate, .. } => {
                let _inside = gate.enter()?;
                Inner::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?)
            }
            Backend::Postgres(postgres) => {
                let (pool, gate) = (postgres.pool(), postgres.gate());
                let begin = whole(async move { pool.begin().await });
                Inner::Postgres(gate.pass(begin).await?, gate.clone())
            }
        };
        Ok(Self::new(inner, db))
    }

    /// A transaction that only reads, and sees the database as it is now whatever is
    /// committed meanwhile.
    pub(super) async fn begin_reading(db: &Db) -> Result<Self> {
        let inner = match &db.backend {
            Backend::Sqlite { read, .. } => Inner::Sqlite(read.begin().await?),
            Backend::Postgres(postgres) => {
                let (pool, gate) = (postgres.pool(), postgres.gate());
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
                let begin = whole(async move { pool.begin_with(begin).await });
                Inner::Postgres(gate.pass(begin).await?, gate.clone())
            }
        };
        Ok(Self::new(inner, db))
    }

    /// Runs a statement; answers how many rows it changed.
    pub async fn execute(&mut self, sql: Sql, args: Args) -> Result<u64> {
        Ok(match &mut self.inner {
            Inner::Sqlite(tx) => sqlx::query_with::<Sqlite, _>(sql.sqlite, sqlite_arguments(args)?)
                .execute(&mut **tx)
                .await?
                .rows_affected(),
            Inner::Postgres(tx, gate) => {
                let query =
                    sqlx::query_with::<Postgres, _>(sql.postgres, postgres_arguments(args)?);
                gate.pass(query.execute(&mut **tx)).await?.rows_affected()
            }
        })
    }

    /// Runs a statement put together from constant parts and placeholders (many
    /// rows at once). See [`Conn::fetch_filtered`].
    pub async fn execute_built(&mut self, sql: &str, args: Args) -> Result<u64> {
        Ok(match &mut self.inner {
            Inner::Sqlite(tx) => sqlx::query_with::<Sqlite, _>(sql, sqlite_arguments(args)?)
                .execute(&mut **tx)
                .await?
                .rows_affected(),
            Inner::Postgres(tx, gate) => {
                let query = sqlx::query_with::<Postgres, _>(sql, postgres_arguments(args)?);
                gate.pass(query.execute(&mut **tx)).await?.rows_affected()
            }
        })
    }

    /// All rows; also for statements with RETURNING.
    pub async fn fetch_all<T: Row>(&mut self, sql: Sql, args: Args) -> Result<Vec<T>> {
        Conn::from(self).fetch_all(sql, args).await
    }

    /// The first row, if any; also for statements with RETURNING.
    pub async fn fetch_optional<T: Row>(&mut self, sql: Sql, args: Args) -> Result<Option<T>> {
        Conn::from(self).fetch_optional(sql, args).await
    }

    /// The first row; none is a defect.
    pub async fn fetch_one<T: Row>(&mut self, sql: Sql, args: Args) -> Result<T> {
        Conn::from(self).fetch_one(sql, args).await
    }

    /// True for the embedded database.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.inner, Inner::Sqlite(_))
    }

    /// Wakes those who wait for this row, once the transaction is committed.
    pub fn wake(&mut self, topic: Uuid) {
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
    }

    /// Sends a message of a job that waits, where there is a queue for it, once the
    /// transaction is committed.
    pub fn tell(&mut self, job: Pointer) {
        self.jobs.push(job);
    }

    /// Wakes an idle worker, once the transaction is committed.
    pub fn wake_workers(&mut self) {
        self.workers = true;
    }

    /// Takes back what is remembered of who calls, once the transaction is committed:
    /// a session or a key ended, or an account changed. See [`super::callers`].
    pub fn forget_callers(&mut self) {
        self.forget = true;
    }

    /// Makes everything durable and visible, then wakes who waits for it.
    pub async fn commit(mut self) -> Result<()> {
        if !self.is_sqlite() && (self.workers || !self.topics.is_empty()) {
            let told = self.db.hub.telling(&self.topics, self.workers);
            self.execute(TELL, args![told]).await?;
        }
        let _forget = self.forget.then(|| Forget(self.db.callers.clone()));
        match self.inner {
            Inner::Sqlite(tx) => tx.commit().await?,
            Inner::Postgres(tx, gate) => gate.pass(tx.commit()).await?,
        }
        for topic in self.topics {
            self.db.hub.wake(topic);
        }
        if self.workers {
            self.db.hub.wake_workers();
        }
        for job in self.jobs {
            self.db.hub.tell(job);
        }
        Ok(())
    }

    /// Changes nothing. Dropping does the same, later.
    pub async fn rollback(self) -> Result<()> {
        match self.inner {
            Inner::Sqlite(tx) => tx.rollback().await?,
            Inner::Postgres(tx, gate) => gate.pass(tx.rollback()).await?,
        }
        Ok(())
    }
}
