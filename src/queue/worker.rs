//! Runs jobs: claims, heartbeats, ends, retries, gives back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{LEASE, Left, Queue};
use crate::db::jobs::{self, Heartbeat, Job, Lane};
use crate::db::{DbError, now};
use crate::scan::Cancel;
use crate::server::App;

/// Why a running job should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody wished it.
    Cancelled,
    /// Another worker holds the job.
    Lost,
    /// The process stops; the job goes back untouched.
    Stopping,
}

/// How a job failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It stopped because [`JobContext::stop`] says so.
    #[error("stopped")]
    Stopped,
    /// Trying again cannot help: `code` and sentence are for the user.
    #[error("{message}")]
    Permanent {
        /// A stable word.
        code: &'static str,
        /// What to do about it.
        message: String,
    },
    /// Trying again may help.
    #[error(transparent)]
    Transient(#[from] anyhow::Error),
}

impl From<DbError> for JobError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Fenced => Self::Stopped,
            other => Self::Transient(other.into()),
        }
    }
}

/// What a job works with.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// The server.
    pub app: App,
    /// The claimed job; its fence goes into every write.
    pub job: Job,
    /// Who runs it.
    pub worker_id: String,
    /// To be polled by the work.
    pub cancel: Cancel,
    stop: Arc<Mutex<Option<Stop>>>,
}

impl JobContext {
    fn new(app: App, job: Job, worker_id: String) -> Self {
        Self { app, job, worker_id, cancel: Cancel::new(), stop: Arc::default() }
    }

    /// Why the job should stop, if it should.
    pub fn stop(&self) -> Option<Stop> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request_stop(&self, why: Stop) {
        // The first reason wins, but a lost lease beats all: nothing may be written.
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.is_none() || why == Stop::Lost {
            *stop = Some(why);
        }
        drop(stop);
        self.cancel.cancel();
    }
}

/// Deliveries of messages that run side by side. They only wait for answers.
const DELIVERIES: i64 = 4 * jobs::DELIVERIES_OF_AN_ACCOUNT;

/// Fetches by URL that run side by side, with the ingest of what they bring. Most of
/// their time they wait for other people's servers.
const FETCHES: i64 = 2 * jobs::FETCHES_OF_AN_ACCOUNT;

/// The pause of a job that found the storage away, in microseconds.
const STORAGE_PAUSE: i64 = 3_000_000;

/// The workers of this process.
#[derive(Debug)]
pub struct Workers {
    tasks: JoinSet<()>,
    id: String,
    app: App,
}

impl Workers {
    /// Starts as many as the configuration says, and the sweeper.
    pub fn start(app: &App) -> Self {
        let id = worker_id();
        // Of jobs that other processes insert, too.
        app.db.hub().listen();
        let mut tasks = JoinSet::new();
        for _ in 0..app.config.workers {
            tasks.spawn(work(app.clone(), app.queue.clone(), Lane::Work, id.clone()));
        }
        for _ in 0..FETCHES {
            tasks.spawn(work(app.clone(), app.queue.clone(), Lane::Fetches, id.clone()));
        }
        for _ in 0..DELIVERIES {
            tasks.spawn(work(app.clone(), app.queue.clone(), Lane::Deliveries, id.clone()));
        }
        tasks.spawn(sweep(app.clone(), id.clone()));
        app.queue.start(&mut tasks, &app.stopping);
        tracing::info!(worker = id, slots = app.config.workers, "workers started");
        Self { tasks, id, app: app.clone() }
    }

    /// Waits until all have given back what they held. `app.stopping` must be set.
    pub async fn stopped(mut self) {
        while let Some(outcome) = self.tasks.join_next().await {
            if let Err(error) = outcome {
                tracing::error!("a worker ended badly: {error}");
            }
        }
        self.app.queue.flush().await;
        if let Err(error) = jobs::worker_gone(&self.app.db, &self.id).await {
            tracing::warn!("cannot sign off: {error}");
        }
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "localhost".to_owned())
}

fn worker_id() -> String {
    format!("{}:{}:{:08x}", host(), std::process::id(), rand::random::<u32>())
}

async fn work(app: App, queue: Queue, lane: Lane, id: String) {
    while let Some(job) = queue.next_of(lane, &id, &app.stopping).await {
        let context = JobContext::new(app.clone(), job, id.clone());
        let span = tracing::info_span!(
            "job",
            id = %context.job.id,
            kind = context.job.kind.as_str(),
            subject = %context.job.subject_id,
            attempt = context.job.attempt,
        );
        tracing::Instrument::instrument(run(context), span).await;
    }
}

/// Runs one job to whatever end it takes.
async fn run(context: JobContext) {
    // No try puts a job back after its last one, so that one ended with its process,
    // which it may have killed. It is not to kill the next one.
    if context.job.attempt > context.job.max_attempts {
        let message = "The server stopped again and again while it worked on this, and gave it \
                       up; its log has more.";
        tracing::error!("the job is given up: the process ended in its last try");
        context.app.metrics.job(context.job.kind.as_str(), "failed", Duration::ZERO);
        leave(&context, crate::jobs::failed(&context, "internal", message).await, Left::Ended)
            .await;
        return;
    }
    let started = std::time::Instant::now();
    let done = CancellationToken::new();
    let heart = tokio::spawn(beat(context.clone(), done.clone()));
    // In a task of its own, so that a panic is an outcome like any other.
    let work = tracing::Instrument::in_current_span(crate::jobs::run(context.clone()));
    let outcome = tokio::spawn(work).await;
    done.cancel();
    let _ = heart.await;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => Err(JobError::Transient(anyhow::anyhow!("the job panicked: {error}"))),
    };
    let word = match &outcome {
        Ok(()) => "done",
        Err(JobError::Stopped) => match context.stop() {
            Some(Stop::Cancelled) => "cancelled",
            Some(Stop::Stopping) => "released",
            Some(Stop::Lost) | None => "lost",
        },
        Err(JobError::Permanent { .. }) => "failed",
        Err(JobError::Transient(error)) if crate::jobs::is_theirs(error) => "unreachable",
        Err(JobError::Transient(_)) => "error",
    };
    let kind = context.job.kind.as_str();
    context.app.metrics.job(kind, word, started.elapsed());
    let left = match word {
        "released" => Left::Released,
        "lost" => Left::Lost,
        _ => Left::Ended,
    };
    leave(&context, settle(&context, outcome).await, left).await;
}

