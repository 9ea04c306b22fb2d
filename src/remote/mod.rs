//! Mounts `sluice-git` under `/git/`: turns an upload's token into access and its
//! limits into a policy, and makes a checked push durable.
//!
//! The truth about refs and packs is in the database and in storage; the object
//! folders on disk ([`crate::bare`]) are rebuilt from them whenever they are missing.

mod access;
mod follow;
mod lfs;
mod options;
mod protection;
pub(crate) mod store;
mod turns;
mod upload;

pub(crate) use upload::quota_behind;

use axum::body::Body;
use axum::http::uri::PathAndQuery;
use axum::http::{Request, Response, Uri};
use sluice_git::{Service, ServiceConfig};
use tower::ServiceExt as _;

use crate::server::App;
use access::Door;

/// The git remote of this process. Clones share their limits.
#[derive(Clone)]
pub struct Remote {
    service: Service<Door>,
    lfs: axum::Router,
}

/// Where it is mounted.
pub const MOUNT: &str = "/git";

impl Remote {
    /// The remote with the limits of the configuration.
    pub fn new(app: App) -> Self {
        let limits = &app.config.limits;
        let config = ServiceConfig {
            concurrent_receives: usize::try_from(limits.pushes_at_once).unwrap_or(64),
            concurrent_fetches: usize::try_from(limits.pushes_at_once).unwrap_or(64),
            idle_timeout: std::time::Duration::from_secs(limits.push_idle_seconds),
            ..ServiceConfig::default()
        };
        Self { lfs: lfs::router(app.clone()), service: Service::new(Door::new(app), config) }
    }

    /// Answers a request below [`MOUNT`].
    pub async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        if lfs::is_mine(request.uri().path()) {
            // A router never fails: its error is uninhabited.
            let Ok(response) = self.lfs.clone().oneshot(request).await;
            return response;
        }
        strip_mount(&mut request);
        self.service.handle(request).await.map(Body::new)
    }
}

fn strip_mount(request: &mut Request<Body>) {
    let uri = request.uri();
    let Some(rest) = uri.path().strip_prefix(MOUNT) else { return };
    let text = match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    if let Ok(path) = PathAndQuery::try_from(text) {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

/// Removes what pushes of a killed process left behind. To be called before the
/// first push is served.
pub async fn sweep(app: &App) -> anyhow::Result<()> {
    let root = crate::bare::incoming(app);
    let removed =
        tokio::task::spawn_blocking(move || sluice_git::quarantine::sweep(&root)).await??;
    if removed > 0 {
        tracing::info!(removed, "removed what unfinished pushes left behind");
    }
    Ok(())
}
