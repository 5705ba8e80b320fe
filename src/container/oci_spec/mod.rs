//! From a container's record to the OCI runtime specification. Pure: what must be asked of the host, the network or
//! the container's own files comes in as data.
//!
//! The document is put together as JSON in the shape of the specification (opencontainers/runtime-spec, config.md)
//! and read into `oci_spec`'s types once, which checks it; the values are those that dockerd gives to runc.

mod capabilities;
mod devices;
mod edits;
mod environment;
mod exec;
mod mounts;
mod resources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use oci_spec::runtime::{LinuxResources, Spec};
use serde_json::{Value, json};

pub use capabilities::{ALL_CAPABILITIES, CapabilityError, bounding_set};
pub use devices::{DeviceKind, HostDevice};
pub use exec::exec_process;

use super::apparmor;
use super::cdi::Edits;
use super::host_config::{HostConfig, Ulimit};
use super::record::{MountPoint, Record};
use super::seccomp::{self, Circumstances, SeccompError};
use super::users::ResolvedUser;
use crate::base::boolean::parse_bool;
use crate::base::errno::in_gos_words;
use crate::base::id_map::{IdMap, IdMaps, IdRange};

/// Where `--init`'s program is in the container.
const INIT_PATH: &str = "/sbin/docker-init";

/// What keeps a record from becoming a specification.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// With the number by which dockerd tells what has no value from what it does not know.
    #[error("invalid --security-opt {0}: {1:?}")]
    SecurityOption(u8, String),
    #[error("invalid device cgroup rule format: '{0}'")]
    DeviceRule(String),
    #[error("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"")]
    CgroupParent,
    #[error("stat {path}: {}", in_gos_words(*.errno))]
    BlockDevice { path: String, errno: nix::errno::Errno },
    #[error("the specification does not fit the runtime: {0}")]
    Shape(#[from] serde_json::Error),
}

/// A container's limits alone, in the shape of the specification.
pub fn limits(host_config: &HostConfig) -> Result<LinuxResources, SpecError> {
    Ok(serde_json::from_value(resources::limits(host_config)?)?)
}

/// Everything that a specification is made of.
pub struct SpecInput<'a> {
    pub record: &'a Record,
    pub user: ResolvedUser,
    pub rootfs: PathBuf,
    /// The network namespace; `None` is the host's.
    pub netns: Option<&'a Path>,
    /// The user namespace, which owns the network namespace; `None` is the host's.
    pub userns: Option<&'a Path>,
    /// The ids of the user namespace.
    pub ids: &'a IdMaps,
    /// Namespaces of other containers that this one shares, by the specification's type (`pid`, `ipc`).
    pub shared: BTreeMap<&'static str, PathBuf>,
    /// The host's directory that `/dev/shm` shows; `None` for one of the container's own.
    pub shm: Option<PathBuf>,
    /// The record's mounts with what was made ready for each.
    pub mounts: Vec<Prepared>,
    /// Files for `/etc`: path in the container and on the host.
    pub files: Vec<(&'static str, PathBuf)>,
    /// The binary that `--init` runs.
    pub init: Option<&'a Path>,
    pub devices: Vec<HostDevice>,
    pub defaults: &'a Defaults,
    pub kernel: &'a str,
    /// Variables that tell of linked containers.
    pub links: Vec<String>,
    /// What the devices that drivers picked change of all this.
    pub edits: Edits,
}

/// A mount whose source is there.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub point: MountPoint,
    pub source: PathBuf,
}

/// What the daemon's configuration says of every container.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    pub ulimits: Vec<Ulimit>,
    pub no_new_privileges: bool,
    /// The daemon's own profile in place of the built-in one; `unconfined` for none.
    pub seccomp: Option<String>,
    pub cgroup_parent: Option<String>,
    pub systemd_cgroup: bool,
    pub cgroup_v2: bool,
    /// Whether the host has AppArmor.
    pub apparmor: bool,
    /// The profile of containers that ask for none.
    pub apparmor_profile: Option<&'static str>,
}

