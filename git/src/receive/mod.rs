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
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use gix_hash::ObjectId;
use http::{Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    command::{self, Capabilities, Parser, Request},
    firewall::{Chunk, Counters},
    http::{
        ServiceConfig,
        body::{self, BodyReader},
        respond::{self, ResponseBody},
    },
    refs::{self, Decision, reason},
    remote::{
        Announced, CheckedPush, CommandOutcome, Policy, ReceiveProgress, Refusal, Repository,
    },
    report,
    stream::{self, CancelOnDrop},
};

mod pack;

/// What all pushes share.
#[derive(Clone)]
pub(crate) struct Workers {
    /// Packs that are being received.
    pub receives: Arc<Semaphore>,
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

    let (request, rest) = match read_commands(&mut body, policy.commands).await {
        Ok(read) => read,
        Err(Unreadable::Body(error)) => return broken(body, &error, ceiling, version).await,
        Err(Unreadable::Protocol(known, error)) => {
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
        let empty = respond::full(StatusCode::OK, respond::RESULT, Bytes::new());
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
            Ok(Err(error)) => return broken(body, &error, ceiling, version).await,
            Err(_) => {
                let sentence = too_slow(&policy);
                let answer = respond::text(StatusCode::REQUEST_TIMEOUT, &sentence);
                return respond::close(answer, version);
            }
        }
        job = Some(handle);
    }
    // Behind deletions nothing should follow, and behind a pack that was refused the rest of it does.
    if let Err(error) = body.drain(ceiling).await {
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
    respond::new(StatusCode::OK, respond::RESULT, answer.boxed_unsync())
}

/// Answers a push that may not be made, in the client's own protocol. `None` if the request cannot
/// be understood or is too large for that.
pub(crate) async fn refuse(
    mut body: BodyReader,
    refusal: &Refusal,
    ceiling: u64,
) -> Option<Response<ResponseBody>> {
    let (request, _) = read_commands(&mut body, command::Limits::default()).await.ok()?;
    if request.commands.is_empty() {
        return None;
    }
    body.drain(ceiling).await.ok()?;
    Some(refusal_in_band(&request, refusal))
}

enum Unreadable {
    Body(body::Error),
    /// What was understood before the error.
    Protocol(Request, command::Error),
}

/// Reads the commands; what follows them in the last chunk is the beginning of the pack.
async fn read_commands(
    body: &mut BodyReader,
    limits: command::Limits,
) -> Result<(Request, Bytes), Unreadable> {
    let mut parser = Parser::new(limits);
    let mut buffer = BytesMut::new();
    loop {
        let chunk = body.chunk().await.map_err(Unreadable::Body)?;
        let Some(chunk) = chunk else {
            // An empty body is what some clients send when there is nothing to do.
            if parser.is_empty() && buffer.is_empty() {
                return Ok((Request::default(), Bytes::new()));
            }
            let known = parser.request().clone();
            return parser
                .into_request()
                .map(|request| (request, Bytes::new()))
                .map_err(|error| Unreadable::Protocol(known, error));
        };
        buffer.extend_from_slice(&chunk);
        match parser.feed(&buffer) {
            Ok((used, done)) => {
                let _ = buffer.split_to(used);
                if done {
                    let known = parser.request().clone();
                    let rest = buffer.freeze();
                    return parser
                        .into_request()
                        .map(|request| (request, rest))
                        .map_err(|error| Unreadable::Protocol(known, error));
                }
            }
            Err(error) => return Err(Unreadable::Protocol(parser.request().clone(), error)),
        }
    }
}

/// What is known before the pack is read.
struct Prepared {
    rejected: Vec<Option<&'static str>>,
    /// Lines for the person who pushed.
    warnings: Vec<String>,
    known_shallow: Vec<ObjectId>,
}

/// Asks the repository, and applies every rule that needs no objects.
async fn prepare<R: Repository>(
    repository: &R,
    request: &Request,
    policy: &Policy,
) -> Result<Prepared, Refusal> {
    repository
        .announced(&Announced {
            commands: &request.commands,
            options: &request.options,
            atomic: request.capabilities.atomic,
            quiet: request.capabilities.quiet,
            agent: request.capabilities.agent.as_deref(),
        })
        .await?;
    let refs = repository.refs().await?;
    let known_shallow = repository.shallow().await?;
    let creations = request.commands.iter().filter(|command| command.creates()).count();
    let deletions = request.commands.iter().filter(|command| command.deletes()).count();
    let too_many = (refs.len() + creations).saturating_sub(deletions) > policy.max_refs;

    let rejected: Vec<Option<&'static str>> = request
        .commands
        .iter()
        .map(|command| {
            if !refs::valid_name(&command.name) {
                Some(reason::FUNNY_NAME)
            } else if refs::hidden(&command.name, &policy.hidden_refs) {
                Some(reason::HIDDEN)
            } else if command.deletes() && policy.deny_deletes {
                Some(reason::DELETION)
            } else if command.deletes() && policy.current_branch.as_ref() == Some(&command.name) {
                Some(reason::DELETION_OF_CURRENT)
            } else if command.creates() && too_many {
                Some(reason::TOO_MANY)
            } else {
                None
            }
        })
        .collect();
    // The same rules decide again inside the transaction; to ask them now spares the work for a
    // push that was overtaken before it arrived.
    let needed = refs::needed(&request.commands);
    let current = refs
        .into_iter()
        .filter(|reference| needed.includes(&reference.name))
        .map(|reference| (reference.name, reference.id))
        .collect();
    let decisions = refs::plan(&current, &request.commands, &rejected, request.capabilities.atomic);
    let warnings = request
        .commands
        .iter()
        .zip(&decisions)
        .filter(|(_, decision)| **decision == Decision::AlreadyGone)
        .map(|(command, _)| format!("warning: deleting a non-existent ref {}", command.name))
        .collect();
    let rejected = decisions.into_iter().map(Decision::rejection).collect();
    Ok(Prepared { rejected, warnings, known_shallow })
}

type Started = (JoinHandle<Result<pack::Checked, pack::Error>>, mpsc::Sender<Chunk>, Arc<Counters>);

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
    let permit = timeout(config.receive_wait, workers.receives.clone().acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        let message = "the server receives as many pushes as it can; push again in a minute";
        return Err(Refusal::unavailable(message, Duration::from_mins(1)));
    };
    let (chunks, source) = mpsc::channel(CHANNEL);
    let counters = Arc::new(Counters::default());
    let job = pack::Job {
        source,
        counters: counters.clone(),
        checks: workers.checks.clone(),
        objects,
        quarantine_root: repository.quarantine_root(),
        limits: policy.limits.clone(),
        tips: tips(request, prepared, policy),
        shallow: request.shallow.clone(),
        known_shallow: prepared.known_shallow.clone(),
        cancel: cancel.clone(),
    };
    let handle = tokio::task::spawn_blocking(move || run_with(permit, job));
    Ok((handle, chunks, counters))
}

