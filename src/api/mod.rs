//! The REST API: one file for each endpoint group of the contract.
//!
//! Handlers extract, authorise, call one function, map the answer: no SQL in them,
//! and nothing below them knows HTTP. Each group gives `router() -> Router<App>`
//! with full paths *without* a trailing slash; requests are normalised before they
//! are routed, so both forms answer alike.

pub mod api_keys;
pub mod auth;
pub mod caller;
pub mod conditional;
pub mod error;
pub mod events;
pub mod extract;
pub mod fields;
pub mod findings;
pub mod git_uploads;
pub mod health;
pub mod idempotency;
pub mod page;
pub mod projects;
pub mod repositories;
pub mod scans;
pub mod source;
pub mod threat_profile;
pub mod time;
pub mod webhooks;

use axum::Router;

use crate::server::App;

/// All routes of the API.
pub fn router() -> Router<App> {
    Router::new()
        .merge(api_keys::router())
        .merge(auth::router())
        .merge(events::router())
        .merge(findings::router())
        .merge(git_uploads::router())
        .merge(health::router())
        .merge(projects::router())
        .merge(repositories::router())
        .merge(scans::router())
        .merge(source::router())
        .merge(threat_profile::router())
        .merge(webhooks::router())
}
