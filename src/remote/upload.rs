//! One upload, opened for one request: refs from the database, objects from the
//! cache, and the commit of a push.

mod record;
mod refuse;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_git::refs::reason;
use sluice_git::{
    Announced, Certificate, CheckedPush, CommandOutcome, FetchFigures, FetchPolicy, Head, Messages,
    Nonces, ObjectId, Policy, ReceiveProgress, Ref, Refusal, RefusalKind, RefusedBy, Repository,
    fault, firewall::Room,
};
use uuid::Uuid;

use super::access::database;
use super::options::Wishes;
use super::turns::{Turn, Turns};
use super::{follow, protection};
use crate::bare;
use crate::db::uploads::{self, CommitPush, PushOutcome, SignatureStatus, Signer, Upload};
use crate::db::usage::{self, Quotas};
use crate::db::{DbError, now, signing_keys};
use crate::quota::{self, Stored};
use crate::server::App;
use refuse::{at_hand, check, object_id};

/// How often a push under way is shown: each time is a transaction.
const SHOW: Duration = Duration::from_secs(1);

/// How old the nonce of a signed push may be: between the advertisement and the push
/// somebody may have to type a pass phrase.
const NONCE_SLOP: Duration = Duration::from_secs(15 * 60);

/// How long a push counts as under way after it was last shown (microseconds).
const SHOWN: i64 = 15_000_000;

/// What was found at the door.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) upload: Upload,
    /// Bytes that its project keeps, if that was read.
    pub(super) project_stored: Option<i64>,
    /// Where pushes with one token are counted, and the token's id.
    pub(super) turn: Option<(Turns, Uuid)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct UploadRepository {
    app: App,
    upload: Upload,
    project_stored: Option<i64>,
    turns: Option<(Turns, Uuid)>,
    // Held while a push is received and stored.
    turn: Mutex<Option<Turn>>,
    // How much more may be kept, once the push was announced.
    room: Mutex<Option<Room>>,
    opened: Instant,
    shown: Mutex<Option<Instant>>,
    // Set by the commit: then nothing is left to be taken back.
    committed: AtomicBool,
    // Set while nobody knows whether the commit happened.
    in_doubt: AtomicBool,
    // The ref to be ingested, where a job fills the store of its repository.
    brought: Option<String>,
    // The objects that this request works on stay at hand until it ends.
    held: Mutex<Option<bare::Objects>>,
}

impl UploadRepository {
    pub(super) fn new(app: App, opened: Opened) -> Self {
        Self {
            app,
            upload: opened.upload,
            project_stored: opened.project_stored,
            turns: opened.turn,
            turn: Mutex::new(None),
            room: Mutex::new(None),
            opened: Instant::now(),
            shown: Mutex::new(None),
            committed: AtomicBool::new(false),
            in_doubt: AtomicBool::new(false),
            brought: None,
            held: Mutex::new(None),
        }
    }

    /// The store of a repository, for the job that fills it: see
    /// [`CommitPush::brought`].
    pub(super) fn internal(app: App, upload: Upload, brought: String) -> Self {
        let mut store = Self::new(app, Opened { upload, project_stored: None, turn: None });
        store.brought = Some(brought);
        store
    }

    /// What was opened.
    pub(super) fn into_upload(self) -> Upload {
        self.upload.clone()
    }

    /// Counts this push among those with its token.
    fn take_turn(&self) -> Result<(), Refusal> {
        let Some((turns, token)) = &self.turns else { return Ok(()) };
        let most = self.app.config.limits.pushes_per_token;
        let Some(turn) = turns.take(*token, most) else {
            self.app.metrics.push_refused("limit");
            self.app.metrics.limit_hit("pushes_per_token");
            let wait = Duration::from_secs(30);
            return Err(Refusal::new(
                RefusalKind::TooManyRequests(wait),
                format!(
                    "{most} pushes with this token are under way, the limit \
                     (SLUICE_LIMIT_PUSHES_PER_TOKEN); push again when one of them has ended."
                ),
            ));
        };
        *lock(&self.turn) = Some(turn);
        Ok(())
    }

