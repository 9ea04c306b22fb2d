//! Events of a scan: poll, wait, server-sent events.

use axum::Router;

use crate::server::App;

/// The routes of this group.
pub fn router() -> Router<App> {
    Router::new()
}
