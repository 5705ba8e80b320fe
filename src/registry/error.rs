//! What can go wrong with a registry, in dockerd's words where clients match on them.

use http::StatusCode;

use crate::base::digest::Digest;

/// Why a registry did not give what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    #[error("failed to resolve reference {reference:?}: {reference}: not found")]
    NotFound { reference: String },
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': denied: {message}"
    )]
    Denied { name: String, message: String },
    #[error("toomanyrequests: {message}")]
    TooManyRequests { message: String },
    #[error("failed to resolve reference {reference:?}: {source}")]
    Resolve { reference: String, source: Box<RegistryError> },
    #[error("failed to do request: {method} {url:?}: {reason}")]
    Request { method: &'static str, url: String, reason: String },
    /// [`Self::Request`] at login, which dockerd words for itself.
    #[error("{method} {url:?}: {reason}")]
    Login { method: &'static str, url: String, reason: String },
    #[error("unexpected status from {method} request to {url}: {status}: {message}")]
    Status { method: &'static str, url: String, status: StatusCode, message: String },
    #[error("Get {url:?}: unauthorized: {message}")]
    Unauthorized { url: String, message: String },
    #[error("the registry's answer cannot be used: {0}")]
    Answer(&'static str),
    #[error("{what} is larger than the {limit} bytes that are accepted")]
    TooLarge { what: String, limit: u64 },
    #[error("content digest is {actual}, expected {expected}")]
    Mismatch { expected: Digest, actual: Digest },
    /// What is wrong in the registry's directory below `certs.d`.
    #[error("{0}")]
    Certificates(String),
    #[error("invalid proxy: {0}")]
    Proxy(String),
    #[error("invalid registry address {0:?}")]
    Address(String),
}

impl RegistryError {
    /// True if asking again may help: the network or the server failed, nobody refused.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Request { .. } | Self::Login { .. } | Self::TooManyRequests { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || *status == StatusCode::REQUEST_TIMEOUT,
            Self::Resolve { source, .. } => source.is_transient(),
            Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::Unauthorized { .. }
            | Self::Answer(_)
            | Self::TooLarge { .. }
            | Self::Mismatch { .. }
            | Self::Certificates(_)
            | Self::Proxy(_)
            | Self::Address(_) => false,
        }
    }
}