fn run_with(permit: OwnedSemaphorePermit, job: pack::Job) -> Result<pack::Checked, pack::Error> {
    let result = pack::run(job);
    drop(permit);
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
    let report = |body: &BodyReader| {
        repository.receiving(ReceiveProgress {
            bytes: body.received(),
            objects: counters.objects.load(Ordering::Relaxed),
            declared_objects: counters.declared_objects.load(Ordering::Relaxed),
        });
    };
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
            report(body);
            return Ok(());
        }
        if reported.elapsed() >= PROGRESS_PERIOD {
            report(body);
            reported = Instant::now();
        }
    }
}

/// A push whose body was read to its end.
struct Push<R> {
    repository: R,
    request: Request,
    prepared: Prepared,
    policy: Policy,
    session: String,
    bytes_received: u64,
    deadline: Instant,
    cancel: Arc<AtomicBool>,
}

impl<R: Repository> Push<R> {
    async fn finish(
        self,
        job: Option<JoinHandle<Result<pack::Checked, pack::Error>>>,
        sender: stream::Sender,
    ) {
        let Self {
            repository,
            request,
            prepared,
            policy,
            session,
            bytes_received,
            deadline,
            cancel,
        } = self;
        let capabilities = &request.capabilities;
        let mut messages = sender.messages(capabilities.side_band, capabilities.quiet);
        for warning in &prepared.warnings {
            messages.say(warning).await;
        }
        let checked = match job {
            None => pack::Checked::default(),
            Some(job) => match verdict(job, deadline, &cancel, &policy, &sender).await {
                Ok(checked) => checked,
                Err(Stop::ClientGone) => {
                    tracing::info!(session, "push abandoned: the client is gone");
                    return;
                }
                Err(Stop::Refused(why)) => {
                    tracing::info!(session, why, "push refused");
                    let outcomes = same_for_all(&request, reason::UNPACKER);
                    let last =
                        report::encode(capabilities, Some(&why), &request.commands, &outcomes);
                    return sender.finish(last).await;
                }
            },
        };
        let mut rejected = prepared.rejected;
        for (at, reason) in checked.rejected.iter().enumerate() {
            rejected[at] = rejected[at].or(*reason);
        }
        if capabilities.atomic && rejected.iter().any(Option::is_some) {
            for reason in &mut rejected {
                reason.get_or_insert(reason::ATOMIC);
            }
        }
        if rejected.iter().all(Option::is_some) {
            let last = report::encode(capabilities, None, &request.commands, &outcomes(&rejected));
            return sender.finish(last).await;
        }
        if sender.is_closed() {
            tracing::info!(session, "push abandoned before it was stored: the client is gone");
            return;
        }
        let push = CheckedPush {
            commands: request.commands.clone(),
            rejected,
            atomic: capabilities.atomic,
            options: request.options.clone(),
            new_shallow: checked.new_shallow,
            pack: checked.pack,
            observations: checked.observations,
            agent: capabilities.agent.clone(),
            session: session.clone(),
            bytes_received,
        };
        let committed =
            AssertUnwindSafe(repository.commit(push, messages.clone())).catch_unwind().await;
        let outcomes = match committed {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(refusal)) => {
                messages.say(&refusal.message).await;
                same_for_all(&request, short(&refusal.message))
            }
            Err(_) => {
                tracing::error!(session, "storing a push panicked");
                same_for_all(&request, reason::FAILED)
            }
        };
        let done = outcomes.iter().filter(|o| !matches!(o, CommandOutcome::Rejected(_))).count();
        tracing::info!(session, done, of = request.commands.len(), bytes_received, "push ends");
        sender.finish(report::encode(capabilities, None, &request.commands, &outcomes)).await;
    }
}