/// Tells the queue how the job was left.
async fn leave(context: &JobContext, settled: Result<(), DbError>, left: Left) {
    let left = match settled {
        Ok(()) => left,
        Err(error) => {
            // The lease will run out and another worker takes over.
            tracing::warn!("cannot settle the job: {error}");
            Left::Lost
        }
    };
    context.app.queue.left(&context.job, left).await;
}

async fn settle(context: &JobContext, outcome: Result<(), JobError>) -> Result<(), DbError> {
    let job = &context.job;
    match outcome {
        Ok(()) => Ok(()),
        Err(JobError::Stopped) => match context.stop() {
            Some(Stop::Cancelled) => crate::jobs::cancelled(context).await,
            Some(Stop::Stopping) => {
                tracing::info!("the job goes back to the queue");
                jobs::release(&context.app.db, job.id, job.fence).await
            }
            Some(Stop::Lost) | None => {
                tracing::warn!("the lease was lost: another worker has the job");
                Ok(())
            }
        },
        Err(JobError::Permanent { code, message }) => {
            tracing::warn!(code, "the job failed: {message}");
            crate::jobs::failed(context, code, &message).await
        }
        Err(JobError::Transient(error)) => {
            if crate::jobs::waits_for_storage(&context.app, &error).await {
                tracing::info!("the job waits for the storage: {error:#}");
                return jobs::put_off(&context.app.db, job.id, job.fence, STORAGE_PAUSE).await;
            }
            // What it was for was deleted meanwhile: the next try finds nothing to do.
            if matches!(error.downcast_ref(), Some(DbError::Gone(_))) {
                tracing::info!("the job is given up: {error:#}");
            } else if crate::jobs::is_theirs(&error) {
                tracing::info!("the job is tried again: {error:#}");
            } else {
                tracing::error!("the job failed: {error:#}");
            }
            if job.attempt >= job.max_attempts {
                let message = "The server could not finish this after several tries; its log \
                               has more.";
                return crate::jobs::failed(context, "internal", message).await;
            }
            let mut tx = context.app.db.begin().await?;
            // 1, 4, 9, 16 s: long enough for a database or store to come back.
            let delay = job.attempt * job.attempt * 1_000_000;
            jobs::retry(&mut tx, job.id, job.fence, &format!("{error:#}"), delay).await?;
            tx.commit().await
        }
    }
}

/// Keeps the lease and hears the wish to stop.
async fn beat(context: JobContext, done: CancellationToken) {
    let step = Duration::from_micros(LEASE.cast_unsigned() / 3);
    let mut lease_ends = now() + LEASE;
    let mut said = false;
    let mut next = tokio::time::Instant::now() + step;
    // The wish to cancel is heard at once when this process wrote it, and with the
    // next heartbeat otherwise.
    let wish = context.app.db.hub().waiter(context.job.id);
    loop {
        tokio::select! {
            () = done.cancelled() => return,
            () = context.app.stopping.cancelled(), if context.stop().is_none() => {
                context.request_stop(Stop::Stopping);
                continue;
            }
            () = tokio::time::sleep_until(next) => {}
            () = wish.notified() => {
                if context.stop().is_some() {
                    continue;
                }
            }
        }
        next = tokio::time::Instant::now() + step;
        let job = &context.job;
        match jobs::heartbeat(&context.app.db, job.id, job.fence, LEASE).await {
            Ok(Heartbeat::Held) => {
                lease_ends = now() + LEASE;
                context.app.queue.extended(job);
                said = false;
            }
            Ok(Heartbeat::CancelRequested) => {
                lease_ends = now() + LEASE;
                context.app.queue.extended(job);
                context.request_stop(Stop::Cancelled);
            }
            Ok(Heartbeat::Lost) => context.request_stop(Stop::Lost),
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!("no heartbeat: {error}");
                }
                if now() > lease_ends {
                    context.request_stop(Stop::Lost);
                }
                next = tokio::time::Instant::now() + Duration::from_secs(1);
            }
        }
    }
}

/// Returns expired leases, forgets what nobody needs.
async fn sweep(app: App, id: String) {
    let mut said = false;
    let mut every = tokio::time::interval(Duration::from_secs(5));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = every.tick() => {}
        }
        match sweep_once(&app, &id).await {
            Ok(()) => said = false,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!("the sweeper failed: {error}");
                }
            }
        }
    }
}

async fn sweep_once(app: &App, id: &str) -> crate::db::Result<()> {
    const HOUR: i64 = 3_600_000_000;
    jobs::worker_seen(&app.db, id, &host(), env!("CARGO_PKG_VERSION")).await?;
    let rescued = jobs::rescue(&app.db).await?;
    if rescued > 0 {
        tracing::warn!(rescued, "jobs of workers that went away are back in the queue");
    }
    jobs::drop_ended(&app.db, now() - 24 * HOUR).await?;
    crate::jobs::sweep(app).await
}

#[cfg(test)]
mod tests;
