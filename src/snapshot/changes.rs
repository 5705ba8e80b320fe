//! What a container changed, found in the upper directory of its overlay: paths that were added, deleted or modified
//! against the image's layers. A directory is listed when something in it is, as dockerd lists it; that only its time
//! changed is not told. The tree may be changing meanwhile.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::apply::{is_gone, is_whiteout};
use super::pack::is_opaque;
use super::{ChainId, SnapshotError, Snapshots};
use crate::base::sys::root_fs::{Root, proc_path};

/// Longer paths are of no use to anybody; the limit also bounds how deep the walk goes.
const MAX_PATH: usize = 4095;
const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How a path differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Its content or attributes, or something below it.
    Modified,
    /// The image does not have it.
    Added,
    /// Only the image has it.
    Deleted,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute, as the container sees it.
    pub path: Vec<u8>,
    pub kind: ChangeKind,
}

impl Snapshots {
    /// What the upper directory `upper` changes of `layers` (the base first), in the order of a walk by name. Paths
    /// that `left_out` says yes to are passed over, added or in the place of something else, directories unless
    /// something else is in them; it is asked by relative paths. Blocks.
    pub fn changes(
        &self,
        layers: &[ChainId],
        upper: &Path,
        left_out: impl Fn(&[u8], &Stat) -> bool,
    ) -> Result<Vec<Change>, SnapshotError> {
        let open = |path: &Path| Root::open(path).map_err(SnapshotError::store("reading", path));
        let trees = self.store.stack(layers)?;
        let lowers = trees.iter().rev().map(|tree| open(tree)).collect::<Result<Vec<_>, _>>()?;
        if !upper.exists() {
            return Ok(Vec::new());
        }
        let all: Vec<usize> = (0..lowers.len()).collect();
        let mut walk = Walk { upper: open(upper)?, lowers, left_out, path: Vec::new(), changes: Vec::new() };
        let walked = walk.directory(&all, Below::Seen);
        walked.map_err(SnapshotError::store("reading", upper))?;
        Ok(walk.changes)
    }
}

/// Whether what the image has in a directory is seen through it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    Seen,
    /// It was made anew: what is not in it again is deleted.
    Hidden,
}

struct Walk<F> {
    upper: Root,
    /// The topmost first.
    lowers: Vec<Root>,
    left_out: F,
    /// Relative, of what is at hand.
    path: Vec<u8>,
    changes: Vec<Change>,
}

/// What the image has under a name.
struct Lower {
    stat: Stat,
    capability: Vec<u8>,
    /// The layers whose directories of this path are seen as one, by index.
    dirs: Vec<usize>,
}

/// One name of a directory.
struct Pair {
    name: Vec<u8>,
    upper: Option<(Stat, Vec<u8>)>,
    lower: Option<Lower>,
}

