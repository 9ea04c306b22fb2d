//! Of which kind a remote's objects are, and what is known about who signed a push.

use serde::{Deserialize, Serialize};

use crate::words::words;

words! {
    /// Which function makes the ids of objects, as git writes it.
    ObjectFormat: "object format" {
        /// That of most repositories.
        Sha1 = "sha1",
        /// What `git init --object-format=sha256` makes.
        Sha256 = "sha256",
    }
}

impl ObjectFormat {
    /// As the readers of objects know it.
    pub fn hash(self) -> gix_hash::Kind {
        match self {
            Self::Sha1 => gix_hash::Kind::Sha1,
            Self::Sha256 => gix_hash::Kind::Sha256,
        }
    }

    /// That of an id.
    pub fn of(id: &sluice_git::ObjectId) -> Self {
        match id.kind() {
            gix_hash::Kind::Sha256 => Self::Sha256,
            _ => Self::Sha1,
        }
    }
}

words! {
    /// What the signature of a push is worth.
    SignatureStatus: "status of a signature" {
        /// It is that of a key of the account.
        Good = "good",
        /// It is good, of a key that the account has not registered.
        UnknownKey = "unknown_key",
        /// It is of a kind that is kept but not checked here, such as one of PGP.
        Unverified = "unverified",
    }
}

/// Who signed a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PushSigner)]
pub struct Signer {
    /// What the signature is worth.
    pub status: SignatureStatus,
    /// `SHA256:…` of the key, where it was checked.
    pub fingerprint: Option<String>,
    /// What the account calls the key, if it is one of its own.
    pub name: Option<String>,
    /// Who the client says it is; nobody vouches for that.
    pub pusher: String,
}
