//! Pushes as their clients see them: a real server on a free port, every git on this machine, and
//! hostile clients made by hand.

mod support;

mod client;
mod hostile;
mod http;
mod protocol;
mod rules;
