//! A process that runs jobs and serves no clients.
//!
//! If `SLUICE_LISTEN` is set it tells of itself there: whether it lives, whether its
//! dependencies answer, and its figures, which no server knows.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::{App, DRAIN, DataLock, listen};
use crate::api::error::ApiError;
use crate::config::Config;
use crate::queue::Workers;

/// A worker that is set up and not yet working.
pub struct Worker {
    app: App,
    listener: Option<(TcpListener, SocketAddr)>,
    // Held as long as the worker lives.
    _lock: DataLock,
}

impl Worker {
    /// Opens everything, binds.
    ///
    /// # Errors
    ///
    /// One line that names what cannot be used; SQLite among it, which one process has.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !config.database_url.starts_with("sqlite:"),
            "workers of their own need PostgreSQL: with SQLite the server runs them itself"
        );
        // What lies there is a cache of this process, which lets parts of it go.
        let lock = DataLock::take(&config.data_dir)?;
        let listener = match config.worker_listen {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address).await.with_context(|| {
                    format!("a worker tells of itself at SLUICE_LISTEN, and cannot at {address}")
                })?;
                let address = listener.local_addr()?;
                Some((listener, address))
            }
        };
        if let Some(name) = &config.fault {
            sluice_git::fault::arm(name);
        }
        let public_url = config
            .public_url
            .as_ref()
            .map_or_else(String::new, |url| url.as_str().trim_end_matches('/').to_owned());
        let app = App::open(config, public_url, false).await?;
        super::sweep(&app).await?;
        Ok(Self { app, listener, _lock: lock })
    }

    /// The state, e.g. to stop it.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Where it tells of itself.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(|(_, address)| *address)
    }

    /// Works until `app.stopping` is set, then ends gracefully.
    pub async fn work(self) {
        let Self { app, listener, .. } = self;
        let workers = Workers::start(&app);
        tokio::spawn(super::look_after_folder(app.clone()));
        match listener {
            None => app.stopping.cancelled().await,
            Some((listener, _)) => {
                let routes = crate::api::of_worker()
                    .fallback(async || ApiError::not_found("address"))
                    .with_state(app.clone());
                listen::serve(listener, service(routes), &app.stopping, DRAIN).await;
            }
        }
        workers.stopped().await;
        app.db.close().await;
        tracing::info!("stopped");
    }
}

fn service(
    routes: Router,
) -> impl tower::Service<
    Request<Body>,
    Response = Response,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |request: Request<Body>| routes.clone().oneshot(request))
}
