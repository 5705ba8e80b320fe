//! The only writer of state files.
//!
//! A reader sees the old file or the new one, whole, whatever instant the writer is killed at: content goes to a
//! temporary name beside the target and one rename publishes it. Directories are built under `.new-NAME`, published
//! by rename, retired by rename to `.gone-NAME` and torn down afterwards; [`sweep`] finishes both after a crash.
//!
//! Two durabilities: [`write_config`] survives a power cut (file and directory are synced), [`write_state`] survives
//! the daemon's death but not the machine's, and costs no sync.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Prefix of a directory that is being built.
pub const NEW: &str = ".new-";
/// Prefix of a directory that is being torn down.
pub const GONE: &str = ".gone-";

/// Writes what must survive a power cut: mode 0600, synced, renamed, directory synced.
pub fn write_config(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, true)?;
    sync_dir(parent(path)?)
}

/// Writes what must survive the daemon's death only: mode 0600, renamed, nothing synced.
pub fn write_state(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, false)
}

/// Makes the names in `dir` survive a power cut.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The path under which the directory to be published as `dir` is built.
pub fn building(dir: &Path) -> io::Result<PathBuf> {
    beside(dir, NEW)
}

/// Publishes the directory built under [`building`] as `dir`. Fails if `dir` exists and is not empty.
pub fn publish_dir(dir: &Path) -> io::Result<()> {
    fs::rename(building(dir)?, dir)
}

/// Takes `dir` out of sight; returns the path to tear down. A missing `dir` is an error of kind `NotFound`.
pub fn retire_dir(dir: &Path) -> io::Result<PathBuf> {
    let gone = beside(dir, GONE)?;
    fs::rename(dir, &gone)?;
    Ok(gone)
}

/// Removes what a crash left in `parent`: half-built and retired directories. `tear_down` gets each path first, to
/// release what is not a file (mounts), and then the tree is deleted. A missing `parent` has nothing to sweep.
pub fn sweep(parent: &Path, mut tear_down: impl FnMut(&Path)) -> io::Result<()> {
    let entries = match fs::read_dir(parent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.starts_with(NEW) || name.starts_with(GONE)) {
            continue;
        }
        let path = entry.path();
        tear_down(&path);
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn replace(path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = beside(path, &format!("{NEW}{}-{unique}-", std::process::id()))?;
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        if sync { file.sync_all() } else { Ok(()) }
    })();
    let published = written.and_then(|()| fs::rename(&temporary, path));
    if published.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    published
}

fn beside(path: &Path, prefix: &str) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("a path without a file name"))?;
    let mut new_name = std::ffi::OsString::from(prefix);
    new_name.push(name);
    Ok(path.with_file_name(new_name))
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::other("a path without a parent directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_config(&path, b"one").unwrap();
        write_state(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn sweeping_removes_half_built_and_retired_directories_only() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".new-a", ".gone-b", "c"] {
            fs::create_dir_all(dir.path().join(name).join("deep")).unwrap();
        }
        let mut torn = 0;
        sweep(dir.path(), |_| torn += 1).unwrap();
        assert_eq!(torn, 2);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["c"]);
    }
}
