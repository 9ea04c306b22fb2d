//! A real server over a folder of bare repositories, and real git against it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use sluice_git::{
    Access, Announced, CheckedPush, CommandOutcome, Credentials, FetchFigures, FetchPolicy, Head,
    Messages, ObjectId, Policy, ReceiveProgress, Ref, Refusal, RefusedBy, Remote, Repository,
    Service, ServiceConfig, quarantine,
    refs::{self, Decision},
};

pub mod git;
pub mod pack;
pub mod raw;

pub const TOKEN: &str = "s3cret-token";

/// What a test can set before the server starts.
#[derive(Clone, Default)]
pub struct Options {
    pub policy: Policy,
    pub fetch_policy: FetchPolicy,
    pub config: ServiceConfig,
    /// Whose all repositories are.
    pub owner: Option<u128>,
    /// How long a commit takes.
    pub commit_delay: Duration,
    /// A sentence with which every commit is refused.
    pub refuse_commit: Option<&'static str>,
    /// A sentence with which every push (but not the advertisement) is refused.
    pub refuse_push: Option<&'static str>,
}

/// What the server remembers about one repository: the truth about its refs.
#[derive(Default)]
pub struct State {
    pub refs: BTreeMap<String, ObjectId>,
    pub shallow: Vec<ObjectId>,
    pub head: Option<String>,
    /// How often a push got as far as being stored.
    pub commits: usize,
    pub options: Vec<String>,
    pub observations: Vec<sluice_git::Observation>,
    pub progress: ReceiveProgress,
    pub fetches: Vec<FetchFigures>,
    /// Limits that ended a push or a fetch.
    pub limits: Vec<&'static str>,
}

#[derive(Clone)]
struct Folder {
    root: PathBuf,
    options: Options,
    repositories: Arc<Mutex<BTreeMap<String, Arc<Mutex<State>>>>>,
    opened: Arc<Mutex<Vec<String>>>,
}

struct Bare {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    options: Options,
}

impl Remote for Folder {
    type Repo = Bare;

    async fn open(&self, access: Access) -> Result<Bare, Refusal> {
        self.opened.lock().unwrap().push(access.path.clone());
        let allowed = match &access.credentials {
            Some(Credentials::Basic { user, password }) => user == TOKEN || password == TOKEN,
            Some(Credentials::Bearer(token)) => token == TOKEN,
            None => false,
        };
        if !allowed {
            return Err(Refusal::unauthorized(
                "this remote wants the token of the upload as password",
            ));
        }
        let state = self.repositories.lock().unwrap().get(&access.path).cloned();
        let Some(state) = state else {
            return Err(Refusal::not_found("there is no such upload"));
        };
        if access.path == "gone" {
            return Err(Refusal::gone("this upload has expired; create a new one"));
        }
        let path = self.root.join(format!("{}.git", access.path));
        Ok(Bare { path, state, options: self.options.clone() })
    }
}

impl Repository for Bare {
    async fn refs(&self) -> Result<Vec<Ref>, Refusal> {
        let state = self.state.lock().unwrap();
        Ok(state.refs.iter().map(|(name, id)| Ref { name: name.clone(), id: *id }).collect())
    }

    async fn shallow(&self) -> Result<Vec<ObjectId>, Refusal> {
        Ok(self.state.lock().unwrap().shallow.clone())
    }

    async fn objects_dir(&self) -> Result<PathBuf, Refusal> {
        Ok(self.path.join("objects"))
    }

    fn quarantine_root(&self) -> PathBuf {
        self.path.join("quarantine")
    }

    async fn head(&self) -> Result<Option<Head>, Refusal> {
        let state = self.state.lock().unwrap();
        Ok(Some(Head::Branch(state.head.clone().unwrap_or_else(|| "refs/heads/trunk".into()))))
    }

    fn fetch_policy(&self) -> FetchPolicy {
        self.options.fetch_policy.clone()
    }

    fn fetched(&self, figures: FetchFigures) {
        self.state.lock().unwrap().fetches.push(figures);
    }

    fn fetch_limited(&self, limit: &'static str) {
        self.state.lock().unwrap().limits.push(limit);
    }

    fn refused(&self, by: RefusedBy) {
        if let RefusedBy::Limit(limit) = by {
            self.state.lock().unwrap().limits.push(limit);
        }
    }

    fn policy(&self) -> Policy {
        self.options.policy.clone()
    }

    fn owner(&self) -> Option<u128> {
        self.options.owner
    }

    async fn announced(&self, push: &Announced<'_>) -> Result<(), Refusal> {
        if let Some(sentence) = self.options.refuse_push {
            return Err(Refusal::forbidden(sentence));
        }
        match push.options.iter().find(|option| option.starts_with("unknown")) {
            Some(option) => Err(Refusal::forbidden(format!("unknown push option {option}"))),
            None => Ok(()),
        }
    }

    fn receiving(&self, progress: ReceiveProgress) {
        self.state.lock().unwrap().progress = progress;
    }

