//! The flow of one push, from the first byte of the request to the last of the report.
//!
//! 1. The commands are read to their flush.
//! 2. Everything that can be refused without objects is refused.
//! 3. The pack is handed, chunk by chunk, to a blocking thread ([`pack`]); a bounded channel holds
//!    the client back when that thread is slower.
//! 4. Once the body is read to its end, the response begins, and the rest happens in a task of its
//!    own: the verdict on the pack, [`Repository::commit`], the report. Until `commit` is called the
//!    task gives up when the client is gone; afterwards it goes on to the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout_at},
};

use crate::{
    command::{self, Offered, Request},
    firewall::{Chunk, Counters, Limits},
    http::{
        ServiceConfig,
        body::{self, BodyReader},
        respond::{self, Offer, ResponseBody},
    },
    remote::{Policy, ReceiveProgress, Refusal, RefusalKind, RefusedBy, Repository},
    slots::{Full, Slot, Slots},
    stream::{self, CancelOnDrop},
};

mod answer;
mod commands;
mod finish;
mod pack;
mod prepare;

use answer::{after_drain, broken, in_band, outcomes, protocol_error, refusal_in_band};
use commands::{Unreadable, read_commands};
use finish::{Push, Verdict, too_slow};
use prepare::{Prepared, prepare};

/// What all pushes share.
#[derive(Clone)]
pub(crate) struct Workers {
    /// Packs that are being received.
    pub receives: Slots,
    /// Packs that are being resolved and checked.
    pub checks: Arc<Semaphore>,
}

/// One request, admitted.
pub(crate) struct Incoming {
    pub version: Version,
    pub user_agent: Option<String>,
    pub session: String,
    pub body: BodyReader,
}

/// Chunks between the network and the blocking thread.
const CHANNEL: usize = 8;

const PROGRESS_PERIOD: Duration = Duration::from_millis(200);

/// Receives a push into `repository`.
pub(crate) async fn receive<R: Repository>(
    repository: R,
    incoming: Incoming,
    config: &ServiceConfig,
    workers: &Workers,
) -> Response<ResponseBody> {
    let Incoming { version, user_agent, session, mut body } = incoming;
    let policy = repository.policy();
    let ceiling = policy.limits.pack_bytes.saturating_add(policy.drain_bytes);
    let deadline = Instant::now() + policy.limits.wall_time;
    body = body.until(deadline);
    let offered = policy.offered(repository.object_hash());

    let (request, rest) = match read_commands(&mut body, policy.commands, offered).await {
        Ok(read) => read,
        Err(Unreadable::Body(body::Error::Late)) => return late(&repository, &policy, version),
        Err(Unreadable::Body(error)) => {
            tell_idle(&repository, &error);
            return broken(body, &error, ceiling, version).await;
        }
        Err(Unreadable::Protocol(known, error)) => {
            if let Some(limit) = error.limit() {
                repository.refused(RefusedBy::Limit(limit));
            }
            return protocol_error(body, &known, &error, ceiling, version).await;
        }
    };
    tracing::info!(
        session,
        client_session = request.capabilities.session_id,
        agent = request.capabilities.agent,
        user_agent,
        commands = request.commands.len(),
        "push begins"
    );
    if request.commands.is_empty() {
        let empty = respond::full(StatusCode::OK, Offer::ReceivePack.result(), Bytes::new());
        return after_drain(body, empty, ceiling, version).await;
    }
    let prepared = match prepare(&repository, &request, &policy).await {
        Ok(prepared) => prepared,
        Err(refusal) => {
            let answer = refusal_in_band(&request, &refusal);
            return after_drain(body, answer, ceiling, version).await;
        }
    };
    if prepared.rejected.iter().all(Option::is_some) {
        // If something of it goes on, its commit tells.
        if prepared.too_many {
            repository.refused(RefusedBy::Limit("refs"));
        }
        let answer = in_band(&request, None, None, &outcomes(&prepared.rejected));
        return after_drain(body, answer, ceiling, version).await;
    }

    let cancel = Arc::new(AtomicBool::new(false));
    // Until the answer's body takes over, dropping this future means that the client is gone.
    let guard = CancelOnDrop::new(cancel.clone());
    let mut job = None;
    if request.expects_pack() {
        let started =
            start(&repository, &request, &policy, &prepared, &cancel, config, workers).await;
        let (handle, chunks, counters) = match started {
            Ok(started) => started,
            Err(refusal) => {
                let answer = refusal_in_band(&request, &refusal);
                return after_drain(body, answer, ceiling, version).await;
            }
        };
        let fed = timeout_at(deadline, feed(&mut body, rest, chunks, &counters, &repository)).await;
        match fed {
            Ok(Ok(())) => {}
            Ok(Err(error)) if !matches!(error, body::Error::Late) => {
                tell_idle(&repository, &error);
                return broken(body, &error, ceiling, version).await;
            }
            Ok(Err(_)) | Err(_) => return late(&repository, &policy, version),
        }
        job = Some((handle, counters));
    }
    // Behind deletions nothing should follow, and behind a pack that was refused the rest of it does.
    if let Err(error) = body.drain(ceiling).await {
        tell_idle(&repository, &error);
        return broken(body, &error, ceiling, version).await;
    }

    let keepalive = request.capabilities.side_band.then_some(config.keepalive);
    let (sender, answer) = stream::channel(keepalive, guard);
    let push = Push {
        repository,
        request,
        prepared,
        policy,
        session,
        bytes_received: body.received(),
        deadline,
        cancel,
    };
    tokio::spawn(push.finish(job, sender));
    respond::new(StatusCode::OK, Offer::ReceivePack.result(), answer.boxed_unsync())
}