impl<F: Fn(&[u8], &Stat) -> bool> Walk<F> {
    /// Goes through the directory at hand. `lowers` are the layers that have it too. No descriptor stays open while
    /// what is below is walked: depth costs none.
    fn directory(&mut self, lowers: &[usize], below: Below) -> io::Result<()> {
        let path = Path::new(OsStr::from_bytes(&self.path));
        let dir = match self.upper.open_in(path, DIR, Mode::empty()) {
            Err(e) if is_gone(&e) => return Ok(()),
            other => other?,
        };
        let below = if is_opaque(&dir)? { Below::Hidden } else { below };
        let pairs = self.pairs(&dir, lowers, below)?;
        drop(dir);
        for pair in pairs {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&pair.name);
            if self.path.len() > MAX_PATH {
                return Err(Errno::NAMETOOLONG.into());
            }
            self.pair(pair, below)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn pairs(&self, dir: &OwnedFd, lowers: &[usize], below: Below) -> io::Result<Vec<Pair>> {
        let path = Path::new(OsStr::from_bytes(&self.path));
        let mut opened = Vec::with_capacity(lowers.len());
        for index in lowers {
            opened.push((*index, self.lowers[*index].open_in(path, DIR, Mode::empty())?));
        }
        let mut names = names(dir)?;
        if below == Below::Hidden {
            for (_, lower) in &opened {
                names.extend(self::names(lower)?);
            }
        }
        names.sort_unstable();
        names.dedup();
        let pair = |name: Vec<u8>| {
            let (upper, lower) = (stat(dir.as_fd(), &name)?, find(&opened, &name)?);
            Ok(Pair { name, upper, lower })
        };
        names.into_iter().map(pair).collect()
    }

    fn pair(&mut self, pair: Pair, below: Below) -> io::Result<()> {
        let Some((stat, capability)) = pair.upper.filter(|(stat, _)| !is_whiteout(stat)) else {
            if pair.lower.is_some() {
                self.change(ChangeKind::Deleted);
            }
            return Ok(());
        };
        let is_dir = is_dir(&stat);
        let kind = match &pair.lower {
            None if (self.left_out)(&self.path, &stat) => None,
            None => Some(ChangeKind::Added),
            Some(lower) if !(is_dir && self::is_dir(&lower.stat)) && (self.left_out)(&self.path, &stat) => {
                None
            }
            Some(lower) => {
                let modified = differs(&lower.stat, &stat) || lower.capability != capability;
                modified.then_some(ChangeKind::Modified)
            }
        };
        if kind.is_none() && !is_dir {
            return Ok(());
        }
        // A directory comes before what is in it, and is taken back if that is nothing.
        self.change(kind.unwrap_or(ChangeKind::Modified));
        let listed = self.changes.len();
        if is_dir {
            self.directory(&pair.lower.map(|lower| lower.dirs).unwrap_or_default(), below)?;
        }
        if kind.is_none() && self.changes.len() == listed {
            self.changes.pop();
        }
        Ok(())
    }

    fn change(&mut self, kind: ChangeKind) {
        self.changes.push(Change { path: [b"/", self.path.as_slice()].concat(), kind });
    }
}

/// What the layers, topmost first, have under a name: as overlayfs looks it up.
fn find(layers: &[(usize, OwnedFd)], name: &[u8]) -> io::Result<Option<Lower>> {
    let mut found: Option<Lower> = None;
    for (index, layer) in layers {
        let Some((stat, capability)) = stat(layer.as_fd(), name)? else { continue };
        let is_dir = is_dir(&stat);
        if is_whiteout(&stat) || (found.is_some() && !is_dir) {
            break;
        }
        let lower = found.get_or_insert(Lower { stat, capability, dirs: Vec::new() });
        if !is_dir {
            break;
        }
        lower.dirs.push(*index);
        if is_opaque(&fs::openat(layer, name, DIR | OFlags::CLOEXEC, Mode::empty())?)? {
            break;
        }
    }
    Ok(found)
}

/// A file's attributes with its capabilities; nothing if it is not there.
fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<(Stat, Vec<u8>)>> {
    let stat = match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(Some((stat, Vec::new())));
    }
    let handle = match fs::openat(dir, name, HANDLE, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    // The largest revision of the attribute has 24 bytes (linux/capability.h).
    let mut value = [0; 64];
    match fs::getxattr(proc_path(&handle), "security.capability", &mut value[..]) {
        Ok(length) => Ok(Some((stat, value[..length].to_vec()))),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(Some((stat, Vec::new()))),
        Err(e) => Err(e.into()),
    }
}

fn names(dir: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Of directories, size and time say nothing.
fn differs(old: &Stat, new: &Stat) -> bool {
    let moved = || {
        let seconds = old.st_mtime != new.st_mtime;
        // A time that went through an archive has whole seconds.
        let whole = old.st_mtime_nsec == 0 || new.st_mtime_nsec == 0;
        seconds || (!whole && old.st_mtime_nsec != new.st_mtime_nsec) || old.st_size != new.st_size
    };
    old.st_mode != new.st_mode
        || (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid)
        || old.st_rdev != new.st_rdev
        || (!is_dir(old) && moved())
}
