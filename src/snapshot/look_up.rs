//! What a path means in a stack of layers that is mounted nowhere: what overlayfs would show there, found by looking
//! into the layers from the top down. Links are followed as the kernel does with the stack as its root; what is
//! missing counts as a directory that is yet to be made.
//!
//! Holds one directory of each layer at a time, and gives up on what takes more look-ups than any sensible image.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::pack::is_opaque;
use super::{ChainId, SnapshotError, Snapshots};
use crate::base::sys::mount_point::MAX_LINKS;

/// Entries that are looked for in single layers before a path is given up: 500 layers and 40 directories.
const MAX_LOOK_UPS: usize = 20_000;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Without links, from the root on; of a path through something that is no directory only the part to there.
    pub path: PathBuf,
    pub kind: Kind,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Missing,
    Directory,
    /// Something else.
    Other,
    /// Something else is in the way.
    ThroughOther,
}

impl Snapshots {
    /// Looks `path` up in `layers` (the base first). `None`: nobody would want to know, it takes too long.
    pub fn look_up(&self, layers: &[ChainId], path: &Path) -> Result<Option<Found>, SnapshotError> {
        look_up(&self.store.stack(layers)?, path)
            .map_err(|source| SnapshotError::LookUp { path: path.to_owned(), source })
    }
}

fn look_up(trees: &[PathBuf], path: &Path) -> io::Result<Option<Found>> {
    let mut walk = Walk { trees, at: Merged::root(trees)?, steps: Vec::new(), left: MAX_LOOK_UPS };
    let mut rest = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            walk.steps.pop();
            let again = std::mem::take(&mut walk.steps);
            walk.back_to_root()?;
            again.into_iter().rev().for_each(|name| rest.push_front(name));
            continue;
        }
        let Some(spent) = walk.left.checked_sub(walk.at.0.len()) else { return Ok(None) };
        walk.left = spent;
        match walk.at.entry(&name)? {
            Entry::Missing => walk.enter(name, Merged(Vec::new())),
            Entry::Directory(dirs) => walk.enter(name, dirs),
            Entry::Other => {
                let kind = if rest.is_empty() { Kind::Other } else { Kind::ThroughOther };
                return Ok(Some(Found { path: walk.path().join(name), kind }));
            }
            Entry::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                if target.is_absolute() {
                    walk.back_to_root()?;
                }
                names(&target).into_iter().rev().for_each(|name| rest.push_front(name));
            }
        }
    }
    let kind = if walk.at.0.is_empty() { Kind::Missing } else { Kind::Directory };
    Ok(Some(Found { path: walk.path(), kind }))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

struct Walk<'a> {
    trees: &'a [PathBuf],
    at: Merged,
    /// The way from the root to where it is.
    steps: Vec<OsString>,
    left: usize,
}

impl Walk<'_> {
    fn enter(&mut self, name: OsString, dirs: Merged) {
        self.steps.push(name);
        self.at = dirs;
    }

    fn back_to_root(&mut self) -> io::Result<()> {
        self.steps.clear();
        self.at = Merged::root(self.trees)?;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        Path::new("/").join(self.steps.iter().collect::<PathBuf>())
    }
}

/// The directories of layers that are one to who looks from above, the topmost first; none is one that is missing.
struct Merged(Vec<OwnedFd>);

enum Entry {
    Missing,
    Directory(Merged),
    Link(PathBuf),
    Other,
}

impl Merged {
    fn root(trees: &[PathBuf]) -> io::Result<Self> {
        let open = |tree: &PathBuf| Ok(fs::open(tree, DIRECTORY, Mode::empty())?);
        Ok(Self(trees.iter().rev().map(open).collect::<io::Result<_>>()?))
    }