    /// Finds out how much more may be kept where the push goes.
    async fn look_for_room(&self, project: Option<Uuid>) -> Result<(), Refusal> {
        // The first push of a remote may choose another project.
        let chosen = project.filter(|_| self.upload.repository_id.is_none());
        let project = match (chosen, self.project_stored) {
            (None, Some(bytes)) => bytes,
            (chosen, _) => {
                let id = chosen.unwrap_or(self.upload.project_id);
                usage::stored(&self.app.db, id).await.map_err(database)?
            }
        };
        let upload = self.brought.is_none().then_some(self.upload.stored_bytes);
        let room = quota::room(&self.app, Stored { upload, project }).await.map_err(database)?;
        *lock(&self.room) = room;
        Ok(())
    }

    fn quotas(&self) -> Quotas {
        let quotas = quota::quotas(&self.app);
        // The store of a repository is no remote.
        if self.brought.is_some() { Quotas { upload: 0, ..quotas } } else { quotas }
    }

    /// Counts a push that was not taken. What a job brings is none.
    fn count_refused(&self, reason: &'static str) {
        if self.brought.is_none() {
            self.app.metrics.push_refused(reason);
        }
    }

    /// Counts what was taken, and what was not.
    fn count(&self, push: &CommitPush, outcome: &PushOutcome) {
        let metrics = &self.app.metrics;
        let mut rejections = outcome.decisions.iter().filter_map(|decision| decision.rejection());
        if rejections.clone().any(|why| why == reason::TOO_MANY) {
            metrics.limit_hit("upload_refs");
        }
        match (outcome.moved, self.brought.is_some()) {
            (true, true) => metrics.fetched_by_url("git", push.received_bytes),
            (true, false) => metrics.push_accepted(push.received_bytes, push.received_objects),
            (false, _) if rejections.next().is_some() => self.count_refused("refs"),
            (false, _) => {}
        }
    }

    /// Who signed, as far as it can be known here.
    async fn signer(&self, certificate: &Certificate) -> Result<Signer, Refusal> {
        let fingerprint = check(certificate)?;
        let key = match &fingerprint {
            Some(print) => signing_keys::find(&self.app.db, self.upload.owner_id, print)
                .await
                .map_err(database)?,
            None => None,
        };
        let status = match (&fingerprint, &key) {
            (Some(_), Some(_)) => SignatureStatus::Good,
            (Some(_), None) => SignatureStatus::UnknownKey,
            (None, _) => SignatureStatus::Unverified,
        };
        let pusher = certificate.pusher.chars().filter(|c| !c.is_control()).take(300).collect();
        Ok(Signer { status, fingerprint, name: key.map(|key| key.name), pusher })
    }

    async fn tell(&self, messages: &mut Messages, outcome: &PushOutcome, no_scan: bool) {
        let Some(repository) = outcome.repository_id.filter(|_| outcome.ingests) else { return };
        let next = if self.upload.scan && !no_scan { "It will be scanned." } else { "No scan." };
        messages
            .say(&format!(
                "sluice: {} is safe with us. {next}",
                outcome.head_commit.as_deref().map_or("the push", |c| c.get(..12).unwrap_or(c)),
            ))
            .await;
        messages
            .say(&format!(
                "sluice: findings at {}/v1/repositories/{repository}/findings",
                self.app.public_url
            ))
            .await;
    }
}

impl Repository for UploadRepository {
    async fn refs(&self) -> Result<Vec<Ref>, Refusal> {
        uploads::refs(&self.app.db, self.upload.id)
            .await
            .map_err(database)?
            .into_iter()
            .map(|row| Ok(Ref { id: object_id(&row.oid)?, name: row.name }))
            .collect()
    }

