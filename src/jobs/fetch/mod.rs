//! Code by URL: brings the head of a remote repository into the store of ours.
//!
//! 1. Ask for the refs ([`wire`]), through the guard ([`crate::net`]) that lets nothing
//!    reach the network behind the server, and find the commit that is meant.
//! 2. If the store has it, that is all.
//! 3. Otherwise ask for a pack: the newest commit alone, unless the whole history is
//!    wanted; thin against what the store has.
//! 4. The pack goes the way of a push ([`crate::remote::store`]).
//!
//! The library `gix-protocol` does the same for a working copy; it blocks a thread, keeps
//! every ref of the remote in memory and a shallow file on disk. Here all is streamed
//! into the checks of a push, under their limits, and can be dropped at any moment: what
//! was not committed leaves nothing.

pub(crate) mod credentials;
pub(crate) mod error;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header::{self, HeaderMap, HeaderValue};
use bytes::Bytes;
use sluice_git::{Command, ObjectId};
use url::Url;

use crate::db::jobs;
use crate::db::repositories::Repository;
use crate::db::sources::{self, Source};
use crate::db::uploads::{self, Upload};
use crate::net::{Answer, Bounds, NetError};
use crate::queue::{JobContext, JobError};
use crate::remote::store::{self, Incoming, NotTaken};
use credentials::Credentials;
use error::FetchError;
use wire::{Packets, RemoteRef, Server, Wish};

/// Bytes of an advertisement or a list of refs: about a million refs.
const REFS_BYTES: u64 = 64 << 20;

/// Redirects of the first request; git follows as many as curl allows, real hosts send
/// one or two.
const REDIRECTS: u8 = 5;

/// What a fetch found.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The store, as it is now.
    pub(super) store: Upload,
    /// The commit.
    pub(super) commit: ObjectId,
    /// The branch, if it is one.
    pub(super) branch: Option<String>,
}

/// Brings the head of the repository's URL into its store.
pub(super) async fn run(
    context: &JobContext,
    repository: &Repository,
    store: Upload,
) -> Result<Result<Fetched, FetchError>, JobError> {
    let limits = &context.app.config.limits;
    let seconds = limits.fetch_seconds;
    let started = Instant::now();
    let received = Arc::new(AtomicU64::new(0));
    let work = fetch(context, repository, store, received.clone());
    let error = tokio::select! {
        done = tokio::time::timeout(Duration::from_secs(seconds), work) => match done {
            Ok(Ok(fetched)) => return Ok(Ok(fetched)),
            Ok(Err(Failed::Fetch(error))) => error,
            Ok(Err(Failed::Job(error))) => return Err(error),
            Err(_) => FetchError::TooSlow(seconds),
        },
        () = watch(context, repository, &received) => return Err(JobError::Stopped),
    };
    // What the pack is refused for is counted where that happens.
    let quota = match &error {
        FetchError::TooSlow(_) => Some("fetch_seconds"),
        FetchError::Net(NetError::Timeout { .. }) => super::too_slow(limits, started.elapsed()),
        FetchError::Net(NetError::TooLarge { limit, .. }) if *limit != REFS_BYTES => {
            Some("push_bytes")
        }
        _ => None,
    };
    if let Some(quota) = quota {
        context.app.metrics.limit_hit(quota);
    }
    Ok(Err(error))
}

/// Tells how far it is, and returns once the job is to stop.
async fn watch(context: &JobContext, repository: &Repository, received: &AtomicU64) {
    const STEP: Duration = Duration::from_millis(200);
    const TELL: u32 = 10;
    let (mut step, mut told) = (0_u32, 0);
    while !context.cancel.is_cancelled() {
        tokio::time::sleep(STEP).await;
        step = step.wrapping_add(1);
        let bytes = received.load(Ordering::Relaxed);
        if step.is_multiple_of(TELL) && bytes > told {
            told = bytes;
            let data = serde_json::json!({ "bytes": bytes });
            let message = format!("{bytes} bytes have arrived.");
            super::ingest::progress(context, repository, &message, data).await;
        }
    }
}

enum Failed {
    Fetch(FetchError),
    Job(JobError),
}

impl<E: Into<FetchError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Fetch(error.into())
    }
}

fn job(error: impl Into<JobError>) -> Failed {
    Failed::Job(error.into())
}