/// Builds the specification.
pub fn build(input: &SpecInput<'_>) -> Result<Spec, SpecError> {
    let host_config = &input.record.host_config;
    let security = Security::read(input)?;
    let capabilities = bounding_set(host_config)?;
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "root": { "path": input.rootfs, "readonly": host_config.readonly_rootfs },
        "process": process(input, &capabilities, &security),
        "mounts": mounts::list(input),
        "annotations": host_config.annotations,
        "linux": {
            "cgroupsPath": cgroups_path(input.record, input.defaults)?,
            "namespaces": namespaces(input),
            "resources": resources::of(input)?,
            "devices": devices::list(input),
            "sysctl": sysctls(input),
        },
    });
    if host_config.uts_mode != "host" {
        // Runtimes refuse names, even empty ones, where the namespace is the host's.
        let config = &input.record.config;
        for (key, name) in [("hostname", &config.hostname), ("domainname", &config.domainname)] {
            if !name.is_empty() {
                spec[key] = json!(name);
            }
        }
    }
    let linux = &mut spec["linux"];
    if input.userns.is_some() {
        // Runtimes that only join the namespace want to be told all the same.
        linux["uidMappings"] = mappings(&input.ids.users);
        linux["gidMappings"] = mappings(&input.ids.groups);
    }
    if let Some(propagation) = mounts::root_propagation(input) {
        linux["rootfsPropagation"] = json!(propagation);
    }
    if !host_config.privileged && !security.unmasked {
        linux["maskedPaths"] = json!(host_config.masked_paths.clone().unwrap_or_else(masked_paths));
        linux["readonlyPaths"] = json!(host_config.readonly_paths.clone().unwrap_or_else(readonly_paths));
    }
    let circumstances = Circumstances { capabilities: &capabilities, kernel: input.kernel };
    match &security.seccomp {
        Seccomp::Unconfined => {}
        Seccomp::Default => linux["seccomp"] = seccomp::default(&circumstances)?,
        Seccomp::Custom(profile) => linux["seccomp"] = seccomp::custom(profile, &circumstances)?,
    }
    edits::apply(&mut spec, &input.edits);
    Ok(serde_json::from_value(spec)?)
}

/// The container's cgroup: a path for the cgroupfs driver, `slice:prefix:name` for systemd.
pub fn cgroups_path(record: &Record, defaults: &Defaults) -> Result<String, SpecError> {
    let own = record.host_config.cgroup_parent.as_str();
    let parent = if own.is_empty() { defaults.cgroup_parent.as_deref().unwrap_or_default() } else { own };
    if !defaults.systemd_cgroup {
        let parent = if parent.is_empty() { "/docker" } else { parent };
        return Ok(Path::new("/").join(parent).join(record.id.as_str()).to_string_lossy().into_owned());
    }
    let slice = if parent.is_empty() { "system.slice" } else { parent };
    if !slice.ends_with(".slice") {
        return Err(SpecError::CgroupParent);
    }
    Ok(format!("{slice}:docker:{}", record.id))
}

/// `/proc` and `/sys` entries that tell of the host or could harm it; those of newest dockerd.
pub fn masked_paths() -> Vec<String> {
    [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(throttles())
    .collect()
}

/// How warm each processor is tells what others do on the machine; there only on some hosts, and looked for once.
fn throttles() -> impl Iterator<Item = String> {
    static FOUND: LazyLock<Vec<String>> = LazyLock::new(|| {
        let path = |entry: std::fs::DirEntry| entry.path().join("thermal_throttle");
        let entries = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
        let paths = entries.map(path).filter(|path| path.is_dir());
        let mut found: Vec<String> = paths.map(|path| path.to_string_lossy().into_owned()).collect();
        found.sort();
        found
    });
    FOUND.iter().cloned()
}

/// `/proc` entries that may be read but not written.
pub fn readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(str::to_owned).into()
}

fn process(input: &SpecInput<'_>, capabilities: &[String], security: &Security) -> Value {
    let record = input.record;
    let cwd = if record.config.working_dir.is_empty() { "/" } else { record.config.working_dir.as_str() };
    let mut process = json!({
        "terminal": record.config.tty,
        "user": input.user.to_spec(),
        "args": args(input),
        "env": environment::of_container(input),
        "cwd": cwd,
        "capabilities": process_capabilities(capabilities, input.user.uid),
        "rlimits": rlimits(input),
        "oomScoreAdj": record.host_config.oom_score_adj,
    });
    if security.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    if input.defaults.apparmor {
        process["apparmorProfile"] =
            json!(apparmor::of(&record.host_config, input.defaults.apparmor_profile));
    }
    process
}

/// Users other than root get no capability that an execve would take from them anyway; nobody gets inheritable or
/// ambient ones (CVE-2022-29162). Empty sets are written out: an absent one is left as the runtime has it.
pub fn process_capabilities(bounding: &[String], uid: u32) -> Value {
    let own = if uid == 0 { bounding } else { &[] };
    json!({ "bounding": bounding, "permitted": own, "effective": own, "inheritable": [], "ambient": [] })
}

fn args(input: &SpecInput<'_>) -> Vec<String> {
    let args = input.record.args.iter().cloned();
    match input.init {
        Some(_) => [INIT_PATH.to_owned(), "--".to_owned()].into_iter().chain(args).collect(),
        None => args.collect(),
    }
}