    async fn shallow(&self) -> Result<Vec<ObjectId>, Refusal> {
        uploads::shallow(&self.app.db, self.upload.id)
            .await
            .map_err(database)?
            .iter()
            .map(|oid| object_id(oid))
            .collect()
    }

    async fn objects_dir(&self) -> Result<PathBuf, Refusal> {
        let objects = bare::objects(&self.app, self.upload.id).await.map_err(at_hand)?;
        let path = objects.to_path_buf();
        *lock(&self.held) = Some(objects);
        Ok(path)
    }

    fn quarantine_root(&self) -> PathBuf {
        bare::incoming(&self.app)
    }

    fn owner(&self) -> Option<u128> {
        Some(self.upload.owner_id.as_u128())
    }

    fn object_hash(&self) -> gix_hash::Kind {
        self.upload.hash()
    }

    async fn head(&self) -> Result<Option<Head>, Refusal> {
        // Before the first push it is what that push will most likely make it.
        let name = self.upload.head_ref.clone().unwrap_or_else(|| "refs/heads/main".to_owned());
        Ok(Some(Head::Branch(name)))
    }

    fn fetch_policy(&self) -> FetchPolicy {
        let mut policy = FetchPolicy::default();
        // One limit for both ways: how long a client may hold a connection.
        policy.limits.wall_time = Duration::from_secs(self.app.config.limits.push_seconds);
        policy
    }

    fn fetched(&self, figures: FetchFigures) {
        self.app.metrics.fetched(figures.clone, figures.bytes, u64::from(figures.objects));
    }

    fn fetch_limited(&self, limit: &'static str) {
        if let Some(limit) = quota_behind(limit) {
            self.app.metrics.limit_hit(limit);
        }
    }

    fn policy(&self) -> Policy {
        let limits = &self.app.config.limits;
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let mut policy = Policy {
            // As git does for a bare repository: the branch that HEAD names stays.
            current_branch: self.upload.head_ref.clone().filter(|_| self.brought.is_none()),
            max_refs: number(limits.upload_refs),
            certificates: self.brought.is_none().then(|| {
                let keys = self.app.keys.push_nonces();
                let nonces = Nonces::new(*keys[0], self.upload.id.to_string(), NONCE_SLOP);
                keys[1..].iter().fold(nonces, |nonces, key| nonces.accepting(**key))
            }),
            either_hash: self.brought.is_none() && self.upload.object_format().is_none(),
            ..Policy::default()
        };
        policy.commands.commands = number(limits.push_commands);
        policy.limits.pack_bytes = limits.push_bytes;
        policy.limits.objects = u32::try_from(limits.push_objects).unwrap_or(u32::MAX);
        policy.limits.object_bytes = limits.object_bytes;
        policy.limits.inflated_bytes = limits.push_inflated_bytes;
        policy.limits.resolved_bytes = limits.push_resolved_bytes;
        policy.limits.delta_depth = u16::try_from(limits.delta_depth).unwrap_or(u16::MAX);
        policy.limits.tree_entries = u32::try_from(limits.tree_entries).unwrap_or(u32::MAX);
        policy.limits.path_bytes = u32::try_from(limits.path_bytes).unwrap_or(u32::MAX);
        policy.limits.wall_time = Duration::from_secs(match self.brought {
            None => limits.push_seconds,
            Some(_) => limits.fetch_seconds,
        });
        policy
    }

    async fn announced(&self, push: &Announced<'_>) -> Result<(), Refusal> {
        let understood = async {
            if let Some(certificate) = push.certificate {
                check(certificate)?;
            }
            Wishes::parse(push.options)?.resolve(&self.app, &self.upload).await
        };
        let options = understood.await.inspect_err(|_| self.count_refused("policy"))?;
        self.take_turn()?;
        self.look_for_room(options.project_id).await
    }

    fn room(&self) -> Option<Room> {
        lock(&self.room).clone()
    }

