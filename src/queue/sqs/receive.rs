//! Messages on their way to slots.
//!
//! One long poll serves a whole process, whatever it has of slots and lanes. It listens
//! only while a slot of [`Lane::Work`] is idle: a process that is busy leaves the messages
//! to others. (A poll for the other lanes alone would fetch messages of work again and
//! again and have to put them back; these lanes look at the table meanwhile, see
//! [`super::relay`].)

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Shared;
use super::client::{BATCH, Client, Receipt, Received};
use crate::db::jobs::Lane;
use crate::db::now;

/// Why a slot is to look for a job.
#[derive(Debug)]
pub(super) enum Ticket {
    /// A message names one.
    Message(Uuid, Receipt),
    /// The table may have some.
    Look,
}

/// The idle slots of one lane, and what they are to do next.
#[derive(Debug, Default)]
struct Room {
    slots: Mutex<Slots>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    idle: usize,
    tickets: VecDeque<Ticket>,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The idle slots of a process.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: [Room; Lane::ALL.len()],
    /// Another slot of [`Lane::Work`] is idle.
    more: Notify,
}

impl Rooms {
    fn room(&self, lane: Lane) -> &Room {
        &self.rooms[match lane {
            Lane::Work => 0,
            Lane::Fetches => 1,
            Lane::Deliveries => 2,
        }]
    }

    /// Slots of a lane that nothing is meant for yet.
    pub(super) fn free(&self, lane: Lane) -> usize {
        let slots = self.room(lane).lock();
        slots.idle.saturating_sub(slots.tickets.len())
    }

    /// Gives a ticket to a slot of the lane; back, if none is free.
    pub(super) fn offer(&self, lane: Lane, ticket: Ticket) -> Result<(), Ticket> {
        let room = self.room(lane);
        let mut slots = room.lock();
        if slots.tickets.len() >= slots.idle {
            return Err(ticket);
        }
        slots.tickets.push_back(ticket);
        drop(slots);
        room.ready.notify_one();
        Ok(())
    }

    /// Waits for a ticket. A slot that gives up leaves its ticket to another one, or has
    /// the message shown again.
    pub(super) async fn wait(&self, lane: Lane, chores: &Chores) -> Ticket {
        let room = self.room(lane);
        room.lock().idle += 1;
        let _waiting = Waiting { room, chores };
        if lane == Lane::Work {
            self.more.notify_one();
        }
        loop {
            if let Some(ticket) = room.lock().tickets.pop_front() {
                return ticket;
            }
            room.ready.notified().await;
        }
    }

    /// Waits until slots of [`Lane::Work`] are free, and answers how many.
    async fn some_free(&self) -> usize {
        loop {
            let free = self.free(Lane::Work);
            if free > 0 {
                return free;
            }
            self.more.notified().await;
        }
    }
}

struct Waiting<'a> {
    room: &'a Room,
    chores: &'a Chores,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut slots = self.room.lock();
        slots.idle -= 1;
        while slots.tickets.len() > slots.idle {
            if let Some(Ticket::Message(_, receipt)) = slots.tickets.pop_back() {
                self.chores.show(receipt, 0);
            }
        }
    }
}

