//! What the library asks of a repository, answered from its folder.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use sluice_git::{
    CheckedPush, CommandOutcome, FetchPolicy, Head, Messages, ObjectId, Policy, Ref, Refusal,
    Repository,
};

use crate::{push, refs, settings::Settings};

/// Who sends a request.
#[derive(Debug, Clone)]
pub struct Pusher {
    /// The user name of their credentials.
    pub user: Option<String>,
    /// Where they are.
    pub address: Option<SocketAddr>,
}

impl Pusher {
    /// Name and e-mail address for reflogs and hooks, made as `git http-backend` does it.
    pub fn identity(&self) -> (String, String) {
        let name = self.user.as_deref().unwrap_or("anonymous");
        let clean = |text: &str| -> String {
            text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect()
        };
        let name = clean(name);
        let host = self.address.map_or("none".to_owned(), |address| address.ip().to_string());
        let email = format!("{name}@http.{host}");
        (name, email)
    }
}

/// A repository, opened for one request.
#[derive(Clone)]
pub struct Bare {
    pub folder: PathBuf,
    pub settings: Settings,
    pub pusher: Pusher,
    /// Held while refs change, so that pushes of this process need not wait on files.
    pub gate: Arc<Mutex<()>>,
    pub run_hooks: bool,
}

impl Bare {
    /// Runs something that reads or writes files.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let bare = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&bare)).await;
        done.map_err(Refusal::internal)?.map_err(Refusal::internal)
    }
}

impl Repository for Bare {
    async fn refs(&self) -> Result<Vec<Ref>, Refusal> {
        self.blocking(|bare| {
            let all = refs::all(&bare.folder, bare.settings.hash)?;
            Ok(all.into_iter().map(|(name, id)| Ref { name, id }).collect())
        })
        .await
    }

    /// What the refs of alternates point to.
    async fn haves(&self) -> Result<Vec<ObjectId>, Refusal> {
        self.blocking(|bare| {
            let alternates =
                gix_odb::alternate::resolve(bare.folder.join("objects"), Path::new("/"))
                    .map_err(io::Error::other)?;
            let mut ids = Vec::new();
            for objects in alternates {
                if let Some(folder) = objects.parent().filter(|folder| folder.join("refs").is_dir())
                {
                    ids.extend(refs::all(folder, bare.settings.hash)?.into_values());
                }
            }
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        })
        .await
    }

    async fn shallow(&self) -> Result<Vec<ObjectId>, Refusal> {
        self.blocking(|bare| match fs::read_to_string(bare.folder.join("shallow")) {
            Ok(text) => {
                Ok(text.lines().filter_map(|id| ObjectId::from_hex(id.as_bytes()).ok()).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        })
        .await
    }

    async fn objects_dir(&self) -> Result<PathBuf, Refusal> {
        Ok(self.folder.join("objects"))
    }

    fn quarantine_root(&self) -> PathBuf {
        self.folder.join("objects")
    }

    async fn head(&self) -> Result<Option<Head>, Refusal> {
        self.blocking(|bare| refs::head(&bare.folder)).await
    }

    fn object_hash(&self) -> gix_hash::Kind {
        self.settings.hash
    }

    fn policy(&self) -> Policy {
        self.settings.push.clone()
    }

    fn fetch_policy(&self) -> FetchPolicy {
        self.settings.fetch.clone()
    }

    async fn commit(
        &self,
        push: CheckedPush,
        messages: Messages,
    ) -> Result<Vec<CommandOutcome>, Refusal> {
        push::store(self, push, messages).await
    }
}
