//! Copies a tree of an image into an empty volume: owners, modes, times, extended attributes, hard links, symbolic
//! links, devices. The source is walked by open directories and no link in it is followed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr,
    lsetxattr, mknodat, openat, utimensat,
};
use rustix::io::Errno;

use crate::base::durable;
use crate::base::sys::root_fs::{Root, proc_path, remove_tree};
use crate::crash_point;

/// The directory that `path` names inside `rootfs`; `None` if there is none.
pub fn open_source(rootfs: &Path, path: &Path) -> io::Result<Option<OwnedFd>> {
    let root = Root::open(rootfs)?;
    match root.open_in(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Puts a copy in the place of the directory `target` if that is empty: a crash leaves it empty or full.
pub fn fill(source: &OwnedFd, target: &Path) -> io::Result<()> {
    if !is_empty(target)? {
        return Ok(());
    }
    let filled = durable::building(target)?;
    if filled.exists() {
        remove_tree(&filled)?;
    }
    fs::create_dir(&filled)?;
    let copied = copy_tree(source, &filled);
    crash_point!("volume.copy_up.copied");
    copied.and_then(|()| fs::rename(&filled, target)).inspect_err(|_| discard(&filled))
}

/// Copies into an empty directory that cannot be replaced, because it is mounted somewhere. It is empty again if that
/// fails; a crash may leave a part of the copy.
pub fn fill_in_place(source: &OwnedFd, target: &Path) -> io::Result<()> {
    if !is_empty(target)? {
        return Ok(());
    }
    copy_tree(source, target).inspect_err(|_| {
        fs::read_dir(target).into_iter().flatten().flatten().for_each(|entry| discard(&entry.path()));
    })
}

/// The failure that made it useless is what is reported.
fn discard(copied: &Path) {
    if let Err(error) = remove_tree(copied) {
        tracing::warn!(path = %copied.display(), %error, "a part of a copy stays");
    }
}

/// Whether a directory holds nothing.
pub fn is_empty(dir: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}

/// Copies the content of `source` into `target`, and the directory's own owner, mode and attributes.
fn copy_tree(source: &OwnedFd, target: &Path) -> io::Result<()> {
    let mut copy = Copy { links: HashMap::new() };
    copy.children(source, target)?;
    copy_metadata(&proc_path(source).join("."), target)
}

struct Copy {
    /// Where files with several names were copied to first.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn children(&mut self, source: &OwnedFd, target: &Path) -> io::Result<()> {
        for entry in Dir::read_from(source)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let name = OsStr::from_bytes(name);
                self.entry(source, name, &target.join(name))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, parent: &OwnedFd, name: &OsStr, target: &Path) -> io::Result<()> {
        // Only the last part is the image's, and it is never followed.
        let source = proc_path(parent).join(name);
        let meta = source.symlink_metadata()?;
        if !meta.is_dir() && meta.nlink() > 1 {
            let key = (meta.dev(), meta.ino());
            if let Some(first) = self.links.get(&key) {
                return fs::hard_link(first, target);
            }
            self.links.insert(key, target.to_owned());
        }
        let kind = meta.file_type();
        if kind.is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fs::create_dir(target)?;
            self.children(&openat(parent, name, flags, Mode::empty())?, target)?;
        } else if kind.is_file() {
            copy_file(parent, name, target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, target)?;
        } else if kind.is_socket() {
            // Nobody listens there any more.
            return Ok(());
        } else {
            let kind = match (kind.is_char_device(), kind.is_block_device()) {
                (true, _) => FileType::CharacterDevice,
                (_, true) => FileType::BlockDevice,
                _ => FileType::Fifo,
            };
            mknodat(CWD, target, kind, Mode::from_raw_mode(0o600), meta.rdev())?;
        }
        copy_metadata(&source, target)
    }
}

fn copy_file(parent: &OwnedFd, name: &OsStr, target: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut source = File::from(openat(parent.as_fd(), name, flags, Mode::empty())?);
    io::copy(&mut source, &mut File::create_new(target)?)?;
    Ok(())
}

/// Owner before mode, which a change of owner strips of setuid; capabilities (an extended attribute) after both.
fn copy_metadata(source: &Path, target: &Path) -> io::Result<()> {
    let meta = source.symlink_metadata()?;
    std::os::unix::fs::lchown(target, Some(meta.uid()), Some(meta.gid()))?;
    if !meta.file_type().is_symlink() {
        fs::set_permissions(target, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    copy_attributes(source, target)?;
    let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn copy_attributes(source: &Path, target: &Path) -> io::Result<()> {
    for name in attribute_names(source)? {
        let value = grown(|buffer| lgetxattr(source, name.as_os_str(), buffer))?;
        match lsetxattr(target, name.as_os_str(), &value, XattrFlags::empty()) {
            // The volume's file system has no such attributes.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn attribute_names(path: &Path) -> io::Result<Vec<OsString>> {
    let names = match grown(|buffer| llistxattr(path, buffer)) {
        Err(e) if e.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => return Ok(Vec::new()),
        other => other?,
    };
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| OsStr::from_bytes(name).to_owned()).collect())
}

/// Reads into a buffer that grows to the 64 KiB that attributes may have (xattr(7)).
fn grown(mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 64 * 1024 => buffer.resize(buffer.len() * 16, 0),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_copied_with_owners_modes_links_and_attributes() {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("rootfs");
        let data = rootfs.join("data");
        fs::create_dir_all(data.join("sub")).unwrap();
        fs::write(data.join("sub/file"), "content").unwrap();
        fs::hard_link(data.join("sub/file"), data.join("again")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        std::os::unix::fs::lchown(data.join("sub/file"), Some(1234), Some(56)).unwrap();
        fs::set_permissions(data.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o1770)).unwrap();
        let attribute = lsetxattr(data.join("sub"), "user.x", b"y", XattrFlags::empty());
        // The place itself is a link that leads out of the root and must not.
        symlink("/data", rootfs.join("place")).unwrap();

        let target = dir.path().join("target");
        fs::create_dir(&target).unwrap();
        let source = open_source(&rootfs, Path::new("/place")).unwrap().unwrap();
        copy_tree(&source, &target).unwrap();

        let file = target.join("sub/file").metadata().unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1234, 56, 0o4751));
        assert_eq!(file.ino(), target.join("again").metadata().unwrap().ino());
        assert_eq!(file.mtime_nsec(), data.join("sub/file").metadata().unwrap().mtime_nsec());
        assert_eq!(fs::read_link(target.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(target.metadata().unwrap().mode() & 0o7777, 0o1770);
        assert_eq!(fs::read(target.join("again")).unwrap(), b"content");
        if attribute.is_ok() {
            let value = grown(|buffer| lgetxattr(target.join("sub"), "user.x", buffer)).unwrap();
            assert_eq!(value, b"y");
        }
    }

    #[test]
    fn what_is_no_directory_in_the_root_is_no_source() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        symlink("../../../../etc", dir.path().join("out")).unwrap();
        for path in ["/missing", "/file", "/out"] {
            assert!(open_source(dir.path(), Path::new(path)).unwrap().is_none(), "{path}");
        }
    }
}
