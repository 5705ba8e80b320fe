//! What this host is and can do, found out once: kernel, distribution, processors, memory, cgroups, security modules.

use std::fs;
use std::path::{Path, PathBuf};

/// The facts that do not change while the daemon runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// As `uname -r` gives it.
    pub kernel: String,
    /// As `uname -v` gives it.
    pub kernel_build: String,
    /// `x86_64`, `aarch64`, …
    pub architecture: String,
    /// The distribution with its version, as people write it.
    pub operating_system: String,
    /// The distribution's version alone.
    pub os_version: String,
    /// Processors that the daemon may use.
    pub processors: usize,
    /// Nodes of memory (NUMA).
    pub memory_nodes: usize,
    /// Bytes.
    pub memory: u64,
    pub cgroups: Cgroups,
    pub seccomp: bool,
    pub apparmor: bool,
}

/// Which cgroup hierarchy there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CgroupVersion {
    /// One hierarchy per controller, with or without an empty unified one beside them.
    V1,
    /// One unified hierarchy.
    V2,
}

/// What the kernel's cgroups can do. Everything is decided by the presence of the file that sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cgroups {
    pub version: CgroupVersion,
    pub memory: bool,
    pub swap: bool,
    pub kernel_memory_tcp: bool,
    pub oom_kill_disable: bool,
    pub cpu_quota: bool,
    pub cpu_shares: bool,
    pub cpuset: bool,
    pub pids: bool,
    pub block_io: BlockIo,
    /// Whether real-time processes have a budget of their own.
    pub cpu_realtime: bool,
    /// Cgroup namespaces.
    pub namespaces: bool,
}

/// How block devices can be shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockIo {
    pub weight: bool,
    pub throttle: bool,
}

impl Host {
    /// Reads them. What cannot be read counts as absent or empty.
    pub fn detect() -> Self {
        let uname = nix::sys::utsname::uname().ok();
        let field = |get: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map(|uname| get(uname).to_string_lossy().into_owned()).unwrap_or_default()
        };
        let release = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
        Self {
            kernel: field(|uname| uname.release()),
            kernel_build: field(|uname| uname.version()),
            architecture: field(|uname| uname.machine()),
            operating_system: setting(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            os_version: setting(&release, "VERSION_ID").unwrap_or_default(),
            processors: processors(),
            memory_nodes: memory_nodes(),
            memory: total_memory(&read("/proc/meminfo").unwrap_or_default()),
            cgroups: Cgroups::detect(),
            seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
            apparmor: read("/sys/module/apparmor/parameters/enabled")
                .is_some_and(|text| text.starts_with('Y'))
                && Path::new("/sys/kernel/security/apparmor").exists()
                // An engine in a container may not load profiles (systemd.io/CONTAINER_INTERFACE).
                && std::env::var_os("container").is_none_or(|manager| manager.is_empty()),
        }
    }
}

/// The host's name, which may change.
pub fn name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether the kernel forwards IPv4 between its interfaces.
pub fn forwards_ipv4() -> bool {
    read("/proc/sys/net/ipv4/ip_forward").is_some_and(|text| text.trim() != "0")
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> usize {
    // The directory itself is one of them.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

/// How many threads this process has.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

impl Cgroups {
    fn detect() -> Self {
        let namespaces = Path::new("/proc/self/ns/cgroup").exists();
        let root = Path::new("/sys/fs/cgroup");
        match fs::read_to_string(root.join("cgroup.controllers")) {
            Ok(controllers) => Self::unified(root, &controllers, namespaces),
            Err(_) => Self::legacy(&read("/proc/self/mountinfo").unwrap_or_default(), namespaces),
        }
    }

    fn unified(root: &Path, controllers: &str, namespaces: bool) -> Self {
        let has = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
        // The root cgroup has no limits, so swap shows in the daemon's own or in that of the system's services.
        let own = read("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let swap = [own, "system.slice", "init.scope"]
            .iter()
            .any(|group| !group.is_empty() && root.join(group).join("memory.swap.max").exists());
        Self {
            version: CgroupVersion::V2,
            memory: has("memory"),
            swap: has("memory") && swap,
            kernel_memory_tcp: false,
            oom_kill_disable: false,
            cpu_quota: has("cpu"),
            cpu_shares: has("cpu"),
            cpuset: has("cpuset"),
            pids: has("pids"),
            block_io: BlockIo { weight: has("io"), throttle: has("io") },
            cpu_realtime: false,
            namespaces,
        }
    }

    fn legacy(mounts: &str, namespaces: bool) -> Self {
        let has = |controller: &str, file: &str| {
            controller_mount(mounts, controller).is_some_and(|mount| mount.join(file).exists())
        };
        Self {
            version: CgroupVersion::V1,
            memory: has("memory", "memory.limit_in_bytes"),
            swap: has("memory", "memory.memsw.limit_in_bytes"),
            kernel_memory_tcp: has("memory", "memory.kmem.tcp.limit_in_bytes"),
            oom_kill_disable: has("memory", "memory.oom_control"),
            cpu_quota: has("cpu", "cpu.cfs_quota_us"),
            cpu_shares: has("cpu", "cpu.shares"),
            cpuset: has("cpuset", "cpuset.cpus"),
            pids: has("pids", ""),
            block_io: BlockIo {
                // Those of BFQ are in all groups but the topmost.
                weight: has("blkio", "blkio.weight") || has("blkio", "blkio.bfq.io_serviced"),
                throttle: has("blkio", "blkio.throttle.read_bps_device"),
            },
            cpu_realtime: has("cpu", "cpu.rt_runtime_us"),
            namespaces,
        }
    }
}

/// Where a v1 controller is mounted (proc(5): the super options of a cgroup mount name its controllers).
fn controller_mount(mounts: &str, controller: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split_whitespace();
        let is_cgroup = kind.next() == Some("cgroup");
        let options = kind.nth(1)?;
        let found = is_cgroup && options.split(',').any(|option| option == controller);
        found.then(|| mount.split_whitespace().nth(4)).flatten().map(PathBuf::from)
    })
}

fn processors() -> usize {
    let own = nix::unistd::Pid::from_raw(0);
    let allowed = nix::sched::sched_getaffinity(own).map(|set| {
        let range = 0..nix::sched::CpuSet::count();
        range.filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count()
    });
    allowed.ok().filter(|count| *count > 0).unwrap_or(1)
}

fn memory_nodes() -> usize {
    let online = read("/sys/devices/system/node/online").unwrap_or_default();
    let last = online.trim().rsplit(['-', ',']).next().and_then(|number| number.parse::<usize>().ok());
    last.map_or(1, |last| last + 1)
}

fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// A value of os-release(5), without its quotes.
fn setting(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let value = line.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_distribution_lose_their_quotes() {
        let text = "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\nEMPTY=\n";
        for (key, value) in [
            ("PRETTY_NAME", Some("Debian GNU/Linux 12 (bookworm)")),
            ("VERSION_ID", Some("12")),
            ("NAME", Some("Debian")),
            ("EMPTY", None),
            ("VERSION", None),
        ] {
            assert_eq!(setting(text, key).as_deref(), value, "{key}");
        }
    }

    #[test]
    fn controllers_are_found_by_their_mount() {
        let mounts = "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 25 0:28 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(controller_mount(mounts, "cpu"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(controller_mount(mounts, "memory"), None);
    }

    #[test]
    fn this_host_has_a_kernel_processors_and_memory() {
        let host = Host::detect();
        assert!(!host.kernel.is_empty() && host.processors > 0 && host.memory > 1 << 20, "{host:?}");
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       2048 kB\n"), 2 << 20);
    }
}
