//! A remote as the database has it, and what is derived from that.

use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{ObjectFormat, Signer};
use crate::db::repositories::Failure;

/// A remote.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Upload {
    /// Its id; the remote is `/git/<id>.git`.
    pub id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// Where the repository is made.
    pub project_id: Uuid,
    /// What the pushes fill; none before the first.
    pub repository_id: Option<Uuid>,
    /// The scan of the newest head, once it exists.
    pub scan_id: Option<Uuid>,
    /// Name for people, and of the repository that is made.
    pub name: String,
    /// Full name of the ref that is ingested; `None`: the head of what was pushed.
    pub wanted_ref: Option<String>,
    /// A push is scanned.
    pub scan: bool,
    /// What is stored; see [`Upload::status`].
    pub(super) status: String,
    pub(super) receiving_until: Option<i64>,
    pub(super) receiving_bytes: i64,
    pub(super) receiving_objects: i64,
    /// What `head_ref` pointed to after the newest push.
    pub head_commit: Option<String>,
    /// The ref that is ingested.
    pub head_ref: Option<String>,
    /// Accepted pushes.
    pub pushes: i64,
    pub(super) bytes_received: i64,
    pub(super) objects_received: i64,
    pub(super) error: Option<Json<Failure>>,
    /// Grows with every change.
    pub version: i64,
    /// Microseconds.
    pub created_at: i64,
    /// The newest accepted push, microseconds.
    pub pushed_at: Option<i64>,
    /// From then on the remote no longer answers, microseconds.
    pub expires_at: i64,
    /// Deleted; the row stays while the repository needs its packs.
    pub deleted_at: Option<i64>,
    /// The store of a repository whose code is not pushed: see [`super::internal`].
    pub internal: bool,
    /// Bytes that are kept of it: packs, indices and objects of Git LFS.
    pub stored_bytes: i64,
    pub(super) object_format: Option<String>,
    pub(super) signed_by: Option<Json<Signer>>,
}

/// The status that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = GitUploadStatus)]
pub enum Status {
    /// Nothing to ingest has been pushed yet.
    AwaitingPush,
    /// A push is under way.
    Receiving,
    /// The newest head waits for its ingest.
    Processing,
    /// The newest head was ingested.
    Ready,
    /// The ingest of the newest head failed.
    Failed,
    /// Its time is over and nothing was pushed.
    Expired,
}

impl Upload {
    /// How long until time alone may change the status that is shown.
    pub fn turns_in(&self, at: i64) -> Option<std::time::Duration> {
        [self.receiving_until, Some(self.expires_at)]
            .into_iter()
            .flatten()
            .filter_map(|then| u64::try_from(then - at).ok())
            .min()
            .map(std::time::Duration::from_micros)
    }

    /// The status at a time (microseconds).
    pub fn status(&self, at: i64) -> Status {
        if self.receives(at) {
            return Status::Receiving;
        }
        match self.status.as_str() {
            "processing" => Status::Processing,
            "ready" => Status::Ready,
            "failed" => Status::Failed,
            _ if self.pushes == 0 && self.expires_at <= at => Status::Expired,
            _ => Status::AwaitingPush,
        }
    }

    /// The remote takes pushes at this time (microseconds).
    pub fn answers(&self, at: i64) -> bool {
        self.deleted_at.is_none() && self.expires_at > at
    }

    fn receives(&self, at: i64) -> bool {
        self.receiving_until.is_some_and(|until| until > at)
    }

    /// Bytes of all accepted pushes and of the one under way.
    pub fn bytes_received(&self, at: i64) -> i64 {
        self.bytes_received + if self.receives(at) { self.receiving_bytes } else { 0 }
    }

    /// Objects of all accepted pushes and of the one under way.
    pub fn objects_received(&self, at: i64) -> i64 {
        self.objects_received + if self.receives(at) { self.receiving_objects } else { 0 }
    }

    /// Of which kind its ids are; `None` until the first push decides.
    pub fn object_format(&self) -> Option<ObjectFormat> {
        self.object_format.as_deref().and_then(|word| word.parse().ok())
    }

    /// The kind of its ids, that of most repositories until it is known.
    pub fn hash(&self) -> gix_hash::Kind {
        self.object_format().map_or(gix_hash::Kind::Sha1, ObjectFormat::hash)
    }

    /// Who signed the newest accepted push, if somebody did.
    pub fn signed_by(&self) -> Option<&Signer> {
        self.signed_by.as_ref().map(|signer| &signer.0)
    }

    /// Why the newest ingest failed.
    pub fn error(&self) -> Option<&Failure> {
        self.error.as_ref().map(|error| &error.0)
    }
}

/// What the git remote needs to know before it lets anybody in.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Remote {
    /// Hash of the upload's own token.
    pub token_hash: Vec<u8>,
    /// Bytes that its project keeps now.
    pub project_stored: Option<i64>,
    /// The rest. It may have expired: see [`Upload::answers`].
    #[sqlx(flatten)]
    pub upload: Upload,
}

/// An upload to make.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// For whom.
    pub owner_id: Uuid,
    /// In which project; the owner's.
    pub project_id: Uuid,
    /// Fills this repository of the same project instead of making one.
    pub repository_id: Option<Uuid>,
    /// Name for people; `None`: derived from the id.
    pub name: Option<String>,
    /// Full name of the ref that is ingested.
    pub wanted_ref: Option<String>,
    /// A push is scanned.
    pub scan: bool,
    /// Hash of the token.
    pub token_hash: Vec<u8>,
    /// Microseconds.
    pub expires_at: i64,
    /// Of which kind ids are; `None`: the first push decides.
    pub object_format: Option<ObjectFormat>,
}

/// A ref and the object that it points to, in hex.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Serialize, utoipa::ToSchema)]
pub struct Ref {
    /// Full name.
    pub name: String,
    /// Object id, hex.
    pub oid: String,
}

/// A stored pack.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Pack {
    /// Name as git derives it, hex.
    pub name: String,
    /// Where the pack is stored.
    pub pack_key: String,
    /// Where its index is stored.
    pub index_key: String,
    /// Size of the pack.
    pub bytes: i64,
    /// Objects in it.
    pub objects: i64,
    /// Microseconds.
    pub created_at: i64,
}
