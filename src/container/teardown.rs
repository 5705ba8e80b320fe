//! The way back: what a container's process held, and what the container itself is made of.
//!
//! Everything here is idempotent: it runs after an exit, after a failed or interrupted start, and after a crash of
//! the daemon between any two of its steps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ContainerError;
use super::image_mounts;
use super::mounts;
use super::parts::Parts;
use super::record::Record;
use super::state::Volumes;
use crate::base::digest::Digest;
use crate::base::durable;
use crate::crash_point;
use crate::network::Sandbox;
use crate::snapshot;

/// Releases what a run held: network first, then mounts, in dockerd's order of events.
pub(super) async fn release(parts: &Parts, record: &Record, sandbox: Option<&Sandbox>) {
    let none = Sandbox::default();
    parts.networks.disconnect(&record.id, sandbox.unwrap_or(&none)).await;
    crash_point!("container-disconnected");
    mounts::release(parts, record).await;
}

/// Images that were removed while this container still used them go with the last that does. Nobody waits for it.
fn let_images_go(parts: &Parts, record: &Record) {
    let (images, containers) = (parts.images.clone(), parts.containers.clone());
    let mounted = record.mounts.iter().filter_map(|point| Some(point.image.as_ref()?.id));
    let used: Vec<Digest> = std::iter::once(record.image).chain(mounted).collect();
    tokio::task::spawn_blocking(move || {
        for image in used {
            if let Err(error) = images.let_go(&image, &|id| image_mounts::users(&containers, id)) {
                tracing::warn!(%image, %error, "a removed image still takes room");
            }
        }
    });
}

/// Takes a stopped container apart. Its name is free and it is out of every list when this returns; the bytes of
/// its writable layer are deleted afterwards.
pub(super) async fn remove(parts: &Parts, record: &Record, volumes: Volumes) -> Result<(), ContainerError> {
    let dir = parts.paths.container(&record.id);
    let run = parts.paths.run(&record.id);
    let gone = blocking(move || retire(dir, run)).await.map_err(|source| ContainerError::Io {
        id: record.id.clone(),
        doing: "removing it",
        source,
    })?;
    crash_point!("container-retired");
    parts.containers.remove(&record.id);
    let_images_go(parts, record);
    mounts::remove_volumes(parts, record, volumes).await;
    if let Some(gone) = gone {
        tokio::task::spawn_blocking(move || delete(&gone));
    }
    Ok(())
}

/// One rename takes the container away; a directory that is not there was taken before. The shim removes its own,
/// in which the runtime may still be writing; a killed shim's is removed here.
fn retire(dir: PathBuf, run: PathBuf) -> io::Result<Option<PathBuf>> {
    match fs::remove_dir_all(&run) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
        other => other?,
    }
    match durable::retire_dir(&dir) {
        Ok(gone) => Ok(Some(gone)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn delete(gone: &Path) {
    lift_limit(gone);
    if let Err(error) = crate::base::sys::root_fs::remove_tree(gone) {
        tracing::warn!(path = %gone.display(), %error, "not deleted; the next start of the daemon tries again");
    }
}

/// Takes away the limit of what a container wrote that is being deleted: another may get its project afterwards.
pub fn lift_limit(gone: &Path) {
    if let Err(error) = snapshot::lift_limit(&snapshot::Writable::of(gone)) {
        tracing::warn!(path = %gone.display(), %error, "the limit of a removed container's size stays");
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    // Fails when a directory that is not empty again is an error: "Directory not empty" (os error 39).
    #[test]
    fn a_runtime_that_still_writes_keeps_no_container() {
        let top = tempfile::tempdir().unwrap();
        let (dir, run) = (top.path().join("container"), top.path().join("run"));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = fs::create_dir(&run);
                    let _ = fs::write(run.join("state"), "");
                }
            });
            let outcomes: Vec<_> = (0..500)
                .map(|_| {
                    fs::create_dir(&dir)?;
                    let gone = retire(dir.clone(), run.clone())?;
                    gone.map_or(Ok(()), fs::remove_dir_all)
                })
                .collect();
            over.store(true, Ordering::Relaxed);
            outcomes.into_iter().for_each(|outcome: io::Result<()>| outcome.unwrap());
        });
    }
}