enum Stop {
    ClientGone,
    Refused(String),
}

/// Waits for the blocking half, which is told to stop when the time is over or the client is gone.
async fn verdict(
    mut job: JoinHandle<Result<pack::Checked, pack::Error>>,
    deadline: Instant,
    cancel: &AtomicBool,
    policy: &Policy,
    sender: &stream::Sender,
) -> Result<pack::Checked, Stop> {
    let mut stopped = None;
    let result = tokio::select! {
        result = &mut job => result,
        () = sender.closed() => {
            stopped = Some(Stop::ClientGone);
            cancel.store(true, Ordering::Relaxed);
            job.await
        }
        () = tokio::time::sleep_until(deadline) => {
            stopped = Some(Stop::Refused(too_slow(policy)));
            cancel.store(true, Ordering::Relaxed);
            job.await
        }
    };
    if let Some(stop) = stopped {
        return Err(stop);
    }
    match result {
        Ok(Ok(checked)) => Ok(checked),
        Ok(Err(pack::Error::Refused(why))) => Err(Stop::Refused(why)),
        Ok(Err(pack::Error::Cancelled)) => Err(Stop::ClientGone),
        Ok(Err(pack::Error::Internal(cause))) => {
            tracing::error!(cause, "a pack could not be received");
            Err(Stop::Refused("the server failed while it received the pack; push again".into()))
        }
        Err(error) => {
            tracing::error!(%error, "receiving a pack panicked");
            Err(Stop::Refused("the server failed while it received the pack; push again".into()))
        }
    }
}