async fn fetch(
    context: &JobContext,
    repository: &Repository,
    mut store: Upload,
    received: Arc<AtomicU64>,
) -> Result<Fetched, Failed> {
    let app = &context.app;
    let source = sources::get(&app.db, repository.id).await.map_err(job)?;
    let source = source.unwrap_or(Source { credentials: None, history: false });
    let mut session = Session::new(context, repository, &source)?;

    // 1. What is meant.
    let asked = repository.source_ref.as_deref();
    let (server, refs) = session.refs(asked).await?;
    let head = choose(asked, &refs)?;

    // 2. What is here.
    let mut known = shallow(context, &store).await.map_err(job)?;
    if source.history && !known.is_empty() {
        store = begin_anew(context, repository, &store).await.map_err(job)?;
        known.clear();
    }
    let here = uploads::refs(&app.db, store.id).await.map_err(job)?;
    let oid = |hex: &str| ObjectId::from_hex(hex.as_bytes()).ok();
    let fetched = |store| Fetched {
        store,
        commit: head.commit,
        branch: head.name.strip_prefix("refs/heads/").map(str::to_owned),
    };
    if let [only] = here.as_slice()
        && only.name == head.name
        && oid(&only.oid) == Some(head.commit)
    {
        return Ok(fetched(store));
    }

    // 3. The pack.
    let have: Vec<ObjectId> = here.iter().filter_map(|at| oid(&at.oid)).collect();
    let newest = !source.history && server.shallow() && (have.is_empty() || !known.is_empty());
    let wish = Wish { want: head.want, have: &have, shallow: &known, newest };
    let mut packets = session
        .ask_for_pack(&server, &wish)
        .await
        .map_err(|error| Failed::Fetch(not_found(error, asked)))?;
    let shallow = wire::until_pack(&server, &wish, &mut packets)
        .await
        .map_err(|error| Failed::Fetch(not_found(error, asked)))?;

    // 4. Into the store.
    let mut commands: Vec<Command> = here
        .iter()
        .filter(|at| at.name != head.name)
        .filter_map(|at| {
            let old = oid(&at.oid)?;
            Some(Command { old, new: ObjectId::null(old.kind()), name: at.name.clone() })
        })
        .collect();
    let old = here.iter().find(|at| at.name == head.name).and_then(|at| oid(&at.oid));
    let old = old.unwrap_or(ObjectId::null(head.commit.kind()));
    commands.insert(0, Command { old, new: head.commit, name: head.name.clone() });
    let incoming = Incoming { commands, shallow, wanted: head.name.clone() };
    let fault: Fault = Arc::default();
    let pack = stream(packets, received, fault.clone());
    let taken = store::bring(app, &store, incoming, pack).await;
    // What went wrong on the way here is why the store took nothing.
    if let Some(error) = fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(Failed::Fetch(error));
    }
    match taken {
        Ok(()) => {}
        Err(NotTaken::Refused(why)) => return Err(Failed::Fetch(FetchError::PackRefused(why))),
        Err(NotTaken::Failed(why)) => {
            return Err(job(anyhow::anyhow!("the store took nothing: {why}")));
        }
    }
    let store = uploads::by_id(&app.db, store.id).await.map_err(job)?;
    // The repository was deleted meanwhile.
    store.map(fetched).ok_or(Failed::Job(JobError::Stopped))
}

type Fault = Arc<Mutex<Option<FetchError>>>;

/// The bytes of the pack. An error ends it, and stays in `fault`.
fn stream(
    packets: Packets,
    received: Arc<AtomicU64>,
    fault: Fault,
) -> impl futures::Stream<Item = Result<Bytes, FetchError>> + Send + 'static {
    futures::stream::unfold(Some(packets), move |packets| {
        let (received, fault) = (received.clone(), fault.clone());
        async move {
            let mut packets = packets?;
            let next = wire::pack(&mut packets).await;
            received.store(packets.read, Ordering::Relaxed);
            match next {
                Ok(chunk) => chunk.map(|chunk| (Ok(chunk), Some(packets))),
                Err(error) => {
                    let mut slot = fault.lock().unwrap_or_else(PoisonError::into_inner);
                    *slot = Some(error.clone());
                    drop(slot);
                    Some((Err(error), None))
                }
            }
        }
    })
}

async fn shallow(context: &JobContext, store: &Upload) -> Result<Vec<ObjectId>, JobError> {
    let rows = uploads::shallow(&context.app.db, store.id).await?;
    Ok(rows.iter().filter_map(|hex| ObjectId::from_hex(hex.as_bytes()).ok()).collect())
}

/// An empty store in place of a shallow one: a store is closed up to its shallow commits,
/// and they are taken back only all at once.
async fn begin_anew(
    context: &JobContext,
    repository: &Repository,
    store: &Upload,
) -> Result<Upload, JobError> {
    let (app, held) = (&context.app, &context.job);
    let mut tx = app.db.begin().await?;
    jobs::hold(&mut tx, held.id, held.fence).await?;
    uploads::drop_internal(&mut tx, store.id).await?;
    let new = uploads::internal(&mut tx, repository.id).await?.ok_or(JobError::Stopped)?;
    tx.commit().await?;
    if let Err(error) = crate::bare::forget(app, store.id).await {
        tracing::warn!("cannot remove the objects at hand of a store that is gone: {error}");
    }
    Ok(new)
}

