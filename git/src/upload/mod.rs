//! Serving fetches: `git-upload-pack` in the protocol's versions 0, 1 and 2.
//!
//! ```text
//! advertise           what a client reads first
//! v0, v2              a request and its answer, as far as the versions differ; lines, request
//!   ls_refs, object_info   the small commands of version 2
//! view                the refs that may be seen
//! policy              the objects that may be had
//! exchange            wants, haves and depth, the same in all versions
//!   negotiate, shallow
//! count               the objects that are sent: revisions, objects, filter
//! pack                their entries, copied from stored packs where that is possible
//! send, sink          the way to the client
//! connected           the same walk, to see whether a push is complete
//! store, graph, object    what is read of the repository
//! ```
//!
//! Over HTTP every request stands alone: the client repeats what was agreed on. A request is small
//! and read whole, within limits, before anything is done. The answer has two parts. What stands
//! before the pack is made at once, so that errors can be said in a line of their own; then the
//! response begins, and the pack is counted and written on a blocking thread while keepalives go out,
//! at the pace of the client and never held in memory. Everything stops when the client is gone, when
//! it stalls, or when the time is over.
//!
//! What is sent is bounded by what is stored. Memory is a table of the commits (about 70 bytes each),
//! a bit for each stored object, 24 bytes for each that is sent, and caches of a fixed size.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use gix_hash::ObjectId;
use http::{Response, StatusCode, Version as HttpVersion};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::{
    http::{
        ServiceConfig,
        body::{self, BodyReader},
        respond::{self, Offer, ResponseBody},
    },
    remote::{Refusal, Repository},
    slots::{Full, Slot, Slots},
    stream::{self, CancelOnDrop},
};

mod advertise;
mod connected;
mod count;
mod exchange;
mod filter;
mod graph;
mod lines;
mod ls_refs;
mod negotiate;
mod object;
mod object_info;
mod objects;
mod pack;
mod peeled;
mod policy;
mod request;
mod revisions;
mod send;
mod shallow;
mod sink;
mod store;
mod v0;
mod v2;
mod view;

pub(crate) use advertise::Version;
pub(crate) use connected::{Connected, Known};
use exchange::PackJob;
use request::Bands;
use send::Sending;
use view::View;

/// Why a fetch cannot go on.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The client is told why.
    #[error("{0}")]
    Protocol(String),
    #[error("object {0} is missing in the repository")]
    Missing(ObjectId),
    #[error("object {0} of the repository is damaged")]
    Damaged(ObjectId),
    #[error("nobody waits for the answer any more")]
    Cancelled,
    #[error("the client does not read its answer")]
    Stalled,
    #[error("{0}")]
    Internal(String),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Error {
    /// What the client reads. What is our fault goes to the log.
    fn sentence(&self) -> String {
        match self {
            Self::Protocol(sentence) => sentence.clone(),
            Self::Cancelled | Self::Stalled => self.to_string(),
            Self::Missing(_) | Self::Damaged(_) | Self::Internal(_) => {
                tracing::error!(error = %self, "a fetch failed");
                "the server failed while it prepared this fetch; try again".into()
            }
        }
    }
}

/// The answer to a request.
struct Answer {
    /// What stands before the pack.
    head: Bytes,
    /// The pack, if there is one.
    job: Option<PackJob>,
}

/// What is asked for, in either form of the protocol.
enum Request {
    Old(Box<request::Fetch>, v0::End),
    New(v2::Command),
}

impl Request {
    fn banded(&self) -> bool {
        matches!(self, Self::New(v2::Command::Fetch(fetch)) if fetch.sideband_all)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Old(..) | Self::New(v2::Command::Fetch(_)) => "fetch",
            Self::New(v2::Command::LsRefs(_)) => "ls-refs",
            Self::New(v2::Command::ObjectInfo(_)) => "object-info",
        }
    }

    fn is_clone(&self) -> bool {
        match self {
            Self::Old(fetch, _) => fetch.haves.is_empty(),
            Self::New(v2::Command::Fetch(fetch)) => fetch.haves.is_empty(),
            Self::New(_) => false,
        }
    }
}

/// One request, admitted.
pub(crate) struct Incoming {
    pub version: HttpVersion,
    pub protocol: Version,
    pub user_agent: Option<String>,
    pub session: String,
    pub body: BodyReader,
}

