//! The pid file: says who the daemon is, and keeps a second one from starting.
//!
//! The daemon holds a lock on it for life, so that a file left by a killed daemon stops nobody, whatever process has
//! got its number since. dockerd takes no lock; where its file is named, its process is looked for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::StartError;

/// The claimed file; removed when dropped.
pub struct Pidfile {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Writes this process's number into the file, unless a live daemon holds it.
pub fn claim(path: &Path) -> Result<Pidfile, StartError> {
    let failed = |source| StartError::Pidfile { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o644).open(path).map_err(failed)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let pid = text.trim().parse::<i32>().unwrap_or(0);
    let running = || StartError::Running { pid, path: path.to_owned() };
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| running())?;
    if is_engine(pid) {
        return Err(running());
    }
    lock.set_len(0).map_err(failed)?;
    lock.rewind().map_err(failed)?;
    write!(lock, "{}", std::process::id()).map_err(failed)?;
    Ok(Pidfile { path: path.to_owned(), _lock: lock })
}

/// Whether a process is an engine that takes no lock. One that has ended and waits for its parent has no program.
fn is_engine(pid: i32) -> bool {
    let own = i32::try_from(std::process::id()).is_ok_and(|own| own == pid);
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    pid > 1 && !own && name.trim() == "dockerd" && fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use nix::sys::wait::{Id, WaitPidFlag, waitid};

    #[test]
    fn a_process_that_has_ended_is_no_engine() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("dockerd");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut process = std::process::Command::new(&program)
            .arg("1000")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(process.id()).unwrap();
        // The kernel names a process a moment after it has let its parent go on.
        let named = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            is_engine(pid)
        });
        process.kill().unwrap();
        let left = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(nix::unistd::Pid::from_raw(pid)), left).unwrap();
        let ended = is_engine(pid);
        process.wait().unwrap();
        assert_eq!((named, ended), (true, false));
    }

    #[test]
    fn a_stale_file_is_taken_over_and_a_held_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/s.pid");
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::write(&path, "1\n").unwrap();
        let held = claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        assert!(matches!(claim(&path), Err(StartError::Running { .. })));
        drop(held);
        assert!(!path.exists());
        claim(&path).unwrap();
    }
}
