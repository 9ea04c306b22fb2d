//! Who presents a session or a key, asked on every request.
//!
//! With the embedded database one process serves, so it may remember an answer: for a
//! second at most ([`LIFE`]), which spares each request of a busy client one of its
//! two reads. What takes an answer back (the end of a session, a key deleted, an
//! account changed) marks its transaction by [`crate::db::Tx::forget_callers`], in the function
//! that writes the row, so that no caller of it can leave that out; the commit then
//! forgets everybody. So an access token stops working with the answer to the logout.
//! Another process on the same file (`sluice user …`) is not heard here: what it
//! changes takes effect within that second.
//!
//! On PostgreSQL there may be other servers; nothing is remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::api_keys::{self, KeyUser};
use super::sessions::{self, SessionUser};
use super::{Db, Result};

/// For how long an answer is remembered.
pub const LIFE: Duration = Duration::from_secs(1);

/// How many are remembered: about 4 MB.
const KEPT: usize = 10_000;

/// What is remembered; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Callers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Grows whenever all is forgotten: an answer that was read before must not be
    /// kept after.
    generation: u64,
    answers: HashMap<Key, (Answer, Instant)>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A session and its account.
    Session(Uuid, Uuid),
    /// The hash of an API key.
    ApiKey([u8; 32]),
}

#[derive(Debug, Clone)]
enum Answer {
    Session(SessionUser),
    ApiKey(KeyUser),
}

impl Callers {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Consistent after every statement, also after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, or the generation with which it may be kept once it is read.
    fn get(&self, key: &Key) -> Result<Answer, u64> {
        let kept = self.lock();
        match kept.answers.get(key) {
            Some((answer, end)) if *end > Instant::now() => Ok(answer.clone()),
            _ => Err(kept.generation),
        }
    }

    /// Keeps an answer whose life began before it was read.
    fn keep(&self, generation: u64, began: Instant, key: Key, answer: Answer) {
        let mut kept = self.lock();
        if kept.generation != generation {
            return;
        }
        if kept.answers.len() >= KEPT {
            let now = Instant::now();
            kept.answers.retain(|_, (_, end)| *end > now);
            if kept.answers.len() >= KEPT {
                kept.answers.clear();
            }
        }
        kept.answers.insert(key, (answer, began + LIFE));
    }

    fn forget_all(&self) {
        let mut kept = self.lock();
        kept.generation += 1;
        kept.answers.clear();
    }
}

/// Forgets everybody when it is dropped: also if whoever commits is dropped itself
/// between the commit and the next statement.
pub(super) struct Forget(pub(super) Callers);

impl Drop for Forget {
    fn drop(&mut self) {
        self.0.forget_all();
    }
}

/// The account of a session, unless the session ended or the account is disabled.
/// See [`sessions::caller`].
pub async fn session(db: &Db, id: Uuid, owner_id: Uuid) -> Result<Option<SessionUser>> {
    if !db.is_sqlite() {
        return sessions::caller(db, id, owner_id).await;
    }
    let key = Key::Session(id, owner_id);
    let generation = match db.callers.get(&key) {
        Ok(Answer::Session(user)) => return Ok(Some(user)),
        Ok(Answer::ApiKey(_)) => return sessions::caller(db, id, owner_id).await,
        Err(generation) => generation,
    };
    let began = Instant::now();
    let user = sessions::caller(db, id, owner_id).await?;
    if let Some(user) = &user {
        db.callers.keep(generation, began, key, Answer::Session(user.clone()));
    }
    Ok(user)
}

/// The API key with this hash, unless its account is disabled, and whether the
/// database was asked. See [`api_keys::caller`].
pub async fn api_key(db: &Db, hash: &[u8; 32]) -> Result<Option<(KeyUser, bool)>> {
    let generation = if db.is_sqlite() {
        match db.callers.get(&Key::ApiKey(*hash)) {
            Ok(Answer::ApiKey(user)) => return Ok(Some((user, false))),
            Ok(Answer::Session(_)) => None,
            Err(generation) => Some(generation),
        }
    } else {
        None
    };
    let began = Instant::now();
    let user = api_keys::caller(db, hash).await?;
    if let (Some(generation), Some(user)) = (generation, &user) {
        db.callers.keep(generation, began, Key::ApiKey(*hash), Answer::ApiKey(user.clone()));
    }
    Ok(user.map(|user| (user, true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Answer {
        let groups = sqlx::types::Json(Vec::new());
        Answer::Session(SessionUser { email: "ada@example.org".into(), groups, expires_at: 1 })
    }

    fn key(n: u128) -> Key {
        Key::Session(Uuid::from_u128(n), Uuid::nil())
    }

    #[test]
    fn what_was_read_before_all_was_forgotten_is_not_kept() {
        let callers = Callers::default();
        let generation = callers.get(&key(1)).unwrap_err();
        drop(Forget(callers.clone()));
        callers.keep(generation, Instant::now(), key(1), user());
        let generation = callers.get(&key(1)).unwrap_err();
        callers.keep(generation, Instant::now(), key(1), user());
        assert!(callers.get(&key(1)).is_ok());
        drop(Forget(callers.clone()));
        assert!(callers.get(&key(1)).is_err());
    }

    #[test]
    fn an_answer_ages_from_before_it_was_read_and_their_number_is_bounded() {
        let callers = Callers::default();
        let long_ago = Instant::now().checked_sub(LIFE).unwrap();
        callers.keep(0, long_ago, key(0), user());
        assert!(callers.get(&key(0)).is_err());
        for n in 1..=KEPT as u128 + 10 {
            callers.keep(0, Instant::now(), key(n), user());
            assert!(callers.lock().answers.len() <= KEPT);
        }
    }
}
