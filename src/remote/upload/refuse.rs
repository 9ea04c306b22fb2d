//! What a push or a fetch is refused for that no check of the library knows: signatures
//! that do not fit, and parts of the server that are away.

use std::time::Duration;

use sluice_git::{Certificate, NonceStatus, ObjectId, Refusal};

use super::NONCE_SLOP;
use crate::accounts::signing::{self, Verdict};
use crate::db::DbError;
use crate::remote::access::database;
use crate::storage::StorageError;

/// Refuses a certificate that somebody else could have sent. The fingerprint of the key
/// that signed it, if it is of a kind that can be checked here.
pub(super) fn check(certificate: &Certificate) -> Result<Option<String>, Refusal> {
    match certificate.nonce_status {
        NonceStatus::Ok => {}
        NonceStatus::Slop { .. } => {
            return Err(Refusal::forbidden(format!(
                "The certificate of this signed push is older than {} minutes; push again.",
                NONCE_SLOP.as_secs() / 60
            )));
        }
        NonceStatus::Missing | NonceStatus::Bad => {
            return Err(Refusal::forbidden(
                "The certificate of this signed push was not made for this remote; push again.",
            ));
        }
    }
    match signing::verify(certificate.payload(), certificate.signature()) {
        Verdict::Good { fingerprint } => Ok(Some(fingerprint)),
        Verdict::Unknown => Ok(None),
        Verdict::Bad => Err(Refusal::forbidden(
            "The signature of this push is not that of what it pushes, or was not made for git; \
             sign it again, or push without --signed.",
        )),
    }
}

pub(super) fn object_id(hex: &str) -> Result<ObjectId, Refusal> {
    ObjectId::from_hex(hex.as_bytes()).map_err(Refusal::internal)
}

/// Why the objects cannot be brought to hand. The storage may be back in a moment.
pub(super) fn at_hand(error: anyhow::Error) -> Refusal {
    match error.downcast::<StorageError>() {
        Ok(error) => storage_refusal(error),
        Err(error) => match error.downcast::<DbError>() {
            Ok(error) => database(error),
            Err(error) => Refusal::internal(format!("{error:#}")),
        },
    }
}

pub(super) fn storage_refusal(error: StorageError) -> Refusal {
    match error {
        StorageError::Full => {
            tracing::error!("{error}");
            Refusal::unavailable(
                "The server has no room left for this push; ask its operator.",
                Duration::from_secs(60),
            )
        }
        StorageError::Unavailable { .. } => {
            tracing::error!("{error}");
            Refusal::unavailable(
                "The server cannot reach its storage right now; push again in a moment.",
                Duration::from_secs(5),
            )
        }
        other => Refusal::internal(other),
    }
}
