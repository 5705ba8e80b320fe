//! Looking up one path of a container.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{FilesError, View};
use crate::base::path::clean;
use crate::base::sys::root_fs::Root;
use crate::base::time::Timestamp;

/// As many as the kernel follows in dockerd's look-up.
const MAX_LINKS: usize = 255;

/// What is told of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Its last element as asked for: `.` and `/` too.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Kind and permissions as of stat(2).
    pub mode: u32,
    pub modified: Timestamp,
    /// Of a symbolic link: where it leads in the end, as far as that exists. Absolute.
    pub link_target: String,
}

/// What a path stands for.
pub(super) struct Found {
    /// A handle (O_PATH).
    pub object: OwnedFd,
    pub stat: PathStat,
}

impl View {
    /// Finds `path`. A symbolic link at its end is followed only if it ends in `/` or `/.`.
    pub(super) fn find(&self, path: &str, container: &str) -> Result<Found, FilesError> {
        let absolute = absolute(path);
        let follow = absolute.ends_with('/') || absolute.ends_with("/.");
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        let opened = self.root().open_in(Path::new(&absolute), flags, Mode::empty());
        let object = opened.map_err(|error| not_found(&error, path, &absolute, container))?;
        let stat = fs::fstat(&object).map_err(io::Error::from)?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let link_target = if is_link { far_end(self.root(), Path::new(&absolute))? } else { PathBuf::new() };
        Ok(Found { object, stat: describe(base(&absolute), &stat, &link_target) })
    }
}

pub(super) fn not_found(error: &io::Error, path: &str, absolute: &str, container: &str) -> FilesError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            FilesError::NotFound { path: path.to_owned(), container: container.to_owned() }
        }
        _ => FilesError::Stat {
            path: absolute.to_owned(),
            errno: nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        },
    }
}

fn describe(name: &str, stat: &Stat, link_target: &Path) -> PathStat {
    PathStat {
        name: name.to_owned(),
        size: stat.st_size,
        mode: stat.st_mode,
        modified: Timestamp::from_nanos(
            stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64),
        ),
        link_target: link_target.to_string_lossy().into_owned(),
    }
}

/// The path from the root, without `.` and `..`; what it says at its end (`/`, `/.`) is kept.
pub(super) fn absolute(path: &str) -> String {
    let mut clean = clean(path);
    let last = path.trim_end_matches('/');
    let ends_in_dot = last == "." || last.ends_with("/.");
    if (ends_in_dot || path.ends_with('/')) && !clean.ends_with('/') {
        clean.push('/');
    }
    if ends_in_dot {
        clean.push('.');
    }
    clean
}

/// The last element.
fn base(absolute: &str) -> &str {
    let trimmed = absolute.trim_end_matches('/');
    trimmed.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/")
}

/// Where a path leads when all links are followed; what does not exist is taken as it is written.
fn far_end(root: &Root, path: &Path) -> io::Result<PathBuf> {
    let parts = |path: &Path| -> VecDeque<OsString> {
        let named =
            path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
        named.map(|part| part.as_os_str().to_owned()).collect()
    };
    let (mut reached, mut left, mut links) = (PathBuf::from("/"), parts(path), 0);
    while let Some(part) = left.pop_front() {
        if part == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(part);
        let Some(target) = link_at(root, &next)? else {
            reached = next;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        if target.is_absolute() {
            reached = PathBuf::from("/");
        }
        let mut ahead = parts(&target);
        ahead.append(&mut left);
        left = ahead;
    }
    Ok(reached)
}

/// The target of the symbolic link at a path; nothing if it is none.
fn link_at(root: &Root, path: &Path) -> io::Result<Option<PathBuf>> {
    let Ok(object) = root.open_in(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) else {
        return Ok(None);
    };
    match fs::readlinkat(&object, "", Vec::new()) {
        Ok(target) => Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes())))),
        // No symbolic link.
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_keep_what_their_end_says() {
        for (path, expected, name) in [
            ("/etc/hosts", "/etc/hosts", "hosts"),
            ("etc", "/etc", "etc"),
            ("/etc/", "/etc/", "etc"),
            ("/etc/.", "/etc/.", "."),
            ("/etc/../x", "/x", "x"),
            ("/../../x", "/x", "x"),
            ("/", "/", "/"),
            (".", "/.", "."),
            ("//a//b/./", "/a/b/.", "."),
            ("./", "/.", "."),
            ("/a/..", "/", "/"),
        ] {
            let absolute = absolute(path);
            assert_eq!((absolute.as_str(), base(&absolute)), (expected, name), "{path}");
        }
    }

    #[test]
    fn links_are_followed_inside_the_root_as_far_as_they_lead() {
        let dir = tempfile::tempdir().unwrap();
        let link =
            |target: &str, name: &str| std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        link("/a", "absolute");
        link("a/b", "relative");
        link("../../../../etc/passwd", "upwards");
        link("absolute/b/missing", "dangling");
        link("loop", "loop");
        let root = Root::open(dir.path()).unwrap();
        for (path, expected) in [
            ("/absolute", "/a"),
            ("/relative", "/a/b"),
            ("/upwards", "/etc/passwd"),
            ("/dangling", "/a/b/missing"),
        ] {
            assert_eq!(far_end(&root, Path::new(path)).unwrap(), Path::new(expected), "{path}");
        }
        assert!(far_end(&root, Path::new("/loop")).is_err());
    }
}
