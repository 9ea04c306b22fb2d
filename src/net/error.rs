//! What can go wrong on the way to another server, as sentences for the user.
//!
//! A message names the host that the user named, never an address that a name leads to
//! (which would tell about the network behind the server), and never a credential.

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The address is not one that may be used; the message says why.
    #[error("{0}")]
    UrlNotAllowed(String),
    /// The name cannot be looked up.
    #[error("The host {host} was not found.")]
    HostNotFound {
        /// Its name.
        host: String,
    },
    /// The name servers did not answer, or answered that they cannot.
    #[error("The host {host} could not be looked up, because the name servers do not answer.")]
    LookupFailed {
        /// Its name.
        host: String,
    },
    /// The host lies where nothing may be reached.
    #[error(
        "The host {host} leads to an address that this server must not reach. Only public \
         addresses are allowed; the operator can allow private networks with \
         SLUICE_ALLOW_PRIVATE_URLS."
    )]
    AddressNotAllowed {
        /// Its name.
        host: String,
    },
    /// No connection, or it broke.
    #[error("The connection to {host} failed or broke off.")]
    ConnectionFailed {
        /// Its name.
        host: String,
    },
    /// The other side could not prove that it is the host.
    #[error("The host {host} could not prove who it is: {why}.")]
    TlsFailed {
        /// Its name.
        host: String,
        /// What is wrong with its certificate or its answers.
        why: String,
    },
    /// The time is over.
    #[error("The host {host} took too long to answer.")]
    Timeout {
        /// Its name.
        host: String,
    },
    /// The answer is longer than what is allowed.
    #[error("The answer of {host} is larger than the limit of {limit} bytes.")]
    TooLarge {
        /// Its name.
        host: String,
        /// Most bytes that are read.
        limit: u64,
    },
    /// It was passed on too often.
    #[error("The host {host} passed the request on too often.")]
    TooManyRedirects {
        /// Where it was passed on to last.
        host: String,
    },
    /// An answer that is not what was asked for.
    #[error("The host {host} answered with the status {status}.")]
    HttpStatus {
        /// Its name.
        host: String,
        /// Its answer.
        status: u16,
    },
    /// This process cannot speak to anybody.
    #[error("This server cannot open connections; tell its operator.")]
    Unusable,
}

impl NetError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UrlNotAllowed(_) => "url_not_allowed",
            Self::HostNotFound { .. } => "host_not_found",
            Self::LookupFailed { .. } => "lookup_failed",
            Self::AddressNotAllowed { .. } => "address_not_allowed",
            Self::ConnectionFailed { .. } => "connection_failed",
            Self::TlsFailed { .. } => "tls_failed",
            Self::Timeout { .. } => "timeout",
            Self::TooLarge { .. } => "too_large",
            Self::TooManyRedirects { .. } => "too_many_redirects",
            Self::HttpStatus { .. } => "http_status",
            Self::Unusable => "network_unusable",
        }
    }

    /// Whether it is for whoever gave the address, and not for the operator.
    pub fn is_theirs(&self) -> bool {
        !matches!(self, Self::Unusable)
    }

    /// Whether the same request may succeed a little later without a change.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::LookupFailed { .. }
            | Self::ConnectionFailed { .. }
            | Self::Timeout { .. }
            | Self::Unusable => true,
            Self::HttpStatus { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }
}