/// The answer to `GET info/refs?service=git-upload-pack`.
pub(crate) async fn advertise<R: Repository>(
    repository: &R,
    version: Version,
    session: &str,
    config: &ServiceConfig,
    fetches: &Slots,
) -> Result<Bytes, Refusal> {
    let policy = repository.fetch_policy();
    let version = version.at_most(&policy);
    if version == Version::V2 {
        let hash = repository.object_hash();
        return Ok(advertise::version_2(&policy, hash, session));
    }
    let view = View::of(repository, version).await?;
    let session = session.to_owned();
    let cancel = Arc::new(AtomicBool::new(false));
    let _guard = CancelOnDrop::new(cancel.clone());
    let permit = admit(repository, config, fetches).await?;
    let listed = tokio::task::spawn_blocking(move || {
        let listed = advertise::refs(&view, version, &session, &cancel);
        drop(permit);
        listed
    });
    let listed = listed.await.map_err(Refusal::internal)?;
    listed.map_err(Refusal::internal)
}

/// Answers a POST.
pub(crate) async fn upload<R: Repository>(
    repository: R,
    incoming: Incoming,
    config: &ServiceConfig,
    fetches: &Slots,
) -> Response<ResponseBody> {
    let Incoming { version, protocol, user_agent, session, mut body } = incoming;
    let policy = repository.fetch_policy();
    let protocol = protocol.at_most(&policy);
    let hash = repository.object_hash();
    let deadline = Instant::now() + policy.limits.wall_time;
    let ceiling = config.refused_drain_bytes;
    body = body.until(deadline);
    let (bytes, permit) = match collect(&mut body, policy.limits.request_bytes, || {
        admit(&repository, config, fetches)
    })
    .await
    {
        Ok(collected) => collected,
        Err(Uncollected::Refused(sentence)) => {
            let answer = answer(lines::error(&sentence, false));
            return match body.drain(ceiling).await {
                Ok(()) => answer,
                Err(error) => respond::close(unread(&error), version),
            };
        }
        Err(Uncollected::Unread(error)) => {
            match error {
                body::Error::Idle(_) => repository.fetch_limited("idle_timeout"),
                body::Error::Late => repository.fetch_limited("wall_time"),
                _ => {}
            }
            return respond::close(unread(&error), version);
        }
    };
    let (request, client) = match read(&bytes, protocol, &policy, hash) {
        Ok(Some(read)) => read,
        Ok(None) => return answer(Bytes::new()),
        Err(error) => {
            tracing::info!(session, %error, "fetch not understood");
            return answer(lines::error(&error.sentence(), false));
        }
    };
    drop(bytes);
    tracing::info!(
        session,
        client_session = client.session_id,
        agent = client.agent,
        user_agent,
        ?protocol,
        command = request.name(),
        "fetch begins"
    );
    let banded = request.banded();
    let cancel = Arc::new(AtomicBool::new(false));
    // Until the answer's body takes over, dropping this future means that the client is gone.
    let guard = CancelOnDrop::new(cancel.clone());
    let is_clone = request.is_clone();
    let prepared = async {
        let permit = match permit {
            Some(permit) => permit,
            None => admit(&repository, config, fetches).await.map_err(|refusal| refusal.message)?,
        };
        prepare(&repository, request, protocol, &cancel, permit).await
    };
    let prepared = timeout_at(deadline, prepared);
    let (prepared, permit) = match prepared.await {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(sentence)) => return answer(lines::error(&sentence, banded)),
        Err(_) => {
            repository.fetch_limited("wall_time");
            return answer(lines::error(&too_slow(policy.limits.wall_time), banded));
        }
    };
    let Some(job) = prepared.job else {
        return answer(prepared.head);
    };
    let keepalive = (job.bands != Bands::None).then_some(config.keepalive);
    let (sender, body) = stream::channel(keepalive, guard);
    // The first part is there before anybody asks for it, so no keepalive can stand in front.
    sender.part(prepared.head).await;
    let sending = Sending { repository, session, deadline, cancel, is_clone };
    let patience = config.idle_timeout;
    tokio::spawn(sending.run(job, sender, permit, patience, policy.limits.wall_time));
    respond::new(StatusCode::OK, Offer::UploadPack.result(), body.boxed_unsync())
}

/// Bytes of a request that are held before it is its turn. Few requests have more.
const FREE_BYTES: usize = 64 << 10;

/// Why a request was not collected.
enum Uncollected {
    /// The client can be told.
    Refused(String),
    Unread(body::Error),
}

