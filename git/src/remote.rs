//! The seam to the server: who may push and fetch where, what the refs are, and what makes a push durable.
//!
//! This crate speaks the protocol and checks what arrives; it owns neither refs nor storage. A
//! [`Remote`] turns a request's path and credentials into a [`Repository`], opened for that one
//! request. The truth about refs is behind [`Repository::refs`] and [`Repository::commit`], the
//! objects are in a directory that the repository names.

use std::{fmt, future::Future, path::PathBuf, time::Duration};

use gix_hash::ObjectId;

use crate::{
    certificate::Certificate, check::Observation, command::Command, firewall,
    quarantine::QuarantinedPack, refs::Ref, stream::Messages,
};

pub use crate::policy::{FetchPolicy, Filters, Policy, Unborn, Wants};

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

    /// Whose the repository is: nobody may hold all slots of the service ([`crate::slots`]). `None`
    /// takes part in no such sharing.
    fn owner(&self) -> Option<u128> {
        None
    }

    /// The commands and options are known, the pack is not read yet: the time to refuse a push
    /// option that nobody understands. Whatever is refused here has cost nothing.
    fn announced(&self, push: &Announced<'_>) -> impl Future<Output = Result<(), Refusal>> + Send {
        let _ = push;
        std::future::ready(Ok(()))
    }

    /// How much more may be kept, if that is bounded. Asked after [`Self::announced`]; a pack that is
    /// larger is refused as soon as that shows.
    fn room(&self) -> Option<firewall::Room> {
        None
    }

    /// How much has arrived. Called on an async thread, at most about every 200 ms and once when the
    /// pack was checked, so it must return at once.
    fn receiving(&self, progress: ReceiveProgress) {
        let _ = progress;
    }

    /// Hears that a push was refused for its pack or by a limit, and by what; for figures only.
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

    /// Hears that a limit ended a fetch, by the name of its field in [`crate::FetchLimits`] or
    /// [`crate::ServiceConfig`]; for figures only.
    fn fetch_limited(&self, limit: &'static str) {
        let _ = limit;
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

/// Where `HEAD` points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// To a branch, by its full name, which need not exist yet.
    Branch(String),
    /// To an object.
    Detached(ObjectId),
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

/// What a push was refused by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// A limit, by the name of its field in [`firewall::Limits`]; or `commands` and `command_bytes`
    /// before the pack, `refs` of the repository, `concurrent_receives` and `idle_timeout` of the
    /// service; or the quota of a [`firewall::Room`].
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
