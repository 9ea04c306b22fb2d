//! The seam to the server: who may push and fetch where, what the refs are, and what makes a push durable.
//!
//! This crate speaks the protocol and checks what arrives; it owns neither refs nor storage. A
//! [`Remote`] turns a request's path and credentials into a [`Repository`], opened for that one
//! request. The truth about refs is behind [`Repository::refs`] and [`Repository::commit`], the
//! objects are in a directory that the repository names.

use std::{collections::BTreeMap, fmt, future::Future, path::PathBuf, time::Duration};

use gix_hash::ObjectId;

use crate::{
    certificate::{Certificate, Nonces},
    check::{Observation, fsck::Fsck},
    command::{self, Command},
    firewall,
    quarantine::QuarantinedPack,
    refs::Ref,
    stream::Messages,
};

/// Decides about requests: finds the repository behind a path and checks the credentials.
pub trait Remote: Clone + Send + Sync + 'static {
    /// What a request works on.
    type Repo: Repository;

    /// Opens the repository for one request, or says why not. It is called for every request except
    /// the probe, so both for the advertisement and for the push itself.
    ///
    /// Without credentials, or with wrong ones, the answer has to be [`Refusal::unauthorized`]: git
    /// asks its credential helper only then, and forgets a wrong password only then.
    fn open(&self, access: Access) -> impl Future<Output = Result<Self::Repo, Refusal>> + Send;
}

/// One repository, opened for one request.
pub trait Repository: Send + Sync + 'static {
    /// All refs as they are now, in any order.
    fn refs(&self) -> impl Future<Output = Result<Vec<Ref>, Refusal>> + Send;

    /// Objects that the repository has by way of another one, though none of its own refs points to
    /// them: a client that has them too need not send what they lead to. They are shown to everybody
    /// who may push.
    fn haves(&self) -> impl Future<Output = Result<Vec<ObjectId>, Refusal>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The commits whose parents the repository does not have.
    fn shallow(&self) -> impl Future<Output = Result<Vec<ObjectId>, Refusal>> + Send;

    /// The local object directory, made if it was missing, holding everything that the refs need.
    fn objects_dir(&self) -> impl Future<Output = Result<PathBuf, Refusal>> + Send;

    /// Where quarantines are made. On the same file system as the objects, since a pack is renamed.
    fn quarantine_root(&self) -> PathBuf;

    /// Limits and rules for this push.
    fn policy(&self) -> Policy;

    /// The commands and options are known, the pack is not read yet: the time to refuse a push
    /// option that nobody understands. Whatever is refused here has cost nothing.
    fn announced(&self, push: &Announced<'_>) -> impl Future<Output = Result<(), Refusal>> + Send {
        let _ = push;
        std::future::ready(Ok(()))
    }

    /// How much has arrived. Called on an async thread, at most about every 200 ms and once when the
    /// pack was checked, so it must return at once.
    fn receiving(&self, progress: ReceiveProgress) {
        let _ = progress;
    }

    /// Hears that a push was refused for its pack, and by what; for figures only.
    fn refused(&self, by: RefusedBy) {
        let _ = by;
    }

    /// Where `HEAD` points; `None` if there is none.
    fn head(&self) -> impl Future<Output = Result<Option<Head>, Refusal>> + Send;

    /// The hash function of all ids.
    fn object_hash(&self) -> gix_hash::Kind {
        gix_hash::Kind::Sha1
    }

    /// Limits and rules for this fetch.
    fn fetch_policy(&self) -> FetchPolicy {
        FetchPolicy::default()
    }

    /// Hears that a pack was sent; for figures only.
    fn fetched(&self, figures: FetchFigures) {
        let _ = figures;
    }

    /// Everything was received and checked: make it durable and move the refs.
    ///
    /// Called once for a push of which at least one command survived the checks, and not again.
    /// The implementation calls [`crate::refs::plan`] with the refs as they are inside its
    /// transaction, applies the decisions, and answers with one outcome for each command in order.
    /// If the plan refuses every command, nothing is stored. Nothing may be visible to readers if it
    /// fails. It runs to its end even if the client
    /// disconnects meanwhile. `messages` shows lines to the person who pushed.
    fn commit(
        &self,
        push: CheckedPush,
        messages: Messages,
    ) -> impl Future<Output = Result<Vec<CommandOutcome>, Refusal>> + Send;
}

/// Who asks for what.
#[derive(Debug, Clone)]
pub struct Access {
    /// The path of the repository: what stands before `/info/refs`, `/git-receive-pack`
    /// or `/git-upload-pack`, decoded,
    /// without leading or trailing slash and without `.git`. No component is empty, `.` or `..`.
    pub path: String,
    /// Whether the client wants to read or to write.
    pub direction: Direction,
    /// What the client showed, if anything.
    pub credentials: Option<Credentials>,
    /// The `User-Agent`.
    pub user_agent: Option<String>,
    /// Our name for this request, which is also in the logs and in the advertisement.
    pub session: String,
}

/// What a request is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Clone or fetch.
    Fetch,
    /// Push.
    Push,
}