/// Since when nothing has come although this process listened.
#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It listens. If it did so all the time, the silence goes on.
    fn begin(&self) {
        self.lock().get_or_insert_with(Instant::now);
    }

    fn end(&self) {
        *self.lock() = None;
    }

    /// For how long; no time at all if it does not listen.
    pub(super) fn lasts(&self) -> Duration {
        self.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Listens until the process stops.
pub(super) async fn listen(shared: Arc<Shared>, stopping: CancellationToken) {
    let mut failures = 0_u32;
    loop {
        let mut free = shared.rooms.free(Lane::Work);
        if free == 0 {
            shared.silence.end();
            free = tokio::select! {
                () = stopping.cancelled() => return,
                free = shared.rooms.some_free() => free,
            };
        }
        shared.silence.begin();
        let began = Instant::now();
        let answer = tokio::select! {
            () = stopping.cancelled() => return,
            answer = shared.client.receive(free.min(BATCH), shared.pace.wait) => answer,
        };
        let pause = match answer {
            Ok(messages) => {
                if shared.hears(true) {
                    tracing::info!("messages come again");
                }
                failures = 0;
                let nothing = messages.is_empty();
                if messages.iter().any(|message| message.job.is_some()) {
                    shared.silence.end();
                }
                for message in messages {
                    shared.newest.fetch_max(message.sent_at.min(now()), Ordering::Relaxed);
                    dispatch(&shared, message);
                }
                // Whoever says at once that there is nothing, although it was to wait, is
                // not asked in a loop.
                let least = Duration::from_secs(u64::from(nothing));
                least.saturating_sub(began.elapsed())
            }
            Err(error) => {
                shared.silence.end();
                if shared.hears(false) {
                    tracing::warn!(
                        "no messages come, jobs are looked for in the database meanwhile: {error}"
                    );
                }
                failures += 1;
                Duration::from_millis(500) * 2_u32.pow(failures.min(4))
            }
        };
        if !pause.is_zero() {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// How often a message may come to processes without a free slot before it is deleted:
/// its lane finds the job in the table once a slot is free.
const PASSES: u32 = 3;

fn dispatch(shared: &Shared, message: Received) {
    let Received { job, receipt, times, .. } = message;
    let Some((id, lane)) = job else {
        // It may be for somebody else, or for a later version. Nobody deletes it, so it
        // ends among the dead letters, where an operator finds it.
        tracing::warn!("a message of the queue cannot be read and is left alone");
        return;
    };
    if let Err(Ticket::Message(_, receipt)) = shared.rooms.offer(lane, Ticket::Message(id, receipt))
    {
        if lane.has_limits() && times >= PASSES {
            shared.chores.delete(receipt);
        } else {
            shared.chores.show(receipt, 1);
        }
    }
}

/// Something to do with a message that nobody waits for.
#[derive(Debug)]
enum Chore {
    Delete(Receipt),
    Show(Receipt, i32),
    /// Tell when everything before this is done.
    Flush(oneshot::Sender<()>),
}

/// Takes chores. If there are too many, because SQS does not answer, they are dropped:
/// the messages come again and are deleted then.
#[derive(Debug, Clone)]
pub(super) struct Chores(mpsc::Sender<Chore>);

const MOST_CHORES: usize = 2048;

impl Chores {
    /// Starts to do what is asked for.
    pub(super) fn start(client: Arc<Client>) -> Self {
        let (sender, receiver) = mpsc::channel(MOST_CHORES);
        tokio::spawn(work_off(client, receiver));
        Self(sender)
    }

    /// Deletes a message.
    pub(super) fn delete(&self, receipt: Receipt) {
        let _ = self.0.try_send(Chore::Delete(receipt));
    }

    /// Has a message seen again in so many seconds.
    pub(super) fn show(&self, receipt: Receipt, seconds: i32) {
        let _ = self.0.try_send(Chore::Show(receipt, seconds));
    }

    /// Waits until everything asked for so far is done, for a bounded time.
    pub(super) async fn flush(&self, limit: Duration) {
        let (done, wait) = oneshot::channel();
        if self.0.try_send(Chore::Flush(done)).is_ok() {
            let _ = tokio::time::timeout(limit, wait).await;
        }
    }
}

async fn work_off(client: Arc<Client>, mut receiver: mpsc::Receiver<Chore>) {
    let mut chores = Vec::new();
    while receiver.recv_many(&mut chores, 5 * BATCH).await > 0 {
        let (mut deletes, mut shows, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        for chore in chores.drain(..) {
            match chore {
                Chore::Delete(receipt) => deletes.push(receipt),
                Chore::Show(receipt, seconds) => shows.push((receipt, seconds)),
                Chore::Flush(done) => flushes.push(done),
            }
        }
        // In this order, since what is deleted may have been shown before.
        for batch in shows.chunks(BATCH) {
            if let Err(error) = client.show(batch).await {
                tracing::debug!("messages may be seen too early: {error}");
            }
        }
        for batch in deletes.chunks(BATCH) {
            if let Err(error) = client.delete(batch).await {
                tracing::debug!("messages will come again: {error}");
            }
        }
        for done in flushes {
            let _ = done.send(());
        }
    }
}