    fn receiving(&self, progress: ReceiveProgress) {
        // A push that is over in a moment is never shown: it would only cost.
        if self.brought.is_some() || self.opened.elapsed() < SHOW / 2 {
            return;
        }
        {
            let mut shown = lock(&self.shown);
            if shown.is_some_and(|at| at.elapsed() < SHOW) {
                return;
            }
            *shown = Some(Instant::now());
        }
        let (app, id, pushes) = (self.app.clone(), self.upload.id, self.upload.pushes);
        tokio::spawn(async move {
            let (bytes, objects) = (progress.bytes, u64::from(progress.objects));
            let until = now() + SHOWN;
            if let Err(error) = uploads::receiving(&app.db, id, pushes, bytes, objects, until).await
            {
                tracing::warn!("cannot show a push under way: {error}");
            }
        });
    }

    fn refused(&self, by: RefusedBy) {
        match by {
            RefusedBy::Limit(name) => {
                self.count_refused("limit");
                // The time of a fetch is counted where the fetch ends.
                let late = ["wall_time", "idle_timeout"].contains(&name);
                if let Some(limit) = quota_behind(name).filter(|_| self.brought.is_none() || !late)
                {
                    self.app.metrics.limit_hit(limit);
                }
            }
            RefusedBy::Content => self.count_refused("content"),
            RefusedBy::Server => self.count_refused("unavailable"),
        }
    }

    async fn commit(
        &self,
        push: CheckedPush,
        mut messages: Messages,
    ) -> Result<Vec<CommandOutcome>, Refusal> {
        let wishes = Wishes::parse(&push.options)?;
        let options = wishes.resolve(&self.app, &self.upload).await?;
        let signed_by = match &push.certificate {
            Some(certificate) => Some(self.signer(certificate).await?),
            None => None,
        };

        // 0. What the person who pushes does not want to be here goes no further.
        if let Some(threshold) = wishes.fail_on {
            let refused =
                protection::check(&self.app, &self.upload, &push, threshold, &mut messages)
                    .await
                    .inspect_err(|_| self.count_refused("unavailable"))?;
            if let Some(protection::Refused(why)) = refused {
                self.count_refused("protection");
                return Ok(vec![CommandOutcome::Rejected(why); push.commands.len()]);
            }
        }

        // 1. Objects first: no row may speak of what is not stored.
        let stored = match &push.pack {
            Some(pack) => {
                Some(self.store(pack).await.inspect_err(|_| self.count_refused("unavailable"))?)
            }
            None => None,
        };

        // 2. Refs, pack, status and job, all or nothing.
        let record = CommitPush {
            upload_id: self.upload.id,
            commands: push.commands,
            rejected: push.rejected,
            atomic: push.atomic,
            new_shallow: push.new_shallow,
            pack: stored.clone(),
            received_bytes: push.bytes_received,
            received_objects: push.pack.as_ref().map_or(0, |pack| u64::from(pack.objects)),
            observations: push
                .observations
                .iter()
                .map(|seen| {
                    json!({
                        "kind": format!("{:?}", seen.kind),
                        "object": seen.object.to_string(),
                        "detail": seen.detail,
                    })
                })
                .collect(),
            agent: push.agent.clone(),
            certificate: push.certificate.as_ref().map(|found| found.bytes().to_vec()),
            signed_by,
            max_refs: usize::try_from(self.app.config.limits.upload_refs).unwrap_or(usize::MAX),
            quotas: self.quotas(),
            options,
            brought: self.brought.clone(),
        };
        // The job may begin on this machine before the pack is at hand here: it waits for
        // it instead of bringing it from storage.
        let objects = push.pack.is_some().then(|| bare::place(&self.app, self.upload.id));
        let building = objects.as_ref().and_then(bare::Objects::build);
        let outcome = match self.record(&record).await {
            Ok(outcome) => outcome,
            Err(error) => {
                // A lost connection does not tell whether the commit happened: then the
                // pack stays for the clean-up, which asks the database.
                if let (Some(stored), false) = (&stored, matches!(error, DbError::Unavailable(_))) {
                    self.unstore(stored).await;
                }
                self.count_refused("unavailable");
                if self.in_doubt.load(Ordering::Relaxed) {
                    tracing::error!("whether a push was committed is not known: {error}");
                    return Err(Refusal::unavailable(
                        "The database went away while it took this push, and whether it did \
                         is not known; fetch to see, then push again.",
                        Duration::from_secs(5),
                    ));
                }
                return Err(database(error));
            }
        };
        self.committed.store(outcome.full.is_none(), Ordering::Relaxed);
        if let Some(full) = outcome.full {
            let limit = quota::refused(&self.app, full);
            self.count_refused("limit");
            self.app.metrics.limit_hit(limit.name);
            messages.say(&format!("sluice: {}.", limit.sentence)).await;
        } else {
            self.count(&record, &outcome);
            if outcome.recorded {
                self.app.stored.add(stored.as_ref().map_or(0, uploads::NewPack::stored_bytes));
            }
        }

        // 3. The cache. It can be rebuilt, so a failure is not the client's concern.
        if outcome.moved
            && let (Some(pack), Some(objects)) = (push.pack, objects)
        {
            // Where storage is a folder, the files are those that it has synced already.
            let synced = stored
                .as_ref()
                .is_some_and(|pack| self.app.storage.local_path(&pack.pack_key).is_some());
            let published = tokio::task::spawn_blocking(move || {
                let name = pack.name.to_string();
                if synced { pack.keep(&objects).map(drop) } else { pack.publish(&objects) }?;
                objects.came(&name);
                Ok(())
            });
            let published = published.await.map_err(std::io::Error::other);
            if let Err(error) = published.and_then(|published: std::io::Result<()>| published) {
                tracing::warn!("cannot keep a pack at hand: {error}");
            }
        }
        drop(building);
        fault::point("push.published");
        if let (Some(stored), false) = (&stored, outcome.recorded) {
            self.unstore(stored).await;
        }
        self.tell(&mut messages, &outcome, wishes.no_scan).await;
        // Whoever only waits keeps nobody from pushing.
        drop(lock(&self.turn).take());
        if let (true, true, Some(commit)) = (wishes.wait, outcome.ingests, &outcome.head_commit) {
            follow::follow(&self.app, &self.upload, commit, &mut messages).await;
        }
        Ok(outcome.decisions.into_iter().map(CommandOutcome::from).collect())
    }
}

