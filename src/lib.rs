//! sluice takes source code in by `git push`, by URL or as an archive, and tells
//! its owner what is dangerous in it.
//!
//! The rooms of the house and the direction of knowledge, never against it:
//! `cli → server → api, remote, web → jobs → ingest, scan, snapshot → storage,
//! queue, db`. A room's own page says what it keeps and what it promises.

pub mod accounts;
pub mod api;
pub mod archive;
mod aws;
pub mod bare;
pub mod billing;
pub mod cli;
pub mod config;
pub mod db;
pub mod ingest;
pub mod jobs;
pub mod metrics;
pub mod net;
pub mod queue;
pub mod quota;
pub mod remote;
pub mod scan;
pub mod server;
pub mod snapshot;
pub mod storage;
pub mod webhooks;
mod words;
