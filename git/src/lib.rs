//! The git remote of sluice as a library: it receives pushes and serves fetches over smart HTTP.
//!
//! It knows pkt-lines, packs and refs. It knows no HTTP framework (requests and responses are the
//! types of the `http` crate), no database, no user and no scan: those are behind two traits,
//! [`Remote`] and [`Repository`].
//!
//! # The way of a push
//!
//! ```text
//! http       route, credentials → Remote::open
//! command    the commands, read to their flush, or a certificate with them
//! receive    rules that need no objects → Repository::announced
//! firewall   the pack is measured while it streams in …
//! index        … and becomes an indexed pack in a quarantine; meanwhile
//! check      every object is looked at once: sound, and nothing that it links to is missing
//! refs       rules that need objects
//!            Repository::commit → durable, refs moved: only now `ok`
//! report     the answer; keepalives went out since the pack was complete
//! ```
//!
//! A fetch goes the other way: `upload` reads what the client wants and has, and sends the objects in
//! between.
//!
//! # What holds
//!
//! - **Nothing of a push is visible before `commit` made it so.** Until then it lives in a
//!   [`quarantine`] that disappears with the push, however that ends.
//! - **The store is closed**: every object's links lead somewhere, up to shallow commits. Each push
//!   is checked against that, which is enough because nothing is ever removed piecemeal.
//! - **Nothing is allocated on a client's word.** Sections, packs and objects have limits, checked
//!   when a number is read and before it is believed.
//! - **Blocking work is on blocking threads**, behind semaphores; every wait has a time-out, and all
//!   work stops when its client is gone.
//! - **The client reads why.** Errors are sentences, in the frame in which git shows them.
//!
//! # Use
//!
//! ```no_run
//! # use sluice_git::{Remote, Service, ServiceConfig};
//! # async fn example<R: Remote, B>(remote: R, request: http::Request<B>)
//! # where B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
//! #       B::Error: Into<Box<dyn std::error::Error + Send + Sync>> {
//! let service = Service::new(remote, ServiceConfig::default());
//! let response = service.handle(request).await;
//! # }
//! ```
//!
//! A repository's object ids are SHA-1 or SHA-256, as it says itself; a client whose ids are of the
//! other kind is told so.

mod advertise;
pub mod certificate;
mod check;
pub mod command;
pub mod fault;
pub mod firewall;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
pub mod import;
mod index;
mod oid;
pub mod pkt;
mod policy;
pub mod quarantine;
mod receive;
pub mod refs;
mod remote;
mod report;
pub mod slots;
mod stream;
mod upload;

pub use self::{
    advertise::AGENT,
    certificate::{Certificate, NonceStatus, Nonces},
    check::{Flaw, MAX_OBSERVATIONS, Observation, Oddity, fsck, odd},
    command::Command,
    http::{Service, ServiceConfig, respond::ResponseBody, route::credentials},
    oid::object_id,
    policy::{FetchLimits, FetchPolicy, Filters, Policy, Unborn, Wants},
    quarantine::QuarantinedPack,
    refs::Ref,
    remote::{
        Access, Announced, CheckedPush, CommandOutcome, Credentials, Direction, FetchFigures, Head,
        ReceiveProgress, Refusal, RefusalKind, RefusedBy, Remote, Repository,
    },
    stream::Messages,
};
pub use gix_hash::ObjectId;
