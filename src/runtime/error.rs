//! Why a container or a process in it did not start, in dockerd's words where clients read them.

use std::io;
use std::path::PathBuf;

pub use super::protocol::StartFailure;
use super::protocol::{Failure, FrameError};

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The container could not be made or its program not be run. The text is dockerd's; the CLI exits with 127, 126
    /// or 125 by what it contains.
    #[error(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: {message}"
    )]
    Start { kind: StartFailure, message: String },
    #[error("preparing {path}: {source}")]
    Bundle { path: PathBuf, source: io::Error },
    #[error("writing the container's specification: {0}")]
    Spec(#[from] serde_json::Error),
    #[error("starting the shim: {0}")]
    Spawn(#[source] io::Error),
    #[error(transparent)]
    Shim(#[from] ShimError),
}

/// Why a shim did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("the connection to the shim is gone")]
    Gone,
    #[error("talking to the shim: {0}")]
    Io(#[from] io::Error),
    #[error("the shim sent nonsense: {0}")]
    Frame(#[from] FrameError),
    #[error("the shim sent nonsense: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the shim's answer does not fit the question")]
    Mismatch,
    /// An exec's program could not be run; the text is dockerd's.
    #[error("OCI runtime exec failed: {message}")]
    Start { kind: StartFailure, message: String },
    #[error("{0}")]
    Refused(Failure),
}

impl From<Failure> for ShimError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Start { kind, message } => Self::Start { kind, message },
            other => Self::Refused(other),
        }
    }
}

impl LaunchError {
    /// What to tell a launch's client of a shim's refusal.
    pub(super) fn from_reply(error: ShimError) -> Self {
        match error {
            ShimError::Start { kind, message } => Self::Start { kind, message },
            other => Self::Shim(other),
        }
    }
}

impl StartFailure {
    /// `State.ExitCode` of a container, `ExitCode` of an exec, that could not be started.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::NotFound => 127,
            Self::PermissionDenied => 126,
            Self::Other => 128,
        }
    }
}
