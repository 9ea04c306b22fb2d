//! The commit of a push: refs, pack, repository, status and job, all or nothing.
//!
//! Locks are taken in one order everywhere: upload, then project, then repository,
//! then a queued job. Jobs keep to it too, so that two transactions never wait for
//! each other.

use serde_json::{Value as JsonValue, json};
use sluice_git::refs::{self, Decision};
use sluice_git::{Command, ObjectId};
use uuid::Uuid;

use super::refs::{add_shallow, bound, current, head, move_refs};
use super::{ObjectFormat, Signer, Upload, columns};
use crate::db::jobs::{self, JobKind, NewJob};
use crate::db::project_events::{self, NewProjectEvent};
use crate::db::usage::{self, Full, Kept, Kind, Quotas};
use crate::db::{Db, Result, Tx, Value, args, new_id, now, repositories, statements};

statements! {
    LOCK = pair(
        concat!(
            "SELECT ", columns!(), " FROM git_uploads \
             WHERE id = $1 AND (deleted_at IS NULL OR internal)"
        ),
        concat!(
            "SELECT ", columns!(), " FROM git_uploads \
             WHERE id = $1 AND (deleted_at IS NULL OR internal) FOR UPDATE"
        )
    );
    ADD_PACK = "INSERT INTO upload_packs (upload_id, name, pack_key, index_key, bytes, objects, \
                created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    ADD_PUSH = "INSERT INTO pushes (id, upload_id, owner_id, project_id, commands, observations, \
                agent, bytes, objects, created_at, certificate, signed_by) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    FIND_PUSH = "SELECT objects FROM pushes WHERE id = $1 AND upload_id = $2";
    WANT = "UPDATE git_uploads SET wanted_ref = $2 WHERE id = $1";
    PUSHED = "UPDATE git_uploads SET status = $2, scan_id = $3, head_commit = $4, head_ref = $5, \
              error = $6, repository_id = $7, project_id = $8, pushes = pushes + 1, \
              bytes_received = bytes_received + $9, objects_received = objects_received + $10, \
              pushed_at = $11, stored_bytes = stored_bytes + $12, receiving_until = NULL, \
              receiving_bytes = 0, receiving_objects = 0, version = version + 1, \
              object_format = $13, signed_by = $14 WHERE id = $1";
}

/// A pack that is in storage already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPack {
    /// Name as git derives it, hex.
    pub name: String,
    /// Where the pack is stored.
    pub pack_key: String,
    /// Where its index is stored.
    pub index_key: String,
    /// Size of the stored pack.
    pub bytes: u64,
    /// Size of its stored index.
    pub index_bytes: u64,
    /// Objects in it.
    pub objects: u64,
}

impl NewPack {
    /// Bytes of both.
    pub fn stored_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.index_bytes)
    }
}

/// What the push options ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// `-o no-scan`: ingest, but do not scan.
    pub no_scan: bool,
    /// New blobs of the history are scanned too.
    pub history: bool,
    /// `-o project=NAME`, looked up: where the repository is made if this push makes
    /// it. It must be the owner's.
    pub project_id: Option<Uuid>,
}

