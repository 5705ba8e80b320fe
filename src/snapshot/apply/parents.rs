//! The directory an entry goes to. Archives list a directory's entries together, so the directories on the way to the
//! last entry stay open, and most entries cost no lookup at all.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::base::id_map::IdMaps;
use crate::base::sys::root_fs::Root;

/// Deeper paths are opened again: a hostile archive must not use up the daemon's descriptors.
const MAX_OPEN: usize = 16;

const DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What to do about directories that are missing on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make them: archives may leave parents out.
    Create,
    /// Fail.
    Fail,
}

/// The open directories on the way to the last entry.
pub(super) struct Parents {
    root: Root,
    path: Vec<u8>,
    /// How much of `path` leads to the directory, and the directory.
    open: VecDeque<(usize, OwnedFd)>,
    /// Directories made by [`Missing::Create`] since they were last taken.
    made: Vec<Vec<u8>>,
}

impl Parents {
    pub(super) fn new(root: Root) -> Self {
        Self { root, path: Vec::new(), open: VecDeque::new(), made: Vec::new() }
    }

    /// Directories that no entry had named when they were needed.
    pub(super) fn take_made(&mut self) -> std::vec::Drain<'_, Vec<u8>> {
        self.made.drain(..)
    }

    /// Whose files they are.
    pub(super) fn ids(&self) -> &IdMaps {
        self.root.ids()
    }

    /// Forgets what is open: something on the way may have been replaced.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.path.clear();
    }

    /// A handle on the directory at a clean path.
    pub(super) fn enter(&mut self, dir: &[u8], missing: Missing) -> io::Result<BorrowedFd<'_>> {
        self.leave(dir);
        let mut reached = self.open.back().map_or(0, |(length, _)| *length);
        while reached < dir.len() {
            let start = if reached == 0 { 0 } else { reached + 1 };
            let end = dir[start..].iter().position(|b| *b == b'/').map_or(dir.len(), |slash| start + slash);
            let opened = self.descend(&dir[..end], &dir[start..end], missing)?;
            self.path.truncate(reached);
            self.path.extend_from_slice(&dir[reached..end]);
            if self.open.len() == MAX_OPEN {
                self.open.pop_front();
            }
            self.open.push_back((end, opened));
            reached = end;
        }
        Ok(self.open.back().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// Drops open directories that are not on the way to `dir`.
    fn leave(&mut self, dir: &[u8]) {
        while let Some((length, _)) = self.open.back() {
            let on_the_way = dir.len() >= *length
                && dir[..*length] == self.path[..*length]
                && (dir.len() == *length || dir[*length] == b'/');
            if on_the_way {
                return;
            }
            self.open.pop_back();
        }
        // The front may have been dropped for depth: then the way starts at the root again.
        self.path.clear();
    }

    fn descend(&mut self, path: &[u8], name: &[u8], missing: Missing) -> io::Result<OwnedFd> {
        let parent = self.open.back().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
        let name = OsStr::from_bytes(name);
        // One component that is neither a link nor "..": nothing to escape by.
        match fs::openat(parent, name, DIR, Mode::empty()) {
            Ok(dir) => return Ok(dir),
            Err(Errno::NOENT) if missing == Missing::Create => {}
            Err(Errno::NOTDIR | Errno::LOOP) => return self.through_link(path, name, missing),
            Err(e) => return Err(e.into()),
        }
        fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        self.root.give(parent, name)?;
        self.made.push(path.to_vec());
        Ok(fs::openat(parent, name, DIR, Mode::empty())?)
    }

    /// A component is not a directory: a symbolic link is followed inside the layer, a whiteout gives way to the
    /// directory that entries after it need.
    fn through_link(&mut self, path: &[u8], name: &OsStr, missing: Missing) -> io::Result<OwnedFd> {
        let parent = self.open.back().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
        let stat = fs::statat(parent, name, fs::AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return self.root.dir(Path::new(OsStr::from_bytes(path)));
        }
        if missing == Missing::Create && is_whiteout(&stat) {
            fs::unlinkat(parent, name, fs::AtFlags::empty())?;
            fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            self.root.give(parent, name)?;
            self.made.push(path.to_vec());
            let dir = fs::openat(parent, name, DIR, Mode::empty())?;
            super::make_opaque(dir.as_fd())?;
            return Ok(dir);
        }
        Err(Errno::NOTDIR.into())
    }
}

/// Character device 0/0: how overlayfs says that a name of the layers below is gone.
pub(in crate::snapshot) fn is_whiteout(stat: &fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_deep_a_path_is_few_directories_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut parents = Parents::new(Root::open(dir.path()).unwrap());
        let deep = "d/".repeat(300);
        parents.enter(deep.trim_end_matches('/').as_bytes(), Missing::Create).unwrap();
        assert_eq!(parents.open.len(), MAX_OPEN);
        assert_eq!(parents.take_made().len(), 300);
        // Back near the top: what was dropped is opened again.
        parents.enter(b"d/d/e", Missing::Create).unwrap();
        assert!(dir.path().join("d/d/e").is_dir());
    }
}
