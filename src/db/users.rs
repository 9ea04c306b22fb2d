//! Accounts. E-mails are kept in lower case.

use sqlx::types::Json;
use uuid::Uuid;

use super::{Conn, Result, Tx, Value, args, new_id, now, statements};

statements! {
    INSERT = "INSERT INTO users (id, email, name, password_hash, groups, created_at, updated_at) \
              VALUES ($1, $2, $3, $4, $5, $6, $6)";
    GET = "SELECT id, email, name, password_hash, groups, disabled_at, created_at FROM users \
           WHERE id = $1";
    BY_EMAIL = "SELECT id, email, name, password_hash, groups, disabled_at, created_at \
                FROM users WHERE email = $1";
    LIST = "SELECT id, email, name, password_hash, groups, disabled_at, created_at FROM users \
            ORDER BY email";
    ANY = "SELECT id FROM users LIMIT 1";
    LOCK = pair(
        "SELECT id FROM users WHERE id = $1",
        "SELECT id FROM users WHERE id = $1 FOR UPDATE"
    );
    SET_PASSWORD = "UPDATE users SET password_hash = $2, updated_at = $3 WHERE id = $1";
    DISABLE = "UPDATE users SET disabled_at = $2, updated_at = $2 \
               WHERE id = $1 AND disabled_at IS NULL";
}

/// An account.
#[derive(Clone, sqlx::FromRow)]
pub struct User {
    /// Its id: the `owner_id` of everything that belongs to it.
    pub id: Uuid,
    /// In lower case.
    pub email: String,
    /// What people call it; may be empty.
    pub name: String,
    /// Argon2id in PHC form.
    pub password_hash: String,
    /// Groups, e.g. `ops`.
    pub groups: Json<Vec<String>>,
    /// Since when it may no longer sign in (microseconds).
    pub disabled_at: Option<i64>,
    /// Microseconds.
    pub created_at: i64,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("email", &self.email)
            .finish_non_exhaustive()
    }
}

/// An account to insert.
#[derive(Clone)]
pub struct NewUser<'a> {
    /// In lower case.
    pub email: &'a str,
    /// May be empty.
    pub name: &'a str,
    /// Argon2id in PHC form.
    pub password_hash: &'a str,
    /// Groups, e.g. `ops`.
    pub groups: &'a [String],
}

/// Inserts an account.
///
/// # Errors
///
/// [`super::DbError::Conflict`] if the e-mail is taken.
pub async fn insert(tx: &mut Tx, user: &NewUser<'_>) -> Result<Uuid> {
    let id = new_id();
    let groups = Value::json(&user.groups);
    tx.execute(INSERT, args![id, user.email, user.name, user.password_hash, groups, now()]).await?;
    Ok(id)
}

/// An account by its id.
pub async fn get(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Option<User>> {
    conn.into().fetch_optional(GET, args![id]).await
}

/// An account by its e-mail, which is given in lower case.
pub async fn by_email(conn: impl Into<Conn<'_>>, email: &str) -> Result<Option<User>> {
    conn.into().fetch_optional(BY_EMAIL, args![email]).await
}

/// All accounts by e-mail.
pub async fn list(conn: impl Into<Conn<'_>>) -> Result<Vec<User>> {
    conn.into().fetch_all(LIST, args![]).await
}

/// True if there is any account.
pub async fn any(conn: impl Into<Conn<'_>>) -> Result<bool> {
    Ok(conn.into().fetch_optional::<(Uuid,)>(ANY, args![]).await?.is_some())
}

/// Keeps the transactions of one account that take this lock apart, so that a
/// count that is checked against a quota stays true until the commit.
pub async fn lock(tx: &mut Tx, id: Uuid) -> Result<()> {
    tx.fetch_optional::<(Uuid,)>(LOCK, args![id]).await?;
    Ok(())
}

/// Changes the password.
pub async fn set_password(tx: &mut Tx, id: Uuid, password_hash: &str) -> Result<()> {
    tx.forget_callers();
    tx.execute(SET_PASSWORD, args![id, password_hash, now()]).await?;
    Ok(())
}

/// Takes away the right to sign in; answers false if that was done before.
pub async fn disable(tx: &mut Tx, id: Uuid) -> Result<bool> {
    tx.forget_callers();
    Ok(tx.execute(DISABLE, args![id, now()]).await? == 1)
}

#[cfg(test)]
mod tests;