/// What a client shows to prove who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Basic`
    Basic {
        /// Often meaningless for tokens; some clients put the token here.
        user: String,
        /// The password or token.
        password: String,
    },
    /// `Authorization: Bearer`
    Bearer(String),
}

impl fmt::Debug for Credentials {
    /// Says which scheme, never the secret, so that no log can show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(..)",
            Self::Bearer(_) => "Bearer(..)",
        })
    }
}

/// Why a request is refused. The message is one or more sentences for the person who pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal, which decides the HTTP status.
    pub kind: RefusalKind,
    /// The sentences; never a secret and never an internal detail.
    pub message: String,
}

/// The kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// 401: no credentials, or wrong ones.
    Unauthorized,
    /// 403: known, but not allowed.
    Forbidden,
    /// 404: there is no such repository, or the caller must not know.
    NotFound,
    /// 410: there was one, and it will not come back.
    Gone,
    /// 429, with the time after which to try again.
    TooManyRequests(Duration),
    /// 503, with the time after which to try again.
    Unavailable(Duration),
    /// 500: our fault.
    Internal,
}

impl Refusal {
    /// A refusal of any kind.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// 401
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unauthorized, message)
    }

    /// 403
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Forbidden, message)
    }

    /// 404
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::NotFound, message)
    }

    /// 410
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Gone, message)
    }

    /// 503, to be tried again after `retry_after`.
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(RefusalKind::Unavailable(retry_after), message)
    }

    /// 500. The cause is for the log, the client sees a bland sentence.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(error = %cause, "a git request failed");
        Self::new(
            RefusalKind::Internal,
            "the server failed while it handled this request; try again",
        )
    }
}

/// What a repository allows and how much of it.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What the pack may cost.
    pub limits: firewall::Limits,
    /// How much may stand before the pack.
    pub commands: command::Limits,
    /// A refused push is read to its end, so that the client reads the reason; but not beyond this
    /// many bytes more than the pack limit.
    pub drain_bytes: u64,
    /// Refs may not be deleted.
    pub deny_deletes: bool,
    /// Branches may only move forward.
    pub deny_non_fast_forwards: bool,
    /// The full name of a branch that may not be deleted, because `HEAD` points to it.
    pub current_branch: Option<String>,
    /// Refs that are neither shown nor changed, by the rules of [`crate::refs::hidden`].
    pub hidden_refs: Vec<String>,
    /// Refs that the repository may have after the push.
    pub max_refs: usize,
    /// How closely the objects are looked at.
    pub fsck: Fsck,
    /// A push of all refs or none is offered.
    pub atomic: bool,
    /// Push options are offered.
    pub push_options: bool,
    /// Signed pushes are offered, with these nonces.
    pub certificates: Option<Nonces>,
    /// A push may bring commits whose parents nobody has, as every shallow clone does.
    pub shallow_updates: bool,
    /// Everything in the store has all that it links to, because nothing comes into it but by pushes
    /// and nothing is removed piecemeal. In a folder where others work too that does not hold, and
    /// what is new is followed until it meets what the refs had before.
    pub closed_store: bool,
}

impl Policy {
    /// What the advertisement of a push says.
    pub(crate) fn offered(&self, hash: gix_hash::Kind) -> command::Offered {
        command::Offered {
            hash,
            atomic: self.atomic,
            push_options: self.push_options,
            certificates: self.certificates.clone(),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: firewall::Limits::default(),
            commands: command::Limits::default(),
            drain_bytes: 1 << 30,
            deny_deletes: false,
            deny_non_fast_forwards: false,
            current_branch: None,
            hidden_refs: vec!["refs/_internal/".into()],
            max_refs: 100_000,
            fsck: Fsck::default(),
            atomic: true,
            push_options: true,
            certificates: None,
            shallow_updates: true,
            closed_store: true,
        }
    }
}

/// Where `HEAD` points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// To a branch, by its full name, which need not exist yet.
    Branch(String),
    /// To an object.
    Detached(ObjectId),
}

/// Which objects a client may ask for by their id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wants {
    /// What visible refs point to, and the commits that they lead to, since a ref may have moved
    /// between two requests.
    Tips,
    /// Everything that visible refs lead to. Partial clones need it to fetch what they left out.
    #[default]
    Reachable,
    /// Everything that is stored, hidden or forgotten as it may be.
    Any,
}

/// What a client learns of a `HEAD` whose branch does not exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unborn {
    /// Its name, and that it can be asked for.
    #[default]
    Advertised,
    /// Its name, if it asks without having been told that it can.
    Allowed,
    /// Nothing.
    Ignored,
}

/// Which filters are offered to partial clones, by git's names for them: `blob:none`, `blob:limit`,
/// `tree`, `object:type` and `combine`.
#[derive(Debug, Clone)]
pub struct Filters {
    /// Filters that are not named below.
    pub others: bool,
    /// Whether each of these is offered.
    pub named: BTreeMap<String, bool>,
    /// The highest depth of `tree`.
    pub tree_depth: Option<u32>,
}

