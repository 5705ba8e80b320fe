//! Owner, mode, extended attributes and time of what was just made. The order matters: chown(2) takes set-user-id bits
//! and file capabilities away, so it comes first; times come last.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::base::archive::{Entry, Kind, Mtime};
use crate::base::id_map::{IdMaps, Owner, Unmapped};
use crate::base::sys::root_fs::proc_path;
use crate::snapshot::capability;

/// overlayfs' own: in an image's layer they would steer where the kernel looks for files.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// What an entry says of its file besides its content.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Mtime,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    place: Place,
}

/// Where files are made.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In a tree of our own: what is made has root as its owner and the mode it was made with.
    Prepared,
    /// Among files of others: directories may be there already, and those that are may pass their group or access
    /// control lists on. The owner, if given, is in the place of the archive's.
    Foreign(Option<Owner>),
}

impl Attributes {
    /// With the host's ids for those of the entry.
    pub(super) fn of(entry: &Entry, place: Place, ids: &IdMaps) -> Result<Self, Unmapped> {
        let foreign = |name: &[u8]| !OVERLAY.iter().any(|prefix| name.starts_with(prefix));
        let own = entry.xattrs.iter().filter(|(name, _)| foreign(name)).cloned();
        let xattrs = own.map(|(name, value)| capability::for_host(name, value, ids)).collect();
        let owner = match place {
            Place::Foreign(Some(owner)) => owner,
            Place::Foreign(None) | Place::Prepared => Owner { uid: entry.uid, gid: entry.gid },
        };
        let Owner { uid, gid } = ids.to_host(owner)?;
        Ok(Self { mode: entry.mode, uid, gid, mtime: entry.mtime, xattrs, place })
    }

    /// On a file that was created by root with the lower nine bits of the mode.
    pub(super) fn set_on_new_file(&self, file: &OwnedFd) -> io::Result<()> {
        if self.is_owned() {
            fs::fchown(file, Some(self.uid()), Some(self.gid()))?;
        }
        if self.mode & 0o7000 != 0 || self.is_foreign() {
            fs::fchmod(file, Mode::from_raw_mode(self.mode))?;
        }
        for (name, value) in &self.xattrs {
            tolerate(fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()), name)?;
        }
        Ok(fs::futimens(file, &self.times())?)
    }

    /// On a directory of unknown mode.
    pub(super) fn set_on_directory(&self, directory: &OwnedFd) -> io::Result<()> {
        if self.is_owned() {
            fs::fchown(directory, Some(self.uid()), Some(self.gid()))?;
        }
        if self.mode != 0o755 || self.is_foreign() {
            fs::fchmod(directory, Mode::from_raw_mode(self.mode))?;
        }
        for (name, value) in &self.xattrs {
            tolerate(fs::fsetxattr(directory, name.as_slice(), value, XattrFlags::empty()), name)?;
        }
        Ok(fs::futimens(directory, &self.times())?)
    }

    /// On what cannot be opened without side effects: links, devices, FIFOs.
    pub(super) fn set_on_new_name(&self, parent: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> io::Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if self.is_owned() {
            fs::chownat(parent, name, Some(self.uid()), Some(self.gid()), nofollow)?;
        }
        // A link has no mode.
        let has_mode = kind != Kind::Symlink && (self.mode & 0o7000 != 0 || self.is_foreign());
        if has_mode || !self.xattrs.is_empty() {
            let handle =
                fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let path = proc_path(&handle);
            // By the handle: in a container something else may have the name by now, even a link out of it.
            let is_link = FileType::from_raw_mode(fs::fstat(&handle)?.st_mode) == FileType::Symlink;
            if has_mode && !is_link {
                fs::chmod(&path, Mode::from_raw_mode(self.mode))?;
            }
            for (name, value) in self.xattrs.iter().filter(|_| is_link == (kind == Kind::Symlink)) {
                tolerate(fs::setxattr(&path, name.as_slice(), value, XattrFlags::empty()), name)?;
            }
        }
        Ok(fs::utimensat(parent, name, &self.times(), nofollow)?)
    }

    fn is_owned(&self) -> bool {
        self.uid != 0 || self.gid != 0 || self.is_foreign()
    }

    fn is_foreign(&self) -> bool {
        matches!(self.place, Place::Foreign(_))
    }

    fn uid(&self) -> Uid {
        Uid::from_raw(self.uid)
    }

    fn gid(&self) -> Gid {
        Gid::from_raw(self.gid)
    }

    /// The time of access is that of modification: archives rarely have it and nothing reads it.
    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.mtime.seconds, tv_nsec: self.mtime.nanos.into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// File systems without a kind of attribute, and namespaces that may not set it, leave it out, as dockerd does: better
/// an image without an attribute than no image.
fn tolerate(set: Result<(), Errno>, name: &[u8]) -> io::Result<()> {
    match set {
        Err(e @ (Errno::OPNOTSUPP | Errno::PERM)) => {
            tracing::debug!(attribute = %String::from_utf8_lossy(name), error = %e, "extended attribute left out");
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Gives the directory `to` owner, mode, extended attributes and time of the directory `from`.
pub(in crate::snapshot) fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let stat = fs::fstat(from)?;
    fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    copy_xattrs(from, to)?;
    let time = |tv_sec, nanos: u64| Timespec { tv_sec, tv_nsec: nanos as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(fs::futimens(to, &times)?)
}

fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    // The kernel's limit for all names, and for one value (xattr(7)).
    let mut buffer = vec![0; 64 * 1024];
    let length = match fs::flistxattr(from.as_fd(), &mut buffer[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let names = buffer[..length].to_vec();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if OVERLAY.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let length = fs::fgetxattr(from.as_fd(), name, &mut buffer[..])?;
        tolerate(fs::fsetxattr(to, name, &buffer[..length], XattrFlags::empty()), name)?;
    }
    Ok(())
}
