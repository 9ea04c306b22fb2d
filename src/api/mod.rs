//! The REST API: one file for each endpoint group of the contract.
//!
//! Handlers extract, authorise, call one function, map the answer: no SQL in them,
//! and nothing below them knows HTTP. Each group gives `router() -> Router<App>`
//! with full paths *without* a trailing slash; requests are normalised before they
//! are routed, so both forms answer alike.

pub mod caller;
pub mod error;
pub mod extract;
pub mod page;
pub mod time;
