//! What can go wrong, told apart by what the caller can do about it.

use std::borrow::Cow;

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It cannot be reached or has no free connection: try again later.
    #[error("the database cannot be reached: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The disk is full.
    #[error("the database has no room left: {0}")]
    Full(#[source] sqlx::Error),
    /// A row with that key exists already.
    #[error("a row with that key exists already: {0}")]
    Conflict(#[source] sqlx::Error),
    /// A row that the new one speaks of does not exist (any more).
    #[error("a row that is referred to is gone: {0}")]
    Gone(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the schema cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The schema is of another version of this program; the sentence names both.
    #[error("{0}")]
    Schema(String),
    /// The address is unusable.
    #[error("{0}")]
    Config(String),
    /// A worker wrote with a fence that is no longer its own.
    #[error("the lease of the job was lost")]
    Fenced,
    /// Anything else is a defect.
    #[error("a statement failed: {0}")]
    Defect(#[source] sqlx::Error),
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::error::ErrorKind;
        match &error {
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Database(db) => match db.kind() {
                ErrorKind::UniqueViolation => Self::Conflict(error),
                ErrorKind::ForeignKeyViolation => Self::Gone(error),
                _ => match db.code().as_deref().map(primary).as_deref() {
                    // SQLITE_FULL; disk_full of PostgreSQL.
                    Some("13" | "53100") => Self::Full(error),
                    // SQLITE_BUSY and SQLITE_IOERR; connection and shutdown classes of
                    // PostgreSQL, too many connections, and a transaction that it gave up:
                    // in favour of another one (serialization failure, deadlock), or since
                    // this process was too slow.
                    Some(
                        "5" | "10" | "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "40001"
                        | "40P01" | "25P03",
                    ) => Self::Unavailable(error),
                    Some(code) if code.starts_with("08") => Self::Unavailable(error),
                    _ => Self::Defect(error),
                },
            },
            _ => Self::Defect(error),
        }
    }
}

/// The primary code of one of SQLite, whose extended codes have it in their lowest byte;
/// those of PostgreSQL, always five characters, as they are.
fn primary(code: &str) -> Cow<'_, str> {
    match code.parse::<u32>() {
        Ok(extended) if code.len() < 5 => (extended & 0xff).to_string().into(),
        _ => code.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::primary;

    #[test]
    fn extended_codes_of_sqlite_are_told_by_their_primary_one() {
        // SQLITE_IOERR_FSYNC, SQLITE_BUSY_SNAPSHOT, SQLITE_FULL.
        assert_eq!(["1034", "517", "13"].map(primary), ["10", "5", "13"]);
        assert_eq!(["53100", "57P01", "08006"].map(primary), ["53100", "57P01", "08006"]);
    }
}
