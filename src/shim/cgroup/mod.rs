//! Makes a container's control group with its limits, before the runtime library puts the container into it, and
//! changes the limits later.
//!
//! The library only adds the process: its own limits know no device rules on cgroup v2 and no weights of single block
//! devices on v1, tell systemd less, and cannot be changed.

mod dbus;
mod devices;
mod legacy;
mod limits;
mod systemd;

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxPids, LinuxResources};

use crate::base::errno::reason;
use crate::base::sys::bpf;
use crate::base::sys::cgroup::{self, Cgroup, Hierarchy};
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
    pub resources: &'a LinuxResources,
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
    #[error("failed to write {value:?}: write {}: {}", path.display(), reason(source))]
    Write { value: String, path: PathBuf, source: io::Error },
    #[error("restricting devices: {0}")]
    Devices(io::Error),
    #[error("finding the group: {0}")]
    Find(io::Error),
    #[error("the {0} cgroup is not mounted")]
    NoController(&'static str),
    #[error("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")]
    MemoryInUse { limit: String, usage: u64, peak: u64 },
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

impl GroupError {
    /// What runc was about when this went wrong.
    pub fn doing(&self) -> &'static str {
        match self {
            Self::Create { .. } | Self::Find(_) | Self::NoController(_) | Self::Scope(_) => {
                "unable to apply cgroup configuration"
            }
            Self::Write { .. } | Self::Devices(_) | Self::MemoryInUse { .. } | Self::Limit(_) => {
                "error during container init: error setting cgroup config for procHooks process"
            }
        }
    }
}

/// Makes it. systemd wants a process in a scope: that is the caller, until it ends.
pub fn make(wanted: &Wanted<'_>) -> Result<(), GroupError> {
    let limits = Limits::of(wanted.resources)?;
    if let Maker::Systemd(description) = wanted.maker {
        systemd::enter_scope(wanted.path, description, &limits)?;
    }
    let hierarchies = cgroup::own_hierarchies();
    if !hierarchies.is_empty() {
        make_legacy(hierarchies, wanted.path)?;
        let group = Cgroup::named(wanted.path).map_err(GroupError::Find)?;
        return set_legacy(&group, wanted.resources, legacy::Devices::Set);
    }
    // A leftover would have counters and programs of its own. One in use, such as a scope, cannot be removed.
    let _ = fs::remove_dir(below(Path::new(TOP), wanted.path));
    let dir = create(Path::new(TOP), wanted.path)?;
    set_unified(&dir, &limits)?;
    let program = devices::program(wanted.resources.devices().as_deref().unwrap_or_default());
    bpf::guard_devices(&dir, &program).map_err(GroupError::Devices)
}

/// Processes that make a container are in its group with it until it runs: libcontainer's, hooks, and the one that
/// asked systemd for the scope.
const MAKERS: i64 = 8;

/// The same limits, but for one of processes that leaves no room for those that make the container.
pub fn with_room(resources: &LinuxResources) -> Cow<'_, LinuxResources> {
    if tight(resources).is_none() {
        return Cow::Borrowed(resources);
    }
    let mut roomy = resources.clone();
    roomy.set_pids(Some(*LinuxPids::default().set_limit(MAKERS)));
    Cow::Owned(roomy)
}

/// Sets the limit that [`with_room`] has left out.
pub fn take_room(path: &Path, scope: Option<&Path>, resources: &LinuxResources) -> Result<(), GroupError> {
    let Some(pids) = tight(resources) else { return Ok(()) };
    let mut only = LinuxResources::default();
    only.set_pids(Some(pids));
    let group = Cgroup::named(path).map_err(GroupError::Find)?;
    update(&group, scope, &only)
}

fn tight(resources: &LinuxResources) -> Option<LinuxPids> {
    resources.pids().filter(|pids| (1..MAKERS).contains(&pids.limit()))
}

/// Changes the limits of a group that is in use; devices stay as they are. `scope` is its path if systemd has made it.
pub fn update(group: &Cgroup, scope: Option<&Path>, resources: &LinuxResources) -> Result<(), GroupError> {
    let limits = Limits::of(resources)?;
    if let Some(scope) = scope {
        systemd::change_scope(scope, &limits)?;
    }
    match group.unified() {
        Some(dir) => set_unified(dir, &limits),
        None => set_legacy(group, resources, legacy::Devices::Left),
    }
}

/// Ends the scope at `path`, which systemd has made and whose processes are gone.
pub fn end_scope(path: &Path) -> Result<(), GroupError> {
    Ok(systemd::stop_scope(path)?)
}

fn set_unified(dir: &Path, limits: &Limits) -> Result<(), GroupError> {
    let weights = if dir.join("io.bfq.weight").exists() { Weights::Bfq } else { Weights::Cost };
    limits
        .settings(weights)
        .iter()
        .try_for_each(|Setting { file, value, missing }| set(dir, file, value, *missing))
}

