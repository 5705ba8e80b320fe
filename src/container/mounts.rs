//! Makes a container's root and its mounts ready, and takes them down again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ContainerError;
use super::furnishing;
use super::host_config::{Mount, MountType};
use super::image_mounts;
use super::oci_spec::Prepared;
use super::parts::Parts;
use super::propagation;
use super::record::{MountPoint, Record};
use super::state::Volumes;
use super::subpaths;
use crate::base::id_map::Owner;
use crate::base::missing::missing_is_fine;
use crate::base::path::clean;
use crate::snapshot::{self, Durability, MountOptions, SnapshotError, Writable};

/// A mounted root and what is mounted over it.
pub(super) struct Mounted {
    pub rootfs: PathBuf,
    pub mounts: Vec<Prepared>,
}

/// Mounts the root and the volumes.
pub(super) async fn prepare(parts: &Arc<Parts>, record: &Arc<Record>) -> Result<Mounted, ContainerError> {
    let mut mounts = Vec::with_capacity(record.mounts.len());
    for (number, point) in record.mounts.iter().enumerate() {
        mounts.push(Prepared { point: point.clone(), source: source(parts, record, number).await? });
    }
    let (parts, record) = (parts.clone(), record.clone());
    let mounted = tokio::task::spawn_blocking(move || {
        parts.images.unpack_chain(&record.image, &record.chain).map_err(failed)?;
        let rootfs = mount_root(&parts, &record).map_err(failed)?;
        super::shm::mount(&parts, &record).map_err(failed)?;
        Ok::<_, ContainerError>(rootfs)
    });
    let rootfs = mounted.await.map_err(|_| failed("the mount worker ended early"))??;
    Ok(Mounted { rootfs, mounts })
}

/// Mounts the root alone, for those who work on a container's files while it is not running.
pub(super) fn mount_root(parts: &Parts, record: &Record) -> Result<PathBuf, SnapshotError> {
    let target = parts.paths.rootfs(&record.id);
    let made = fs::create_dir_all(&target);
    made.map_err(|source| SnapshotError::Mount { target: target.clone(), source })?;
    // A start that was cut off may have left it mounted.
    snapshot::unmount(&target)?;
    let durability =
        if record.host_config.auto_remove { Durability::Volatile } else { Durability::default() };
    mount_at(parts, record, &target, durability)?;
    Ok(target)
}

/// Mounts the root of a container that does not run, for a thread in a mount namespace of its own that ends soon.
/// Volatile: unmounting it must not sync the whole file system, and what is copied is no safer on the host.
pub(super) fn mount_for_view(parts: &Parts, record: &Record) -> Result<PathBuf, SnapshotError> {
    let target = parts.paths.roots();
    let made = fs::create_dir_all(&target);
    made.map_err(|source| SnapshotError::Mount { target: target.clone(), source })?;
    mount_at(parts, record, &target, Durability::Volatile)?;
    Ok(target)
}

fn mount_at(
    parts: &Parts,
    record: &Record,
    target: &Path,
    durability: Durability,
) -> Result<(), SnapshotError> {
    let dir = parts.paths.container(&record.id);
    let options = MountOptions { durability, limit: record.size_limit };
    let writable = Writable::of(&dir);
    parts.images.snapshots().mount(&record.chain, &writable, target, options)?;
    let (ids, working_dir) = (&parts.config.ids, &record.config.working_dir);
    let furnished = furnishing::furnish(target, &writable.upper, ids, working_dir);
    furnished.map_err(|source| SnapshotError::Mount { target: target.to_owned(), source })
}

/// What to show at the mount at place `number` of the record.
async fn source(parts: &Arc<Parts>, record: &Arc<Record>, number: usize) -> Result<PathBuf, ContainerError> {
    let point = &record.mounts[number];
    match point.kind {
        MountType::Bind => bind_source(parts, record, point).await,
        MountType::Volume => {
            let whole = super::volumes::mount(parts, record, point).await?;
            if point.subpath.is_empty() {
                return Ok(whole);
            }
            let (paths, id, subpath) = (parts.paths.clone(), record.id.clone(), point.subpath.clone());
            let mounted =
                tokio::task::spawn_blocking(move || subpaths::mount(&paths, &id, number, &whole, &subpath));
            mounted.await.map_err(failed)?
        }
        MountType::Image => {
            let (parts, record) = (parts.clone(), record.clone());
            let mounted = tokio::task::spawn_blocking(move || image_mounts::mount(&parts, &record, number));
            mounted.await.map_err(failed)?
        }
        MountType::Tmpfs | MountType::Npipe | MountType::Cluster => Ok(PathBuf::new()),
    }
}

