//! The example server, as somebody would use it: started as a program over a folder of bare
//! repositories that git made, spoken to by git, and judged by git afterwards.

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../push/support/git.rs"]
mod git;
mod support;

mod checks;
mod fetches;
mod hooks;
mod http;
mod refs;
mod rules;
mod sha256;
mod signed;