fn set_legacy(
    group: &Cgroup,
    resources: &LinuxResources,
    devices: legacy::Devices,
) -> Result<(), GroupError> {
    legacy::check(resources)?;
    let number = |file: &str| {
        let text = fs::read_to_string(group.dir("memory")?.join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let present = legacy::Present {
        bfq: group.dir("blkio").is_some_and(|dir| !dir.join("blkio.weight").exists()),
        memory_and_swap: number("memory.memsw.limit_in_bytes"),
    };
    for legacy::Setting { controller, file, value, missing } in legacy::settings(resources, present, devices)
    {
        let Some(dir) = group.dir(controller) else { return Err(GroupError::NoController(controller)) };
        set(dir, file, &value, missing).map_err(|error| match error {
            GroupError::Write { source, .. }
                if file == "memory.limit_in_bytes" && source.raw_os_error() == Some(libc::EBUSY) =>
            {
                let used = |file| number(file).unwrap_or(0);
                let (usage, peak) = (used("memory.usage_in_bytes"), used("memory.max_usage_in_bytes"));
                GroupError::MemoryInUse { limit: value, usage, peak }
            }
            other => other,
        })?;
    }
    Ok(())
}

/// Makes the directories, and enters those in hierarchies that the library puts no container into.
fn make_legacy(hierarchies: &[Hierarchy], path: &Path) -> Result<(), GroupError> {
    let unknown = |option: &String| !KNOWN_TO_LIBRARY.contains(&option.as_str());
    for hierarchy in hierarchies {
        let dir = below(&hierarchy.mount, path);
        // As above.
        let _ = fs::remove_dir(&dir);
        let mut made = fs::create_dir_all(&dir);
        if hierarchy.options.iter().any(|option| option == "cpuset") {
            made = made.and_then(|()| inherit_cpuset(&hierarchy.mount, &dir));
        }
        if hierarchy.options.iter().all(unknown) {
            made = made.and_then(|()| fs::write(dir.join("tasks"), "0"));
        }
        made.map_err(|source| GroupError::Create { path: dir, source })?;
    }
    Ok(())
}

/// A new group has neither processors nor memory, and nobody can enter it: what its parent has, from the top down.
fn inherit_cpuset(top: &Path, dir: &Path) -> io::Result<()> {
    let Ok(names) = dir.strip_prefix(top) else { return Ok(()) };
    let mut parent = top.to_owned();
    for name in names {
        let child = parent.join(name);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if fs::read_to_string(child.join(file))?.trim().is_empty() {
                fs::write(child.join(file), fs::read_to_string(parent.join(file))?.trim())?;
            }
        }
        parent = child;
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

fn set(dir: &Path, file: &str, value: &str, missing: Missing) -> Result<(), GroupError> {
    let path = dir.join(file);
    let written = OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(value.as_bytes()));
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Ignored => Ok(()),
        other => other.map_err(|source| GroupError::Write { value: value.to_owned(), path, source }),
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
    fn processors_come_down_from_the_top() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("docker/abc");
        fs::create_dir_all(&dir).unwrap();
        for (group, cpus) in [("", "0-3\n"), ("docker", "1\n"), ("docker/abc", "\n")] {
            for (file, text) in [("cpuset.cpus", cpus), ("cpuset.mems", "0\n")] {
                fs::write(top.path().join(group).join(file), text).unwrap();
            }
        }
        inherit_cpuset(top.path(), &dir).unwrap();
        assert_eq!(fs::read_to_string(dir.join("cpuset.cpus")).unwrap(), "1");
        assert_eq!(fs::read_to_string(top.path().join("docker/cpuset.cpus")).unwrap(), "1\n");
    }

    #[test]
    fn a_tight_limit_of_processes_has_room_for_those_that_make_the_container() {
        let limit = |asked: i64| {
            let asked = format!(r#"{{"pids":{{"limit":{asked}}},"unified":{{"a":"b"}}}}"#);
            let asked: LinuxResources = serde_json::from_str(&asked).unwrap();
            let roomy = with_room(&asked);
            assert_eq!(roomy.unified(), asked.unified());
            (roomy.pids().unwrap().limit(), tight(&asked).map(|pids| pids.limit()))
        };
        assert_eq!(limit(1), (MAKERS, Some(1)));
        for asked in [-1, 0, MAKERS, 100] {
            assert_eq!(limit(asked), (asked, None));
        }
        assert_eq!(tight(&LinuxResources::default()), None);
    }

    #[test]
    fn only_what_may_be_missing_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        set(dir.path(), "memory.swap.max", "0", Missing::Ignored).unwrap();
        let error = set(dir.path(), "memory.swap.max", "0", Missing::Fails).unwrap_err();
        assert!(error.to_string().starts_with("failed to write \"0\": "), "{error}");
    }
}
