//! Where a mount goes in a root that is somebody else's: symbolic links are followed inside the root, dangling ones
//! too, and what is missing is made (what runc does with securejoin; openat2 makes nothing behind a dangling link).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::root_fs::Root;

/// Links followed before a path counts as a loop (path_resolution(7)).
pub const MAX_LINKS: usize = 40;

/// What is mounted, and so what it is mounted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Directory,
    File,
}

/// The path that `path` means inside `root`: absolute as seen from there and without links. Its directories and itself
/// are made if missing. Below a path of `covered` (mounts that will be made before) nothing is looked at or made.
pub fn place(root: &Root, path: &Path, kind: Kind, covered: &[PathBuf]) -> io::Result<PathBuf> {
    let mut rest = names(path);
    let mut walked = Walked { root, steps: Vec::new() };
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        let here = walked.path();
        if covered.contains(&here) {
            // Not one join after the other: joining nothing adds a slash, and no file can be made at such a path.
            return Ok(std::iter::once(&name).chain(&rest).fold(here, |path, part| path.join(part)));
        }
        if name == ".." {
            walked.steps.pop();
            continue;
        }
        let made = if rest.is_empty() { kind } else { Kind::Directory };
        let entry = open_or_make(root, walked.dir(), &name, made)?;
        match FileType::from_raw_mode(fs::fstat(&entry)?.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target =
                    PathBuf::from(OsString::from_vec(fs::readlinkat(&entry, "", Vec::new())?.into_bytes()));
                if target.is_absolute() {
                    walked.steps.clear();
                }
                names(&target).into_iter().rev().for_each(|name| rest.push_front(name));
            }
            FileType::Directory if made == Kind::Directory => walked.steps.push((name, entry)),
            FileType::Directory => return Err(Errno::NOTDIR.into()),
            _ if made == Kind::File => walked.steps.push((name, entry)),
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    Ok(walked.path())
}

/// Directories from the root down to where the walk is.
struct Walked<'r> {
    root: &'r Root,
    steps: Vec<(OsString, OwnedFd)>,
}

impl Walked<'_> {
    fn dir(&self) -> BorrowedFd<'_> {
        self.steps.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    fn path(&self) -> PathBuf {
        Path::new("/").join(self.steps.iter().map(|(name, _)| name).collect::<PathBuf>())
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

fn open_or_make(root: &Root, dir: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> io::Result<OwnedFd> {
    let open = || fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let made = match kind {
        Kind::Directory => fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Ok(()) => root.give(dir, name)?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(open()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_and_what_they_lead_to_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("a/b")).unwrap();
        std::fs::write(path("file"), "").unwrap();
        for (link, target) in [
            ("absolute", "/a"),
            ("dangling", "/run/systemd/x.conf"),
            ("out", "../../../../etc"),
            ("a/up", "../a/b"),
            ("loop", "loop"),
        ] {
            symlink(target, path(link)).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        for (asked, kind, found) in [
            ("/a/b", Kind::Directory, "/a/b"),
            ("/absolute/b/c", Kind::Directory, "/a/b/c"),
            ("/dangling", Kind::File, "/run/systemd/x.conf"),
            ("/out/passwd", Kind::File, "/etc/passwd"),
            ("/a/up/../n", Kind::File, "/a/n"),
            ("/covered/x/../y", Kind::File, "/covered/x/../y"),
            ("/covered/x", Kind::File, "/covered/x"),
        ] {
            let covered = [PathBuf::from("/covered")];
            std::fs::create_dir_all(path("covered")).unwrap();
            // As text: paths that differ in a slash at the end are equal.
            let placed = place(&root, Path::new(asked), kind, &covered).unwrap();
            assert_eq!(placed.as_os_str(), found, "{asked}");
        }
        assert!(
            path("run/systemd/x.conf").is_file() && path("a/b/c").is_dir() && path("etc/passwd").is_file()
        );
        assert!(!path("covered/x").exists());
        let fails = |asked: &str| place(&root, Path::new(asked), Kind::File, &[]).unwrap_err().raw_os_error();
        assert_eq!(fails("/loop"), Some(libc::ELOOP));
        assert_eq!(fails("/file/x"), Some(libc::ENOTDIR));
        assert_eq!(fails("/a"), Some(libc::ENOTDIR));
    }
}
