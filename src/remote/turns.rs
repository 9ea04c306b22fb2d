//! Pushes that are under way, by token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

/// How many pushes each token has under way in this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Uuid, u64>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    token: Uuid,
}

impl Turns {
    /// Counts one more, unless the token has `most` already.
    pub(super) fn take(&self, token: Uuid, most: u64) -> Option<Turn> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(&token).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        held.insert(token, count + 1);
        Some(Turn { turns: self.clone(), token })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&self.token) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                held.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_has_its_turns_and_nothing_stays_of_them() {
        let turns = Turns::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let held = [turns.take(one, 2).unwrap(), turns.take(one, 2).unwrap()];
        assert!(turns.take(one, 2).is_none());
        assert!(turns.take(other, 0).is_none());
        let of_other = turns.take(other, 1).unwrap();
        drop(held);
        assert!(turns.take(one, 1).is_some());
        drop(of_other);
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
