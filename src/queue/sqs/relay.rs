//! Sends messages of jobs: at once by the process that committed them, and by any worker
//! process when that did not happen, or when nobody came for them.
//!
//! Many relays do no harm: a job is taken over to be sent in the table, by one of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Shared;
use super::client::BATCH;
use super::receive::Ticket;
use crate::db::jobs::{self, Lane, Pointer};
use crate::db::now;

/// Jobs that wait to be sent in this process; more are left to the relays.
pub(super) const OUTBOX: usize = 1024;

/// For so long (microseconds) a job is left to the process that committed it.
const GRACE: i64 = 1_000_000;

/// The longest delay of a message, in microseconds. What is due later is sent when it is.
const MOST_DELAY: i64 = 900_000_000;

/// Jobs that a relay takes over at once.
const TAKE: i64 = 100;

/// Between two looks at a lane whose jobs may wait for the end of others, in looks.
const SLOWLY: u32 = 5;

/// Sends of what this process commits, for as long as it lives.
pub(super) async fn send_committed(shared: Arc<Shared>, mut outbox: mpsc::Receiver<Pointer>) {
    let mut batch = Vec::new();
    while outbox.recv_many(&mut batch, BATCH).await > 0 {
        batch.retain(|job| job.run_at - now() <= MOST_DELAY);
        match send(&shared, &batch).await {
            Ok(sent) => {
                let sent: Vec<(Uuid, i64)> = sent.iter().map(|job| (job.id, job.fence)).collect();
                if let Err(error) = jobs::sent(&shared.db, now(), &sent).await {
                    // They are sent twice then.
                    tracing::warn!("cannot note that messages were sent: {error}");
                }
            }
            Err(()) => {
                // What came meanwhile waits in the table, as these do.
                while outbox.try_recv().is_ok() {}
            }
        }
        batch.clear();
    }
}

/// Sends a batch; answers those that were taken.
async fn send(shared: &Shared, batch: &[Pointer]) -> Result<Vec<Pointer>, ()> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let at = now();
    // Up to a full second, so that no message comes before its job is due.
    let delay =
        |run_at: i64| (run_at - at).clamp(0, MOST_DELAY).saturating_add(999_999) / 1_000_000;
    let messages: Vec<(Uuid, Lane, i32)> =
        batch.iter().map(|job| (job.id, job.lane, delay(job.run_at) as i32)).collect();
    match shared.client.send(&messages).await {
        Ok(taken) => {
            if shared.speaks(true) {
                tracing::info!("messages are sent again");
            }
            let taken = batch.iter().zip(taken).filter(|(_, taken)| *taken);
            Ok(taken.map(|(job, _)| *job).collect())
        }
        Err(error) => {
            if shared.speaks(false) {
                tracing::warn!("no messages are sent, the jobs wait in the database: {error}");
            }
            Err(())
        }
    }
}

/// Does what others left undone, until the process stops.
pub(super) async fn relay(shared: Arc<Shared>, stopping: CancellationToken) {
    let mut looks = 0_u32;
    loop {
        // Not all processes at the same moment.
        let pause = shared.pace.look.mul_f64(rand::random_range(0.8..1.2));
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        looks = looks.wrapping_add(1);
        if let Err(error) = look(&shared, looks).await {
            tracing::warn!("the relay failed: {error}");
        }
    }
}

async fn look(shared: &Shared, looks: u32) -> crate::db::Result<()> {
    // Not behind calls that hang.
    if shared.trouble() {
        look_at_lanes(shared, looks).await?;
    }
    send_unsent(shared).await?;
    send_untaken(shared).await?;
    look_at_lanes(shared, looks).await
}

/// With messages there is no need to look at the table, except where no message tells
/// that a job may run. Without them a look now and then is enough: it costs one read of an
/// index for each lane and process, however many slots are idle, and finds all that is
/// due.
async fn look_at_lanes(shared: &Shared, looks: u32) -> crate::db::Result<()> {
    let busy = shared.rooms.free(Lane::Work) == 0;
    for lane in Lane::ALL {
        let due = lane.has_limits() && (busy || looks.is_multiple_of(SLOWLY));
        if (due || shared.trouble()) && shared.rooms.free(lane) > 0 {
            let next = jobs::next_run_of(&shared.db, lane).await?;
            if next.is_some_and(|at| at <= now()) {
                let _ = shared.rooms.offer(lane, Ticket::Look);
            }
        }
    }
    Ok(())
}

/// Of these no message was sent when they were committed, or none could be sent so early.
async fn send_unsent(shared: &Shared) -> crate::db::Result<()> {
    loop {
        // Asked without a transaction first: mostly there is nothing.
        let due = now() - GRACE;
        if jobs::first_unsent(&shared.db).await?.is_none_or(|first| first > due) {
            return Ok(());
        }
        let at = now();
        let taken = jobs::take_unsent(&shared.db, at, due, TAKE).await?;
        let full = taken.len() as i64 == TAKE;
        let all = send_taken(shared, at, &taken).await?;
        if !all || !full {
            return Ok(());
        }
    }
}

/// The messages of these are lost: they wait although this process has listened all the
/// time since they were sent and heard nothing, or although others come that were sent
/// long after them. A job that merely waits behind many others is neither.
async fn send_untaken(shared: &Shared) -> crate::db::Result<()> {
    let Pace { lost, skipped, .. } = shared.pace;
    let at = now();
    let before = if shared.silence.lasts() >= lost {
        at - lost.as_micros() as i64
    } else if shared.rooms.free(Lane::Work) == 0 {
        // Whoever has no time for them need not ask where they are.
        return Ok(());
    } else {
        shared.newest.load(Ordering::Relaxed) - skipped.as_micros() as i64
    };
    if jobs::first_untaken(&shared.db).await?.is_none_or(|first| first > before) {
        return Ok(());
    }
    let taken = jobs::take_untaken(&shared.db, at, before, TAKE).await?;
    if taken.is_empty() {
        return Ok(());
    }
    tracing::info!(jobs = taken.len(), "nobody came for some jobs: their messages are sent again");
    // Should the messages be lost on the way again and again, the slots of this process
    // at least need none.
    let _ = shared.rooms.offer(Lane::Work, Ticket::Look);
    send_taken(shared, at, &taken).await?;
    Ok(())
}

/// Sends of what was taken over; takes back what could not be sent. Answers whether all
/// was sent.
async fn send_taken(shared: &Shared, at: i64, taken: &[Pointer]) -> crate::db::Result<bool> {
    let mut sent = 0;
    for batch in taken.chunks(BATCH) {
        match send(shared, batch).await {
            Ok(some) if some.len() == batch.len() => sent += batch.len(),
            Ok(some) => {
                let left: Vec<Pointer> =
                    batch.iter().filter(|job| !some.contains(job)).copied().collect();
                jobs::unsend(&shared.db, at, &left).await?;
                jobs::unsend(&shared.db, at, &taken[sent + batch.len()..]).await?;
                return Ok(false);
            }
            Err(()) => {
                jobs::unsend(&shared.db, at, &taken[sent..]).await?;
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// How fast things go; tests are in a hurry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long one poll waits for messages, in whole seconds up to 20.
    pub(super) wait: Duration,
    /// Between two looks of a relay.
    pub(super) look: Duration,
    /// When a message is lost that was not heard of while nothing was heard at all.
    pub(super) lost: Duration,
    /// The same while messages come, if those were sent so much later. The order of a
    /// queue is a rough one, and clocks differ.
    pub(super) skipped: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(20),
            look: Duration::from_secs(2),
            lost: Duration::from_secs(10),
            skipped: Duration::from_secs(60),
        }
    }
}
