//! A container's use of volumes: made and filled when it is created, mounted while it runs, held until it is removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ContainerError;
use super::furnishing::make_working_dir;
use super::host_config::{HostConfig, MountType, VolumeOptions};
use super::parts::Parts;
use super::record::{MountPoint, NO_COPY, Record};
use super::state::{Phase, Volumes as Anonymous};
use super::storage::Stored;
use crate::base::path::clean;
use crate::base::sys::mount::{Unmount, unmount_if_mounted};
use crate::base::sys::root_fs::{Root, remove_tree};
use crate::snapshot::{Durability, MountOptions, Writable};
use crate::volume::{CreateVolume, Missing, MountedAs, VolumeError};

/// Makes a volume's content available; the directory to show the container.
pub(super) async fn mount(
    parts: &Parts,
    record: &Record,
    point: &MountPoint,
) -> Result<PathBuf, ContainerError> {
    let (volumes, id, point) = (parts.volumes.clone(), record.id.clone(), point.clone());
    blocking(move || {
        let seen = MountedAs {
            destination: &point.destination,
            writable: point.rw,
            propagation: &point.propagation,
        };
        volumes.mount(&point.name, &id, &seen)
    })
    .await
}

/// Takes back what [`mount`] did. What is not mounted is fine.
pub(super) async fn unmount(parts: &Parts, record: &Record, point: &MountPoint) {
    let (volumes, id, name) = (parts.volumes.clone(), record.id.clone(), point.name.clone());
    if let Err(error) = blocking(move || volumes.unmount(&name, &id)).await {
        tracing::warn!(container = %record.id, volume = point.name, %error, "the volume is still mounted");
    }
}

/// The container is gone: it holds the volume no more, and an anonymous one goes with it if asked for.
pub(super) async fn forget(parts: &Parts, record: &Record, point: &MountPoint, anonymous: Anonymous) {
    parts.volumes.release(&point.name, &record.id);
    if !point.anonymous || anonymous == Anonymous::Keep {
        return;
    }
    let (volumes, name) = (parts.volumes.clone(), point.name.clone());
    // One that another container uses by `--volumes-from` stays.
    if let Err(error) = blocking(move || volumes.remove(&name, Missing::Fine)).await {
        tracing::debug!(container = %record.id, volume = point.name, %error, "anonymous volume kept");
    }
}

/// Tells the volumes which of them a container found on disk uses, and which it has mounted if it still runs.
pub fn hold(parts: &Parts, stored: &Stored) {
    let record = &stored.record;
    let may_run = stored.state.phase.has_process()
        || stored.state.phase == Phase::Starting
        || parts.paths.run(&record.id).exists();
    for point in volumes(record) {
        if let Err(error) = parts.volumes.retain(&point.name, &record.id) {
            tracing::warn!(container = %record.id, volume = point.name, %error, "a volume is missing");
        }
        if may_run {
            parts.volumes.adopt(&point.name, &record.id);
        }
        settle_one(parts, point);
    }
}

/// Makes what a new container's mounts need: volumes that are not there, named or not, and in those that are empty
/// what the image has in their places. Nothing made here for this container alone is left if it fails.
pub async fn prepare(parts: &Arc<Parts>, mut record: Record) -> Result<Record, ContainerError> {
    if volumes(&record).next().is_none() {
        return Ok(record);
    }
    let parts = parts.clone();
    let done = tokio::task::spawn_blocking(move || {
        let made = make(&parts, &mut record).and_then(|()| fill(&parts, &record));
        match made {
            Ok(()) => Ok(record),
            Err(error) => {
                release_all(&parts, &record);
                Err(error)
            }
        }
    });
    done.await.map_err(|error| ContainerError::system(&error))?
}

/// The container that volumes were made for is on disk: from now on they are its.
pub async fn settle(parts: &Arc<Parts>, record: &Record) {
    let anonymous: Vec<MountPoint> = volumes(record).filter(|point| point.anonymous).cloned().collect();
    if anonymous.is_empty() {
        return;
    }
    let parts = parts.clone();
    let settled =
        tokio::task::spawn_blocking(move || anonymous.iter().for_each(|point| settle_one(&parts, point)));
    if let Err(error) = settled.await {
        tracing::error!(%error, "volumes are not settled");
    }
}

/// Gives up the volumes of a container that could not be created.
pub async fn abandon(parts: &Arc<Parts>, record: Record) {
    let parts = parts.clone();
    if let Err(error) = tokio::task::spawn_blocking(move || release_all(&parts, &record)).await {
        tracing::error!(%error, "volumes of a container that was not created stay");
    }
}

fn settle_one(parts: &Parts, point: &MountPoint) {
    if point.anonymous
        && let Err(error) = parts.volumes.settle(&point.name)
    {
        tracing::warn!(volume = point.name, %error, "it counts as being made still");
    }
}

