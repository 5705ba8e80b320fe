//! A container's files as it sees them: the root with its volumes, bind mounts, tmpfs mounts and the engine's own
//! files over it, put together in a mount namespace that is gone with the view, also when the daemon is killed.
//! Kernel file systems (/proc, /sys, /dev) are not among them, as for dockerd.
//!
//! Of a running container the mounted root and tmpfs mounts are shared. Of another one the root is mounted for the
//! view; then nothing else may mount it, because two overlays must not write to one upper directory: a start waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use super::{FilesError, blocking};
use crate::base::sys::mount::Recursion;
use crate::base::sys::mount_point::{self, Kind};
use crate::base::sys::pidfd::PidFd;
use crate::base::sys::root_fs::Root;
use crate::base::sys::tree::{self, Tree};
use crate::container::handle::Handle;
use crate::container::host_config::MountType;
use crate::container::parts::Parts;
use crate::container::published::Published;
use crate::container::record::{MountPoint, MountedImage, Record};
use crate::container::{image_mounts, mounts, request};

/// What a view is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// What is part of a view.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Everything,
    RootOnly,
}

/// What keeps a container's root from being mounted by a start while a view needs that.
enum Hold {
    /// A reader of a running container minds nothing.
    Nothing,
    Shared {
        _guard: OwnedRwLockReadGuard<()>,
    },
    Alone {
        _guard: OwnedRwLockWriteGuard<()>,
    },
}

/// See the module.
pub struct View {
    tree: Tree,
    pub(super) record: Arc<Record>,
    /// Where something lies over the root, and whether that may be written to.
    pub(super) covered: Vec<(PathBuf, bool)>,
    _hold: Hold,
}

/// Something that lies over the root.
struct Cover {
    destination: PathBuf,
    source: Source,
    writable: bool,
    recursion: Recursion,
}

enum Source {
    Path(PathBuf),
    Volume { name: String, subpath: String },
    Image { image: MountedImage, subpath: String },
    Detached(OwnedFd),
}

impl Handle {
    pub(super) async fn view(
        &self,
        parts: &Arc<Parts>,
        purpose: Purpose,
        extent: Extent,
    ) -> Result<View, FilesError> {
        let (hold, now) = self.hold_files(purpose).await;
        let parts = parts.clone();
        blocking(move || View::open(&parts, &now, extent, hold)).await
    }

    async fn hold_files(&self, purpose: Purpose) -> (Hold, Arc<Published>) {
        let running = || self.snapshot().state.pid.is_some();
        loop {
            let (files, before) = (self.shared.files.clone(), running());
            let hold = match (before, purpose) {
                (true, Purpose::Read) => Hold::Nothing,
                (true, Purpose::Write) => Hold::Shared { _guard: files.read_owned().await },
                (false, _) => Hold::Alone { _guard: files.write_owned().await },
            };
            let now = self.snapshot();
            // It may have started or ended while this waited.
            if now.state.pid.is_some() == before {
                return (hold, now);
            }
        }
    }
}

impl View {
    fn open(parts: &Parts, now: &Published, extent: Extent, hold: Hold) -> Result<Self, FilesError> {
        let record = now.record.clone();
        let covers = match extent {
            Extent::Everything => covers(parts, &record, now.state.pid),
            Extent::RootOnly => Vec::new(),
        };
        let covered = covers.iter().map(|cover| (cover.destination.clone(), cover.writable)).collect();
        let tree = Tree::assemble::<FilesError>(|| {
            let root = Root::open(&match now.state.pid {
                Some(_) => parts.paths.rootfs(&record.id),
                None => mounts::mount_for_view(parts, &record)?,
            })?
            .with_ids(&parts.config.ids);
            for cover in covers {
                cover.attach(parts, &root)?;
            }
            if record.host_config.readonly_rootfs {
                tree::make_read_only(root.as_fd(), Recursion::Single)?;
            }
            Ok(root)
        })?;
        Ok(Self { tree, record, covered, _hold: hold })
    }

    /// Where paths of the container are resolved.
    pub(super) fn root(&self) -> &Root {
        self.tree.root()
    }

    /// The path, in the container and without links, of what a handle of this view is open on.
    pub(super) fn path_of(&self, fd: BorrowedFd<'_>) -> std::io::Result<PathBuf> {
        self.tree.path_of(fd)
    }
}

