//! A container's control groups: found, frozen, killed, removed and asked about out-of-memory kills, on cgroup v1,
//! hybrid and v2 hosts (Documentation/admin-guide/cgroup-v1, cgroup-v2.rst).
//!
//! Deliberately absent: making groups and setting limits, which is the shim's part.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::base::path::clean;

/// How long a group's processes may take to die.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// The directories of one set of processes: one per hierarchy on v1, a single one on v2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// By controller; `""` is the unified hierarchy.
    dirs: BTreeMap<String, PathBuf>,
}

impl Cgroup {
    /// The groups of the process `pid` without those that the calling process is in too: of these it could not be
    /// told who else is in them.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        Self::from_proc(&text)
    }

    /// As [`of_process`](Self::of_process), from the text of `/proc/PID/cgroup`.
    pub fn from_proc(text: &str) -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let mounts = own_mount_points()?;
        let own: Vec<_> = own.lines().collect();
        let mut dirs = BTreeMap::new();
        for line in text.lines().filter(|line| !own.contains(line)) {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            for controller in controllers.split(',') {
                if let Some(mount) = mounts.get(controller) {
                    dirs.insert(controller.to_owned(), mount.join(path.trim_start_matches('/')));
                }
            }
        }
        Ok(Self { dirs })
    }

    /// The groups that a container with this `cgroupsPath` has, whether it runs or not; those that exist.
    pub fn of_container(cgroups_path: &Path) -> io::Result<Self> {
        let mut all = Self::named(cgroups_path)?;
        all.dirs.retain(|_, dir| dir.is_dir());
        Ok(all)
    }

    /// The groups that a container with this `cgroupsPath` has while it runs; whether they exist is not looked at.
    pub fn named(cgroups_path: &Path) -> io::Result<Self> {
        let path = from_specification(cgroups_path);
        let dirs = own_mount_points()?.iter().map(|(name, mount)| (name.clone(), mount.join(&path)));
        Ok(Self { dirs: dirs.collect() })
    }

    /// The directory of a controller: its own on v1, the common one on v2.
    pub fn dir(&self, controller: &str) -> Option<&Path> {
        self.dirs.get(controller).or_else(|| self.dirs.get("")).map(PathBuf::as_path)
    }

    /// The directory in the unified hierarchy if that has all controllers.
    pub fn unified(&self) -> Option<&Path> {
        let legacy = self.dirs.keys().any(|name| !name.is_empty() && !name.starts_with("name="));
        self.dirs.get("").filter(|_| !legacy).map(PathBuf::as_path)
    }

    /// True if there is nothing to act on.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// The processes in the group and the groups below it.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let mut all = Vec::new();
        if let Some(dir) = self.any() {
            collect(dir, &mut all)?;
        }
        Ok(all)
    }

    /// Moves the calling process, which must have one thread, into the group.
    ///
    /// On v1 through `tasks`: a thread that moves itself needs no lock, while `cgroup.procs` waits some 10 ms for an
    /// RCU grace period unless a write has just done so (cgroup_procs_write_start in the kernel).
    pub fn join(&self) -> io::Result<()> {
        // Where time is counted comes first: what the others cost is the group's, too.
        let (time, rest): (Vec<_>, Vec<_>) = self.dirs.iter().partition(|(name, _)| *name == "cpuacct");
        time.into_iter().chain(rest).try_for_each(|(controller, dir)| {
            let file = if controller.is_empty() { "cgroup.procs" } else { "tasks" };
            fs::write(dir.join(file), "0")
        })
    }

    /// Stops every process of the group, or lets them go on; returns when that is done.
    pub fn set_frozen(&self, state: Frozen) -> io::Result<()> {
        if let Some(dir) = self.dirs.get("freezer") {
            let (word, done) = match state {
                Frozen::Yes => ("FROZEN", "FROZEN"),
                Frozen::No => ("THAWED", "THAWED"),
            };
            let file = dir.join("freezer.state");
            // Written again each time: a process that forks meanwhile leaves v1's freezer half-way (runc does so too).
            return until(|| {
                fs::write(&file, word)?;
                Ok(fs::read_to_string(&file)?.trim() == done)
            });
        }
        let dir = self.dir("").ok_or(io::ErrorKind::NotFound)?;
        let (word, done) = match state {
            Frozen::Yes => ("1", "frozen 1"),
            Frozen::No => ("0", "frozen 0"),
        };
        fs::write(dir.join("cgroup.freeze"), word)?;
        until(|| Ok(fs::read_to_string(dir.join("cgroup.events"))?.contains(done)))
    }

    /// Sends a signal to every process of the group.
    pub fn signal_all(&self, signal: i32) -> io::Result<()> {
        for pid in self.processes()? {
            // SAFETY: kill takes two numbers.
            unsafe { libc::kill(pid, signal) };
        }
        Ok(())
    }

    /// Kills every process of the group, frozen ones too, and waits until none is left.
    pub fn kill(&self) -> io::Result<()> {
        let Some(dir) = self.any() else { return Ok(()) };
        let file = dir.join("cgroup.kill");
        if file.exists() {
            fs::write(file, "1")?;
        } else if self.dirs.contains_key("freezer") && !self.processes()?.is_empty() {
            self.signal_all(libc::SIGKILL)?;
            // A frozen process dies when it is thawed.
            self.set_frozen(Frozen::No)?;
        }
        until(|| {
            let left = self.processes()?;
            if !left.is_empty() {
                self.signal_all(libc::SIGKILL)?;
            }
            Ok(left.is_empty())
        })
    }

    /// Removes the group and those below it. Processes must be gone.
    pub fn remove(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for dir in self.dirs.values() {
            // A process that has just been reaped may be counted for another moment.
            let removed = until_for(Duration::from_millis(500), || match remove_tree(dir) {
                Ok(()) => Ok(true),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(false),
                Err(e) => Err(e),
            });
            outcome = outcome.and(removed);
        }
        outcome
    }

    /// How often the kernel killed a process of the group for want of memory.
    pub fn oom_kills(&self) -> io::Result<u64> {
        let (dir, file) = match self.dirs.get("memory") {
            Some(dir) => (dir.as_path(), "memory.oom_control"),
            None => (self.dir("").ok_or(io::ErrorKind::NotFound)?, "memory.events"),
        };
        count_of_oom_kills(&dir.join(file))
    }

    /// The same of the group's parent with all that is below it, which is there when the group has gone. Not on v1, whose
    /// groups count only their own.
    pub fn oom_kills_around(&self) -> io::Result<u64> {
        let dir = self.dir("").filter(|_| !self.dirs.contains_key("memory"));
        let parent = dir.and_then(Path::parent).ok_or(io::ErrorKind::Unsupported)?;
        count_of_oom_kills(&parent.join("memory.events"))
    }

    /// A descriptor that becomes readable when [`oom_kills`](Self::oom_kills) may have grown.
    pub fn watch_oom(&self) -> io::Result<OwnedFd> {
        match self.dirs.get("memory") {
            Some(dir) => watch_v1(dir),
            None => watch_v2(&self.dir("").ok_or(io::ErrorKind::NotFound)?.join("memory.events")),
        }
    }

    /// A directory that has all of the group's processes.
    fn any(&self) -> Option<&Path> {
        self.dirs
            .get("")
            .or_else(|| self.dirs.get("freezer"))
            .or_else(|| self.dirs.values().next())
            .map(|d| &**d)
    }
}

