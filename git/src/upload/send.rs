//! The second half of a fetch, while its answer is already on the way: the pack.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Error, count, exchange::PackJob, graph, lines, pack, request::Bands, sink::BandSink, too_slow,
};
use crate::{
    remote::{FetchFigures, Repository},
    slots::Slot,
    stream,
};

/// A fetch whose answer has begun.
pub(super) struct Sending<R> {
    pub repository: R,
    pub session: String,
    pub deadline: Instant,
    pub cancel: Arc<AtomicBool>,
    pub is_clone: bool,
}

impl<R: Repository> Sending<R> {
    pub(super) async fn run(
        self,
        job: PackJob,
        sender: stream::Sender,
        permit: Slot,
        patience: Duration,
        limit: Duration,
    ) {
        let bands = job.bands;
        let runtime = tokio::runtime::Handle::current();
        let sender = Arc::new(sender);
        let mut work = {
            let (sender, deadline) = (sender.clone(), self.deadline);
            tokio::task::spawn_blocking(move || {
                let result = send(job, &sender, runtime, patience, deadline);
                drop(permit);
                result
            })
        };
        let mut late = false;
        let result = tokio::select! {
            result = &mut work => result,
            () = sender.closed() => {
                self.cancel.store(true, Ordering::Relaxed);
                work.await
            }
            () = tokio::time::sleep_until(self.deadline) => {
                late = true;
                self.cancel.store(true, Ordering::Relaxed);
                work.await
            }
        };
        // The thread looks at the clock too, and may be the first.
        late |= Instant::now() >= self.deadline;
        let session = self.session;
        let sentence = match result {
            Ok(Ok((figures, rest))) => {
                tracing::info!(
                    session,
                    objects = figures.objects,
                    bytes = figures.bytes,
                    "fetch ends"
                );
                self.repository.fetched(FetchFigures {
                    bytes: figures.bytes,
                    objects: figures.objects,
                    copied: figures.copied,
                    clone: self.is_clone,
                });
                finish(sender, rest).await;
                return;
            }
            Ok(Err(_)) if late => {
                self.repository.fetch_limited("wall_time");
                too_slow(limit)
            }
            Ok(Err(error @ (Error::Cancelled | Error::Stalled))) => {
                if let Error::Stalled = error {
                    self.repository.fetch_limited("idle_timeout");
                }
                tracing::info!(session, %error, "fetch abandoned");
                return;
            }
            Ok(Err(error)) => error.sentence(),
            Err(error) => {
                tracing::error!(session, %error, "sending a pack panicked");
                "the server failed while it made the pack; try again".into()
            }
        };
        // Without bands nothing can be said in the middle of a pack; the connection breaks off.
        if bands != Bands::None {
            finish(sender, lines::error(&sentence, true)).await;
        }
    }
}

/// Ends the answer, once the thread that made it has let go of it.
async fn finish(sender: Arc<stream::Sender>, last: Bytes) {
    if let Some(sender) = Arc::into_inner(sender) {
        sender.finish(last).await;
    }
}

/// Counts and writes the pack, up to what ends the answer. Blocking.
fn send(
    mut job: PackJob,
    sender: &stream::Sender,
    runtime: tokio::runtime::Handle,
    patience: Duration,
    deadline: Instant,
) -> Result<(pack::Figures, Bytes), Error> {
    let PackJob { store, graph, goal, filter, thin, cancel, .. } = &mut job;
    let collected = count::count(graph, store, goal, filter, *thin, cancel)?;
    // The table of commits is not needed for the writing.
    *graph = graph::Graph::new([]);
    let objects = collected.found.len();
    let mut sink = BandSink::new(sender, runtime, job.bands, patience, deadline, &job.cancel);
    if job.progress {
        sink.say(&format!("Enumerating objects: {objects}, done.\n"))?;
    }
    let figures = pack::write(&mut job.store, collected, job.ofs_delta, &mut sink, &job.cancel)?;
    if job.progress {
        sink.say(&format!("Total {objects}, copied {}\n", figures.copied))?;
    }
    Ok((figures, sink.finish()))
}
