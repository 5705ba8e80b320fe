//! Mounting a container's root: an image's layers below, its own changes on top.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::apply::copy_attributes;
use super::store::Store;
use super::{ChainId, Durability, SnapshotError, Snapshots};
use crate::base::durable;
use crate::base::sys::mount::{self, Unmount};
use crate::base::sys::overlay::{Overlay, Upper};
use crate::base::sys::root_fs::remove_tree;

/// OVL_MAX_STACK of the kernel's overlayfs.
const MAX_LAYERS: usize = 500;

/// A container's own directories, both on one file system and nothing else in them. Made by the first mount.
#[derive(Debug, Clone)]
pub struct Writable {
    /// What the container changed.
    pub upper: PathBuf,
    /// The kernel's working directory.
    pub work: PathBuf,
}

impl Writable {
    /// The directories of a container whose files are in `dir`.
    pub fn of(dir: &Path) -> Self {
        Self { upper: dir.join("upper"), work: dir.join("work") }
    }
}

/// How to mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountOptions {
    /// [`Durability::Volatile`] is for containers that are removed when they exit: it spares them fsync(2), and
    /// unmounting them does not sync the whole file system of the data root.
    pub durability: Durability,
    /// Bytes that the writable directories may take together; `None` is no limit. [`super::can_limit`] tells whether
    /// their file system can.
    pub limit: Option<u64>,
}

impl Snapshots {
    /// Mounts `layers` (the base first) with `writable` on top at `target`, an existing directory.
    pub fn mount(
        &self,
        layers: &[ChainId],
        writable: &Writable,
        target: &Path,
        options: MountOptions,
    ) -> Result<(), SnapshotError> {
        let trees = self.store.stack(layers)?;
        prepare(&trees, writable)?;
        let unlimited = |source| SnapshotError::Limit { path: writable.upper.clone(), source };
        let project =
            options.limit.map(|_| self.store.projects.join(writable)).transpose().map_err(unlimited)?;
        let upper = Upper { dir: &writable.upper, work: &writable.work, durability: options.durability };
        let overlay = Overlay { layers: &trees, upper: Some(upper) };
        overlay.mount(target).map_err(|source| self.store.explain(target, source))?;
        let limited = project.iter().zip(options.limit).try_for_each(|(project, bytes)| project.limit(bytes));
        limited.map_err(|source| {
            // Nobody may write there without the limit; the error is what there is to tell.
            let _ = unmount(target);
            unlimited(source)
        })
    }

    /// Mounts `layers` (the base first) at `target`, an existing directory, for reading only.
    pub fn mount_read_only(&self, layers: &[ChainId], target: &Path) -> Result<(), SnapshotError> {
        let mut trees = self.store.stack(layers)?;
        // The kernel wants two layers where none is writable.
        if trees.len() == 1 {
            trees.insert(0, self.store.empty_dir());
        }
        let overlay = Overlay { layers: &trees, upper: None };
        overlay.mount(target).map_err(|source| self.store.explain(target, source))
    }
}

/// Takes the mount at `target` down. Fails with EBUSY while it is in use; nothing mounted there is fine.
pub fn unmount(target: &Path) -> Result<(), SnapshotError> {
    let unmounted = mount::unmount_if_mounted(target, Unmount::Plain);
    unmounted.map(drop).map_err(|source| SnapshotError::Unmount { target: target.to_owned(), source })
}

impl Store {
    /// The directories to mount, the base first.
    pub(super) fn stack(&self, layers: &[ChainId]) -> Result<Vec<PathBuf>, SnapshotError> {
        let known = self.read();
        let mut trees = Vec::with_capacity(layers.len());
        for chain in layers {
            let info = known.get(chain).ok_or(SnapshotError::NotFound(*chain))?;
            if info.opaque_root {
                trees.clear();
            }
            trees.push(self.tree(chain));
        }
        if trees.is_empty() {
            trees.push(self.empty_dir());
        }
        if trees.len() > MAX_LAYERS {
            return Err(SnapshotError::TooManyLayers { count: trees.len(), limit: MAX_LAYERS });
        }
        Ok(trees)
    }

    /// Tells a mount that failed from a system where none can succeed, by a trial with empty directories.
    fn explain(&self, target: &Path, source: io::Error) -> SnapshotError {
        let supported =
            self.supported.get_or_init(|| self.try_mount().map_err(|e| e.raw_os_error().unwrap_or(0)));
        match supported {
            Ok(()) => SnapshotError::Mount { target: target.to_owned(), source },
            Err(errno) => {
                let reason = io::Error::from_raw_os_error(*errno);
                SnapshotError::Unsupported { root: self.root.clone(), reason }
            }
        }
    }

    fn try_mount(&self) -> io::Result<()> {
        let trial = self.root.join(".new-trial");
        let dir = |name: &str| trial.join(name);
        for name in ["lower", "upper", "work", "target"] {
            fs::create_dir_all(dir(name))?;
        }
        let (upper, work) = (dir("upper"), dir("work"));
        let upper = Upper { dir: &upper, work: &work, durability: Durability::Volatile };
        let overlay = Overlay { layers: &[dir("lower")], upper: Some(upper) };
        let mounted = overlay.mount(&dir("target"));
        if mounted.is_ok() {
            mount::unmount(&dir("target"), Unmount::Lazy)?;
        }
        remove_tree(&trial)?;
        mounted
    }
}

/// Makes the writable directories. The root directory of the mount is the upper one: it takes the image's attributes.
fn prepare(trees: &[PathBuf], writable: &Writable) -> Result<(), SnapshotError> {
    let Writable { upper, work } = writable;
    fs::create_dir_all(work).map_err(SnapshotError::store("creating", work))?;
    // Left by a volatile mount: its owner chose to go on with what is there.
    let mark = work.join("work/incompat");
    if mark.exists() {
        remove_tree(&mark).map_err(SnapshotError::store("removing", mark))?;
    }
    if upper.exists() {
        return Ok(());
    }
    let created = durable::building(upper).and_then(|building| {
        fs::create_dir_all(&building)?;
        if let Some(top) = trees.last() {
            copy_attributes(&open_dir(top)?, &open_dir(&building)?)?;
        }
        durable::publish_dir(upper)
    });
    created.map_err(SnapshotError::store("creating", upper))
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
