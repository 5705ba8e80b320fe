//! Where a container's mounts go in its root: images may have links there (`/etc/resolv.conf` often is one, and leads
//! nowhere), which mean the container's root, never the host's.

use std::io;
use std::path::{Path, PathBuf};

use ::oci_spec::runtime::{Mount, Spec};

use super::error::{ContainerError, StartFailure};
use super::tmpfs_mode::{self, Place};
use crate::base::id_map::IdMaps;
use crate::base::sys::mount_point::{Kind, place};
use crate::base::sys::root_fs::Root;
use crate::runtime::LaunchError;

/// What is masked in these and made in them is named by these paths: behind a link it would be elsewhere, and what the
/// runtime makes in `/dev` before it has changed its root would be on the host (CVE-2023-27561 was of this kind).
const FIXED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What of `/proc` may be replaced (by lxcfs and the like), the same as runc's. Elsewhere in it the kernel is told how
/// to confine processes: a volume there would swallow that, and an image can ask for one (CVE-2019-16884).
const REPLACEABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Gives each mount of `spec` a destination without links, and makes what is missing in the root that is mounted at
/// `rootfs`.
pub(super) async fn settle(spec: Spec, rootfs: PathBuf, ids: &IdMaps) -> Result<Spec, ContainerError> {
    let ids = ids.clone();
    let settled = tokio::task::spawn_blocking(move || settle_all(spec, &rootfs, &ids));
    settled.await.unwrap_or_else(|_| Err(refused("the mount worker ended early".to_owned())))
}

fn settle_all(mut spec: Spec, rootfs: &Path, ids: &IdMaps) -> Result<Spec, ContainerError> {
    let root = Root::open(rootfs).map_err(|error| refused(error.to_string()))?.with_ids(ids);
    let mut mounts = spec.mounts_mut().take().unwrap_or_default();
    let mut covered = Vec::new();
    for at in 0..mounts.len() {
        let (before, rest) = mounts.split_at_mut(at);
        let Some(mount) = rest.first_mut() else { break };
        let there = Place::look(&root, mount.destination());
        let destination = settle_one(&root, mount, &covered).map_err(|error| unusable(mount, &error))?;
        mount.set_destination(destination.clone());
        tmpfs_mode::settle(&root, before, mount, there).map_err(|error| unusable(mount, &error))?;
        covered.push(destination);
    }
    spec.set_mounts(Some(mounts));
    Ok(spec)
}

fn settle_one(root: &Root, mount: &Mount, covered: &[PathBuf]) -> io::Result<PathBuf> {
    let kind = match (mount.typ().as_deref(), mount.source()) {
        (Some("bind"), Some(source)) if !source.is_dir() => Kind::File,
        _ => Kind::Directory,
    };
    let asked = mount.destination();
    let found = place(root, asked, kind, covered)?;
    if &found != asked && FIXED.iter().any(|fixed| asked == Path::new(fixed)) {
        let text = format!("filesystem {asked:?} must be mounted on ordinary directory");
        return Err(io::Error::other(text));
    }
    leave_proc_alone(mount, &found)?;
    Ok(found)
}

/// Refuses what would take the place of `/proc` or of a part of it.
fn leave_proc_alone(mount: &Mount, destination: &Path) -> io::Result<()> {
    let Ok(inside) = destination.strip_prefix("/proc") else { return Ok(()) };
    if inside.as_os_str().is_empty() {
        if is_proc(mount) {
            return Ok(());
        }
        let text = format!("{destination:?} cannot be mounted because it is not of type proc");
        return Err(io::Error::other(text));
    }
    // `..` is left in what lies below a mount.
    if REPLACEABLE.iter().any(|path| destination.as_os_str() == *path) {
        return Ok(());
    }
    Err(io::Error::other(format!("{destination:?} cannot be mounted because it is inside /proc")))
}

/// Whether a mount shows the kernel's own `/proc`, this one or the host's.
fn is_proc(mount: &Mount) -> bool {
    match (mount.typ().as_deref(), mount.source()) {
        (Some("bind"), Some(source)) => nix::sys::statfs::statfs(source)
            .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC),
        (kind, _) => kind == Some("proc"),
    }
}

/// In runc's words, which clients know.
fn unusable(mount: &Mount, error: &io::Error) -> ContainerError {
    let source = mount.source().as_deref().unwrap_or(Path::new("")).display();
    let destination = mount.destination().display();
    let (reason, hint) = match error.raw_os_error() {
        Some(libc::ENOTDIR) => (
            "not a directory".to_owned(),
            ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path \
             exists and is the expected type",
        ),
        _ => (error.to_string(), ""),
    };
    refused(format!("error mounting \"{source}\" to rootfs at \"{destination}\": {reason}: unknown{hint}"))
}

fn refused(message: String) -> ContainerError {
    let error = LaunchError::Start {
        message: format!(
            "runc create failed: unable to start container process: error during container init: {message}"
        ),
        kind: crate::runtime::StartFailure::Other,
    };
    ContainerError::StartFailed { message: error.to_string(), kind: StartFailure::BadRequest }
}