/// dockerd makes missing sources of the short form at each start, of the long one only where that is asked for.
async fn bind_source(parts: &Parts, record: &Record, point: &MountPoint) -> Result<PathBuf, ContainerError> {
    let long = record.host_config.mounts.iter().find(|mount| clean(&mount.target) == point.destination);
    let wanted = |mount: &Mount| mount.bind_options.as_ref().is_some_and(|options| options.create_mountpoint);
    let make = long.is_none_or(wanted);
    let (id, source, owner) = (record.id.clone(), point.source.clone(), parts.config.ids.root());
    let ready = tokio::task::spawn_blocking(move || match source.try_exists() {
        Ok(false) if make => make_dirs(&source, owner).map(|()| source),
        Ok(false) => Err(io::ErrorKind::NotFound.into()),
        // What cannot be looked at is the runtime's to complain about.
        Ok(true) | Err(_) => Ok(source),
    });
    match ready.await.map_err(failed)? {
        Ok(source) => propagation::check(record, point).await.map(|()| source),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !make => {
            let path = point.source.display();
            let problem = format!("bind source path does not exist: {path}");
            Err(ContainerError::bad_request(&format!("invalid mount config for type \"bind\": {problem}")))
        }
        Err(source) => Err(ContainerError::Io { id, doing: "making a bind source", source }),
    }
}

/// Makes a directory and those on the way to it that are missing, for `owner`.
fn make_dirs(path: &Path, owner: Owner) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => match path.parent() {
            Some(parent) if error.kind() == io::ErrorKind::NotFound => {
                make_dirs(parent, owner)?;
                make_dirs(path, owner)
            }
            _ => Err(error),
        },
    }
}

/// Takes down what [`prepare`] mounted. What is not mounted is fine.
pub(super) async fn release(parts: &Parts, record: &Record) {
    let mut targets = vec![parts.paths.rootfs(&record.id)];
    targets.extend(super::shm::is_shareable(record).then(|| parts.paths.shm(&record.id)));
    let unmounted =
        tokio::task::spawn_blocking(move || targets.iter().try_for_each(|target| unmount(target))).await;
    if let Ok(Err(error)) = unmounted {
        tracing::warn!(container = %record.id, %error, "a file system is still mounted");
    }
    if record.mounts.iter().any(|point| !point.subpath.is_empty()) {
        release_places(record, parts.paths.subpaths(&record.id)).await;
    }
    if record.mounts.iter().any(|point| point.kind == MountType::Image) {
        release_places(record, parts.paths.image_mounts(&record.id)).await;
    }
    for point in record.mounts.iter().filter(|point| point.kind == MountType::Volume) {
        super::volumes::unmount(parts, record, point).await;
    }
}

/// Takes down all that is mounted in a directory that holds nothing but the places for it.
async fn release_places(record: &Record, dir: PathBuf) {
    let released = tokio::task::spawn_blocking(move || subpaths::release(&dir)).await;
    if let Ok(Err(error)) = released {
        tracing::warn!(container = %record.id, %error, "an image or a part of a volume is still mounted");
    }
}

/// Detaches a mount that something still uses: what uses it keeps it, nothing new can.
fn unmount(target: &Path) -> io::Result<()> {
    crate::base::sys::mount::unmount_if_mounted(target, crate::base::sys::mount::Unmount::Lazy)?;
    missing_is_fine(fs::remove_dir(target))
}

/// Removes the anonymous volumes that were made for a container.
pub(super) async fn remove_volumes(parts: &Parts, record: &Record, volumes: Volumes) {
    let ours = record.mounts.iter().filter(|point| point.kind == MountType::Volume);
    for point in ours {
        super::volumes::forget(parts, record, point, volumes).await;
    }
}

fn failed(error: impl ToString) -> ContainerError {
    ContainerError::system(&error)
}
