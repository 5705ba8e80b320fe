//! Archives of directory trees: a container's changes as a layer, or a whole root. The tree may be changing, and its
//! owner may be hostile: everything is opened relative to its directory without following links.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::apply::{is_gone, is_whiteout};
use super::{SnapshotError, capability};
use crate::base::archive::{Device, Entry, Kind, Mtime, Writer};
use crate::base::id_map::{IdMaps, Owner};
use crate::base::sys::root_fs::proc_path;

/// Longer paths cannot be unpacked again; the limit also bounds how deep the walk goes.
const MAX_PATH: usize = 4095;
const CHUNK: usize = 256 * 1024;
const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// What was a file a moment ago may be a FIFO by now: O_NONBLOCK, and the kind is asked again.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether overlayfs' marks are turned into those of the image format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// The tree is the upper directory of an overlay: whiteouts become `.wh.` names.
    Convert,
    /// The tree is what a container sees.
    Plain,
}

/// Writes the tree below `root`, without an entry for `root` itself, to `sink`. Names are sorted, times are whole
/// seconds and sockets are left out, as dockerd does; of extended attributes, file capabilities and those of users are
/// kept. Owners are those of the namespace that has `ids`. What `left_out` says yes to is, with all below it; it is asked by paths relative to `root`. Blocks.
pub fn pack<W: Write>(
    root: &OwnedFd,
    marks: Marks,
    ids: &IdMaps,
    left_out: impl Fn(&[u8], &Stat) -> bool,
    sink: W,
) -> Result<W, SnapshotError> {
    let mut packer = Packer::new(marks, ids, left_out, sink);
    // Of the root only the mark counts.
    let packed = reopen(root, DIR).and_then(|dir| packer.directory(&dir));
    packer.finish(packed)
}

/// Writes what `object` (a handle, O_PATH will do) is open on, under the name `name`; a directory with all that is
/// below it. Otherwise as [`pack`].
pub fn pack_object<W: Write>(
    object: &OwnedFd,
    name: &[u8],
    ids: &IdMaps,
    sink: W,
) -> Result<W, SnapshotError> {
    let mut packer = Packer::new(Marks::Plain, ids, |_, _| false, sink);
    packer.path = name.to_vec();
    let packed = packer.object(object);
    packer.finish(packed)
}

struct Packer<'a, W, F> {
    writer: Writer<W>,
    marks: Marks,
    ids: &'a IdMaps,
    left_out: F,
    /// Of the entry at hand, relative to the root.
    path: Vec<u8>,
    /// Files with several names, by device and inode: the first name that was written.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Box<[u8]>,
}

impl<'a, W: Write, F: Fn(&[u8], &Stat) -> bool> Packer<'a, W, F> {
    fn new(marks: Marks, ids: &'a IdMaps, left_out: F, sink: W) -> Self {
        let (writer, buffer) = (Writer::new(sink), vec![0; CHUNK].into());
        Self { writer, marks, ids, left_out, path: Vec::new(), linked: HashMap::new(), buffer }
    }

    /// Ends the archive; on errors `path` is where they happened.
    fn finish(self, packed: io::Result<()>) -> Result<W, SnapshotError> {
        let path = PathBuf::from(OsStr::from_bytes(&self.path));
        let failed = |source| SnapshotError::Store { action: "archiving", path, source };
        packed.and_then(|()| self.writer.finish()).map_err(failed)
    }

