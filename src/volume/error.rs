//! Why a volume cannot be made, used or removed, in dockerd's words where clients match on them.

use std::io;
use std::path::PathBuf;

use super::driver_options::Refused;
use crate::base::id::ContainerId;

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("get {0}: no such volume")]
    NotFound(String),
    #[error("create {name}: {reason}")]
    Create { name: String, reason: Refused },
    #[error("create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found")]
    UnknownDriver { name: String, driver: String },
    #[error("remove {name}: volume is in use - [{}]", list(.users))]
    InUse { name: String, users: Vec<ContainerId> },
    #[error("a prune operation is already running")]
    PruneRunning,
    #[error("error while mounting volume '{name}': failed to mount local volume: {source}")]
    Mount { name: String, source: io::Error },
    #[error("error while unmounting volume '{name}': {source}")]
    Unmount { name: String, source: io::Error },
    #[error("failed to copy image content at {} to volume {name}: {source}", path.display())]
    CopyUp { name: String, path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn list(users: &[ContainerId]) -> String {
    users.iter().map(ContainerId::as_str).collect::<Vec<_>>().join(", ")
}
