//! What can go wrong with a container's files, in dockerd's words.

use std::io;

use crate::base::errno::in_gos_words;
use crate::base::id::ContainerId;
use crate::container::image_mounts::MountError;
use crate::container::users::UserError;
use crate::snapshot::SnapshotError;
use crate::volume::VolumeError;

/// Why a container's files cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("Could not find the file {path} in container {container}")]
    NotFound { path: String, container: String },
    #[error("extraction point is not a directory")]
    NotADirectory,
    #[error("container rootfs is marked read-only")]
    RootReadOnly,
    #[error("mounted volume is marked read-only")]
    VolumeReadOnly,
    #[error("lstat {path}: {}", in_gos_words(*.errno))]
    Stat { path: String, errno: nix::errno::Errno },
    /// An entry of an archive that would be written elsewhere.
    #[error("{path:?} is outside of {dir:?}")]
    Outside { path: String, dir: String },
    /// An entry of an archive that makes no sense.
    #[error("invalid archive: {path:?}: {reason}")]
    Entry { path: String, reason: &'static str },
    /// The container's phase does not allow it.
    #[error("You cannot {doing} container {id} which is {phase}")]
    Busy { doing: &'static str, id: ContainerId, phase: &'static str },
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    ImageMount(#[from] MountError),
    #[error("preparing the container's files: {0}")]
    Io(#[from] io::Error),
    #[error("a worker ended early")]
    Worker,
}
