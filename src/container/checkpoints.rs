//! Checkpoints: a container's processes in files, to be started from later. What lies where, which names there may be,
//! and dockerd's refusals; the writing is the shim's.
//!
//! A checkpoint is a directory `NAME` in the container's `checkpoints`, or in one that the client names (from which no
//! container can be started, as with dockerd). It is built under another name and published by rename; names from
//! clients never begin with a dot, so that neither that nor `..` can be meant.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use regex::Regex;

use super::error::ContainerError;
use super::handle::{Beginning, Handle};
use super::parts::Parts;
use super::report::Reporter;
use super::wait::WaitCondition;
use crate::base::durable;
use crate::runtime::{Afterwards, Checkpoint, ShimError};

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("^[a-zA-Z0-9][a-zA-Z0-9_.-]+$").expect("the pattern in this binary is valid")
});
/// How long the end of a container that was to end with its checkpoint is waited for.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Which checkpoint a client means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// How the client calls the container.
    pub term: String,
    pub name: String,
    /// Where checkpoints are, if the client says so.
    pub dir: Option<PathBuf>,
}

/// Why there is no checkpoint, or nothing was started from one.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("Container {0} not running")]
    NotRunning(String),
    #[error("checkpoint not support on containers with tty")]
    Terminal,
    #[error("Invalid checkpoint ID ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name(String),
    #[error(
        "cannot checkpoint container {container}: checkpoint with name {name} already exists for container \
         {container}"
    )]
    Exists { name: String, container: String },
    #[error("checkpoint {name} does not exist for container {container}")]
    Missing { name: String, container: String },
    #[error("the checkpoint directory {0:?} is not an absolute path")]
    RelativeDirectory(PathBuf),
    #[error("custom checkpointdir is not supported")]
    StartElsewhere,
    #[error("Cannot checkpoint container {container}: {source}")]
    Shim { container: String, source: ShimError },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Container(#[from] ContainerError),
}

impl Handle {
    /// Writes its processes to files. Returns when these are published, and with [`Afterwards::End`] when it has ended.
    pub async fn checkpoint(
        &self,
        parts: &Arc<Parts>,
        wanted: &Wanted,
        afterwards: Afterwards,
    ) -> Result<(), CheckpointError> {
        let now = self.snapshot();
        if !now.is_running() {
            return Err(CheckpointError::NotRunning(wanted.term.clone()));
        }
        if now.record.config.tty {
            return Err(CheckpointError::Terminal);
        }
        if !NAME.is_match(&wanted.name) {
            return Err(CheckpointError::Name(wanted.name.clone()));
        }
        let images = self.place(parts, wanted)?;
        if tokio::fs::symlink_metadata(&images).await.is_ok() {
            let (name, container) = (wanted.name.clone(), wanted.term.clone());
            return Err(CheckpointError::Exists { name, container });
        }
        let shim = self.shim()?;
        let ended = self.waiter(WaitCondition::NextExit);
        let written = shim.checkpoint(Checkpoint { images, afterwards }).await;
        written.map_err(|source| CheckpointError::Shim { container: wanted.term.clone(), source })?;
        if afterwards == Afterwards::End {
            // Late only if its output is not read to the end; it has no process any more.
            let _ = tokio::time::timeout(END_DEADLINE, ended.wait()).await;
        }
        Reporter { events: &parts.events, record: &now.record }.plain("checkpoint");
        Ok(())
    }

    /// Removes a checkpoint.
    pub async fn remove_checkpoint(
        &self,
        parts: &Arc<Parts>,
        wanted: &Wanted,
    ) -> Result<(), CheckpointError> {
        let images = self.existing(parts, wanted)?;
        blocking(images, |images| fs::remove_dir_all(durable::retire_dir(images)?)).await
    }

    /// Starts it with the processes of a checkpoint.
    pub async fn start_from_checkpoint(
        &self,
        parts: &Arc<Parts>,
        wanted: &Wanted,
    ) -> Result<(), CheckpointError> {
        if self.snapshot().is_running() {
            // Refused as every other start of it.
            return Ok(self.start().await?);
        }
        if wanted.dir.is_some() {
            return Err(CheckpointError::StartElsewhere);
        }
        let images = self.existing(parts, wanted)?;
        Ok(self.start_from(Beginning::Checkpoint(images)).await?)
    }

    fn existing(&self, parts: &Parts, wanted: &Wanted) -> Result<PathBuf, CheckpointError> {
        let images = self.place(parts, wanted)?;
        if NAME.is_match(&wanted.name) && images.is_dir() {
            return Ok(images);
        }
        Err(CheckpointError::Missing { name: wanted.name.clone(), container: wanted.term.clone() })
    }

    fn place(&self, parts: &Parts, wanted: &Wanted) -> Result<PathBuf, CheckpointError> {
        match &wanted.dir {
            None => Ok(parts.paths.checkpoints(self.id()).join(&wanted.name)),
            Some(dir) if dir.is_absolute() => Ok(dir.join(&wanted.name)),
            Some(dir) => Err(CheckpointError::RelativeDirectory(dir.clone())),
        }
    }
}

/// The names of the checkpoints in a directory, sorted.
pub async fn list(dir: PathBuf) -> Result<Vec<String>, CheckpointError> {
    if !dir.is_absolute() {
        return Err(CheckpointError::RelativeDirectory(dir));
    }
    blocking(dir, names).await
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && NAME.is_match(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes checkpoints that were not finished, of a container without a process.
pub(super) fn sweep(dir: &Path) {
    if let Err(error) = durable::sweep(dir, |_| {}) {
        tracing::warn!(dir = %dir.display(), %error, "what is left of a checkpoint stays");
    }
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, CheckpointError> {
    let place = path.clone();
    let done = tokio::task::spawn_blocking(move || work(&place)).await;
    done.unwrap_or_else(|ended| Err(io::Error::other(ended)))
        .map_err(|source| CheckpointError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["c1", "a.b", "A-b_c", "0."] {
            assert!(NAME.is_match(good), "{good}");
        }
        for bad in ["", "a", ".", "..", "../x", "a/b", ".new-c1", "-a", "a\0", "a\n", "c1\n"] {
            assert!(!NAME.is_match(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_is_being_built_or_removed_is_not_listed_and_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["two", "one", ".new-three", ".gone-four"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(names(dir.path()).unwrap(), ["one", "two"]);
        sweep(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(names(&dir.path().join("none")).unwrap().is_empty());
    }
}
