//! Makes a container's control group with its limits, before the runtime library puts the container into it.
//!
//! On cgroup v2 everything is done here: the library's own way knows no device rules and tells systemd less. On v1 its
//! limits are the library's part; what is made here is a scope of systemd's, and groups in hierarchies that the library
//! does not know.

mod dbus;
mod devices;
mod limits;
mod systemd;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::base::sys::{bpf, cgroup};
use limits::{LimitError, Limits, Missing, Setting, Weights};
use systemd::ScopeError;

/// Where the unified hierarchy is mounted.
const TOP: &str = "/sys/fs/cgroup";
/// The v1 controllers that libcontainer 0.7 makes groups for.
const KNOWN_TO_LIBRARY: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// The group that a container is to have.
pub struct Wanted<'a> {
    /// Below the hierarchy's mount point, beginning with a slash.
    pub path: &'a Path,
    /// Absent where the library sets them.
    pub resources: Option<&'a LinuxResources>,
    pub maker: Maker<'a>,
}

/// Who makes the group's directory.
#[derive(Clone, Copy)]
pub enum Maker<'a> {
    /// This process.
    Own,
    /// systemd, which shows this description of the scope.
    Systemd(&'a str),
}

/// Why there is no such group.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error("creating {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("failed to write {value:?}: {}: {source}", path.display())]
    Write { value: String, path: PathBuf, source: io::Error },
    #[error("restricting devices: {0}")]
    Devices(io::Error),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

/// Makes it. systemd wants a process in a scope: that is the caller, until it ends.
pub fn make(wanted: &Wanted<'_>) -> Result<(), GroupError> {
    let limits = wanted.resources.map(Limits::of).transpose()?;
    if let Maker::Systemd(description) = wanted.maker {
        systemd::enter_scope(wanted.path, description, limits.as_ref().unwrap_or(&Limits::default()))?;
    }
    let (Some(limits), Some(resources)) = (limits, wanted.resources) else {
        return enter_the_rest(wanted.path);
    };
    // A leftover would have counters and programs of its own. One in use, such as a scope, cannot be removed.
    let _ = fs::remove_dir(below(Path::new(TOP), wanted.path));
    let dir = create(Path::new(TOP), wanted.path)?;
    let weights = if dir.join("io.bfq.weight").exists() { Weights::Bfq } else { Weights::Cost };
    limits.settings(weights).iter().try_for_each(|setting| set(&dir, setting))?;
    let program = devices::program(resources.devices().as_deref().unwrap_or_default());
    bpf::guard_devices(&dir, &program).map_err(GroupError::Devices)
}

/// On cgroup v1: enters the groups of that name in hierarchies that the library puts no container into.
fn enter_the_rest(path: &Path) -> Result<(), GroupError> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let unknown = |option: &String| !KNOWN_TO_LIBRARY.contains(&option.as_str());
    for hierarchy in cgroup::hierarchies(&mountinfo) {
        if hierarchy.options.iter().all(unknown) {
            let dir = below(&hierarchy.mount, path);
            let entered = fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join("tasks"), "0"));
            entered.map_err(|source| GroupError::Create { path: dir, source })?;
        }
    }
    Ok(())
}

fn below(top: &Path, path: &Path) -> PathBuf {
    top.join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes the directories that are missing, and has every controller in the last of them.
fn create(top: &Path, path: &Path) -> Result<PathBuf, GroupError> {
    let mut dir = top.to_owned();
    for name in path.iter().filter(|name| *name != "/") {
        enable_controllers(&dir);
        dir.push(name);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(|source| GroupError::Create { path: dir.clone(), source })?,
        }
    }
    Ok(dir)
}

/// Lets groups below `dir` be controlled by all that controls it. What cannot be enabled is missed when it is set.
fn enable_controllers(dir: &Path) {
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let (available, enabled) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let enabled: Vec<_> = enabled.split_whitespace().collect();
    let missing = available.split_whitespace().filter(|controller| !enabled.contains(controller));
    // One by one: a single one that cannot be (cpu with real-time processes about) keeps the others from nothing.
    for controller in missing {
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn set(dir: &Path, Setting { file, value, missing }: &Setting) -> Result<(), GroupError> {
    let path = dir.join(file);
    let written = OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(value.as_bytes()));
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound && *missing == Missing::Ignored => Ok(()),
        other => other.map_err(|source| GroupError::Write { value: value.clone(), path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_where_they_are_missing() {
        let top = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let dir = create(top.path(), Path::new("/docker/abc")).unwrap();
            assert_eq!(dir, top.path().join("docker/abc"));
            assert!(dir.is_dir());
        }
    }

    #[test]
    fn only_what_may_be_missing_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let setting = |missing| Setting { file: "memory.swap.max", value: "0".to_owned(), missing };
        set(dir.path(), &setting(Missing::Ignored)).unwrap();
        let error = set(dir.path(), &setting(Missing::Fails)).unwrap_err();
        assert!(error.to_string().starts_with("failed to write \"0\": "), "{error}");
    }
}