    /// What is in a directory, after its mark. On errors `path` stays where they happened.
    fn directory(&mut self, dir: &OwnedFd) -> io::Result<()> {
        if self.marks == Marks::Convert && is_opaque(dir)? {
            self.mark(b".wh..wh..opq")?;
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            let length = self.path.len();
            // The root of a container is archived under the name "/".
            if !matches!(self.path.last(), None | Some(b'/')) {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            if self.path.len() > MAX_PATH {
                return Err(Errno::NAMETOOLONG.into());
            }
            match self.entry(dir.as_fd(), OsStr::from_bytes(&name)) {
                // Removed since it was listed, or something else by now.
                Err(e) if is_gone(&e) => {}
                other => other?,
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (self.left_out)(&self.path, &stat) {
            return Ok(());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.subdirectory(&fs::openat(parent, name, DIR, Mode::empty())?),
            FileType::RegularFile => self.file(&fs::openat(parent, name, FILE, Mode::empty())?),
            FileType::CharacterDevice if self.marks == Marks::Convert && is_whiteout(&stat) => {
                let directory = self.path.len().saturating_sub(name.len() + 1);
                let path = self.path.split_off(directory);
                let marked = self.mark(&[b".wh.", name.as_bytes()].concat());
                self.path.extend_from_slice(&path);
                marked
            }
            _ => self.other(&fs::openat(parent, name, HANDLE, Mode::empty())?),
        }
    }

    /// What a handle is open on.
    fn object(&mut self, object: &OwnedFd) -> io::Result<()> {
        match FileType::from_raw_mode(fs::fstat(object)?.st_mode) {
            FileType::Directory => self.subdirectory(&reopen(object, DIR)?),
            // By its own handle: nothing can take the file's place.
            FileType::RegularFile => {
                let flags = FILE.difference(OFlags::NOFOLLOW);
                self.file(&fs::open(proc_path(object), flags, Mode::empty())?)
            }
            _ => self.other(object),
        }
    }

    /// A directory's own entry, and what is in it.
    fn subdirectory(&mut self, dir: &OwnedFd) -> io::Result<()> {
        let mut entry = self.describe(Kind::Directory, &fs::fstat(dir)?, dir.as_fd())?;
        if !entry.path.ends_with(b"/") {
            entry.path.push(b'/');
        }
        self.writer.entry(&entry)?;
        self.directory(dir)
    }

    fn file(&mut self, file: &OwnedFd) -> io::Result<()> {
        let stat = fs::fstat(file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::NOENT.into());
        }
        let mut entry = self.describe(Kind::Regular, &stat, file.as_fd())?;
        if self.is_another_name(&mut entry, &stat) {
            return self.writer.entry(&entry);
        }
        self.writer.entry(&entry)?;
        let mut left = entry.size;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let length = rustix::io::read(file, &mut self.buffer[..wanted])?;
            if length == 0 {
                break;
            }
            self.writer.data(&self.buffer[..length])?;
            left -= length as u64;
        }
        Ok(())
    }

    /// What has no data: links, devices, FIFOs. Sockets are left out.
    fn other(&mut self, handle: &OwnedFd) -> io::Result<()> {
        let stat = fs::fstat(handle)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(()),
        };
        let mut entry = self.describe(kind, &stat, handle.as_fd())?;
        if kind == Kind::Symlink {
            entry.link = fs::readlinkat(handle, "", Vec::new())?.into_bytes();
        }
        self.is_another_name(&mut entry, &stat);
        self.writer.entry(&entry)
    }

    /// Turns the entry into a hard link if its file has been written under another name.
    fn is_another_name(&mut self, entry: &mut Entry, stat: &Stat) -> bool {
        if stat.st_nlink < 2 {
            return false;
        }
        match self.linked.entry((stat.st_dev, stat.st_ino)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                entry.kind = Kind::HardLink;
                entry.link = first.get().clone();
                entry.size = 0;
                true
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(self.path.clone());
                false
            }
        }
    }

    /// An empty file in the directory at hand.
    fn mark(&mut self, name: &[u8]) -> io::Result<()> {
        let path = if self.path.is_empty() { name.to_vec() } else { [&self.path, &b"/"[..], name].concat() };
        self.writer.entry(&Entry {
            path,
            link: Vec::new(),
            kind: Kind::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            size: 0,
            device: Device::default(),
            xattrs: Vec::new(),
            sparse: None,
        })
    }

    fn describe(&self, kind: Kind, stat: &Stat, file: BorrowedFd<'_>) -> io::Result<Entry> {
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => {
                Device { major: fs::major(stat.st_rdev), minor: fs::minor(stat.st_rdev) }
            }
            _ => Device::default(),
        };
        let owner = self.ids.to_namespace(Owner { uid: stat.st_uid, gid: stat.st_gid });
        Ok(Entry {
            path: self.path.clone(),
            link: Vec::new(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: owner.uid,
            gid: owner.gid,
            mtime: Mtime { seconds: stat.st_mtime, nanos: 0 },
            size: if kind == Kind::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            device,
            xattrs: self.xattrs(file)?,
            sparse: None,
        })
    }

    fn xattrs(&self, file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = xattrs(file)?;
        for (_, value) in found.iter_mut().filter(|(name, _)| name == capability::NAME) {
            *value = capability::for_archive(std::mem::take(value), self.ids);
        }
        Ok(found)
    }
}

fn reopen(directory: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(fs::openat(directory, ".", flags, Mode::empty())?)
}

/// File capabilities and users' own attributes.
fn xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let asked = match fs::flistxattr_query(file) {
        // Handles on links and devices take calls by path only.
        Err(Errno::BADF) => fs::listxattr_query(proc_path(file)),
        other => other,
    };
    let length = match asked {
        // Most files have none: one call, by the descriptor, which spares a look-up.
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let path = &proc_path(file);
    // More may have been added since.
    let mut names = vec![0; length + 4096];
    let length = fs::listxattr(path, &mut names[..])?;
    names.truncate(length);
    let kept = |name: &&[u8]| {
        *name == capability::NAME || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(kept) {
        let mut value = vec![0; 64 * 1024];
        let length = fs::getxattr(path, name, &mut value[..])?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    Ok(found)
}

pub(super) fn is_opaque(dir: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 2];
    match fs::fgetxattr(dir, "trusted.overlay.opaque", &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
