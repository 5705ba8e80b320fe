//! Making an image of a container.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::Engine;
use crate::base::digest::Digest;
use crate::container::config::ContainerConfig;
use crate::container::files::{FilesError, is_left_behind};
use crate::container::state::Refusal;
use crate::container::{self, ContainerError, Handle, LookupError};
use crate::image::commit::CommitRequest;
use crate::image::{ImageError, RunConfig, changes};
use crate::registry::Reference;
use crate::snapshot::{Marks, SnapshotError, pack};

/// What is committed as what.
#[derive(Debug)]
pub struct CommitOptions {
    pub container: String,
    pub name: Option<Reference>,
    pub author: String,
    pub comment: String,
    /// Settings of the image that go before the container's; these alone without.
    pub config: Option<ContainerConfig>,
    /// Dockerfile instructions on top of them.
    pub changes: Vec<String>,
    pub pause: Pause,
}

/// Whether a container stands still while it is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pause {
    Yes,
    No,
}

/// Why no image was made.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl Engine {
    /// Makes an image of what a container has changed, on top of its own image.
    pub async fn commit(&self, options: CommitOptions) -> Result<Digest, CommitError> {
        let handle = self.containers.resolve(&options.container)?;
        handle.expect_present("commit")?;
        let paused = options.pause == Pause::Yes && pause(&handle).await?;
        let made = self.commit_frozen(&handle, options).await;
        // One that was stopped or removed meanwhile cannot and need not go on.
        if paused && let Err(error) = handle.resume().await {
            tracing::debug!(container = %handle.id(), %error, "not thawed after a commit");
        }
        made
    }

    async fn commit_frozen(&self, handle: &Handle, options: CommitOptions) -> Result<Digest, CommitError> {
        let record = handle.snapshot().record.clone();
        let CommitOptions { name, author, comment, config, changes: instructions, .. } = options;
        let mut own = RunConfig::from(config.as_ref().unwrap_or(&record.config));
        changes::apply_to(&mut own, &instructions)?;
        let run = container::commit::config(own, &record.config);
        let parent = match record.config.image.is_empty() {
            true => None,
            false => Some(self.images.held(&record.image, &record.manifest)?),
        };
        let created_by = record.config.cmd.clone().unwrap_or_default().join(" ");
        let reference = name.as_ref().map(Reference::familiar).unwrap_or_default();
        let request = CommitRequest { name, parent, run, author, comment: comment.clone(), created_by };
        let (images, upper) = (self.images.clone(), self.parts.paths.container(&record.id).join("upper"));
        let made = tokio::task::spawn_blocking(move || {
            images.commit(&request, |sink| {
                let Some(dir) = open(&upper)? else { return empty(sink) };
                let ids = images.snapshots().ids();
                pack(&dir, Marks::Convert, ids, |path, stat| is_left_behind(&upper, path, stat), sink)
                    .map(drop)
            })
        });
        let id = made.await.map_err(|_| ImageError::Worker)??;
        handle.report_commit(&self.parts, comment, id.to_string(), reference);
        Ok(id)
    }
}

/// Freezes a container that runs. False if it does not, or is frozen already.
async fn pause(handle: &Handle) -> Result<bool, ContainerError> {
    match handle.pause().await {
        Ok(()) => Ok(true),
        Err(ContainerError::Refused(
            _,
            Refusal::NotRunning | Refusal::AlreadyPaused | Refusal::Restarting,
        )) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The directory of a container's changes; nothing if it was never started.
fn open(upper: &std::path::Path) -> Result<Option<OwnedFd>, SnapshotError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(upper, flags, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => {
            Err(SnapshotError::Store { action: "reading", path: upper.to_owned(), source: errno.into() })
        }
    }
}

/// The archive of no changes at all.
fn empty(sink: &mut dyn std::io::Write) -> Result<(), SnapshotError> {
    crate::base::archive::Writer::new(sink).finish().map(drop).map_err(SnapshotError::Source)
}
