//! Git uploads.

use axum::Router;

use crate::server::App;

/// The routes of this group.
pub fn router() -> Router<App> {
    Router::new()
}
