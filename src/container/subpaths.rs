//! Parts of volumes and images: what a container sees of one when it asks for a path in it.
//!
//! Whoever writes to a volume can turn the path into a link at any time, and images have what links they want. So the
//! path is resolved once, inside the whole, and what it names is mounted at a place of the engine's own, which the runtime then shows.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::ContainerError;
use super::storage::Paths;
use crate::base::id::ContainerId;
use crate::base::missing::missing_is_fine;
use crate::base::sys::mount::{Recursion, Unmount, bind, unmount_if_mounted};
use crate::base::sys::root_fs::{Root, proc_path};

/// Why a part cannot be shown, in dockerd's words.
#[derive(Debug, thiserror::Error)]
enum SubpathError {
    #[error("cannot access path {}: {source}", path.display())]
    NotAccessible { path: PathBuf, source: io::Error },
    #[error("path concatenation escapes the base directory: {}", path.display())]
    Escapes { path: PathBuf },
    #[error("cannot mount {}: {source}", path.display())]
    Mount { path: PathBuf, source: io::Error },
}

/// Mounts the part `subpath` of the directory `whole` for the mount at place `number` of a container's list.
pub(super) fn mount(
    paths: &Paths,
    id: &ContainerId,
    number: usize,
    whole: &Path,
    subpath: &str,
) -> Result<PathBuf, ContainerError> {
    let target = paths.subpaths(id).join(number.to_string());
    mount_at(&target, whole, subpath).map_err(|error| ContainerError::system(&error))?;
    Ok(target)
}

fn mount_at(target: &Path, whole: &Path, subpath: &str) -> Result<(), SubpathError> {
    let path = whole.join(subpath);
    let part = match Root::open(whole).and_then(|root| root.part(Path::new(subpath))) {
        Ok(part) => part,
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            return Err(SubpathError::Escapes { path });
        }
        Err(source) => return Err(SubpathError::NotAccessible { path, source }),
    };
    let part = proc_path(&part);
    let mounted = clear(target).and_then(|()| make_place(target, &part)).and_then(|()| {
        // A descriptor's link is followed to what is open, wherever it has been moved since.
        bind(&part, target, Recursion::Single)
    });
    mounted.map_err(|source| SubpathError::Mount { path, source })
}

/// A mount needs a place of its own kind.
fn make_place(target: &Path, part: &Path) -> io::Result<()> {
    if part.metadata()?.is_dir() {
        return fs::create_dir_all(target);
    }
    target.parent().map_or(Ok(()), fs::create_dir_all)?;
    File::create(target).map(drop)
}

/// Takes down all that is mounted at the places in `dir`, and the places. Nothing mounted is fine.
pub fn release(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        clear(&entry?.path())?;
    }
    fs::remove_dir(dir)
}

/// Takes down what is mounted at a place, and the place.
pub(super) fn clear(target: &Path) -> io::Result<()> {
    unmount_if_mounted(target, Unmount::Lazy)?;
    let removed = match target.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir(target),
        Ok(_) => fs::remove_file(target),
        Err(error) => Err(error),
    };
    missing_is_fine(removed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(subpath: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let whole = dir.path().join("whole");
        fs::create_dir_all(whole.join("sub")).unwrap();
        symlink("/etc", whole.join("absolute")).unwrap();
        symlink("../..", whole.join("upwards")).unwrap();
        symlink("sub", whole.join("inside")).unwrap();
        let error = mount_at(&dir.path().join("place"), &whole, subpath).unwrap_err().to_string();
        error.replace(dir.path().to_str().unwrap(), "")
    }

    #[test]
    fn no_link_leads_out_of_the_volume() {
        let escapes = "path concatenation escapes the base directory: /whole/";
        for path in ["absolute", "absolute/passwd", "upwards", "inside/../../.."] {
            assert_eq!(refused(path), format!("{escapes}{path}"));
        }
    }

    #[test]
    fn a_missing_part_is_told_with_its_path() {
        let expected = "cannot access path /whole/sub/missing: No such file or directory (os error 2)";
        assert_eq!(refused("sub/missing"), expected);
    }
}
