//! Copying into a container.

use std::io::BufRead;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, FileType, Mode, OFlags};

use super::find::{absolute, not_found};
use super::view::{Extent, Purpose};
use super::{FilesError, View, blocking};
use crate::base::id_map::Owner;
use crate::base::sys::root_fs::proc_path;
use crate::container::handle::Handle;
use crate::container::parts::Parts;
use crate::container::users::Accounts;
use crate::snapshot::{Extraction, Overwrite, SnapshotError, extract};

/// What is to be unpacked where.
#[derive(Debug, Clone)]
pub struct ExtractRequest {
    /// A directory of the container; links are followed.
    pub path: String,
    /// How the client calls the container.
    pub term: String,
    pub overwrite: Overwrite,
    pub ownership: Ownership,
}

/// Who gets the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// As the archive says.
    Archive,
    /// The container's own user.
    ContainerUser,
}

impl Handle {
    /// Unpacks an archive into a directory of the container. Returns when all of `archive` is read.
    pub async fn extract(
        &self,
        parts: &Arc<Parts>,
        request: ExtractRequest,
        archive: impl BufRead + Send + 'static,
    ) -> Result<(), FilesError> {
        let view = self.view(parts, Purpose::Write, Extent::Everything).await?;
        blocking(move || view.extract(&request, archive)).await?;
        self.report(parts, "extract-to-dir");
        Ok(())
    }
}

impl View {
    fn extract(&self, request: &ExtractRequest, archive: impl BufRead + Send) -> Result<(), FilesError> {
        let target = self.target(request)?;
        self.expect_writable(&target)?;
        let how = Extraction { target, overwrite: request.overwrite, owner: self.owner(request.ownership)? };
        extract(self.root().try_clone()?, &how, archive).map_err(|error| refused(error, &request.path))
    }

    /// The directory's path without links.
    fn target(&self, request: &ExtractRequest) -> Result<PathBuf, FilesError> {
        let absolute = absolute(&request.path);
        let opened = self.root().open_in(Path::new(&absolute), OFlags::PATH, Mode::empty());
        let dir = opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotADirectory => FilesError::NotADirectory,
            _ => not_found(&error, &request.path, &absolute, &request.term),
        })?;
        let stat = fs::fstat(&dir).map_err(std::io::Error::from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(FilesError::NotADirectory);
        }
        // Of what has just been deleted the kernel makes up a name.
        if stat.st_nlink == 0 {
            let (path, container) = (request.path.clone(), request.term.clone());
            return Err(FilesError::NotFound { path, container });
        }
        Ok(self.path_of(dir.as_fd())?)
    }

    /// Refuses what the mounts would refuse, with dockerd's reasons.
    fn expect_writable(&self, target: &Path) -> Result<(), FilesError> {
        let real = |destination: &PathBuf| {
            let opened = self.root().open_in(destination, OFlags::PATH, Mode::empty());
            opened.and_then(|fd| self.path_of(fd.as_fd()))
        };
        let mut over = None;
        for (destination, writable) in &self.covered {
            // Those that lie in others come later.
            if real(destination).is_ok_and(|real| target.starts_with(real)) {
                over = Some(*writable);
            }
        }
        match over {
            Some(true) => Ok(()),
            Some(false) => Err(FilesError::VolumeReadOnly),
            None if self.record.host_config.readonly_rootfs => Err(FilesError::RootReadOnly),
            None => Ok(()),
        }
    }

    fn owner(&self, ownership: Ownership) -> Result<Option<Owner>, FilesError> {
        let user = self.record.config.user.as_str();
        if ownership == Ownership::Archive || user.is_empty() {
            return Ok(None);
        }
        let resolved = Accounts::read(&proc_path(self.root())).resolve(user, &[])?;
        Ok(Some(Owner { uid: resolved.uid, gid: resolved.gid }))
    }
}

/// What unpacking a layer would refuse too, told of an archive that is copied to `dir`.
fn refused(error: SnapshotError, dir: &str) -> FilesError {
    match error {
        SnapshotError::Escape { path } => FilesError::Outside { path, dir: dir.to_owned() },
        SnapshotError::Entry { path, reason } => FilesError::Entry { path, reason },
        other => other.into(),
    }
}