/// Reads a request of at most `limit` bytes, inflated. What is large waits for its turn, so that no
/// more large requests are held than there are fetches at a time.
async fn collect<A: Future<Output = Result<Slot, Refusal>>>(
    body: &mut BodyReader,
    limit: usize,
    admit: impl Fn() -> A,
) -> Result<(Bytes, Option<Slot>), Uncollected> {
    let mut all = BytesMut::new();
    let mut permit = None;
    loop {
        let chunk = match body.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok((all.freeze(), permit)),
            Err(error @ body::Error::Gzip) => return Err(Uncollected::Refused(error.to_string())),
            Err(error) => return Err(Uncollected::Unread(error)),
        };
        let length = all.len() + chunk.len();
        if length > limit {
            return Err(Uncollected::Refused(body::Error::TooLarge.to_string()));
        }
        if length > FREE_BYTES && permit.is_none() {
            let admitted = admit().await;
            permit = Some(admitted.map_err(|refusal| Uncollected::Refused(refusal.message))?);
        }
        all.extend_from_slice(&chunk);
    }
}

/// Answers a fetch that may not be made, so that git shows the reason.
pub(crate) fn refuse(refusal: &Refusal) -> Response<ResponseBody> {
    answer(lines::error(&refusal.message, false))
}

fn answer(bytes: Bytes) -> Response<ResponseBody> {
    respond::full(StatusCode::OK, Offer::UploadPack.result(), bytes)
}

fn unread(error: &body::Error) -> Response<ResponseBody> {
    respond::text(error.status(), &error.to_string())
}

fn too_slow(limit: Duration) -> String {
    format!(
        "the fetch took longer than {} seconds, the limit; fetch a part of the history first, \
         with --depth",
        limit.as_secs()
    )
}

fn read(
    bytes: &[u8],
    protocol: Version,
    policy: &crate::remote::FetchPolicy,
    hash: gix_hash::Kind,
) -> Result<Option<(Request, v2::Client)>, Error> {
    if protocol == Version::V2 {
        let read = v2::parse(bytes, policy, hash)?;
        return Ok(read.map(|(command, client)| (Request::New(command), client)));
    }
    Ok(v0::parse(bytes, policy, hash)?.map(|(mut fetch, end)| {
        let client = v2::Client { agent: fetch.agent.take(), session_id: fetch.session_id.take() };
        (Request::Old(Box::new(fetch), end), client)
    }))
}

/// See [`crate::fuzzing`].
#[cfg(fuzzing)]
pub(crate) fn parse_for_fuzzing(body: &[u8], hash: gix_hash::Kind) {
    for protocol in [Version::V0, Version::V2] {
        let _ = read(body, protocol, &crate::FetchPolicy::default(), hash);
    }
}

/// Everything up to the pack. The error is a sentence for the client.
async fn prepare<R: Repository>(
    repository: &R,
    request: Request,
    protocol: Version,
    cancel: &Arc<AtomicBool>,
    permit: Slot,
) -> Result<(Answer, Slot), String> {
    let view = View::of(repository, protocol).await.map_err(|refusal| refusal.message)?;
    let cancel = cancel.clone();
    // The permit goes with the work: a thread that has not ended yet still counts.
    let work = tokio::task::spawn_blocking(move || {
        let answer = match &request {
            Request::Old(fetch, end) => v0::answer(&view, fetch, *end, &cancel),
            Request::New(command) => v2::answer(&view, command, &cancel),
        };
        answer.map(|answer| (answer, permit))
    });
    match work.await {
        Ok(answer) => answer.map_err(|error| error.sentence()),
        Err(error) => {
            tracing::error!(%error, "preparing a fetch panicked");
            Err("the server failed while it prepared this fetch; try again".into())
        }
    }
}

async fn admit<R: Repository>(
    repository: &R,
    config: &ServiceConfig,
    fetches: &Slots,
) -> Result<Slot, Refusal> {
    fetches.take(repository.owner(), config.receive_wait).await.map_err(|full| {
        repository.fetch_limited("concurrent_fetches");
        let sentence = match full {
            Full::Server => "the server serves as many fetches as it can; try again in a minute",
            Full::Owner(_) => {
                "the server serves as many fetches of this owner's repositories as it can beside \
                 those of others; try again when one of them has ended"
            }
        };
        Refusal::unavailable(sentence, Duration::from_mins(1))
    })
}

#[cfg(test)]
mod tests;
