//! Which version the schema has, and whether this program may work on it.

use super::{Backend, Db, DbError, POSTGRES, Result, SQLITE, args, statements};

statements! {
    THERE = pair(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
        "SELECT count(*) FROM (SELECT to_regclass('_sqlx_migrations') AS found) AS t \
         WHERE found IS NOT NULL"
    );
    VERSION = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success";
}

/// The schema that is there, and the newest that this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// 0: there is none yet.
    pub database: i64,
    /// Of this program.
    pub program: i64,
}

impl Schema {
    /// # Errors
    ///
    /// [`DbError::Schema`] if a newer program has been at work.
    pub fn not_newer(self) -> Result<()> {
        if self.database <= self.program {
            return Ok(());
        }
        Err(DbError::Schema(format!(
            "the database has the schema of version {}, which a newer sluice made; this one \
             knows {} and would damage it: start the newer one",
            self.database, self.program
        )))
    }

    /// # Errors
    ///
    /// [`DbError::Schema`] if it has to be brought up to date first.
    pub fn not_older(self) -> Result<()> {
        if self.database >= self.program {
            return Ok(());
        }
        let has = match self.database {
            0 => "the database has no schema yet".to_owned(),
            version => format!("the database has the schema of version {version}"),
        };
        Err(DbError::Schema(format!(
            "{has}, and this sluice needs {}: run `sluice migrate` first",
            self.program
        )))
    }
}

impl Db {
    /// Reads the versions.
    pub async fn schema(&self) -> Result<Schema> {
        let migrator = match &self.backend {
            Backend::Sqlite { .. } => &SQLITE,
            Backend::Postgres(_) => &POSTGRES,
        };
        let program = migrator.iter().map(|step| step.version).max().unwrap_or(0);
        let (there,): (i64,) = self.conn().fetch_one(THERE, args![]).await?;
        let database = match there {
            0 => 0,
            _ => self.conn().fetch_one::<(i64,)>(VERSION, args![]).await?.0,
        };
        Ok(Schema { database, program })
    }

    /// Makes sure that this program may work on the schema as it is.
    ///
    /// # Errors
    ///
    /// [`DbError::Schema`] with both versions if it is newer or older.
    pub async fn check_schema(&self) -> Result<()> {
        let schema = self.schema().await?;
        schema.not_newer()?;
        schema.not_older()
    }
}

#[cfg(test)]
mod tests;