    async fn commit(
        &self,
        push: CheckedPush,
        mut messages: Messages,
    ) -> Result<Vec<CommandOutcome>, Refusal> {
        messages.progress("storing the push").await;
        tokio::time::sleep(self.options.commit_delay).await;
        if let Some(sentence) = self.options.refuse_commit {
            return Err(Refusal::forbidden(sentence));
        }
        let mut state = self.state.lock().unwrap();
        let decisions = refs::plan(&state.refs, &push.commands, &push.rejected, push.atomic);
        let nothing_left = decisions.iter().all(|decision| decision.rejection().is_some());
        if let Some(pack) = push.pack.filter(|_| !nothing_left) {
            pack.publish(&self.path.join("objects")).map_err(Refusal::internal)?;
        }
        for (command, decision) in push.commands.iter().zip(&decisions) {
            match decision {
                Decision::Write => state.refs.insert(command.name.clone(), command.new),
                Decision::Delete => state.refs.remove(&command.name),
                Decision::AlreadyGone | Decision::Reject(_) => None,
            };
        }
        state.shallow.extend(push.new_shallow);
        state.head = refs::choose_head(state.refs.keys().map(String::as_str), None, "main");
        state.commits += 1;
        state.options = push.options;
        state.observations = push.observations;
        write_refs(&self.path, &state);
        Ok(decisions.into_iter().map(CommandOutcome::from).collect())
    }
}

/// The refs as files, so that git itself can judge the repository.
fn write_refs(path: &Path, state: &State) {
    let mut packed = String::from("# pack-refs with: sorted\n");
    for (name, id) in &state.refs {
        packed.push_str(&format!("{id} {name}\n"));
    }
    std::fs::write(path.join("packed-refs"), packed).unwrap();
    if let Some(head) = &state.head {
        std::fs::write(path.join("HEAD"), format!("ref: {head}\n")).unwrap();
    }
    if !state.shallow.is_empty() {
        let lines: Vec<String> = state.shallow.iter().map(ToString::to_string).collect();
        std::fs::write(path.join("shallow"), lines.join("\n") + "\n").unwrap();
    }
}

/// A server on a free port, with the repositories `repo` and `gone`.
pub struct Server {
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
    remote: Folder,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let remote = Folder {
            root: folder.path().to_owned(),
            options: options.clone(),
            repositories: Arc::default(),
            opened: Arc::default(),
        };
        for name in ["repo", "gone"] {
            let path = folder.path().join(format!("{name}.git"));
            for directory in ["objects/pack", "objects/info", "refs/heads"] {
                std::fs::create_dir_all(path.join(directory)).unwrap();
            }
            std::fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
            std::fs::write(path.join("config"), "[core]\n\tbare = true\n").unwrap();
            remote.repositories.lock().unwrap().insert(name.into(), Arc::default());
            quarantine::sweep(&path.join("quarantine")).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let service = Service::new(remote.clone(), options.config);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let handler = hyper::service::service_fn(move |request| {
                        let service = service.clone();
                        async move { Ok::<_, std::convert::Infallible>(service.handle(request).await) }
                    });
                    let io = hyper_util::rt::TokioIo::new(socket);
                    let builder = hyper_util::server::conn::auto::Builder::new(
                        hyper_util::rt::TokioExecutor::new(),
                    );
                    let _ = builder.serve_connection(io, handler).await;
                });
            }
        });
        Self { address, folder, remote, _runtime: runtime }
    }

    /// The address with the token in it.
    pub fn url(&self) -> String {
        format!("http://x:{TOKEN}@{}/repo.git", self.address)
    }

    /// The address without.
    pub fn bare_url(&self, repository: &str) -> String {
        format!("http://{}/{repository}.git", self.address)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("repo.git")
    }

    pub fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let state = self.remote.repositories.lock().unwrap()["repo"].clone();
        let state = state.lock().unwrap();
        look(&state)
    }

    pub fn ref_id(&self, name: &str) -> Option<String> {
        self.state(|state| state.refs.get(name).map(ToString::to_string))
    }

    pub fn ref_names(&self) -> Vec<String> {
        self.state(|state| state.refs.keys().cloned().collect())
    }

    /// How many requests asked for a repository.
    pub fn opened(&self) -> usize {
        self.remote.opened.lock().unwrap().len()
    }

    pub fn packs(&self) -> usize {
        let entries = std::fs::read_dir(self.path().join("objects/pack")).unwrap();
        entries
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "pack"))
            .count()
    }

    /// Waits until no quarantine is left: the work of a push may outlive its connection briefly.
    pub fn assert_clean(&self) {
        let root = self.path().join("quarantine");
        let left = || std::fs::read_dir(&root).map_or(0, Iterator::count);
        for _ in 0..100 {
            if left() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} quarantines are left", left());
    }

    /// Nothing of any push is visible, and nothing is left over.
    pub fn assert_untouched(&self) {
        self.assert_clean();
        assert!(self.ref_names().is_empty());
        assert_eq!(self.packs(), 0);
        assert_eq!(self.state(|state| state.commits), 0);
    }

    /// Git itself finds nothing wrong with what was stored.
    pub fn fsck(&self) {
        self.assert_clean();
        for git in git::versions() {
            let run = git.run(&self.path(), &["fsck", "--full", "--strict", "--no-dangling"]);
            assert!(run.ok, "{run:?}");
        }
    }
}