fn rlimits(input: &SpecInput<'_>) -> Vec<Value> {
    let own = input.record.host_config.ulimits.as_deref().unwrap_or_default();
    let mut limits: BTreeMap<&str, &Ulimit> = BTreeMap::new();
    limits.extend(input.defaults.ulimits.iter().map(|limit| (limit.name.as_str(), limit)));
    limits.extend(own.iter().map(|limit| (limit.name.as_str(), limit)));
    let json = |limit: &Ulimit| {
        // −1 is without limit: all bits set, as setrlimit(2) has it.
        json!({ "type": format!("RLIMIT_{}", limit.name.to_uppercase()),
                "soft": limit.soft as u64, "hard": limit.hard as u64 })
    };
    limits.into_values().map(json).collect()
}

fn namespaces(input: &SpecInput<'_>) -> Vec<Value> {
    let host_config = &input.record.host_config;
    let mut list = vec![json!({ "type": "mount" })];
    if let Some(path) = input.userns {
        list.push(json!({ "type": "user", "path": path }));
    }
    if let Some(path) = input.netns {
        list.push(json!({ "type": "network", "path": path }));
    }
    for (kind, mode) in
        [("uts", &host_config.uts_mode), ("pid", &host_config.pid_mode), ("ipc", &host_config.ipc_mode)]
    {
        match input.shared.get(kind) {
            Some(path) => list.push(json!({ "type": kind, "path": path })),
            None if mode == "host" => {}
            None => list.push(json!({ "type": kind })),
        }
    }
    if host_config.cgroupns_mode == "private" {
        list.push(json!({ "type": "cgroup" }));
    }
    list
}

fn mappings(map: &IdMap) -> Value {
    let range = |range: &IdRange| json!({ "containerID": range.inside, "hostID": range.outside, "size": range.count });
    map.ranges().iter().map(range).collect()
}

fn sysctls(input: &SpecInput<'_>) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    if input.netns.is_some() && !input.record.host_config.network_mode.starts_with("container:") {
        // Every user of the container may bind low ports and ping, as under dockerd.
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        // The kernel takes no group that the namespace lacks.
        if input.userns.is_none() {
            sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
    }
    sysctls.extend(input.record.host_config.sysctls.clone());
    sysctls
}

enum Seccomp {
    Default,
    Unconfined,
    Custom(String),
}

/// Whether all of `--security-opt` is understood. What a profile says is looked at when the container starts.
pub fn check_security_options(host_config: &HostConfig) -> Result<(), SpecError> {
    let mut security = Security::new(Seccomp::Default, false);
    host_config.security_opt.iter().flatten().try_for_each(|option| security.option(option))
}

/// What `--security-opt` and the daemon's own settings come to.
struct Security {
    seccomp: Seccomp,
    no_new_privileges: bool,
    unmasked: bool,
}

impl Security {
    fn new(seccomp: Seccomp, no_new_privileges: bool) -> Self {
        Self { seccomp, no_new_privileges, unmasked: false }
    }

    fn read(input: &SpecInput<'_>) -> Result<Self, SpecError> {
        let privileged = input.record.host_config.privileged;
        let daemon = match input.defaults.seccomp.as_deref() {
            None | Some("" | "builtin") => Seccomp::Default,
            Some("unconfined") => Seccomp::Unconfined,
            Some(profile) => Seccomp::Custom(profile.to_owned()),
        };
        let seccomp = if privileged { Seccomp::Unconfined } else { daemon };
        let mut security = Self::new(seccomp, input.defaults.no_new_privileges);
        for option in input.record.host_config.security_opt.iter().flatten() {
            security.option(option)?;
        }
        Ok(security)
    }

    fn option(&mut self, option: &str) -> Result<(), SpecError> {
        // The old form has a colon.
        let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
        let wrong = |number| Err(SpecError::SecurityOption(number, option.to_owned()));
        match (key, value) {
            ("no-new-privileges", "") => self.no_new_privileges = true,
            ("no-new-privileges", value) => match parse_bool(value) {
                Some(asked) => self.no_new_privileges = asked,
                None => return wrong(2),
            },
            ("seccomp", "unconfined") => self.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => self.seccomp = Seccomp::Default,
            ("seccomp", profile) => self.seccomp = Seccomp::Custom(profile.to_owned()),
            ("systempaths", "unconfined") => self.unmasked = true,
            // Labels mean nothing without SELinux, as under dockerd; the others are read where they count.
            ("apparmor" | "label" | "writable-cgroups", _) => {}
            // Labels are given up so, too.
            ("disable", "") => {}
            _ => return wrong(if value.is_empty() { 1 } else { 2 }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
