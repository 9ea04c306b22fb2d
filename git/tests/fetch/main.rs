//! Fetches as their clients see them: a real server on a free port, every git on this machine, in
//! every version of the protocol, and requests made by hand.

#[allow(dead_code, reason = "the tests of pushes use more of it")]
#[path = "../push/support/mod.rs"]
mod support;

mod client;
mod hostile;
mod partial;
mod raw;
mod shallow;
mod story;
mod wanted;
