//! Makes files from an archive: those of a layer in a directory of its own, or any in a directory of a container. The
//! archive is hostile until proven otherwise, and so is whoever changes the container's files meanwhile: every name is
//! resolved inside the layer's or container's root by the kernel, nothing that exists is ever opened for writing, and
//! no entry is resolved by a path once its directory is open.
//!
//! Must run on a thread whose umask is 0: modes are then right at creation and cost no call of their own.

mod attributes;
mod name;
mod parents;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use self::attributes::{Attributes, Place};
use self::name::{Meaning, clean, meaning, split};
use self::parents::{Missing, Parents};
use super::SnapshotError;
use crate::base::archive::{Entry, Kind, Reader};
use crate::base::id_map::Owner;
use crate::base::sys::root_fs::{Root, remove_tree_at};

pub(super) use self::attributes::copy as copy_attributes;
pub(super) use self::parents::is_whiteout;

/// Ten times what the largest known images have; parents that the archive leaves out count too.
const MAX_ENTRIES: u64 = 20_000_000;
/// What most file systems allocate by; usage is counted in it as `du` would, without asking for each file.
const ALLOCATION: u64 = 4096;
/// ext4 and XFS keep shorter link targets in the inode.
const INLINE_LINK: usize = 60;

/// What was unpacked.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    /// Sum of the lengths of regular files in bytes.
    pub size: u64,
    /// Bytes allocated on disk.
    pub usage: u64,
    /// Directories that the archive needed but had no entry for; the root is the empty path.
    pub implied: Vec<Vec<u8>>,
    /// The layers below are hidden altogether.
    pub opaque_root: bool,
}

/// How an archive is unpacked among what is there already.
#[derive(Debug, Clone)]
pub struct Extraction {
    /// The directory in the root that entries are named from; symbolic links on the way are followed.
    pub target: PathBuf,
    pub overwrite: Overwrite,
    /// Who gets the files, in the ids of the container; as the archive says if absent.
    pub owner: Option<Owner>,
}

/// What an entry may take the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Anything; only a directory among directories is kept.
    Anything,
    /// Directories of directories, others of others; else the archive is refused.
    SameKind,
}

/// Unpacks all entries of a layer into `root`, which must be empty.
pub(super) fn unpack<R: BufRead>(root: Root, reader: &mut Reader<R>) -> Result<Unpacked, SnapshotError> {
    Unpacker::new(root, None).unpack(reader)
}

/// Unpacks all entries somewhere in `root`. Names of whiteouts are names like others.
pub(super) fn unpack_among<R: BufRead>(
    root: Root,
    how: &Extraction,
    reader: &mut Reader<R>,
) -> Result<(), SnapshotError> {
    Unpacker::new(root, Some(how)).unpack(reader).map(drop)
}

struct Unpacker<'a> {
    parents: Parents,
    /// Absent for a layer.
    among: Option<&'a Extraction>,
    /// Set at the end: a directory's own time changes with each entry made in it, and its mode, owner and default
    /// ACL would pass on to them.
    directories: BTreeMap<Vec<u8>, Attributes>,
    implied: BTreeSet<Vec<u8>>,
    entries: u64,
    unpacked: Unpacked,
}

/// What was at an entry's place before it.
#[derive(PartialEq, Eq)]
enum Before {
    Whiteout,
    Other,
}

impl<'a> Unpacker<'a> {
    fn new(root: Root, among: Option<&'a Extraction>) -> Self {
        Self {
            parents: Parents::new(root),
            among,
            directories: BTreeMap::new(),
            implied: BTreeSet::from([Vec::new()]),
            entries: 0,
            unpacked: Unpacked::default(),
        }
    }

