//! Paths inside a directory that is somebody else's: a layer being unpacked, a container's root. Every resolution
//! starts at an open directory and cannot leave it (openat2(2), `RESOLVE_IN_ROOT`): absolute symbolic links and `..`
//! mean that directory, links of /proc are refused.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Gid, IFlags, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::base::id_map::{IdMaps, Owner};

/// A directory that paths are resolved in.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    ids: IdMaps,
}

impl Root {
    /// The directory at `path`, which is the caller's own and resolved as usual.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: fs::open(path, flags, Mode::empty())?, ids: IdMaps::default() })
    }

    /// The files in it belong to a user namespace: what is made in it belongs to that one's root.
    pub fn with_ids(self, ids: &IdMaps) -> Self {
        Self { ids: ids.clone(), ..self }
    }

    /// Whose files are in it.
    pub fn ids(&self) -> &IdMaps {
        &self.ids
    }

    /// Gives what was just made as `name` in a directory of the root to whom it belongs.
    pub fn give(&self, dir: impl AsFd, name: &OsStr) -> io::Result<()> {
        let owner = self.ids.root();
        if owner == Owner::ROOT {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        Ok(fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Another handle on the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { dir: self.dir.try_clone()?, ids: self.ids.clone() })
    }

    /// Opens what `path` names inside the root. `O_CLOEXEC` is added.
    pub fn open_in(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // "." instead of the empty path: both mean the root itself to callers.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match fs::openat2(&self.dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
                // A rename elsewhere made the kernel unsure whether ".." stayed inside (openat2(2), EAGAIN).
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// A handle on what `path` names below the root, where nothing on the way may lead out of it: neither `..` nor a
    /// symbolic link, which is an error of kind `CrossesDevices` (EXDEV).
    pub fn part(&self, path: &Path) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        loop {
            match fs::openat2(&self.dir, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// A handle on the directory that `path` names inside the root, for use in `*at` calls.
    pub fn dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_in(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// As [`dir`](Self::dir), making the directories that are missing, with `mode`. Symbolic links to directories are
    /// followed; a dangling one is an error.
    pub fn create_dirs(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        match self.dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
            return Err(Errno::NOENT.into());
        };
        let parent = self.create_dirs(parent, mode)?;
        match fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
            Ok(()) => self.give(&parent, name)?,
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        self.dir(path)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// A path that leads to what `fd` is open on, for calls that take no descriptor.
pub fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Directories opened below each other while a tree is removed; what lies deeper is moved up first, so that a tree of
/// thousands of levels needs no more descriptors than this.
const MAX_DEPTH: usize = 64;

/// Removes the tree at `path`. Follows no symbolic link, crosses no mount (it fails with EBUSY there), and clears
/// immutable and append-only flags that stand in its way.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(Errno::INVAL.into());
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    remove_tree_at(fs::openat(CWD, parent, flags, Mode::empty())?.as_fd(), name)
}

/// Removes the tree `name` of the directory `parent`, as [`remove_tree`].
pub fn remove_tree_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let mut deep = 0;
    remove_entry(parent, name, &mut Removal { top: parent, name, moved: &mut deep, depth: 0 })?;
    // What was too deep waits beside the tree now, and may itself hold what is too deep.
    let mut next = 0;
    while next < deep {
        let moved = moved_name(name, next);
        remove_entry(parent, &moved, &mut Removal { top: parent, name, moved: &mut deep, depth: 0 })?;
        next += 1;
    }
    Ok(())
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    name: &'a OsStr,
    moved: &'a mut usize,
    depth: usize,
}

fn moved_name(name: &OsStr, number: usize) -> std::ffi::OsString {
    let mut moved = std::ffi::OsString::from(super::super::durable::GONE);
    moved.push(format!("deep-{number}-"));
    // A name has 255 bytes at most.
    moved.push(OsStr::from_bytes(&name.as_bytes()[..name.len().min(200)]));
    moved
}

fn remove_entry(parent: BorrowedFd<'_>, name: &OsStr, removal: &mut Removal<'_>) -> io::Result<()> {
    match unlink(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return Ok(other?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return Ok(clear_flags_and_unlink(parent, name, AtFlags::empty())?);
        }
        other => other?,
    };
    remove_children(&dir, removal)?;
    match unlink(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::PERM) => Ok(clear_flags_and_unlink(parent, name, AtFlags::REMOVEDIR)?),
        other => Ok(other?),
    }
}

fn remove_children(dir: &OwnedFd, removal: &mut Removal<'_>) -> io::Result<()> {
    for entry in fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let name = OsStr::from_bytes(name.to_bytes());
        if entry.file_type() == FileType::Directory && removal.depth >= MAX_DEPTH {
            fs::renameat(dir, name, removal.top, moved_name(removal.name, *removal.moved))?;
            *removal.moved += 1;
            continue;
        }
        removal.depth += 1;
        let removed = remove_entry(dir.as_fd(), name, removal);
        removal.depth -= 1;
        removed?;
    }
    Ok(())
}

fn unlink(parent: BorrowedFd<'_>, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
    match fs::unlinkat(parent, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// For entries that a container made undeletable by `chattr +i` or `+a`, on themselves or on their directory.
fn clear_flags_and_unlink(parent: BorrowedFd<'_>, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
    let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let protection = IFlags::IMMUTABLE | IFlags::APPEND;
    // Of a directory handle that is O_PATH only, "." gives one that ioctl accepts.
    for target in
        [fs::openat(parent, ".", open, Mode::empty()), fs::openat(parent, name, open, Mode::empty())]
    {
        let Ok(target) = target else { continue };
        if let Ok(current) = fs::ioctl_getflags(&target)
            && current.intersects(protection)
        {
            fs::ioctl_setflags(&target, current - protection)?;
        }
    }
    unlink(parent, name, flags)
}
