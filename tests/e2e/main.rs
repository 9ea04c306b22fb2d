//! The whole server as its users meet it: the real binary in a folder of its own,
//! once on SQLite and once on PostgreSQL, over sockets, with every git of this
//! machine. Each test starts its own server, so all may run at once.

#![allow(missing_docs)]

mod support;

mod archives;
mod away;
mod bombs;
mod bucket;
mod callers;
mod clients;
mod concurrency;
mod content;
mod conventions;
mod crash;
mod fairness;
// Points to die at are in such builds only.
#[cfg(debug_assertions)]
mod faults;
mod fetch;
mod lfs;
mod limits;
mod logs;
mod operate;
mod options;
mod push;
mod queue;
mod quotas;
mod replicas;
mod rotation;
mod scans;
mod sha256;
mod signed;
mod start;
mod story;
mod versions;
