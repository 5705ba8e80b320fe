//! A container's use of volumes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ContainerError, StartFailure};
use super::handle::Volumes as Anonymous;
use super::host_config::MountType;
use super::parts::Parts;
use super::record::{MountPoint, Record};
use crate::base::id::ContainerId;
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

/// Fills empty volumes with what the image has in their places. The root is mounted and nothing runs in it.
pub(super) fn fill(parts: &Parts, record: &Record, rootfs: &Path) -> Result<(), VolumeError> {
    let volumes =
        record.mounts.iter().filter(|point| point.kind == MountType::Volume && point.subpath.is_empty());
    for point in volumes {
        parts.volumes.copy_up(&point.name, rootfs, Path::new(&point.destination))?;
    }
    Ok(())
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

/// Tells the volumes which of them a container found on disk uses.
pub fn hold(parts: &Parts, record: &Record) {
    for point in record.mounts.iter().filter(|point| point.kind == MountType::Volume) {
        if let Err(error) = parts.volumes.retain(&point.name, &record.id) {
            tracing::warn!(container = %record.id, volume = point.name, %error, "a volume is missing");
        }
    }
}

/// Gives each volume of a new container its name and place, and makes those that are not there.
pub async fn prepare(parts: &Parts, record: &mut Record) -> Result<(), ContainerError> {
    let id = record.id.clone();
    for point in &mut record.mounts {
        match point.kind {
            MountType::Volume => make(parts, &id, point).await?,
            MountType::Bind => make_source(&id, point).await?,
            MountType::Tmpfs | MountType::Image | MountType::Npipe | MountType::Cluster => {}
        }
    }
    Ok(())
}

async fn make(parts: &Parts, id: &ContainerId, point: &mut MountPoint) -> Result<(), ContainerError> {
    let wanted = CreateVolume {
        name: Some(point.name.clone()),
        driver: Some(point.driver.clone()),
        user: Some(id.clone()),
        ..CreateVolume::default()
    };
    point.anonymous = point.name.is_empty();
    let volumes = parts.volumes.clone();
    let volume: Arc<_> = blocking(move || volumes.create(wanted)).await?;
    point.name = volume.name.clone();
    point.source = volume.mountpoint.clone();
    point.driver = crate::volume::DRIVER.to_owned();
    Ok(())
}

/// dockerd makes missing sources of the short form, never of the long one, which was checked before.
async fn make_source(id: &ContainerId, point: &MountPoint) -> Result<(), ContainerError> {
    let source = point.source.clone();
    let made = tokio::task::spawn_blocking(move || std::fs::create_dir_all(source)).await;
    match made {
        Ok(Err(source)) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(ContainerError::Io { id: id.clone(), doing: "making a bind source", source })
        }
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, ContainerError> {
    let failed = |message: String| ContainerError::StartFailed { message, kind: StartFailure::System };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}
