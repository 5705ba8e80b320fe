//! Whether a container's working directory can be one. Checked when the container is created, as dockerd does, in the
//! layers of its image: nothing is mounted or made. It is made by [`super::furnishing`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::furnishing;
use super::parts::Parts;
use super::record::Record;
use crate::snapshot::{Found, Kind, SnapshotError};

/// Why a working directory cannot be.
#[derive(Debug, thiserror::Error)]
pub enum WorkingDirError {
    #[error("Cannot mkdir: {0} is not a directory")]
    Other(String),
    #[error("Cannot mkdir: {path}: {source}")]
    OnTheWay { path: String, source: io::Error },
    #[error(transparent)]
    Snapshot(SnapshotError),
    #[error("the worker that looks for the working directory ended early")]
    Worker,
}

/// Refuses a container whose working directory is something else in its image.
pub async fn check(parts: &Arc<Parts>, record: &Record) -> Result<(), WorkingDirError> {
    let dir = record.config.working_dir.clone();
    if matches!(dir.as_str(), "" | "/") {
        return Ok(());
    }
    let (parts, chain) = (parts.clone(), record.chain.clone());
    let looking = move || match parts.images.snapshots().look_up(&chain, Path::new(&dir)) {
        Ok(found) => judge(&dir, found),
        Err(SnapshotError::LookUp { source, .. }) => Err(WorkingDirError::OnTheWay { path: dir, source }),
        Err(error) => Err(WorkingDirError::Snapshot(error)),
    };
    tokio::task::spawn_blocking(looking).await.unwrap_or(Err(WorkingDirError::Worker))
}

fn judge(dir: &str, found: Option<Found>) -> Result<(), WorkingDirError> {
    // What takes too long to find is the start's to complain about.
    let Some(found) = found else { return Ok(()) };
    let kind = match found.kind {
        Kind::Missing => furnishing::in_the_way(&found.path).unwrap_or(Kind::Missing),
        kind => kind,
    };
    match kind {
        Kind::Missing | Kind::Directory => Ok(()),
        Kind::Other => Err(WorkingDirError::Other(dir.to_owned())),
        Kind::ThroughOther => {
            let source = io::Error::from_raw_os_error(libc::ENOTDIR);
            Err(WorkingDirError::OnTheWay { path: dir.to_owned(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_puts_into_every_root_is_in_the_way_too() {
        for (path, kind, said) in [
            ("/a", Kind::Missing, None),
            ("/a", Kind::Directory, None),
            ("/a", Kind::Other, Some("Cannot mkdir: /w is not a directory")),
            ("/etc/hosts", Kind::Missing, Some("Cannot mkdir: /w is not a directory")),
            ("/etc/hosts2", Kind::Missing, None),
            ("/etc/hosts/x", Kind::Missing, Some("Cannot mkdir: /w: Not a directory (os error 20)")),
            ("/etc/passwd", Kind::ThroughOther, Some("Cannot mkdir: /w: Not a directory (os error 20)")),
        ] {
            let judged = judge("/w", Some(Found { path: path.into(), kind }));
            assert_eq!(judged.err().map(|error| error.to_string()).as_deref(), said, "{path}");
        }
        assert!(judge("/w", None).is_ok());
    }
}
