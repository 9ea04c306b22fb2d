//! Why code cannot be fetched: for each a stable word and a sentence for whoever gave the
//! URL. No sentence holds a credential; what a server said is shown without control
//! characters and only in part.

use crate::net::NetError;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(
        "The server asks who you are: the repository is private or does not exist. Give \
         `credentials` with a token that may read it."
    )]
    CredentialsNeeded,
    #[error(
        "The server did not accept the credentials; give a token that may read the repository."
    )]
    CredentialsRefused,
    #[error("The server does not let these credentials read the repository.")]
    Forbidden,
    #[error("There is no repository at this URL, or it is private and needs `credentials`.")]
    NotFound,
    #[error("There is no git repository at this URL: the answer is none of git's.")]
    NotGit,
    #[error(
        "The server offers its repository as plain files only (the dumb protocol); smart HTTP is \
         needed."
    )]
    Dumb,
    #[error("The repository uses another format of object ids than SHA-1, which is not supported.")]
    ObjectFormat,
    #[error(
        "The repository is empty, or its default branch has no commit; push one, or name a branch \
         with `ref`."
    )]
    Empty,
    #[error("The repository has no branch, tag or commit named {0:?}.")]
    RefNotFound(String),
    #[error("The server does not speak git's protocol as it should: {0}.")]
    Protocol(&'static str),
    #[error("The server refused: {0}")]
    Said(String),
    #[error("What the server sent is not accepted: {0}.")]
    PackRefused(String),
    #[error("The fetch took longer than the {0} seconds that it may take.")]
    TooSlow(u64),
    #[error("The stored credentials cannot be read any more; give them again.")]
    CredentialsLost,
}

impl FetchError {
    /// What a server said, cut and cleaned.
    pub(super) fn said(message: &[u8]) -> Self {
        let text: String = String::from_utf8_lossy(message)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(300)
            .collect();
        Self::Said(text.trim().to_owned())
    }

    /// A stable word.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Net(error) => error.code(),
            Self::CredentialsNeeded => "credentials_needed",
            Self::CredentialsRefused => "credentials_refused",
            Self::Forbidden => "forbidden_by_server",
            Self::NotFound => "repository_not_found",
            Self::NotGit => "not_a_git_repository",
            Self::Dumb => "dumb_protocol",
            Self::ObjectFormat => "object_format",
            Self::Empty => "empty_repository",
            Self::RefNotFound(_) => "ref_not_found",
            Self::Protocol(_) => "protocol_error",
            Self::Said(_) => "refused_by_server",
            Self::PackRefused(_) => "pack_refused",
            Self::TooSlow(_) => "timeout",
            Self::CredentialsLost => "credentials_lost",
        }
    }

    /// Whether it is for whoever gave the URL, and not for the operator.
    pub(crate) fn is_theirs(&self) -> bool {
        match self {
            Self::Net(error) => error.is_theirs(),
            _ => true,
        }
    }

    /// Whether trying again soon may help. A server that was too slow once is not given
    /// the same time again.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Net(NetError::Timeout { .. }) => false,
            Self::Net(error) => error.is_temporary(),
            _ => false,
        }
    }
}
