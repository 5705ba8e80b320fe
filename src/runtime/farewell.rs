//! Hooks for the end of a container, which whoever sees it calls: its shim, or a daemon that finds the shim killed.
//!
//! Left in the container's directory, moved out of it by whoever calls them, and locked while they are called: the next
//! start waits for the lock, whichever daemon, shim or helper of one holds it.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Hook;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::base::durable;
use crate::base::id::ContainerId;
use crate::base::missing::missing_is_fine;

const FILE: &str = "poststop.json";
/// Beside the directory of all containers' own: what is being called.
const CALLED: &str = "farewells";
/// How long a hook without a timeout may take. runc waits for ever, but whoever runs runc does not.
const PATIENCE: Duration = Duration::from_secs(10);
/// No hook is waited for longer, whatever it asks for.
const LONGEST: Duration = Duration::from_secs(3600);

/// What to call, and with which state of the container.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Farewell {
    pub id: ContainerId,
    /// The bundle, as it was: it may be gone.
    pub dir: PathBuf,
    pub hooks: Vec<Hook>,
    pub annotations: HashMap<String, String>,
}

impl Farewell {
    /// The role of a process that tells, on the command line; what comes on its standard input.
    pub const ROLE: &str = "call-hooks";

    /// Leaves it in the container's directory, in the place of an earlier one; nothing if nobody is to be told.
    pub fn leave(&self) -> io::Result<()> {
        for stale in [self.dir.join(FILE), called(&self.dir)?] {
            missing_is_fine(fs::remove_file(stale))?;
        }
        if self.hooks.is_empty() {
            return Ok(());
        }
        durable::write_state(&self.dir.join(FILE), &serde_json::to_vec(self)?)
    }

    /// Takes what was left in a container's directory, if nobody else has: the caller is to tell, and holds the file
    /// open until that is done.
    pub fn claim(dir: &Path) -> io::Result<Option<File>> {
        let claimed = || -> io::Result<File> {
            let file = File::open(dir.join(FILE))?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            let place = called(dir)?;
            if let Some(parent) = place.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            fs::rename(dir.join(FILE), place)?;
            Ok(file)
        };
        match claimed() {
            Ok(file) => Ok(Some(file)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What was claimed has been told.
    pub fn end(&self) -> io::Result<()> {
        fs::remove_file(called(&self.dir)?)
    }

    /// What was claimed of a container's directory, and how long telling it may take, unless that is over.
    pub fn begun(dir: &Path) -> io::Result<Option<(File, Duration)>> {
        let mut file = match File::open(called(dir)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut json = Vec::new();
        file.read_to_end(&mut json)?;
        let hooks = serde_json::from_slice::<Self>(&json)?.hooks;
        Ok(Some((file, hooks.iter().map(Self::limit).fold(Duration::ZERO, Duration::saturating_add))))
    }

    /// Waits until what [`begun`](Self::begun) found is over.
    pub fn wait(file: &File) -> io::Result<()> {
        Ok(flock(file, FlockOperation::LockShared)?)
    }

    /// Removes what nobody tells any more, of containers whose directories are in `dirs`.
    pub fn sweep(dirs: &Path) {
        let entries = fs::read_dir(dirs.with_file_name(CALLED)).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let is_over = |file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if File::open(&path).is_ok_and(is_over) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// How long a hook may take, in whole seconds.
    pub fn limit(hook: &Hook) -> Duration {
        let asked = hook.timeout().map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        asked.unwrap_or(PATIENCE).min(LONGEST)
    }
}

/// Where what is left in `dir` goes when it is called: the directory may go meanwhile.
fn called(dir: &Path) -> io::Result<PathBuf> {
    let (Some(name), Some(all)) = (dir.file_name(), dir.parent()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok(all.with_file_name(CALLED).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_claimed_once_and_is_waited_for() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("all/one");
        fs::create_dir_all(&dir).unwrap();
        let hook = |timeout: Option<i64>| {
            let mut hook = Hook::default();
            hook.set_path("/bin/true".into()).set_timeout(timeout);
            hook
        };
        let farewell = Farewell {
            id: ContainerId::random(),
            dir: dir.clone(),
            hooks: vec![hook(None), hook(Some(4)), hook(Some(-1)), hook(Some(i64::MAX))],
            annotations: HashMap::new(),
        };
        farewell.leave().unwrap();
        assert!(Farewell::begun(&dir).unwrap().is_none());
        let claimed = Farewell::claim(&dir).unwrap().unwrap();
        assert_eq!(serde_json::from_reader::<_, Farewell>(&claimed).unwrap(), farewell);
        assert!(Farewell::claim(&dir).unwrap().is_none());
        let (begun, time) = Farewell::begun(&dir).unwrap().unwrap();
        assert_eq!(time, PATIENCE + Duration::from_secs(4) + LONGEST);
        assert!(flock(&begun, FlockOperation::NonBlockingLockShared).is_err());
        let place = top.path().join(CALLED).join("one");
        Farewell::sweep(dir.parent().unwrap());
        assert!(place.exists());
        // Whoever told was killed.
        drop(claimed);
        Farewell::wait(&begun).unwrap();
        drop(begun);
        Farewell::sweep(dir.parent().unwrap());
        assert!(!place.exists());
        farewell.leave().unwrap();
        Farewell { hooks: Vec::new(), ..farewell }.leave().unwrap();
        assert!(Farewell::claim(&dir).unwrap().is_none());
    }
}