fn too_slow(policy: &Policy) -> String {
    let seconds = policy.limits.wall_time.as_secs();
    format!(
        "the push took longer than {seconds} seconds, the limit; push a part of the history first"
    )
}

/// The first line of a refusal, as the reason behind a ref.
fn short(message: &str) -> &str {
    message.lines().next().unwrap_or(reason::FAILED)
}

fn same_for_all(request: &Request, why: &str) -> Vec<CommandOutcome> {
    request.commands.iter().map(|_| CommandOutcome::Rejected(why.to_owned())).collect()
}

fn outcomes(rejected: &[Option<&'static str>]) -> Vec<CommandOutcome> {
    rejected
        .iter()
        .map(|reason| CommandOutcome::Rejected(reason.unwrap_or(reason::FAILED).to_owned()))
        .collect()
}

/// A whole answer at once.
fn in_band(
    request: &Request,
    message: Option<&str>,
    unpack: Option<&str>,
    outcomes: &[CommandOutcome],
) -> Response<ResponseBody> {
    let capabilities = &request.capabilities;
    let mut out = BytesMut::new();
    if let (Some(message), true) = (message, capabilities.side_band) {
        out.extend_from_slice(&stream::encode(message));
    }
    out.extend_from_slice(&report::encode(capabilities, unpack, &request.commands, outcomes));
    respond::full(StatusCode::OK, respond::RESULT, out.freeze())
}

fn refusal_in_band(request: &Request, refusal: &Refusal) -> Response<ResponseBody> {
    let outcomes = same_for_all(request, short(&refusal.message));
    // One line is shown behind each ref anyway.
    let message = refusal.message.contains('\n').then_some(refusal.message.as_str());
    in_band(request, message, None, &outcomes)
}

/// Answers what is not the protocol, in the best frame that was agreed on until then.
async fn protocol_error(
    body: BodyReader,
    known: &Request,
    error: &command::Error,
    ceiling: u64,
    version: Version,
) -> Response<ResponseBody> {
    tracing::info!(%error, "push not understood");
    let sentence = error.to_string();
    let Capabilities { side_band, report_status, report_status_v2, .. } = known.capabilities;
    let answer = if side_band {
        respond::full(StatusCode::OK, respond::RESULT, report::fatal(&sentence))
    } else if report_status || report_status_v2 {
        in_band(known, None, Some(&sentence), &same_for_all(known, reason::UNPACKER))
    } else {
        respond::text(StatusCode::BAD_REQUEST, &sentence)
    };
    after_drain(body, answer, ceiling, version).await
}

/// Reads the request to its end, so that the client is ready to listen, and answers.
async fn after_drain(
    mut body: BodyReader,
    answer: Response<ResponseBody>,
    ceiling: u64,
    version: Version,
) -> Response<ResponseBody> {
    match body.drain(ceiling).await {
        Ok(()) => answer,
        Err(error) => respond::close(unread(&error), version),
    }
}

/// The body cannot be read. What is damaged in its encoding can still be drained.
async fn broken(
    body: BodyReader,
    error: &body::Error,
    ceiling: u64,
    version: Version,
) -> Response<ResponseBody> {
    tracing::info!(%error, "push broken off");
    match error {
        body::Error::Gzip => after_drain(body, unread(error), ceiling, version).await,
        _ => respond::close(unread(error), version),
    }
}

fn unread(error: &body::Error) -> Response<ResponseBody> {
    let status = match error {
        body::Error::Idle(_) => StatusCode::REQUEST_TIMEOUT,
        body::Error::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        body::Error::Broken | body::Error::Gzip => StatusCode::BAD_REQUEST,
    };
    respond::text(status, &error.to_string())
}