    fn unpack<R: BufRead>(mut self, reader: &mut Reader<R>) -> Result<Unpacked, SnapshotError> {
        while let Some(entry) = reader.next_entry()? {
            self.entry(&entry, reader)?;
        }
        self.finish()
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), SnapshotError> {
        self.count(1)?;
        let path = self.place(&entry.path)?;
        let (dir, _) = split(&path);
        let meaning = match self.among {
            None => meaning(&path)?,
            // The directory itself stays as it is.
            Some(_) if clean(&entry.path)?.is_empty() => Meaning::Ignored,
            Some(how) => {
                self.refuse_overwriting(how, &path, entry)?;
                Meaning::Entry(split(&path).1)
            }
        };
        let done = match meaning {
            Meaning::Ignored => Ok(()),
            Meaning::Root => return self.root_entry(entry),
            Meaning::Opaque => self.opaque(dir),
            Meaning::Whiteout(gone) => self.whiteout(dir, gone),
            Meaning::Entry(name) => match entry.kind {
                Kind::Regular => return self.file(&path, entry, reader),
                Kind::HardLink => return self.hard_link(&path, entry),
                Kind::Directory => self.directory(&path, entry),
                Kind::Symlink => self.symlink(&path, entry),
                Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(&path, name, entry),
            },
        };
        done.map_err(|source| unpack_error(entry, source))?;
        self.note_implied()
    }

    /// Where a name of the archive is in the root.
    fn place(&self, name: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        let name = clean(name)?;
        match self.among.map(|how| how.target.as_os_str().as_bytes()) {
            None => Ok(name),
            Some(target) => clean(&[target, b"/", &name].concat()),
        }
    }

    fn refuse_overwriting(
        &mut self,
        how: &Extraction,
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), SnapshotError> {
        if how.overwrite == Overwrite::Anything {
            return Ok(());
        }
        let (dir, name) = split(path);
        let there = match self.parents.enter(dir, Missing::Fail) {
            Ok(parent) => fs::statat(parent, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW),
            // Nothing to overwrite, or for the unpacking itself to complain about.
            Err(_) => return Ok(()),
        };
        let Ok(there) = there else { return Ok(()) };
        let kind = |is_dir| if is_dir { "directory" } else { "non-directory" };
        let there = kind(FileType::from_raw_mode(there.st_mode) == FileType::Directory);
        let new = kind(entry.kind == Kind::Directory);
        if there == new {
            return Ok(());
        }
        let path = Path::new("/").join(OsStr::from_bytes(path));
        Err(SnapshotError::Overwrite { there, path, new, target: how.target.clone() })
    }

    fn attributes(&self, entry: &Entry) -> io::Result<Attributes> {
        let place = match self.among {
            None => Place::Prepared,
            Some(how) => Place::Foreign(how.owner),
        };
        Ok(Attributes::of(entry, place, self.parents.ids())?)
    }

    fn count(&mut self, entries: usize) -> Result<(), SnapshotError> {
        self.entries += entries as u64;
        if self.entries > MAX_ENTRIES {
            return Err(SnapshotError::TooManyEntries { limit: MAX_ENTRIES });
        }
        Ok(())
    }

    fn note_implied(&mut self) -> Result<(), SnapshotError> {
        let made = self.parents.take_made();
        let count = made.len();
        self.implied.extend(made);
        self.count(count)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), SnapshotError> {
        if entry.kind != Kind::Directory {
            let reason = "the layer's root is not a directory";
            return Err(SnapshotError::Entry { path: entry.display(), reason });
        }
        self.implied.remove(&[][..]);
        let attributes = self.attributes(entry).map_err(|source| unpack_error(entry, source))?;
        self.directories.insert(Vec::new(), attributes);
        Ok(())
    }

    fn opaque(&mut self, dir: &[u8]) -> io::Result<()> {
        // overlayfs does not look at this mark on a layer's root: the mount leaves out the layers below instead.
        self.unpacked.opaque_root |= dir.is_empty();
        make_opaque(self.parents.enter(dir, Missing::Create)?)
    }