/// A server that does not know the commit that was asked for says so in words of its own.
fn not_found(error: FetchError, asked: Option<&str>) -> FetchError {
    match (&error, asked) {
        (FetchError::Said(text), Some(name))
            if text.contains("not our ref") || text.contains("not a valid object") =>
        {
            FetchError::RefNotFound(name.to_owned())
        }
        _ => error,
    }
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    /// What is asked for: a commit, or the tag that leads to it.
    want: ObjectId,
    commit: ObjectId,
    /// What it is called in the store.
    name: String,
}

fn commit_id(name: &str) -> Option<ObjectId> {
    sluice_git::object_id(name.as_bytes(), gix_hash::Kind::Sha1)
}

/// Names by which a ref that a person wrote may be known, the first that exists is meant.
fn names(asked: &str) -> Vec<String> {
    if asked.starts_with("refs/") {
        return vec![asked.to_owned()];
    }
    vec![format!("refs/heads/{asked}"), format!("refs/tags/{asked}")]
}

fn choose(asked: Option<&str>, refs: &[RemoteRef]) -> Result<Head, FetchError> {
    let find = |name: &str| refs.iter().find(|at| at.name == name);
    let Some(asked) = asked else {
        let head = find("HEAD").ok_or(FetchError::Empty)?;
        return Ok(Head {
            want: head.oid,
            commit: head.oid,
            name: head.target.clone().unwrap_or_else(|| "refs/fetched/head/detached".to_owned()),
        });
    };
    if let Some(found) = names(asked).iter().find_map(|name| find(name)) {
        return Ok(Head {
            want: found.oid,
            commit: found.peeled.unwrap_or(found.oid),
            name: found.name.clone(),
        });
    }
    let commit = commit_id(asked).ok_or_else(|| FetchError::RefNotFound(asked.to_owned()))?;
    let name = format!("refs/fetched/commit/{commit}");
    Ok(Head { want: commit, commit, name })
}

/// Speaks to one server.
struct Session<'a> {
    context: &'a JobContext,
    /// Without a slash at its end; the one behind the redirects once refs were read.
    base: Url,
    authorization: Option<HeaderValue>,
}

impl<'a> Session<'a> {
    fn new(
        context: &'a JobContext,
        repository: &Repository,
        source: &Source,
    ) -> Result<Self, FetchError> {
        let app = &context.app;
        let text = repository.source_url.as_deref().unwrap_or_default();
        let base = app.guard.check_url(text)?;
        let authorization = match &source.credentials {
            None => None,
            Some(sealed) => {
                let open = Credentials::open(&app.keys, repository.owner_id, repository.id, sealed);
                let open = open.ok_or(FetchError::CredentialsLost)?;
                let mut value = HeaderValue::from_str(&open.basic())
                    .map_err(|_| FetchError::CredentialsLost)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { context, base, authorization })
    }

    fn headers(&self, version_2: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(wire::AGENT));
        if version_2 {
            headers.insert("git-protocol", HeaderValue::from_static("version=2"));
        }
        if let Some(value) = &self.authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        headers
    }

