//! Hooks for the end of a container, which whoever sees it calls: its shim, or a daemon that finds the shim killed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Hook;
use serde::{Deserialize, Serialize};

use crate::base::durable;
use crate::base::id::ContainerId;

const FILE: &str = "poststop.json";
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
        match fs::remove_file(self.dir.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if self.hooks.is_empty() {
            return Ok(());
        }
        durable::write_state(&self.dir.join(FILE), &serde_json::to_vec(self)?)
    }

    /// Takes what was left in a container's directory, if nobody else has: the caller is to tell.
    pub fn claim(dir: &Path) -> io::Result<Option<File>> {
        let claimed = File::open(dir.join(FILE)).and_then(|file| {
            fs::remove_file(dir.join(FILE))?;
            Ok(file)
        });
        match claimed {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How long telling of a container's end may take, as far as it is left to do.
    pub fn time(dir: &Path) -> Duration {
        let farewell =
            fs::read(dir.join(FILE)).ok().and_then(|json| serde_json::from_slice::<Self>(&json).ok());
        let hooks = farewell.map(|farewell| farewell.hooks).unwrap_or_default();
        hooks.iter().map(Self::limit).fold(Duration::ZERO, Duration::saturating_add)
    }

    /// How long a hook may take, in whole seconds.
    pub fn limit(hook: &Hook) -> Duration {
        let asked = hook.timeout().map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        asked.unwrap_or(PATIENCE).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_claimed_once_and_its_time_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let hook = |timeout: Option<i64>| {
            let mut hook = Hook::default();
            hook.set_path("/bin/true".into()).set_timeout(timeout);
            hook
        };
        let farewell = Farewell {
            id: ContainerId::random(),
            dir: dir.path().to_owned(),
            hooks: vec![hook(None), hook(Some(4)), hook(Some(-1)), hook(Some(i64::MAX))],
            annotations: HashMap::new(),
        };
        farewell.leave().unwrap();
        assert_eq!(Farewell::time(dir.path()), PATIENCE + Duration::from_secs(4) + LONGEST);
        let claimed: Farewell =
            serde_json::from_reader(Farewell::claim(dir.path()).unwrap().unwrap()).unwrap();
        assert_eq!(claimed, farewell);
        assert!(Farewell::claim(dir.path()).unwrap().is_none());
        assert_eq!(Farewell::time(dir.path()), Duration::ZERO);
        farewell.leave().unwrap();
        Farewell { hooks: Vec::new(), ..farewell }.leave().unwrap();
        assert!(Farewell::claim(dir.path()).unwrap().is_none());
    }
}