impl Drop for UploadRepository {
    /// A push that was shown and then refused is not shown any longer.
    fn drop(&mut self) {
        let shown =
            self.shown.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).is_some();
        if shown
            && !self.committed.load(Ordering::Relaxed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (app, id) = (self.app.clone(), self.upload.id);
            runtime.spawn(async move {
                if let Err(error) = uploads::received(&app.db, id).await {
                    tracing::warn!("cannot take a push off the page: {error}");
                }
            });
        }
    }
}

/// The quota behind a limit of `sluice-git`, by which the operator knows it; none if the
/// limit cannot be set.
pub(crate) fn quota_behind(limit: &'static str) -> Option<&'static str> {
    Some(match limit {
        "objects" => "push_objects",
        "pack_bytes" => "push_bytes",
        "inflated_bytes" => "push_inflated_bytes",
        "resolved_bytes" | "resolved_ratio" => "push_resolved_bytes",
        // Follows from it.
        "delta_bytes" => "object_bytes",
        "commands" | "command_bytes" => "push_commands",
        "refs" => "upload_refs",
        "wall_time" => "push_seconds",
        "idle_timeout" => "push_idle_seconds",
        "concurrent_receives" | "concurrent_fetches" => "pushes_at_once",
        // Of the same name; so are the quotas of what is stored, which are ours.
        same => crate::config::LIMITS.iter().find(|spec| spec.name == same)?.name,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