impl Default for Filters {
    fn default() -> Self {
        Self { others: true, named: BTreeMap::new(), tree_depth: None }
    }
}

impl Filters {
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.named.get(name).copied().unwrap_or(self.others)
    }
}

/// What may be fetched from a repository and how.
#[derive(Debug, Clone)]
pub struct FetchPolicy {
    /// Which objects may be asked for.
    pub wants: Wants,
    /// The same for version 2 of the protocol, if it differs.
    pub wants_v2: Option<Wants>,
    /// What hidden refs point to may be asked for too, though not what that leads to.
    pub hidden_tips: bool,
    /// Partial clones are offered.
    pub filter: bool,
    /// Which ones, if they are.
    pub filters: Filters,
    /// Refs may be asked for by name, so that a ref that moves meanwhile is no error.
    pub ref_in_want: bool,
    /// The branch of `HEAD` is told while it does not exist, so that a clone of an empty repository
    /// begins with it.
    pub unborn: Unborn,
    /// The highest version of the protocol that is spoken.
    pub max_version: u8,
    /// Refs that are neither shown nor followed, by the rules of [`crate::refs::hidden`].
    pub hidden_refs: Vec<String>,
    /// What one request may cost.
    pub limits: FetchLimits,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            wants: Wants::default(),
            wants_v2: None,
            hidden_tips: false,
            filter: true,
            filters: Filters::default(),
            ref_in_want: true,
            unborn: Unborn::default(),
            max_version: 2,
            hidden_refs: vec!["refs/_internal/".into()],
            limits: FetchLimits::default(),
        }
    }
}

/// Limits of one request of a fetch.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    /// Bytes of the request, inflated. It is held in memory.
    pub request_bytes: usize,
    /// Objects or refs asked for.
    pub wants: usize,
    /// Objects that the client says it has.
    pub haves: usize,
    /// Commits that the client says are shallow.
    pub shallow: usize,
    /// From the first byte of the request to the last of the pack.
    pub wall_time: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            request_bytes: 16 << 20,
            wants: 200_000,
            haves: 200_000,
            shallow: 100_000,
            wall_time: Duration::from_hours(1),
        }
    }
}

/// A pack that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchFigures {
    /// Bytes of the pack.
    pub bytes: u64,
    /// Objects in it.
    pub objects: u32,
    /// Objects whose stored bytes were sent as they are.
    pub copied: u32,
    /// The client had nothing before.
    pub clone: bool,
}

/// What a pack was refused by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// A limit, by the name of its field in [`firewall::Limits`].
    Limit(&'static str),
    /// What is in it.
    Content,
    /// Trouble of the server's own.
    Server,
}

/// What is known about a push before its pack is read.
#[derive(Debug)]
pub struct Announced<'a> {
    /// The commands in the client's order.
    pub commands: &'a [Command],
    /// The push options in the client's order.
    pub options: &'a [String],
    /// All commands or none.
    pub atomic: bool,
    /// The client does not want progress.
    pub quiet: bool,
    /// The client's program, such as `git/2.47.3`.
    pub agent: Option<&'a str>,
    /// The certificate of a signed push, whose signature nobody has looked at yet.
    pub certificate: Option<&'a Certificate>,
}

/// How far a pack has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveProgress {
    /// Bytes of the request's body so far.
    pub bytes: u64,
    /// Objects that have begun so far.
    pub objects: u32,
    /// Objects that the pack says it has; 0 until its header was read.
    pub declared_objects: u32,
}

/// A push after all checks, to be made durable.
#[derive(Debug)]
pub struct CheckedPush {
    /// The commands in the client's order.
    pub commands: Vec<Command>,
    /// For each command the reason for which it was refused already. Give it to
    /// [`crate::refs::plan`] as it is.
    pub rejected: Vec<Option<&'static str>>,
    /// All commands or none.
    pub atomic: bool,
    /// The push options in the client's order.
    pub options: Vec<String>,
    /// Commits whose parents are missing now, to be added to [`Repository::shallow`].
    pub new_shallow: Vec<ObjectId>,
    /// The pack, if the push brought objects. Dropping it removes it.
    pub pack: Option<QuarantinedPack>,
    /// What is odd in the pushed objects.
    pub observations: Vec<Observation>,
    /// The client's program, such as `git/2.47.3`.
    pub agent: Option<String>,
    /// The certificate of a signed push, whose signature nobody has looked at yet.
    pub certificate: Option<Certificate>,
    /// Our name for this push.
    pub session: String,
    /// Bytes of the request's body.
    pub bytes_received: u64,
}

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutcome {
    /// It was done.
    Done,
    /// It was done under another name, which a client with `report-status-v2` shows.
    Renamed {
        /// The full name of the ref that was written.
        name: String,
    },
    /// It was refused, for this reason in one line.
    Rejected(String),
}

impl From<crate::refs::Decision> for CommandOutcome {
    fn from(decision: crate::refs::Decision) -> Self {
        match decision.rejection() {
            Some(why) => Self::Rejected(why.to_owned()),
            None => Self::Done,
        }
    }
}
