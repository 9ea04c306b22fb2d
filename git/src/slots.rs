//! Slots that are shared fairly.
//!
//! A server does so many things at once and no more. If whoever comes first may take all slots, one
//! owner with slow clients keeps everybody else out for as long as it likes. So an owner gets another
//! slot only while it holds fewer than are free: of 64 the first owner gets 32, a second one 16, a
//! third one 8, and so on. Whoever holds none gets in as long as one is free at all, and however many
//! slots one owner would use, half of those that the others left stay free for somebody else. (Known
//! from switches as the dynamic threshold of Choudhury and Hahne, 1998, with the factor 1.)
//!
//! Whoever waits is served in the order of arrival, but for those who may not have more: they keep
//! nobody behind them waiting. How many wait is bounded too, for each owner and in all.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

/// Of those who wait, for each slot: in all, and of one owner.
const WAITING: usize = 32;
const WAITING_OF_AN_OWNER: usize = 4;

/// So many things at once. Clones share them.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    held: HashMap<u128, usize>,
    queue: VecDeque<Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    owner: Option<u128>,
    ready: oneshot::Sender<()>,
}

/// The right to do one thing, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    owner: Option<u128>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.give_back(self.owner);
    }
}

/// There was no slot in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All are taken, or too many wait.
    Server,
    /// This owner holds so many that it may not have another one now.
    Owner(usize),
}

impl Slots {
    /// At least one.
    pub fn new(all: usize) -> Self {
        let all = all.max(1);
        Self(Arc::new(Inner { all, state: Mutex::new(State { free: all, ..State::default() }) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Consistent after every statement.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot, so long. Things without an owner have no share, only an order.
    ///
    /// # Errors
    ///
    /// [`Full`] says whose fault it is.
    pub async fn take(&self, owner: Option<u128>, wait: Duration) -> Result<Slot, Full> {
        let mut ticket = {
            let mut state = self.lock();
            if state.may_have(owner) {
                state.take(owner);
                return Ok(Slot { slots: self.clone(), owner });
            }
            let of_owner = state.queue.iter().filter(|other| other.owner == owner).count();
            if state.queue.len() >= WAITING * self.0.all
                || (owner.is_some() && of_owner >= WAITING_OF_AN_OWNER * self.0.all)
            {
                return Err(state.why(owner));
            }
            let (ready, turn) = oneshot::channel();
            let id = state.next;
            state.next += 1;
            state.queue.push_back(Waiting { id, owner, ready });
            Ticket { slots: self, id, owner, turn, used: false }
        };
        match timeout(wait, &mut ticket.turn).await {
            Ok(Ok(())) => {
                ticket.used = true;
                Ok(Slot { slots: self.clone(), owner })
            }
            // Its sender stays in the queue until it is used.
            Ok(Err(_)) | Err(_) => Err(self.lock().why(owner)),
        }
    }
}

impl State {
    fn holds(&self, owner: Option<u128>) -> usize {
        owner.and_then(|owner| self.held.get(&owner)).copied().unwrap_or(0)
    }

    fn may_have(&self, owner: Option<u128>) -> bool {
        // Without an owner the first half is always true.
        self.holds(owner) < self.free
    }

    fn take(&mut self, owner: Option<u128>) {
        self.free -= 1;
        if let Some(owner) = owner {
            *self.held.entry(owner).or_insert(0) += 1;
        }
    }

    /// One slot is free again; whoever may have it gets it.
    fn give_back(&mut self, owner: Option<u128>) {
        self.free += 1;
        if let Some(owner) = owner {
            match self.held.get_mut(&owner) {
                Some(held) if *held > 1 => *held -= 1,
                _ => {
                    self.held.remove(&owner);
                }
            }
        }
        // More than one may come in: what an owner may have depends on what is free.
        while let Some(at) = self.queue.iter().position(|waiting| self.may_have(waiting.owner)) {
            let Some(waiting) = self.queue.remove(at) else { return };
            self.take(waiting.owner);
            // Whoever went away in this moment gives it back as its ticket is dropped.
            let _ = waiting.ready.send(());
        }
    }

    fn why(&self, owner: Option<u128>) -> Full {
        match self.holds(owner) {
            0 => Full::Server,
            held => Full::Owner(held),
        }
    }
}

/// A place in the queue. Dropped unused, it leaves the queue, or gives back the slot that came in the
/// same moment.
struct Ticket<'a> {
    slots: &'a Slots,
    id: u64,
    owner: Option<u128>,
    turn: oneshot::Receiver<()>,
    used: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        let mut state = self.slots.lock();
        match state.queue.iter().position(|waiting| waiting.id == self.id) {
            Some(at) => {
                state.queue.remove(at);
            }
            None => state.give_back(self.owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(30);

    async fn take_all(slots: &Slots, owner: Option<u128>) -> Vec<Slot> {
        let mut taken = Vec::new();
        while let Ok(slot) = slots.take(owner, NOW).await {
            taken.push(slot);
        }
        taken
    }

    #[tokio::test]
    async fn each_owner_leaves_half_to_the_others() {
        let slots = Slots::new(64);
        let mut held = Vec::new();
        for (owner, share) in [(1, 32), (2, 16), (3, 8), (4, 4), (5, 2), (6, 1), (7, 1), (8, 0)] {
            let taken = take_all(&slots, Some(owner)).await;
            assert_eq!(taken.len(), share, "{owner}");
            held.push(taken);
        }
        assert_eq!(slots.take(Some(1), NOW).await.unwrap_err(), Full::Owner(32));
        assert_eq!(slots.take(Some(9), NOW).await.unwrap_err(), Full::Server);
        drop(held);
        let state = slots.lock();
        assert!(state.free == 64 && state.held.is_empty() && state.queue.is_empty());
    }

    #[tokio::test]
    async fn without_owners_all_are_used() {
        let slots = Slots::new(3);
        assert_eq!(take_all(&slots, None).await.len(), 3);
        for all in [1, 2] {
            assert_eq!(take_all(&Slots::new(all), Some(1)).await.len(), 1, "of {all}");
        }
    }

    #[tokio::test]
    async fn who_may_not_have_more_keeps_nobody_waiting() {
        let slots = Slots::new(2);
        let first = slots.take(Some(1), NOW).await.unwrap();
        let greedy = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(Some(1), LONG).await }
        });
        while slots.lock().queue.is_empty() {
            tokio::task::yield_now().await;
        }
        let other = slots.take(Some(2), NOW).await.unwrap();
        let next = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(Some(3), LONG).await }
        });
        while slots.lock().queue.len() < 2 {
            tokio::task::yield_now().await;
        }
        drop(other);
        let next = next.await.unwrap().unwrap();
        assert!(!greedy.is_finished());
        drop(first);
        drop(greedy.await.unwrap().unwrap());
        drop(next);
        assert_eq!(slots.lock().free, 2);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_queue_and_their_number_is_bounded() {
        let slots = Slots::new(1);
        let held = slots.take(Some(1), NOW).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let slots = slots.clone();
            tasks.spawn(async move { slots.take(Some(2), LONG).await });
        }
        let refused = tasks.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused, Full::Server);
        while slots.lock().queue.len() < WAITING_OF_AN_OWNER {
            tokio::task::yield_now().await;
        }
        tasks.shutdown().await;
        assert!(slots.lock().queue.is_empty());
        drop(held);
        assert_eq!(slots.lock().free, 1);
    }
}