    fn entry(&self, name: &OsStr) -> io::Result<Entry> {
        let mut dirs = Vec::new();
        for layer in &self.0 {
            let stat = match fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                found => found?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let dir = fs::openat(layer, name, DIRECTORY, Mode::empty())?;
                    let hides = is_opaque(&dir)?;
                    dirs.push(dir);
                    if hides {
                        break;
                    }
                }
                _ if !dirs.is_empty() => break,
                // A whiteout.
                FileType::CharacterDevice if stat.st_rdev == 0 => break,
                FileType::Symlink => {
                    let target = fs::readlinkat(layer, name, Vec::new())?.into_bytes();
                    return Ok(Entry::Link(OsString::from_vec(target).into()));
                }
                _ => return Ok(Entry::Other),
            }
        }
        Ok(if dirs.is_empty() { Entry::Missing } else { Entry::Directory(Self(dirs)) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_topmost_counts_and_links_stay_inside() {
        let top = tempfile::tempdir().unwrap();
        let layer = |name: &str| top.path().join(name);
        for dir in ["a/etc", "a/dir/below", "a/gone", "b/dir", "b/file"] {
            std::fs::create_dir_all(layer(dir)).unwrap();
        }
        for file in ["a/etc/passwd", "a/file", "b/was"] {
            std::fs::write(layer(file), "").unwrap();
        }
        for (link, target) in [
            ("a/link", "/etc/passwd"),
            ("a/dir/link", "/etc/passwd"),
            ("a/out", "../../../../etc/passwd"),
            ("b/relative", "dir/../etc"),
            ("b/dangling", "/none/such"),
            ("b/around", "/none/../etc/passwd"),
            ("b/one", "two"),
            ("b/two", "one"),
            ("a/was", "etc"),
        ] {
            symlink(target, layer(link)).unwrap();
        }
        let trees = [layer("a"), layer("b")];
        let find = |path: &str| {
            let found = look_up(&trees, Path::new(path)).unwrap().unwrap();
            (found.path.to_str().unwrap().to_owned(), found.kind)
        };
        for (path, leads_to, kind) in [
            ("/", "/", Kind::Directory),
            ("/dir/below", "/dir/below", Kind::Directory),
            ("/dir/new/er", "/dir/new/er", Kind::Missing),
            ("/file", "/file", Kind::Directory),
            ("/was", "/was", Kind::Other),
            ("/was/x", "/was", Kind::ThroughOther),
            ("/etc/passwd", "/etc/passwd", Kind::Other),
            ("/link", "/etc/passwd", Kind::Other),
            ("/dir/link", "/etc/passwd", Kind::Other),
            ("/link/x", "/etc/passwd", Kind::ThroughOther),
            ("/out", "/etc/passwd", Kind::Other),
            ("/relative/passwd", "/etc/passwd", Kind::Other),
            ("/relative/../dir", "/dir", Kind::Directory),
            ("/dangling/x", "/none/such/x", Kind::Missing),
            ("/around", "/etc/passwd", Kind::Other),
        ] {
            assert_eq!(find(path), (leads_to.to_owned(), kind), "{path}");
        }
        let error = look_up(&trees, Path::new("/one/x")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn what_an_upper_layer_hides_is_missing() {
        let top = tempfile::tempdir().unwrap();
        let layer = |name: &str| top.path().join(name);
        for dir in ["a/kept/x", "a/gone/x", "a/opaque/x", "b/kept", "b/opaque/y", "c/opaque/z"] {
            std::fs::create_dir_all(layer(dir)).unwrap();
        }
        fs::setxattr(layer("b/opaque"), "trusted.overlay.opaque", b"y", fs::XattrFlags::empty()).unwrap();
        let whiteout = layer("b/gone");
        fs::mknodat(fs::CWD, whiteout, FileType::CharacterDevice, Mode::empty(), 0)
            .expect("this test needs root");
        let trees = ["a", "b", "c"].map(layer);
        for (path, kind) in [
            ("/kept/x", Kind::Directory),
            ("/gone", Kind::Missing),
            ("/gone/x", Kind::Missing),
            ("/opaque/x", Kind::Missing),
            ("/opaque/y", Kind::Directory),
            ("/opaque/z", Kind::Directory),
        ] {
            assert_eq!(look_up(&trees, Path::new(path)).unwrap().unwrap().kind, kind, "{path}");
        }
    }

    #[test]
    fn a_path_that_takes_too_long_is_given_up() {
        let top = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(200);
        std::fs::create_dir_all(top.path().join(&deep)).unwrap();
        let back = format!("{deep}{}", "../d/".repeat(200));
        let trees = [top.path().to_owned()];
        assert!(look_up(&trees, Path::new(&deep)).unwrap().is_some());
        assert_eq!(look_up(&trees, Path::new(&back)).unwrap(), None);
    }
}
