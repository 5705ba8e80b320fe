//! What a container changed of its image.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Stat};

use super::{FilesError, blocking};
use crate::container::furnishing::is_ours;
use crate::container::handle::Handle;
use crate::container::parts::Parts;
use crate::snapshot::Change;

impl Handle {
    /// The paths that differ from the image.
    pub async fn changes(&self, parts: &Arc<Parts>) -> Result<Vec<Change>, FilesError> {
        let (parts, record) = (parts.clone(), self.snapshot().record.clone());
        blocking(move || {
            let upper = parts.paths.container(&record.id).join("upper");
            // What of the furnishing is in `/etc` brings the directory along where the image has none. In an image
            // that is made of the container it stays: its mode and owner may be the container's.
            let is_dir = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let ours = |path: &[u8], stat: &Stat| is_ours(path, stat) || path == b"etc" && is_dir(stat);
            Ok(parts.images.snapshots().changes(&record.chain, &upper, ours)?)
        })
        .await
    }
}

/// Whether something in the upper directory `upper` is only that, with all that is in it.
pub fn is_left_behind(upper: &Path, path: &[u8], stat: &Stat) -> bool {
    if !is_ours(path, stat) {
        return false;
    }
    let place = upper.join(OsStr::from_bytes(path));
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return true;
    }
    let Ok(mut entries) = std::fs::read_dir(place) else { return false };
    entries.all(|entry| {
        let Ok(entry) = entry else { return false };
        let path = [path, b"/", entry.file_name().as_bytes()].concat();
        let handle = rustix::fs::lstat(entry.path());
        handle.is_ok_and(|stat| is_left_behind(upper, &path, &stat))
    })
}
