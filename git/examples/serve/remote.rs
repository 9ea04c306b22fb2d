//! From a request to a repository: the path, the pusher, and whether the configuration allows it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use sluice_git::{Access, Credentials, Direction, Refusal, Remote, quarantine};

use crate::{
    repository::{Bare, Pusher},
    settings::Settings,
};

tokio::task_local! {
    /// Where the request comes from.
    pub static PEER: SocketAddr;
}

/// Everything below one folder.
#[derive(Clone)]
pub struct Folder {
    root: PathBuf,
    run_hooks: bool,
    /// Repositories that were opened, each with what keeps two pushes of this process apart.
    known: Arc<Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>>,
}

impl Folder {
    /// `root` is an absolute path.
    pub fn new(root: PathBuf, run_hooks: bool) -> Self {
        Self { root, run_hooks, known: Arc::default() }
    }

    /// The folder of a repository. The path has no component that leads upwards; links below the
    /// root are the operator's and are followed.
    fn find(&self, path: &str) -> Option<PathBuf> {
        let bare = [format!("{path}.git"), path.to_owned()].map(|path| self.root.join(path));
        let with_files = bare.clone().map(|folder| folder.join(".git"));
        bare.into_iter().chain(with_files).find(|folder| is_repository(folder))
    }

    /// The lock for a repository. When it is asked for first, what a killed process has left of its
    /// pushes is removed.
    fn gate(&self, folder: &Path) -> Arc<Mutex<()>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = known.get(folder) {
            return gate.clone();
        }
        if let Err(error) = quarantine::sweep(&folder.join("objects")) {
            tracing::warn!(%error, "leftovers of earlier pushes could not be removed");
        }
        known.entry(folder.to_owned()).or_default().clone()
    }

    fn open_blocking(&self, access: &Access, peer: Option<SocketAddr>) -> Result<Bare, Refusal> {
        let folder = self.find(&access.path).ok_or_else(|| {
            Refusal::not_found("there is no repository at this path below the root")
        })?;
        let folder = folder.canonicalize().map_err(Refusal::internal)?;
        let settings = Settings::read(&folder, &access.path, access.direction)?;
        let pusher = Pusher { user: user(access), address: peer };
        match access.direction {
            Direction::Fetch if !settings.serves_fetches => {
                return Err(Refusal::forbidden("http.uploadpack is false in this repository"));
            }
            Direction::Push if settings.takes_pushes == Some(false) => {
                return Err(Refusal::forbidden("http.receivepack is false in this repository"));
            }
            Direction::Push if settings.takes_pushes.is_none() && pusher.user.is_none() => {
                return Err(Refusal::unauthorized(
                    "to push, give a user name (any password will do), \
                     or set http.receivepack to true in this repository",
                ));
            }
            _ => {}
        }
        let gate = self.gate(&folder);
        Ok(Bare { folder, settings, pusher, gate, run_hooks: self.run_hooks })
    }
}

impl Remote for Folder {
    type Repo = Bare;

    async fn open(&self, access: Access) -> Result<Bare, Refusal> {
        let folder = self.clone();
        let peer = PEER.try_with(|peer| *peer).ok();
        let opened = tokio::task::spawn_blocking(move || folder.open_blocking(&access, peer));
        opened.await.map_err(Refusal::internal)?
    }
}

/// As git tells a repository from another folder.
fn is_repository(folder: &Path) -> bool {
    folder.join("HEAD").is_file() && folder.join("objects").is_dir() && folder.join("refs").is_dir()
}

fn user(access: &Access) -> Option<String> {
    match &access.credentials {
        Some(Credentials::Basic { user, .. }) if !user.is_empty() => Some(user.clone()),
        _ => None,
    }
}