/// Silence beyond the limit is counted as such.
fn tell_idle<R: Repository>(repository: &R, error: &body::Error) {
    if matches!(error, body::Error::Idle(_)) {
        repository.refused(RefusedBy::Limit("idle_timeout"));
    }
}

/// The answer to a push that has not arrived in its time.
fn late<R: Repository>(
    repository: &R,
    policy: &Policy,
    version: Version,
) -> Response<ResponseBody> {
    repository.refused(RefusedBy::Limit("wall_time"));
    respond::close(respond::text(StatusCode::REQUEST_TIMEOUT, &too_slow(policy)), version)
}

/// Answers a push that may not be made, in the client's own protocol. `None` if the request cannot
/// be understood or is too large for that.
pub(crate) async fn refuse(
    mut body: BodyReader,
    refusal: &Refusal,
    ceiling: u64,
) -> Option<Response<ResponseBody>> {
    let read = read_commands(&mut body, command::Limits::default(), Offered::anything()).await;
    let (request, _) = read.ok()?;
    if request.commands.is_empty() {
        return None;
    }
    body.drain(ceiling).await.ok()?;
    Some(refusal_in_band(&request, refusal))
}

type Started = (Verdict, mpsc::Sender<Chunk>, Arc<Counters>);

/// Starts the blocking half.
async fn start<R: Repository>(
    repository: &R,
    request: &Request,
    policy: &Policy,
    prepared: &Prepared,
    cancel: &Arc<AtomicBool>,
    config: &ServiceConfig,
    workers: &Workers,
) -> Result<Started, Refusal> {
    let objects = repository.objects_dir().await?;
    let slot = workers.receives.take(repository.owner(), config.receive_wait).await;
    let slot = slot.map_err(|full| {
        repository.refused(RefusedBy::Limit("concurrent_receives"));
        match full {
            Full::Server => Refusal::unavailable(
                "the server receives as many pushes as it can; push again in a minute",
                Duration::from_mins(1),
            ),
            Full::Owner(held) => Refusal::new(
                RefusalKind::TooManyRequests(Duration::from_mins(1)),
                format!(
                    "the server receives {held} pushes to repositories of this owner already, and \
                     keeps room for those of others; push again when one of them has ended"
                ),
            ),
        }
    })?;
    let (chunks, source) = mpsc::channel(CHANNEL);
    let counters = Arc::new(Counters::default());
    let job = pack::Job {
        source,
        counters: counters.clone(),
        checks: workers.checks.clone(),
        objects,
        quarantine_root: repository.quarantine_root(),
        // The client may have had the choice.
        hash: request
            .commands
            .first()
            .map_or(repository.object_hash(), |command| command.new.kind()),
        limits: Limits { room: repository.room(), ..policy.limits.clone() },
        fsck: policy.fsck.clone(),
        tips: tips(request, prepared, policy),
        shallow: request.shallow.clone(),
        known_shallow: prepared.known_shallow.clone(),
        shallow_updates: policy.shallow_updates,
        complete: prepared.complete.clone(),
        cancel: cancel.clone(),
    };
    let handle = tokio::task::spawn_blocking(move || run_with(slot, job));
    Ok((handle, chunks, counters))
}

fn run_with(slot: Slot, job: pack::Job) -> Result<pack::Checked, pack::Error> {
    let result = pack::run(job);
    drop(slot);
    result
}

fn tips(request: &Request, prepared: &Prepared, policy: &Policy) -> Vec<Option<pack::Tip>> {
    request
        .commands
        .iter()
        .zip(&prepared.rejected)
        .map(|(command, rejected)| {
            if rejected.is_some() || command.deletes() {
                return None;
            }
            let branch = command.name.starts_with("refs/heads/");
            let forward_only = branch && policy.deny_non_fast_forwards && !command.old.is_null();
            Some(pack::Tip {
                new: command.new,
                branch,
                ancestor: forward_only.then_some(command.old),
            })
        })
        .collect()
}

/// Hands the pack to the blocking thread. Ends without an error if that thread has seen enough.
async fn feed<R: Repository>(
    body: &mut BodyReader,
    rest: Bytes,
    chunks: mpsc::Sender<Chunk>,
    counters: &Counters,
    repository: &R,
) -> Result<(), body::Error> {
    let mut next = (!rest.is_empty()).then_some(rest);
    let mut reported = Instant::now();
    loop {
        let chunk = match next.take() {
            Some(rest) => Some(rest),
            None => body.chunk().await?,
        };
        let ended = chunk.is_none();
        let sent = chunks.send(chunk.map_or(Chunk::End, Chunk::Data)).await;
        if ended || sent.is_err() {
            return Ok(());
        }
        if reported.elapsed() >= PROGRESS_PERIOD {
            repository.receiving(progress(body.received(), counters));
            reported = Instant::now();
        }
    }
}

fn progress(bytes: u64, counters: &Counters) -> ReceiveProgress {
    ReceiveProgress {
        bytes,
        objects: counters.objects.load(Ordering::Relaxed),
        declared_objects: counters.declared_objects.load(Ordering::Relaxed),
    }
}
