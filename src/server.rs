//! The server: state, router, start, graceful stop.

use std::ops::Deref;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::accounts::Keys;
use crate::config::Config;
use crate::db::Db;
use crate::queue::Queue;

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
    /// Tells workers of work.
    pub queue: Queue,
    /// Keys derived from the signing secret.
    pub keys: Keys,
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
}
