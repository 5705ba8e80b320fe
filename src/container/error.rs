//! What can go wrong with a container, in dockerd's words where clients match on them (REQUIREMENTS R17).

use std::io;

use super::state::Refusal;
use crate::base::id::ContainerId;
use crate::runtime::ShimError;

/// A failed look-up of a container by id, name or id prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("No such container: {0}")]
    NotFound(String),
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    #[error("invalid container name or ID: value is empty")]
    Empty,
}

/// A name that cannot be given to a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Invalid(String),
    #[error(
        "Conflict. The container name \"{name}\" is already in use by container \"{holder}\". \
         You have to remove (or rename) that container to be able to reuse that name."
    )]
    InUse { name: String, holder: ContainerId },
    #[error("Neither old nor new names may be empty")]
    Empty,
    #[error("Renaming a container with the same name as its current name")]
    Unchanged,
}

/// A failed action on one container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name that a container cannot be renamed to.
    #[error("Error when allocating new name: {source}")]
    NewName { source: NameError },
    /// The container's phase does not allow it.
    #[error("{0}")]
    Refused(String, Refusal),
    /// What clients see of a failed start; the text is the runtime's own.
    #[error("{message}")]
    StartFailed { message: String, kind: StartFailure },
    /// A volume cannot be made or filled.
    #[error(transparent)]
    Volume(#[from] crate::volume::VolumeError),
    #[error("Cannot update container {id}: {source}")]
    Update { id: ContainerId, source: super::update::UpdateError },
    #[error("cannot kill container: {name}: {source}")]
    Kill { name: String, source: Box<ContainerError> },
    #[error("tried to kill container, but did not receive an exit event")]
    StillAlive,
    /// What was to be removed as the name that a link gives is the container's own.
    #[error("Conflict, cannot remove the default link name of the container")]
    OwnName,
    /// A link is removed from the container that has it, which has one name.
    #[error("Cannot get parent /{parent} for link name /{name}")]
    LinkParent { parent: String, name: String },
    #[error("invalid signal: {0}")]
    InvalidSignal(String),
    #[error("container {id}: {doing}: {source}")]
    Io { id: ContainerId, doing: &'static str, source: io::Error },
    #[error("{}", of_shim(id, source))]
    Shim { id: ContainerId, source: ShimError },
    /// Its owner is gone because the container was removed meanwhile or the daemon is ending.
    #[error("No such container: {0}")]
    Gone(ContainerId),
}

impl ContainerError {
    /// What the user can mend.
    pub(super) fn bad_request(error: &impl ToString) -> Self {
        Self::StartFailed { message: error.to_string(), kind: StartFailure::BadRequest }
    }

    /// What only the host's administrator can mend.
    pub(super) fn system(error: &impl ToString) -> Self {
        Self::StartFailed { message: error.to_string(), kind: StartFailure::System }
    }

    /// A refusal in dockerd's words for it.
    pub(super) fn refused(record: &super::record::Record, refusal: Refusal) -> Self {
        let (id, name) = (&record.id, &record.name);
        let text = match refusal {
            Refusal::AlreadyRunning | Refusal::StartPaused | Refusal::StartRemoving => refusal.to_string(),
            Refusal::NotRunning => format!("container {id} is not running"),
            Refusal::AlreadyPaused => format!("Container {id} is already paused"),
            Refusal::NotPaused => format!("Container {id} is not paused"),
            Refusal::Restarting => {
                format!("Container {id} is restarting, wait until the container is running")
            }
            Refusal::RemoveNotStopped(_) => format!("cannot remove container {name:?}: {refusal}"),
            Refusal::AlreadyRemoving => format!("removal of container {id} is already in progress"),
        };
        Self::Refused(text, refusal)
    }
}

/// What the runtime says of a program is told as it is: clients know it by how it begins.
fn of_shim(id: &ContainerId, source: &ShimError) -> String {
    match source {
        ShimError::Start { .. } => source.to_string(),
        _ => format!("container {id}: {source}"),
    }
}

/// What kind of failure kept a container from starting: decides the status code and the recorded exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// The command is not there: exit code 127.
    CommandNotFound,
    /// The command cannot be executed: exit code 126.
    CommandNotExecutable,
    /// Another request that the user can mend (a device that is not there, a bad sysctl, …): exit code 128.
    BadRequest,
    /// Network, mounts or the runtime failed: exit code 128.
    System,
    /// A kill or a forced removal came before the start was through.
    Cancelled,
}

impl StartFailure {
    /// `State.ExitCode` after the failure (wire-format conventions of the docker CLI: 127, 126, 128).
    pub fn exit_code(self) -> i32 {
        match self {
            Self::CommandNotFound => 127,
            Self::CommandNotExecutable => 126,
            Self::BadRequest | Self::System | Self::Cancelled => 128,
        }
    }
}
