//! Trees of mounts that are put together where nobody else sees them. Such a tree has no name anywhere: it is gone
//! with its last descriptor, so that even a process killed half-way leaves nothing mounted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{self, CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{self, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::mount::Recursion;
use super::pidfd::PidFd;
use super::root_fs::{Root, proc_path};

/// A mount namespace that no process is in, seen through its root.
#[derive(Debug)]
pub struct Tree {
    root: Root,
    /// Keeps the mounts below the root together.
    _namespace: OwnedFd,
}

impl Tree {
    /// Runs `build` in a mount namespace of its own, a copy of this one that shares no event with it. What it returns,
    /// the root directory of a mount, becomes the tree's root; all other mounts leave the namespace.
    pub fn assemble<E>(build: impl FnOnce() -> Result<Root, E> + Send) -> Result<Self, E>
    where
        E: From<io::Error> + Send,
    {
        on_own_thread(|| {
            let own = || -> io::Result<OwnedFd> {
                unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
                mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
                open_namespace("/proc/thread-self/ns/mnt")
            };
            let namespace = own()?;
            let root = build()?;
            leave_all_but(&root)?;
            Ok(Self { root, _namespace: namespace })
        })
    }

    /// Where paths are resolved.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Where `fd`, opened in this tree, is as seen from its root.
    pub fn path_of(&self, fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
        std::fs::read_link(proc_path(fd))
    }
}

fn leave_all_but(root: &Root) -> io::Result<()> {
    nix::unistd::fchdir(root)?;
    nix::unistd::pivot_root(".", ".")?;
    // The old root lies on the new one now (pivot_root(2), "pivot_root(\".\", \".\")").
    Ok(mount::unmount(".", UnmountFlags::DETACH)?)
}

/// A copy of the mount at `path`, attached nowhere. Follows symbolic links.
pub fn copy(path: &Path, recursion: Recursion) -> io::Result<OwnedFd> {
    Ok(mount::open_tree(CWD, path, clone_flags(recursion))?)
}

/// A copy of what the handle `dir` is open on, as a mount attached nowhere.
pub fn copy_of(dir: impl AsFd, recursion: Recursion) -> io::Result<OwnedFd> {
    Ok(mount::open_tree(dir.as_fd(), "", clone_flags(recursion) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

fn clone_flags(recursion: Recursion) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match recursion {
        Recursion::Single => flags,
        Recursion::Recursive => flags | OpenTreeFlags::AT_RECURSIVE,
    }
}

/// Copies of the mounts that lie exactly at `targets` in the mount namespace of a process; nothing for those where
/// none lies. Links on the way are followed inside that namespace's root.
pub fn copies_of(process: &PidFd, targets: &[PathBuf]) -> io::Result<Vec<Option<OwnedFd>>> {
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_FS)?;
        setns(process, CloneFlags::CLONE_NEWNS)?;
        // Of the namespace, whatever root directory the process has chosen.
        let root = Root::open(Path::new("/"))?;
        targets.iter().map(|target| copy_in(&root, target)).collect()
    })
}

fn copy_in(root: &Root, target: &Path) -> io::Result<Option<OwnedFd>> {
    let Ok(dir) = root.dir(target) else { return Ok(None) };
    // Only the root of a mount can be entered by its own name and not without crossing a mount.
    let same = |path: &Path| root_of_mount(root, path);
    if !same(target)? {
        return Ok(None);
    }
    copy_of(&dir, Recursion::Single).map(Some)
}

/// Whether a mount lies at `path`: then the directory cannot be reached from its parent on one mount.
fn root_of_mount(root: &Root, path: &Path) -> io::Result<bool> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Ok(true) };
    let parent = root.dir(parent)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat2(&parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
        Ok(_) => Ok(false),
        Err(rustix::io::Errno::XDEV) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Puts a detached mount over what `target` is open on.
pub fn attach_over(detached: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(mount::move_mount(detached.as_fd(), "", target.as_fd(), "", flags)?)
}

/// Makes a mount, and with [`Recursion::Recursive`] all below it, read-only. `mount` is open on its root.
pub fn make_read_only(mount: BorrowedFd<'_>, recursion: Recursion) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = match recursion {
        Recursion::Single => libc::AT_EMPTY_PATH,
        Recursion::Recursive => libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
    };
    // SAFETY: the path is an empty C string and the attributes are a live structure of the size that is passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn open_namespace(path: &str) -> io::Result<OwnedFd> {
    Ok(fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A thread that changes its namespaces ends with that.
fn on_own_thread<T, E>(work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
where
    T: Send,
    E: From<io::Error> + Send,
{
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("mounts".into()).spawn_scoped(scope, work)?;
        let panicked = |_| Err(io::Error::other("the thread of a mount namespace panicked").into());
        thread.join().unwrap_or_else(panicked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sys::mount::{MountFlags, tmpfs};

    #[test]
    fn a_tree_holds_its_mounts_together_and_is_seen_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "volume").unwrap();
        let target = dir.path().to_owned();
        let tree = Tree::assemble::<io::Error>(|| {
            let volume = copy(&outside, Recursion::Recursive)?;
            make_read_only(volume.as_fd(), Recursion::Recursive)?;
            tmpfs("tmpfs", &target, MountFlags::empty(), "mode=755")?;
            let root = Root::open(&target)?;
            let place = root.create_dirs(Path::new("data"), 0o755)?;
            attach_over(volume, place)?;
            Ok(root)
        })
        .unwrap();
        assert!(!dir.path().join("data").exists());
        let flags = OFlags::RDONLY;
        let file = tree.root().open_in(Path::new("/data/../../data/file"), flags, Mode::empty()).unwrap();
        assert_eq!(tree.path_of(file.as_fd()).unwrap(), Path::new("/data/file"));
        assert_eq!(std::io::read_to_string(std::fs::File::from(file)).unwrap(), "volume");
        let create = OFlags::CREATE | OFlags::WRONLY;
        let mode = Mode::from_raw_mode(0o644);
        let refused = tree.root().open_in(Path::new("data/new"), create, mode).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
        tree.root().open_in(Path::new("new"), create, mode).unwrap();
        assert!(tree.root().open_in(Path::new("/proc/self"), flags, Mode::empty()).is_err());
    }
}
