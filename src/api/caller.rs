//! Who calls.
//!
//! A handler that serves a tenant takes a [`Caller`]; every look-up of an object
//! then names `caller.user_id`, so that what belongs to others is never found.

use uuid::Uuid;

/// The account behind a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Owner of everything that this caller can see.
    pub user_id: Uuid,
    /// E-mail of the account, for histories.
    pub email: String,
    /// Groups, e.g. `ops`.
    pub groups: Vec<String>,
    /// What was presented.
    pub via: Via,
}

/// What a caller presented.
#[derive(Debug, Clone)]
pub enum Via {
    /// An access token of this session.
    Session(Uuid),
    /// An API key.
    ApiKey {
        /// Id of the key.
        id: Uuid,
        /// What it may do; empty: everything.
        scopes: Vec<String>,
    },
}
