//! Images that containers show as directories: found when the container is created, mounted for reading while it
//! runs, kept until it is removed. The name is looked up once: what it stands for later makes no difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ContainerError;
use super::host_config::MountType;
use super::parts::Parts;
use super::published::Published;
use super::record::{MountPoint, MountedImage, Record};
use super::registry::Containers;
use super::subpaths;
use crate::base::digest::Digest;
use crate::base::id::ContainerId;
use crate::image::{Activity, Image, ImageError, ImageUser, Purpose};
use crate::snapshot::SnapshotError;

/// Finds the images of a new container's mounts and notes them there; one that is taken over from another container
/// is that container's, whatever its name stands for now.
pub fn find(
    parts: &Parts,
    id: &ContainerId,
    mounts: &mut [MountPoint],
) -> Result<Vec<Arc<Image>>, ImageError> {
    let mut found = Vec::new();
    for (number, point) in mounts.iter_mut().enumerate().filter(|(_, point)| point.kind == MountType::Image) {
        let image = match &point.image {
            Some(theirs) => parts.images.held(&theirs.id, &theirs.manifest)?,
            None => parts.images.resolve(&point.name)?,
        };
        point.source = place(parts, id, number);
        point.image =
            Some(MountedImage { id: image.id, manifest: image.manifest.digest, chain: image.chain.clone() });
        found.push(image);
    }
    Ok(found)
}

fn place(parts: &Parts, id: &ContainerId, number: usize) -> PathBuf {
    parts.paths.image_mounts(id).join(number.to_string())
}

/// Mounts the image, or the part of it, that is at place `number` of the container's list. Blocks.
pub(super) fn mount(parts: &Parts, record: &Record, number: usize) -> Result<PathBuf, ContainerError> {
    let point = &record.mounts[number];
    let Some(image) = &point.image else {
        return Err(ContainerError::system(&format!("the mount at {} has no image", point.destination)));
    };
    let target = place(parts, &record.id, number);
    // A start that was cut off may have left it mounted.
    let ready = subpaths::clear(&target).and_then(|()| fs::create_dir_all(&target));
    let doing = "making a place for an image";
    ready.map_err(|source| ContainerError::Io { id: record.id.clone(), doing, source })?;
    mount_at(parts, image, &target).map_err(|error| ContainerError::system(&error))?;
    match point.subpath.as_str() {
        "" => Ok(target),
        part => subpaths::mount(&parts.paths, &record.id, number, &target, part),
    }
}

/// Mounts an image at an existing directory. Blocks.
pub(super) fn mount_at(parts: &Parts, image: &MountedImage, target: &Path) -> Result<(), MountError> {
    parts.images.unpack_chain(&image.id, &image.chain)?;
    Ok(parts.images.snapshots().mount_read_only(&image.chain, target)?)
}

/// Why an image cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// The containers that were made of an image, and those that mount it.
pub fn users(containers: &Containers, image: &Digest) -> Vec<ImageUser> {
    let all = containers.all().into_iter().map(|handle| handle.snapshot());
    all.flat_map(|now| uses(&now, image)).collect()
}

fn uses(now: &Published, image: &Digest) -> Vec<ImageUser> {
    let record = &now.record;
    let user = |purpose, named: &str| ImageUser {
        container: record.id.clone(),
        activity: if now.is_running() { Activity::Running } else { Activity::Stopped },
        named: named.to_owned(),
        purpose,
    };
    let root = (record.image == *image || record.manifest == *image)
        .then(|| user(Purpose::Root, &record.config.image));
    let shows = |point: &&MountPoint| {
        point.image.as_ref().is_some_and(|shown| shown.id == *image || shown.manifest == *image)
    };
    let mounts = record.mounts.iter().filter(shows).map(|point| user(Purpose::Mount, &point.name));
    root.into_iter().chain(mounts).collect()
}