/// What lies over a container's root, in the order in which it has to be put there.
fn covers(parts: &Parts, record: &Record, pid: Option<i32>) -> Vec<Cover> {
    let mut covers: Vec<Cover> = record.mounts.iter().filter_map(cover_of).collect();
    for (target, file) in request::files(parts, record) {
        covers.push(Cover {
            destination: PathBuf::from(target),
            source: Source::Path(file),
            writable: !record.host_config.readonly_rootfs,
            recursion: Recursion::Single,
        });
    }
    covers.extend(pid.map(|pid| tmpfs_of(record, pid)).unwrap_or_default());
    covers.sort_by_key(|cover| cover.destination.components().count());
    covers
}

fn cover_of(point: &MountPoint) -> Option<Cover> {
    let source = match point.kind {
        MountType::Bind => Source::Path(point.source.clone()),
        MountType::Volume => Source::Volume { name: point.name.clone(), subpath: point.subpath.clone() },
        MountType::Image => Source::Image { image: point.image.clone()?, subpath: point.subpath.clone() },
        MountType::Tmpfs | MountType::Npipe | MountType::Cluster => return None,
    };
    let recursion = if point.recursive { Recursion::Recursive } else { Recursion::Single };
    let destination = PathBuf::from(&point.destination);
    Some(Cover { destination, source, writable: point.rw, recursion })
}

/// The tmpfs mounts that a running container was given: they are nowhere but in its own mount namespace.
fn tmpfs_of(record: &Record, pid: i32) -> Vec<Cover> {
    let of_mounts = record.mounts.iter().filter(|point| point.kind == MountType::Tmpfs);
    let targets: Vec<PathBuf> = of_mounts
        .map(|point| &point.destination)
        .chain(record.host_config.tmpfs.keys())
        .map(PathBuf::from)
        .collect();
    if targets.is_empty() {
        return Vec::new();
    }
    let copies = PidFd::open(pid).and_then(|process| tree::copies_of(&process, &targets));
    let copies = copies.unwrap_or_else(|error| {
        // It has just ended, and its tmpfs mounts with it.
        tracing::debug!(container = %record.id, %error, "tmpfs mounts cannot be reached");
        Vec::new()
    });
    let covers = targets.into_iter().zip(copies).filter_map(|(destination, copy)| {
        Some(Cover {
            destination,
            source: Source::Detached(copy?),
            writable: true,
            recursion: Recursion::Single,
        })
    });
    covers.collect()
}

impl Cover {
    /// Puts it over the root; a place that is missing is made, as a start would.
    fn attach(self, parts: &Parts, root: &Root) -> Result<(), FilesError> {
        let mount = match self.source {
            // Gone since the container started: then what the root has there is seen.
            Source::Path(path) if !path.exists() => return Ok(()),
            Source::Path(path) => tree::copy(&path, self.recursion)?,
            Source::Volume { name, subpath } => {
                let dir = Root::open(&parts.volumes.show(&name)?)?;
                tree::copy_of(dir.dir(Path::new(&subpath))?, self.recursion)?
            }
            Source::Image { image, subpath } => {
                let part = if subpath.is_empty() { "." } else { &subpath };
                tree::copy_of(mount_image(parts, &image)?.part(Path::new(part))?, Recursion::Single)?
            }
            Source::Detached(copy) => copy,
        };
        if !self.writable {
            tree::make_read_only(mount.as_fd(), Recursion::Recursive)?;
        }
        let target = place(root, &self.destination, &mount)?;
        Ok(tree::attach_over(mount, target)?)
    }
}

/// Mounts an image in the view's own namespace, whether or not the container has it mounted.
fn mount_image(parts: &Parts, image: &MountedImage) -> Result<Root, FilesError> {
    let target = parts.paths.all_image_mounts();
    std::fs::create_dir_all(&target)?;
    image_mounts::mount_at(parts, image, &target)?;
    Ok(Root::open(&target)?)
}

fn place(root: &Root, destination: &Path, mount: &OwnedFd) -> std::io::Result<OwnedFd> {
    let kind = match FileType::from_raw_mode(rustix::fs::fstat(mount)?.st_mode) {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    root.open_in(&mount_point::place(root, destination, kind, &[])?, OFlags::PATH, Mode::empty())
}
