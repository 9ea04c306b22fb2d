//! The REST API: one file for each endpoint group of the contract.
//!
//! Handlers extract, authorise, call one function, map the answer: no SQL in them,
//! and nothing below them knows HTTP. Each group gives `router() ->
//! OpenApiRouter<App>` with full paths *without* a trailing slash; requests are normalised before they
//! are routed, so both forms answer alike.

pub mod api_keys;
pub mod auth;
pub mod billing;
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
mod json;
pub mod metrics;
pub mod openapi;
pub mod ops;
pub mod page;
pub mod projects;
pub mod rate;
pub mod repositories;
pub mod scans;
pub mod sessions;
pub mod signing_keys;
pub mod source;
pub mod threat_profile;
pub mod time;
pub mod webhooks;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::server::App;

/// All routes of the API, and the document that describes them.
pub fn router() -> Router<App> {
    let (router, api) = routes().split_for_parts();
    router.merge(openapi::serve(api))
}

/// What a worker tells of itself.
pub fn of_worker() -> Router<App> {
    OpenApiRouter::new().merge(health::router()).merge(metrics::router()).split_for_parts().0
}

/// All routes that the document describes.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(health::router())
        .merge(auth::router())
        .merge(api_keys::router())
        .merge(signing_keys::router())
        .merge(projects::router())
        .merge(repositories::router())
        .merge(threat_profile::router())
        .merge(source::router())
        .merge(scans::router())
        .merge(events::router())
        .merge(findings::router())
        .merge(git_uploads::router())
        .merge(webhooks::router())
        .merge(billing::router())
        .merge(ops::router())
        .merge(metrics::router())
        .merge(sessions::router())
}