fn count_of_oom_kills(file: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(count.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}

/// A group that the calling process is in already.
#[derive(Debug)]
pub struct OwnGroup(File);

impl OwnGroup {
    /// The first one of all hierarchies that can be written.
    pub fn open() -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let mounts = own_mount_points()?;
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let controller = controllers.split(',').next().unwrap_or("");
            let Some(mount) = mounts.get(controller) else { continue };
            let file = mount.join(path.trim_start_matches('/')).join("cgroup.procs");
            if let Ok(file) = OpenOptions::new().write(true).open(file) {
                return Ok(Self(file));
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Makes the next move of another process into a group quick, for some 20 ms.
    ///
    /// Such a move takes a lock for which the kernel first waits for an RCU grace period, some 10 ms, unless one was
    /// taken a moment ago (`cgroup_threadgroup_rwsem`, rcu_sync). Moving the calling process to where it is already
    /// takes the lock and changes nothing; it blocks as long as the kernel waits.
    pub fn move_here(&self) -> io::Result<()> {
        (&self.0).write_all(b"0")
    }
}

/// Whether processes are stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frozen {
    Yes,
    No,
}

/// The path below a hierarchy's mount point that `linux.cgroupsPath` stands for: itself, or for `slice:prefix:name`
/// the scope that systemd puts in the slice. It never leads above the mount point: `..` ends there, as for runc.
pub fn from_specification(cgroups_path: &Path) -> PathBuf {
    let path = unresolved(cgroups_path);
    PathBuf::from(clean(&path.to_string_lossy()).trim_start_matches('/'))
}

fn unresolved(cgroups_path: &Path) -> PathBuf {
    let text = cgroups_path.to_string_lossy();
    let parts: Vec<_> = text.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return cgroups_path.to_owned();
    };
    let mut path = PathBuf::new();
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    // a-b.slice is in a.slice.
    for (at, _) in slice.match_indices('-') {
        path.push(format!("{}.slice", &slice[..at]));
    }
    path.push(slice);
    path.push(if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") });
    path
}

/// A cgroup v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount: PathBuf,
    /// Its controllers (`name=systemd` for a named one), among other options of the mount.
    pub options: Vec<String>,
}