/// A push whose pack is checked and stored.
#[derive(Debug, Clone)]
pub struct CommitPush {
    /// Where to.
    pub upload_id: Uuid,
    /// In the order of the client.
    pub commands: Vec<Command>,
    /// For each command the reason for which it was refused already, if it was.
    pub rejected: Vec<Option<&'static str>>,
    /// All or nothing.
    pub atomic: bool,
    /// Commits whose parents the client does not have.
    pub new_shallow: Vec<ObjectId>,
    /// What it brought, if anything.
    pub pack: Option<NewPack>,
    /// Bytes that came in.
    pub received_bytes: u64,
    /// Objects that came in.
    pub received_objects: u64,
    /// What was odd in it but accepted.
    pub observations: JsonValue,
    /// The client's program.
    pub agent: Option<String>,
    /// The certificate of a signed push, as it came.
    pub certificate: Option<Vec<u8>>,
    /// What was found out about its signature.
    pub signed_by: Option<Signer>,
    /// Most refs that the upload may have.
    pub max_refs: usize,
    /// Most bytes that may be kept.
    pub quotas: Quotas,
    /// What the push options ask for.
    pub options: PushOptions,
    /// Set if nobody pushed: a job brought this into the store of its repository, is to
    /// ingest this ref, and goes on with that itself.
    pub brought: Option<String>,
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushOutcome {
    /// One for each command, in order.
    pub decisions: Vec<Decision>,
    /// A ref moved. If none did, nothing was recorded, and the pack that was stored
    /// for it belongs to nobody.
    pub moved: bool,
    /// The stored pack belongs to the upload from now on. False if an earlier push
    /// brought the same pack, or nothing moved: then what was stored for this push
    /// belongs to nobody.
    pub recorded: bool,
    /// Names it, if a ref moved: see [`was_recorded`].
    pub push_id: Option<Uuid>,
    /// The repository that will show the head.
    pub repository_id: Option<Uuid>,
    /// The ref that is ingested.
    pub head_ref: Option<String>,
    /// What it points to.
    pub head_commit: Option<String>,
    /// An ingest job was inserted, or one that waits will do this head.
    pub ingests: bool,
    /// A quota does not suffice: every command is refused, and the transaction must be
    /// dropped, as it has written already what it may not.
    pub full: Option<Full>,
}

/// The reason where a quota does not suffice.
pub const NO_ROOM: &str = "the quota of stored bytes does not suffice";

/// The reason where the upload went away while the push was received.
const GONE: &str = "this remote was deleted";

/// The reason where a push of the other kind came first.
const OTHER_FORMAT: &str = "objects of this remote are named by another hash function";

/// Compares and swaps the refs, and records all that follows from it. Nothing holds
/// before `tx` is committed.
pub async fn commit_push(tx: &mut Tx, push: &CommitPush) -> Result<PushOutcome> {
    // 1. One push of an upload at a time; the rest of a push runs outside of this.
    let refused = |why| PushOutcome {
        decisions: vec![Decision::Reject(why); push.commands.len()],
        moved: false,
        recorded: false,
        push_id: None,
        repository_id: None,
        head_ref: None,
        head_commit: None,
        ingests: false,
        full: None,
    };
    let Some(mut upload) = tx.fetch_optional::<Upload>(LOCK, args![push.upload_id]).await? else {
        return Ok(refused(GONE));
    };
    tx.wake(upload.id);
    let format = push.commands.first().map(|command| ObjectFormat::of(&command.new));
    if upload.object_format().is_some() && upload.object_format() != format {
        return Ok(refused(OTHER_FORMAT));
    }

    // 2. Decide against the refs as they are now.
    let current = current(tx, upload.id, &push.commands).await?;
    let mut decisions = refs::plan(&current, &push.commands, &push.rejected, push.atomic);
    bound(tx, push, &current, &mut decisions).await?;
    let moved = push.commands.iter().zip(&decisions).any(|(command, decision)| match decision {
        Decision::Write => current.get(&command.name) != Some(&command.new),
        Decision::Delete => true,
        Decision::AlreadyGone | Decision::Reject(_) => false,
    });
    let mut outcome = PushOutcome {
        decisions,
        moved,
        recorded: false,
        push_id: None,
        repository_id: upload.repository_id,
        head_ref: upload.head_ref.clone(),
        head_commit: upload.head_commit.clone(),
        ingests: false,
        full: None,
    };
    if !moved {
        tx.execute(super::RECEIVED, args![upload.id]).await?;
        return Ok(outcome);
    }

    // 3. Refs, pack, shallow commits.
    let at = now();
    if let Some(name) = &push.brought {
        tx.execute(WANT, args![upload.id, name]).await?;
        upload.wanted_ref = Some(name.clone());
    }
    move_refs(tx, upload.id, &push.commands, &outcome.decisions, at).await?;
    add_shallow(tx, upload.id, &push.new_shallow).await?;
    if let Some(pack) = &push.pack {
        outcome.recorded = add_pack(tx, upload.id, pack, at).await?;
    }

    // 4. Where HEAD points now, and what follows from it.
    let head = head(tx, &upload).await?;
    let head_commit = head.as_ref().map(|head| head.oid.clone());
    let head_ref = head.as_ref().map(|head| head.name.clone());
    let mut project_id = upload.project_id;
    let (status, scan_id, error) = match &head {
        None => ("awaiting_push", None, None),
        Some(_) if push.brought.is_some() => ("processing", None, None),
        // Only other refs moved: whatever became of this head stays true.
        Some(head)
            if upload.head_commit.as_ref() == Some(&head.oid) && upload.repository_id.is_some() =>
        {
            (upload.status.as_str(), upload.scan_id, upload.error.as_ref().map(|e| &e.0))
        }
        Some(head) => {
            let (repository_id, in_project) = repository(tx, &upload, push).await?;
            outcome.repository_id = Some(repository_id);
            project_id = in_project;
            queue_ingest(tx, &upload, repository_id, &head.oid, push.options).await?;
            outcome.ingests = true;
            ("processing", None, None)
        }
    };

    // 5. The push itself, if it was one.
    let push_id = new_id();
    outcome.push_id = Some(push_id);
    let stored = push.pack.as_ref().filter(|_| outcome.recorded).map_or(0, NewPack::stored_bytes);
    if push.brought.is_none() {
        tx.execute(
            ADD_PUSH,
            args![
                push_id,
                upload.id,
                upload.owner_id,
                project_id,
                Value::json(&commands_json(&push.commands, &outcome.decisions)),
                Value::json(&push.observations),
                &push.agent,
                push.received_bytes,
                push.received_objects,
                at,
                Value::Bytes(push.certificate.clone()),
                Value::json_opt(push.signed_by.as_ref())
            ],
        )
        .await?;
    }
    tx.execute(
        PUSHED,
        args![
            upload.id,
            status,
            scan_id,
            &head_commit,
            &head_ref,
            Value::json_opt(error),
            outcome.repository_id,
            project_id,
            push.received_bytes,
            push.received_objects,
            at,
            stored,
            format.map(ObjectFormat::as_str),
            Value::json_opt(push.signed_by.as_ref())
        ],
    )
    .await?;
    if push.brought.is_none() {
        let mut event = NewProjectEvent::info(
            Uuid::nil(),
            "upload.pushed",
            "A push was accepted.",
            json!({
                "upload_id": upload.id,
                "ref": &head_ref,
                "commit": &head_commit,
                "bytes": push.received_bytes,
                "objects": push.received_objects,
            }),
        );
        event.repository_id = outcome.repository_id;
        project_events::append(tx, project_id, &[event]).await?;
    }
    outcome.head_commit = head_commit;
    outcome.head_ref = head_ref;

    // 6. What it costs, and whether that may be.
    let kept = meter(tx, &upload, push, project_id, push_id, at, outcome.recorded).await?;
    if outcome.recorded {
        let of_upload =
            upload.stored_bytes.saturating_add(i64::try_from(stored).unwrap_or(i64::MAX));
        outcome.full = push.quotas.exceeded(of_upload, kept);
    }
    if outcome.full.is_some() {
        outcome.decisions = vec![Decision::Reject(NO_ROOM); push.commands.len()];
        (outcome.moved, outcome.recorded, outcome.ingests) = (false, false, false);
    }
    Ok(outcome)
}

/// Whether the transaction of a push happened, for whoever lost the connection while it
/// was committed. Waits for it, should it still be under way.
pub async fn was_recorded(db: &Db, upload_id: Uuid, push_id: Uuid) -> Result<bool> {
    let mut tx = db.begin().await?;
    tx.fetch_optional::<Upload>(LOCK, args![upload_id]).await?;
    let found = tx.fetch_optional::<(i64,)>(FIND_PUSH, args![push_id, upload_id]).await?;
    tx.rollback().await?;
    Ok(found.is_some())
}

/// Counts the push, if it was one, and what is kept of it; answers what the project keeps then, if
/// that is more.
async fn meter(
    tx: &mut Tx,
    upload: &Upload,
    push: &CommitPush,
    project_id: Uuid,
    push_id: Uuid,
    at: i64,
    recorded: bool,
) -> Result<i64> {
    let owner_id = upload.owner_id;
    // What was fetched is no push.
    if push.brought.is_none() {
        let quantities = &[(Kind::BytesReceived, push.received_bytes), (Kind::Pushes, 1)];
        let event = usage::Event { subject_id: push_id, owner_id, project_id, at, quantities };
        usage::record(tx, &event).await?;
    }
    match push.pack.as_ref().filter(|_| recorded) {
        Some(pack) => keep(tx, upload.id, owner_id, project_id, std::slice::from_ref(pack)).await,
        None => Ok(0),
    }
}

/// Counts what is stored of packs.
pub(super) async fn keep(
    tx: &mut Tx,
    upload_id: Uuid,
    owner_id: Uuid,
    project_id: Uuid,
    packs: &[NewPack],
) -> Result<i64> {
    let kept = |key, bytes| Kept { key, holder_id: upload_id, owner_id, project_id, bytes };
    let kept: Vec<Kept<'_>> = packs
        .iter()
        .flat_map(|pack| {
            [kept(&*pack.pack_key, pack.bytes), kept(&*pack.index_key, pack.index_bytes)]
        })
        .collect();
    usage::keep(tx, &kept).await
}

/// Records a pack; false if the upload has it already.
async fn add_pack(tx: &mut Tx, upload_id: Uuid, pack: &NewPack, at: i64) -> Result<bool> {
    let args =
        args![upload_id, &pack.name, &pack.pack_key, &pack.index_key, pack.bytes, pack.objects, at];
    Ok(tx.execute(ADD_PACK, args).await? == 1)
}

/// Refs, shallow commits and packs of an upload that has none yet.
pub(super) async fn record(
    tx: &mut Tx,
    upload_id: Uuid,
    refs: &[(String, ObjectId)],
    shallow: &[ObjectId],
    packs: &[NewPack],
    at: i64,
) -> Result<()> {
    let commands: Vec<Command> = refs
        .iter()
        .map(|(name, id)| Command {
            name: name.clone(),
            old: ObjectId::null(gix_hash::Kind::Sha1),
            new: *id,
        })
        .collect();
    move_refs(tx, upload_id, &commands, &vec![Decision::Write; commands.len()], at).await?;
    add_shallow(tx, upload_id, shallow).await?;
    for pack in packs {
        add_pack(tx, upload_id, pack, at).await?;
    }
    Ok(())
}

/// The refs that moved, for the record of the push; `null` stands for no object.
fn commands_json(commands: &[Command], decisions: &[Decision]) -> Vec<JsonValue> {
    let hex = |id: &ObjectId| (!id.is_null()).then(|| id.to_string());
    commands
        .iter()
        .zip(decisions)
        .filter(|(_, decision)| decision.rejection().is_none())
        .map(|(c, _)| json!({ "ref": c.name, "old": hex(&c.old), "new": hex(&c.new) }))
        .collect()
}

/// The repository that the push fills, and its project: made by the first push.
async fn repository(tx: &mut Tx, upload: &Upload, push: &CommitPush) -> Result<(Uuid, Uuid)> {
    if let Some(id) = upload.repository_id
        && let Some(project_id) = repositories::new_head(tx, id).await?
    {
        return Ok((id, project_id));
    }
    let project_id = push.options.project_id.unwrap_or(upload.project_id);
    let new = repositories::NewRepository {
        project_id,
        owner_id: upload.owner_id,
        name: upload.name.clone(),
        description: String::new(),
        source_type: repositories::SourceType::GitUpload,
        source_url: None,
        source_ref: None,
    };
    let id = repositories::create(tx, &new).await?.id;
    repositories::new_head(tx, id).await?;
    Ok((id, project_id))
}

/// Inserts the ingest job. One that still waits for this repository takes this head
/// over instead, so that a hundred quick pushes are ingested once; it scans if any
/// of them asked for it.
async fn queue_ingest(
    tx: &mut Tx,
    upload: &Upload,
    repository_id: Uuid,
    commit: &str,
    options: PushOptions,
) -> Result<()> {
    let job = NewJob {
        kind: JobKind::Ingest,
        subject_id: repository_id,
        owner_id: Some(upload.owner_id),
        payload: json!({
            "upload_id": upload.id,
            "commit": commit,
            "scan": upload.scan && !options.no_scan,
            "history": options.history,
            "trigger": "push",
        }),
    };
    jobs::insert_or_merge(tx, job, |waiting, payload| {
        for wish in ["scan", "history"] {
            if waiting.get(wish).and_then(JsonValue::as_bool) == Some(true) {
                payload[wish] = JsonValue::Bool(true);
            }
        }
    })
    .await?;
    Ok(())
}