fn release_all(parts: &Parts, record: &Record) {
    for point in volumes(record).filter(|point| !point.name.is_empty()) {
        parts.volumes.release(&point.name, &record.id);
        if !point.anonymous {
            continue;
        }
        match parts.volumes.remove(&point.name, Missing::Fine) {
            // The container it was to share the volume with has it.
            Ok(()) | Err(VolumeError::InUse { .. }) => {}
            Err(error) => tracing::warn!(volume = point.name, %error, "an anonymous volume stays"),
        }
    }
}

fn volumes(record: &Record) -> impl Iterator<Item = &MountPoint> {
    record.mounts.iter().filter(|point| point.kind == MountType::Volume)
}

fn make(parts: &Parts, record: &mut Record) -> Result<(), ContainerError> {
    let Record { id, host_config, mounts, .. } = record;
    for point in mounts.iter_mut().filter(|point| point.kind == MountType::Volume) {
        let VolumeOptions { labels, driver_config, .. } = options(host_config, point);
        let wanted = CreateVolume {
            name: Some(point.name.clone()),
            driver: Some(point.driver.clone()),
            options: driver_config.map(|driver| driver.options).unwrap_or_default(),
            labels,
            user: Some(id.clone()),
        };
        let volume = parts.volumes.create(wanted)?;
        point.name = volume.name.clone();
        point.source = volume.mountpoint.clone();
        point.driver = crate::volume::DRIVER.to_owned();
    }
    Ok(())
}

/// The options of the long form, if that decided the mount.
fn options(host_config: &HostConfig, point: &MountPoint) -> VolumeOptions {
    let mount = host_config.mounts.iter().find(|mount| clean(&mount.target) == point.destination);
    mount.and_then(|mount| mount.volume_options.clone()).unwrap_or_default()
}

/// Fills empty volumes from the image, which is mounted for that where nobody looks.
fn fill(parts: &Parts, record: &Record) -> Result<(), ContainerError> {
    let wanted = |point: &&MountPoint| {
        let no_copy = point.options.iter().any(|option| option == NO_COPY);
        !no_copy && point.subpath.is_empty() && parts.volumes.may_be_filled(&point.name)
    };
    let points: Vec<&MountPoint> = volumes(record).filter(wanted).collect();
    if points.is_empty() || record.chain.is_empty() {
        return Ok(());
    }
    let scratch = parts.paths.scratch(&record.id);
    let filled = with_image(parts, record, &scratch, |rootfs| {
        // It belongs to what a volume over it is filled with, which may be read-only to the container.
        Root::open(rootfs)
            .and_then(|root| make_working_dir(&root.with_ids(&parts.config.ids), &record.config.working_dir))
            .map_err(|error| ContainerError::system(&error))?;
        points.iter().try_for_each(|point| fill_one(parts, point, rootfs))
    });
    if let Err(error) = clear_scratch(&scratch).and_then(|()| remove_tree(&scratch)) {
        tracing::warn!(path = %scratch.display(), %error, "leftovers of filling volumes stay");
    }
    filled?
}

fn fill_one(parts: &Parts, point: &MountPoint, rootfs: &Path) -> Result<(), ContainerError> {
    let place = Path::new(&point.destination);
    if point.anonymous && is_file(rootfs, place).map_err(|error| ContainerError::system(&error))? {
        let over = format!("cannot mount volume over existing file, file exists {}", point.destination);
        return Err(ContainerError::system(&over));
    }
    Ok(parts.volumes.copy_up(&point.name, rootfs, place)?)
}

fn is_file(rootfs: &Path, place: &Path) -> io::Result<bool> {
    match Root::open(rootfs)?.dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(true),
        // What else is wrong with it, copying tells.
        _ => Ok(false),
    }
}

/// Takes down what filling volumes has mounted in the directory, so that it can be deleted.
pub fn clear_scratch(scratch: &Path) -> io::Result<()> {
    unmount_if_mounted(&scratch.join(ROOTFS), Unmount::Lazy).map(drop)
}

const ROOTFS: &str = "rootfs";

fn with_image<T>(
    parts: &Parts,
    record: &Record,
    scratch: &Path,
    work: impl FnOnce(&Path) -> T,
) -> Result<T, ContainerError> {
    let rootfs = scratch.join(ROOTFS);
    let doing = "mounting the image";
    let made = fs::create_dir_all(&rootfs);
    made.map_err(|source| ContainerError::Io { id: record.id.clone(), doing, source })?;
    let writable = Writable::of(scratch);
    let options = MountOptions { durability: Durability::Volatile, limit: None };
    let mounted = parts.images.snapshots().mount(&record.chain, &writable, &rootfs, options);
    mounted.map_err(|error| ContainerError::system(&error))?;
    Ok(work(&rootfs))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, ContainerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ContainerError::system(&error))?.map_err(|error| ContainerError::system(&error))
}
