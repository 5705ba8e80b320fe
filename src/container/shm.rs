//! `/dev/shm` where it is not a container's alone: a file system of a shareable container's, mounted on the host so that
//! others can show it too, or the host's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{ContainerError, StartFailure};
use super::parts::Parts;
use super::record::Record;
use crate::base::sys::mount::{self, MountFlags};

const TARGET: &str = "/dev/shm";
/// Containers that share what another shares: more than this are a circle.
const MAX_STEPS: usize = 32;

/// Whether others may share it.
pub(super) fn is_shareable(record: &Record) -> bool {
    record.host_config.ipc_mode == "shareable"
}

/// Mounts what others may share.
pub(super) fn mount(parts: &Parts, record: &Record) -> io::Result<()> {
    if !is_shareable(record) || has_own(record) {
        return Ok(());
    }
    let target = parts.paths.shm(&record.id);
    fs::create_dir_all(&target)?;
    // A start that was cut off may have left it mounted.
    mount::unmount_if_mounted(&target, mount::Unmount::Lazy)?;
    let owner = parts.config.ids.root();
    let size = record.host_config.shm_size;
    let options = format!("mode=1777,size={size},uid={},gid={}", owner.uid, owner.gid);
    mount::tmpfs("shm", &target, MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV, &options)
}

/// The host's directory that the container shows; `None` for a file system in the container alone, or none at all.
pub(super) fn source(parts: &Parts, record: &Record) -> Result<Option<PathBuf>, ContainerError> {
    match record.host_config.ipc_mode.as_str() {
        "host" if !Path::new(TARGET).exists() => {
            Err(failed("/dev/shm is not mounted, but must be for --ipc=host".to_owned()))
        }
        "host" => Ok(Some(TARGET.into())),
        "shareable" => Ok((!has_own(record)).then(|| parts.paths.shm(&record.id))),
        mode => match mode.strip_prefix("container:") {
            Some(owner) => shared_by(parts, owner).map(Some),
            None => Ok(None),
        },
    }
}

/// What `owner` shares, itself or from another.
fn shared_by(parts: &Parts, owner: &str) -> Result<PathBuf, ContainerError> {
    let mut owner = parts.containers.resolve(owner)?;
    for _ in 0..MAX_STEPS {
        let record = owner.snapshot().record.clone();
        let Some(next) = record.host_config.ipc_mode.strip_prefix("container:") else {
            let shared = source(parts, &record)?;
            return shared.ok_or_else(|| failed(not_shareable()));
        };
        owner = parts.containers.resolve(next)?;
    }
    Err(failed(not_shareable()))
}

fn not_shareable() -> String {
    "failed to join IPC namespace: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        .to_owned()
}

/// Whether the user mounts something there.
fn has_own(record: &Record) -> bool {
    record.mounts.iter().any(|mount| mount.destination == TARGET)
        || record.host_config.tmpfs.contains_key(TARGET)
}

fn failed(message: String) -> ContainerError {
    ContainerError::StartFailed { message, kind: StartFailure::System }
}