/// The cgroup v1 hierarchies, from the text of `/proc/self/mountinfo`; one that is mounted over itself counts once.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let hierarchy = |line: &str| {
        let (left, right) = line.split_once(" - cgroup ")?;
        let options = right.split(' ').nth(1)?.split(',').map(str::to_owned).collect();
        Some(Hierarchy { mount: PathBuf::from(left.split(' ').nth(4)?), options })
    };
    let mut all: Vec<Hierarchy> = Vec::new();
    for found in mountinfo.lines().filter_map(hierarchy) {
        if all.iter().all(|known| known.mount != found.mount) {
            all.push(found);
        }
    }
    all
}

/// The cgroup v1 hierarchies of this process; none if its mounts cannot be read.
pub fn own_hierarchies() -> &'static [Hierarchy] {
    own_mounts().map_or(&[], |mounts| mounts.hierarchies.as_slice())
}

fn own_mount_points() -> io::Result<&'static BTreeMap<String, PathBuf>> {
    own_mounts().map(|mounts| &mounts.points)
}

/// Where this process finds control groups.
struct Mounts {
    points: BTreeMap<String, PathBuf>,
    hierarchies: Vec<Hierarchy>,
}

/// Read once: they are mounted before this process starts, while the list of all mounts grows with each container.
fn own_mounts() -> io::Result<&'static Mounts> {
    static MOUNTS: OnceLock<Mounts> = OnceLock::new();
    if let Some(mounts) = MOUNTS.get() {
        return Ok(mounts);
    }
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let mounts = Mounts { points: mount_points(&text), hierarchies: hierarchies(&text) };
    Ok(MOUNTS.get_or_init(|| mounts))
}

/// Where each hierarchy is mounted, by controller (`name=systemd` for named ones, `""` for the unified one), from the
/// text of `/proc/self/mountinfo`. The first of several mounts counts.
fn mount_points(mountinfo: &str) -> BTreeMap<String, PathBuf> {
    let mut points = BTreeMap::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ');
        let Some(point) = left.nth(4) else { continue };
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup2") => {
                points.entry(String::new()).or_insert_with(|| PathBuf::from(point));
            }
            Some("cgroup") => {
                for option in right.nth(1).unwrap_or("").split(',') {
                    points.entry(option.to_owned()).or_insert_with(|| PathBuf::from(point));
                }
            }
            _ => {}
        }
    }
    points
}