    fn below(&self, tail: &str) -> Url {
        let mut url = self.base.clone();
        let path = format!("{}/{tail}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }

    fn bounds(&self, bytes: u64) -> Bounds {
        let limits = &self.context.app.config.limits;
        Bounds {
            total: Duration::from_secs(limits.fetch_seconds),
            idle: Duration::from_secs(limits.push_idle_seconds),
            redirects: REDIRECTS,
            bytes,
        }
    }

    /// What the server can do, and the refs that may be meant.
    async fn refs(&mut self, asked: Option<&str>) -> Result<(Server, Vec<RemoteRef>), FetchError> {
        let names = asked.map(names).unwrap_or_default();
        let wanted = |name: &str, _: &ObjectId| names.iter().any(|at| at == name);
        let mut url = self.below("info/refs");
        url.set_query(Some("service=git-upload-pack"));
        let guard = &self.context.app.guard;
        let answer = guard.get(&url, self.headers(true), &self.bounds(REFS_BYTES)).await?;
        let answer = self.admitted(answer)?;
        if !has_type(&answer, "application/x-git-upload-pack-advertisement") {
            return Err(no_git(answer).await);
        }
        self.follow(answer.url())?;
        let mut packets = Packets::new(answer);
        let (server, refs) = wire::advertisement(&mut packets, wanted).await?;
        if let Some(refs) = refs {
            return Ok((server, refs));
        }
        let mut prefixes = vec!["HEAD".to_owned()];
        prefixes.extend(names.iter().cloned());
        let mut packets = self.post(true, wire::ls_refs(&prefixes), REFS_BYTES).await?;
        Ok((server, wire::refs(&mut packets, wanted).await?))
    }

    /// Goes on where redirects led to, without credentials if that is somebody else's.
    fn follow(&mut self, url: &Url) -> Result<(), FetchError> {
        let path = url.path().strip_suffix("/info/refs").ok_or(FetchError::NotGit)?;
        if url.origin() != self.base.origin() {
            self.authorization = None;
        }
        let mut base = url.clone();
        base.set_path(path);
        base.set_query(None);
        self.base = base;
        Ok(())
    }

    async fn ask_for_pack(&self, server: &Server, wish: &Wish<'_>) -> Result<Packets, FetchError> {
        let limit = self.context.app.config.limits.push_bytes;
        // The frame of the side-band is on top; the firewall counts the pack alone.
        let bytes = limit.saturating_add(limit / 64).saturating_add(1 << 20);
        self.post(server.version_2, wire::fetch(server, wish), bytes).await
    }

    async fn post(&self, version_2: bool, body: Bytes, bytes: u64) -> Result<Packets, FetchError> {
        let mut headers = self.headers(version_2);
        let of = HeaderValue::from_static;
        headers.insert(header::CONTENT_TYPE, of("application/x-git-upload-pack-request"));
        headers.insert(header::ACCEPT, of("application/x-git-upload-pack-result"));
        let (guard, bounds) = (&self.context.app.guard, self.bounds(bytes));
        let answer = guard.post(&self.below("git-upload-pack"), headers, body, &bounds).await?;
        let answer = self.admitted(answer)?;
        if !has_type(&answer, "application/x-git-upload-pack-result") {
            return Err(FetchError::NotGit);
        }
        Ok(Packets::new(answer))
    }

    fn admitted(&self, answer: Answer) -> Result<Answer, FetchError> {
        match answer.status().as_u16() {
            401 if self.authorization.is_some() => Err(FetchError::CredentialsRefused),
            401 => Err(FetchError::CredentialsNeeded),
            403 => Err(FetchError::Forbidden),
            404 | 410 => Err(FetchError::NotFound),
            _ => Ok(answer.successful()?),
        }
    }
}

fn has_type(answer: &Answer, expected: &str) -> bool {
    let value = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| {
        value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(expected))
    })
}

/// Some page, or the file that the dumb protocol begins with.
async fn no_git(mut answer: Answer) -> FetchError {
    let first = match answer.chunk().await {
        Ok(chunk) => chunk.unwrap_or_default(),
        Err(error @ NetError::Timeout { .. }) => return error.into(),
        Err(_) => return FetchError::NotGit,
    };
    let dumb = first.get(40) == Some(&b'\t') && first[..40].iter().all(u8::is_ascii_hexdigit);
    if dumb { FetchError::Dumb } else { FetchError::NotGit }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod choice {
    use super::*;

    fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[byte; 20])
    }

    fn known(name: &str, oid: u8, peeled: Option<u8>, target: Option<&str>) -> RemoteRef {
        RemoteRef {
            name: name.into(),
            oid: id(oid),
            peeled: peeled.map(id),
            target: target.map(str::to_owned),
        }
    }

    #[test]
    fn the_ref_that_is_meant() {
        let refs = [
            known("HEAD", 1, None, Some("refs/heads/main")),
            known("refs/heads/v1", 2, None, None),
            known("refs/tags/v1", 3, Some(4), None),
            known("refs/tags/v2", 5, Some(6), None),
        ];
        let head = choose(None, &refs).unwrap();
        assert_eq!((head.commit, head.name.as_str()), (id(1), "refs/heads/main"));
        assert_eq!(choose(Some("v1"), &refs).unwrap().commit, id(2));
        let tag = choose(Some("v2"), &refs).unwrap();
        assert_eq!((tag.want, tag.commit, tag.name.as_str()), (id(5), id(6), "refs/tags/v2"));
        assert_eq!(choose(Some("refs/tags/v1"), &refs).unwrap().commit, id(4));
        let hex = "ab".repeat(20);
        let commit = choose(Some(&hex), &refs).unwrap();
        assert_eq!((commit.commit, commit.want), (id(0xab), id(0xab)));
        assert_eq!(choose(Some("other"), &refs), Err(FetchError::RefNotFound("other".into())));
        assert_eq!(choose(None, &[]), Err(FetchError::Empty));
        let detached = choose(None, &[known("HEAD", 1, None, None)]).unwrap();
        assert_eq!((detached.commit, detached.name.starts_with("refs/heads/")), (id(1), false));
    }
}
