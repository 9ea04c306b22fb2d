//! The server: state, router, start, graceful stop.
//!
//! The life of a process is explicit: everything is checked, then opened, then
//! bound, then served; a signal sets [`State::stopping`], after which nothing new
//! begins, running requests end, leases are given back, and the database is closed.

mod listen;
mod lock;
mod route;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::accounts::{self, FirstAccount, Keys};
use crate::api::rate::Limiter;
use crate::bare::Cache;
use crate::config::{Config, QueueUrl};
use crate::db::{Db, jobs};
use crate::metrics::Metrics;
use crate::net::{Allowed, Guard};
use crate::queue::{Queue, Sqs, Workers};
use crate::scan::{Engines, assemble};
use crate::storage::Storage;

pub use lock::DataLock;
pub use route::ACCESS;
pub use worker::Worker;

/// What every handler and job shares. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<State>);

/// See [`App`].
#[derive(Debug)]
pub struct State {
    /// The checked configuration.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// Objects.
    pub storage: Storage,
    /// Packs at hand.
    pub bare: Cache,
    /// Tells workers of work.
    pub queue: Queue,
    /// Keys derived from the signing secret.
    pub keys: Keys,
    /// The scan engines with all their rules.
    pub engines: Arc<Engines>,
    /// The way to other servers.
    pub guard: Guard,
    /// What readiness remembers.
    pub probe: crate::api::health::Probe,
    /// Requests of each account.
    pub limiter: Limiter,
    /// What is kept of all projects.
    pub stored: crate::quota::Total,
    /// Figures for operators.
    pub metrics: Metrics,
    /// What clients reach the server by, without a slash at its end.
    pub public_url: String,
    /// Set once the server stops: waits end early, no new work begins.
    pub stopping: CancellationToken,
}

impl Deref for App {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl App {
    /// Wraps the state.
    pub fn new(state: State) -> Self {
        Self(Arc::new(state))
    }

    /// Opens everything that the configuration names. Nothing is bound yet.
    ///
    /// # Errors
    ///
    /// One line that names what cannot be used.
    pub async fn open(config: Config, public_url: String, migrate: bool) -> anyhow::Result<Self> {
        create_private_dir(&config.data_dir)
            .with_context(|| format!("cannot use the folder {}", config.data_dir.display()))?;
        let db = Db::open(&config.database_url).await.context("SLUICE_DATABASE_URL")?;
        if migrate {
            db.migrate().await?;
        }
        let storage = Storage::open(&config.storage).await.context("SLUICE_STORAGE")?;
        let secret = accounts::jwt_secret(&config).context("cannot keep the signing secret")?;
        let keys = Keys::derive(&secret);
        let identity = *keys.secret_identity();
        let advisories = config.advisories.clone();
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let engines = tokio::task::spawn_blocking(move || {
            let database = advisories.as_deref().map(assemble::advisories).transpose()?;
            assemble::engines(identity, database, threads)
        })
        .await??;
        let metrics = Metrics::new()?;
        let queue = match config.queue {
            QueueUrl::Embedded => Queue::embedded(db.clone()),
            QueueUrl::Sqs(ref name) => Queue::Sqs(Sqs::open(db.clone(), name).await?),
        };
        if let Some(figures) = queue.figures() {
            metrics.register(figures)?;
        }
        let allowed = Allowed { http: config.allow_http_urls, private: config.allow_private_urls };
        let guard = Guard::new(allowed, config.dns_servers.clone());
        let limiter = Limiter::new(config.limits.requests_per_minute);
        let bare = Cache::new(&config.data_dir, config.limits.git_cache_bytes);
        Ok(Self::new(State {
            config,
            db,
            storage,
            bare,
            queue,
            keys,
            engines: Arc::new(engines),
            guard,
            probe: crate::api::health::Probe::default(),
            stored: crate::quota::Total::default(),
            metrics,
            public_url,
            limiter,
            stopping: CancellationToken::new(),
        }))
    }
}

/// A server that is bound and not yet serving.
pub struct Server {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
    first_account: Option<FirstAccount>,
    // Held as long as the server lives.
    _lock: DataLock,
}

/// How long running requests may take to end after a signal.
const DRAIN: Duration = Duration::from_secs(30);

impl Server {
    /// Opens everything, makes the first account, binds.
    pub async fn start(config: Config, migrate: bool) -> anyhow::Result<Self> {
        let lock = DataLock::take(&config.data_dir)?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let public_url = match &config.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://localhost:{}", address.port()),
        };
        if let Some(name) = &config.fault {
            sluice_git::fault::arm(name);
        }
        let app = App::open(config, public_url, migrate).await?;
        if app.db.is_sqlite() {
            // This process holds the folder, so whoever held a job before is gone.
            let rescued = jobs::rescue_all(&app.db).await?;
            if rescued > 0 {
                tracing::info!(rescued, "unfinished jobs of the last run go on");
            }
        }
        let first_account = accounts::ensure_first_account(&app.db, &app.config).await?;
        sweep(&app).await?;
        Ok(Self { app, listener, address, first_account, _lock: lock })
    }

    /// The state, e.g. to stop it.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The account that this start created, if any.
    pub fn first_account(&self) -> Option<&FirstAccount> {
        self.first_account.as_ref()
    }

    /// Serves until `app.stopping` is set, then ends gracefully.
    pub async fn serve(self, with_worker: bool) -> anyhow::Result<()> {
        let Self { app, listener, .. } = self;
        let workers = with_worker.then(|| Workers::start(&app));
        listen::serve(listener, route::service(&app, axum::Router::new()), &app.stopping, DRAIN)
            .await;
        if let Some(workers) = workers {
            workers.stopped().await;
        }
        app.db.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Removes what an earlier process left in the data folder, which this one holds.
async fn sweep(app: &App) -> anyhow::Result<()> {
    crate::remote::sweep(app).await?;
    let scratch = app.config.data_dir.join("tmp");
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(scratch)).await?;
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Serves the API and `more` until the runtime ends, for tests.
#[cfg(test)]
pub(crate) async fn serve_with(app: App, listener: TcpListener, more: axum::Router<App>) {
    listen::serve(listener, route::service(&app, more), &app.stopping, DRAIN).await;
}

/// Waits for Ctrl-C or SIGTERM, then sets `stopping`. A second signal ends the
/// process at once: nothing that was acknowledged depends on a graceful end.
pub fn stop_on_signal(stopping: CancellationToken) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping: running requests may end, jobs go back to the queue");
        stopping.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}

impl DataLock {
    /// Makes the folder if need be, and takes its lock.
    pub fn take(dir: &std::path::Path) -> anyhow::Result<Self> {
        create_private_dir(dir)
            .with_context(|| format!("cannot use the folder {}", dir.display()))?;
        Self::acquire(dir)
    }
}

/// What is kept may be source code and keys: the folder is for its owner only.
fn create_private_dir(dir: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