fn collect(dir: &Path, pids: &mut Vec<i32>) -> io::Result<()> {
    let text = match fs::read_to_string(dir.join("cgroup.procs")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV) => {
            return Ok(());
        }
        // A group of threads (v2), whose processes are told in the one above that is none.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        other => other?,
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(dir)? {
        collect(&child, pids)?;
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
        other => return other,
    }
    for child in children(dir)? {
        remove_tree(&child)?;
    }
    fs::remove_dir(dir)
}

fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn until(done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    until_for(KILL_DEADLINE, done)
}

fn until_for(time: Duration, mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + time;
    let mut pause = Duration::from_micros(100);
    while !done()? {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

fn watch_v1(dir: &Path) -> io::Result<OwnedFd> {
    let control = File::open(dir.join("memory.oom_control"))?;
    let event = nix::sys::eventfd::EventFd::from_flags(
        nix::sys::eventfd::EfdFlags::EFD_CLOEXEC | nix::sys::eventfd::EfdFlags::EFD_NONBLOCK,
    )?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    OpenOptions::new().write(true).open(dir.join("cgroup.event_control"))?.write_all(line.as_bytes())?;
    Ok(event.into())
}

fn watch_v2(file: &Path) -> io::Result<OwnedFd> {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(file, AddWatchFlags::IN_MODIFY)?;
    Ok(inotify.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_by_controller() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    40 39 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    31 25 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                    32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let points = mount_points(text);
        assert_eq!(points["cpuacct"], Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(points[""], Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(points["name=systemd"], Path::new("/sys/fs/cgroup/systemd"));
        let legacy = hierarchies(text);
        assert_eq!(legacy.len(), 2);
        assert_eq!(legacy[0].mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(legacy[0].options, ["rw", "cpu", "cpuacct"]);
    }

    #[test]
    fn a_specifications_path_names_a_directory_or_a_scope() {
        for (given, path) in [
            ("/docker/abc", "docker/abc"),
            ("/../../a/./b/../abc", "a/abc"),
            ("../../a.slice:docker:abc", "a.slice/docker-abc.scope"),
            ("system.slice:docker:abc", "system.slice/docker-abc.scope"),
            (":docker:abc", "system.slice/docker-abc.scope"),
            ("a-b.slice:docker:abc", "a.slice/a-b.slice/docker-abc.scope"),
        ] {
            assert_eq!(from_specification(Path::new(given)), Path::new(path));
        }
    }

    #[test]
    fn groups_shared_with_the_caller_are_not_a_containers() {
        assert!(Cgroup::of_process(std::process::id() as i32).unwrap().is_empty());
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn any_text_of_the_kernel_names_hierarchies_or_none(
            lines in prop::collection::vec("([0-9]{1,2} ){0,6}[a-z/]{0,6} ?(- )?(cgroup2?|tmpfs)?( [a-z]{1,4}){0,2} ?[a-z,=]{0,8}", 0..4),
        ) {
            let text = lines.join("\n");
            prop_assert!(hierarchies(&text).len() <= lines.len());
            let _ = (mount_points(&text), Cgroup::from_proc(&text));
        }

        #[test]
        fn a_scope_lies_in_each_slice_of_its_name(
            parts in prop::collection::vec("[a-z]{1,4}", 1..4),
            name in "[a-z0-9]{1,8}",
        ) {
            let slice = format!("{}.slice", parts.join("-"));
            let path = from_specification(Path::new(&format!("{slice}:slipway:{name}")));
            let slices = (1..=parts.len()).map(|count| format!("{}.slice", parts[..count].join("-")));
            let expected: PathBuf = slices.collect();
            prop_assert_eq!(path, expected.join(format!("slipway-{name}.scope")));
        }
    }
}
