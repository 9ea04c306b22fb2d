//! `sluice user`: accounts, straight on the database of the configuration. A
//! running server need not be stopped: every request looks its account up.

use std::io::{self, BufRead as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use crate::accounts::{email, password};
use crate::api::time::Time;
use crate::db::sessions::{self, EndReason};
use crate::db::users::{self, NewUser, User};
use crate::db::{Db, DbError};

/// Accounts.
#[derive(Debug, Args)]
pub struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Makes an account; without --password-stdin a password is made and printed
    Add {
        /// E-mail, by which the user signs in
        email: String,
        /// Group that the account is a member of, e.g. ops; may be given again
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// What people call the user
        #[arg(long, default_value = "")]
        name: String,
        /// Reads the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Lists all accounts
    List,
    /// Changes a password and ends all sessions of the account
    Passwd {
        /// E-mail of the account
        email: String,
        /// Reads the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Takes away the right to sign in; sessions end, API keys stop working
    Disable {
        /// E-mail of the account
        email: String,
    },
}

/// Runs the command on a migrated database.
///
/// # Errors
///
/// A sentence for the person at the terminal.
pub async fn run(db: &Db, args: UserArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        UserCommand::Add { email, groups, name, password_stdin } => {
            add(db, &email, &groups, &name, choose(password_stdin)?).await?;
        }
        UserCommand::List => list(db).await?,
        UserCommand::Passwd { email, password_stdin } => {
            passwd(db, &email, choose(password_stdin)?).await?;
        }
        UserCommand::Disable { email } => disable(db, &email).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A password, and whether it was made here and so has to be shown.
struct Password {
    text: String,
    generated: bool,
}

fn choose(from_stdin: bool) -> anyhow::Result<Password> {
    if from_stdin {
        Ok(Password { text: read_line(io::stdin().lock())?, generated: false })
    } else {
        Ok(Password { text: password::generate(), generated: true })
    }
}

/// The first line without its end. More than a password can have is not read.
fn read_line(input: impl io::BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input
        .take(8192)
        .read_line(&mut line)
        .context("the password could not be read from standard input")?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

async fn hash(password: &Password) -> anyhow::Result<String> {
    password::check(&password.text).map_err(anyhow::Error::msg)?;
    Ok(password::Slot::acquire().await?.hash(password.text.clone()).await?)
}

fn show(password: &Password) {
    if password.generated {
        println!("password: {}", password.text);
    }
}

async fn add(
    db: &Db,
    address: &str,
    groups: &[String],
    name: &str,
    password: Password,
) -> anyhow::Result<()> {
    let email = email::normalize(address);
    email::check(&email).map_err(anyhow::Error::msg)?;
    let name = name.trim();
    if name.chars().count() > 200 || name.chars().any(char::is_control) {
        bail!("a name has at most 200 characters, and no control characters");
    }
    for group in groups {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if group.is_empty() || group.len() > 64 || !group.chars().all(word) {
            bail!("a group is a word of up to 64 characters a-z, 0-9, - and _, such as ops");
        }
    }
    let password_hash = hash(&password).await?;
    let mut groups = groups.to_vec();
    groups.sort();
    groups.dedup();
    let mut tx = db.begin().await?;
    let user = NewUser { email: &email, name, password_hash: &password_hash, groups: &groups };
    match users::insert(&mut tx, &user).await {
        Ok(_) => tx.commit().await?,
        Err(DbError::Conflict(_)) => bail!("there is an account {email} already"),
        Err(error) => return Err(error.into()),
    }
    println!("made the account {email}");
    show(&password);
    Ok(())
}

async fn list(db: &Db) -> anyhow::Result<()> {
    let users = users::list(db).await?;
    let width = users.iter().map(|user| user.email.chars().count()).max().unwrap_or(0);
    for user in users {
        let state = if user.disabled_at.is_some() { "disabled" } else { "active" };
        let groups = if user.groups.0.is_empty() { "-".into() } else { user.groups.0.join(",") };
        println!("{:width$}  {state:8}  {groups:8}  {}", user.email, Time(user.created_at));
    }
    Ok(())
}

async fn passwd(db: &Db, address: &str, password: Password) -> anyhow::Result<()> {
    let user = find(db, address).await?;
    let password_hash = hash(&password).await?;
    let mut tx = db.begin().await?;
    users::set_password(&mut tx, user.id, &password_hash).await?;
    let ended = sessions::end_all(&mut tx, user.id, EndReason::Password).await?;
    sessions::forget_failures(&mut tx, &format!("account:{}", user.email)).await?;
    tx.commit().await?;
    println!("changed the password of {}; {ended} sessions ended", user.email);
    show(&password);
    Ok(())
}

async fn disable(db: &Db, address: &str) -> anyhow::Result<()> {
    let user = find(db, address).await?;
    let mut tx = db.begin().await?;
    let changed = users::disable(&mut tx, user.id).await?;
    let ended = sessions::end_all(&mut tx, user.id, EndReason::Disabled).await?;
    tx.commit().await?;
    if changed {
        println!("disabled {}; {ended} sessions ended, API keys stopped working", user.email);
    } else {
        println!("{} was disabled before", user.email);
    }
    Ok(())
}

async fn find(db: &Db, address: &str) -> anyhow::Result<User> {
    let email = email::normalize(address);
    users::by_email(db, &email)
        .await?
        .with_context(|| format!("there is no account {email}; see `sluice user list`"))
}

#[cfg(test)]
mod tests;