    fn whiteout(&mut self, dir: &[u8], gone: &[u8]) -> io::Result<()> {
        let parent = self.parents.enter(dir, Missing::Create)?;
        let name = OsStr::from_bytes(gone);
        match fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            // A whiteout speaks of the layers below only: what this layer has under the name stays, and hides them.
            Err(Errno::EXIST) => match fs::openat(parent, name, DIR_ONLY, Mode::empty()) {
                Ok(existing) => make_opaque(existing.as_fd()),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(e) => Err(e.into()),
            },
            other => Ok(other?),
        }
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        self.unpacked.usage += ALLOCATION;
        let (dir, name) = split(path);
        // Among the files of others nobody may look into it before it gets its own mode.
        let mode = Mode::from_raw_mode(if self.among.is_some() { entry.mode & 0o700 } else { 0o755 });
        let parent = self.parents.enter(dir, Missing::Create)?;
        let name = OsStr::from_bytes(name);
        match fs::mkdirat(parent, name, mode) {
            Err(Errno::EXIST) => {
                let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    let (parent, before) = self.clear(path)?;
                    fs::mkdirat(&parent, name, mode)?;
                    if before == Before::Whiteout {
                        make_opaque(fs::openat(&parent, name, DIR_ONLY, Mode::empty())?.as_fd())?;
                    }
                }
            }
            other => other?,
        }
        self.implied.remove(path);
        let attributes = self.attributes(entry)?;
        self.directories.insert(path.to_vec(), attributes);
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), SnapshotError> {
        let failed = |source: io::Error| unpack_error(entry, source);
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        // O_EXCL: an existing device, FIFO or link is never opened.
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(path, |parent, name| fs::openat(parent, name, flags, mode)).map_err(failed)?;
        self.note_implied()?;
        reader.read_data(entry, |offset, bytes| write_at(&file, offset, bytes).map_err(failed))?;
        // Holes cost nothing: a few sparse files can claim more than 64 bits hold.
        self.unpacked.size = self.unpacked.size.saturating_add(entry.size);
        self.unpacked.usage += match &entry.sparse {
            None => entry.size.next_multiple_of(ALLOCATION),
            Some(segments) => {
                // Only what follows the last part is missing: a file ends where it was last written to.
                fs::ftruncate(&file, entry.size).map_err(|e| failed(e.into()))?;
                segments.iter().map(|segment| segment.length.next_multiple_of(ALLOCATION)).sum()
            }
        };
        self.attributes(entry).and_then(|attributes| attributes.set_on_new_file(&file)).map_err(failed)
    }

    fn symlink(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        if entry.link.len() >= INLINE_LINK {
            self.unpacked.usage += ALLOCATION;
        }
        let target = OsStr::from_bytes(&entry.link);
        self.make(path, |parent, name| fs::symlinkat(target, parent, name))?;
        self.set_by_name(path, entry)
    }

    fn node(&mut self, path: &[u8], _name: &[u8], entry: &Entry) -> io::Result<()> {
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = fs::makedev(entry.device.major, entry.device.minor);
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.make(path, |parent, name| fs::mknodat(parent, name, kind, mode, device))?;
        self.set_by_name(path, entry)
    }

    fn set_by_name(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        let (dir, name) = split(path);
        let attributes = self.attributes(entry)?;
        let parent = self.parents.enter(dir, Missing::Fail)?;
        attributes.set_on_new_name(parent, OsStr::from_bytes(name), entry.kind)
    }

    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<(), SnapshotError> {
        let target = self.place(&entry.link)?;
        let (target_dir, target_name) = split(&target);
        if target == path {
            return Ok(());
        }
        let missing = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => {
                let reason = "a hard link to what the archive does not have";
                SnapshotError::Entry { path: entry.display(), reason }
            }
            _ => unpack_error(entry, source),
        };
        // Kept apart: entering the new name's directory may close this one.
        let from = self.parents.enter(target_dir, Missing::Fail).and_then(|dir| dir.try_clone_to_owned());
        let (from, target_name) = (from.map_err(missing)?, OsStr::from_bytes(target_name));
        // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is another name for that link.
        self.make(path, |parent, name| fs::linkat(&from, target_name, parent, name, AtFlags::empty()))
            .map_err(missing)?;
        self.note_implied()
    }

    /// Makes something new at `path`; what was there before goes.
    fn make<T>(
        &mut self,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let (dir, name) = split(path);
        let name = OsStr::from_bytes(name);
        match make(self.parents.enter(dir, Missing::Create)?, name) {
            Err(Errno::EXIST) => {
                let (parent, _) = self.clear(path)?;
                Ok(make(parent.as_fd(), name)?)
            }
            other => Ok(other?),
        }
    }

    /// Removes what an earlier entry of this layer left at `path`; returns a handle on the directory.
    fn clear(&mut self, path: &[u8]) -> io::Result<(OwnedFd, Before)> {
        let (dir, name) = split(path);
        let name = OsStr::from_bytes(name);
        let parent = self.parents.enter(dir, Missing::Fail)?.try_clone_to_owned()?;
        let stat = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let before = if is_whiteout(&stat) { Before::Whiteout } else { Before::Other };
        // Open handles may lead into what goes away, or through a link that does.
        self.parents.forget();
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            remove_tree_at(parent.as_fd(), name)?;
            self.drop_below(path);
        } else {
            fs::unlinkat(&parent, name, AtFlags::empty())?;
        }
        Ok((parent, before))
    }

    /// Forgets the directories at and below a path that is gone.
    fn drop_below(&mut self, path: &[u8]) {
        let start = [path, b"/"].concat();
        // '0' is the byte after '/': the end of all that starts with `path/`.
        let end = [path, b"0"].concat();
        let range = (Bound::Included(start), Bound::Excluded(end));
        let gone: Vec<Vec<u8>> =
            self.directories.range(range.clone()).map(|(path, _)| path.clone()).collect();
        for below in gone {
            self.directories.remove(&below);
        }
        let gone: Vec<Vec<u8>> = self.implied.range(range).cloned().collect();
        for below in gone {
            self.implied.remove(&below);
        }
        self.directories.remove(path);
        self.implied.remove(path);
    }

    fn finish(mut self) -> Result<Unpacked, SnapshotError> {
        self.parents.forget();
        for (path, attributes) in std::mem::take(&mut self.directories) {
            self.set_on_directory(&path, &attributes).map_err(|source| SnapshotError::Unpack {
                path: String::from_utf8_lossy(&path).into_owned(),
                source,
            })?;
        }
        self.unpacked.usage += self.implied.len() as u64 * ALLOCATION;
        self.unpacked.implied = self.implied.into_iter().collect();
        Ok(self.unpacked)
    }

    fn set_on_directory(&mut self, path: &[u8], attributes: &Attributes) -> io::Result<()> {
        let (dir, name) = split(path);
        let name = if name.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(name) };
        let parent = match self.parents.enter(dir, Missing::Fail) {
            Err(e) if is_gone(&e) => return Ok(()),
            other => other?,
        };
        match fs::openat(parent, name, DIR_ONLY, Mode::empty()) {
            // A later entry took the place of a link on the way, or of the directory under another name of it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(e) => Err(e.into()),
            Ok(directory) => attributes.set_on_directory(&directory),
        }
    }
}

const DIR_ONLY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Marks a directory so that nothing of the layers below is seen in it.
fn make_opaque(dir: BorrowedFd<'_>) -> io::Result<()> {
    // An O_PATH handle takes no attributes.
    let dir = fs::openat(dir, ".", DIR_ONLY, Mode::empty())?;
    Ok(fs::fsetxattr(dir, "trusted.overlay.opaque", b"y", fs::XattrFlags::empty())?)
}

fn write_at(file: &OwnedFd, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                offset += n as u64;
                bytes = &bytes[n..];
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(libc::ELOOP)
}

fn unpack_error(entry: &Entry, source: io::Error) -> SnapshotError {
    SnapshotError::Unpack { path: entry.display(), source }
}
