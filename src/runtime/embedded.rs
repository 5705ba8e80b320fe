//! What the embedded runtime (libcontainer 0.7) needs to be told otherwise than the OCI specification has it, so that
//! everything above writes one specification for every runtime.
//!
//! - The seccomp filter and the capabilities are taken out: the shim applies both right before it executes the program.
//!   libcontainer would compile the filter anew for each start (20 ms and more for the default profile), compares
//!   masked arguments the wrong way round, and needs privilege at a moment when it has dropped it.
//! - Propagation of single mounts is ignored there, so that of the root decides: private unless asked otherwise.
//! - The limits are taken out: the shim makes the group and sets them, and changes them when asked.
//! - Of the hooks it calls those of its own steps; the last ones, for the start and the end, are the shim's.
//! - Of devices, and of a `/dev` of the user's own, it is told what it does right ([`devices`]).
//! - Its own cgroup v1 mounts ignore `ro` and cannot be made where another container's processes are seen; binds of the
//!   container's directories take their place.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, LinuxCapabilities, LinuxResources, LinuxSeccomp, PosixRlimit, Spec};

use super::devices::{self, describe as mount};
use super::protocol::{Devices, Hooks};
use crate::base::sys::cgroup;

/// What the shim applies in the runtime's place.
pub(super) struct Taken {
    pub seccomp: Option<LinuxSeccomp>,
    pub capabilities: Option<LinuxCapabilities>,
    pub rlimits: Vec<PosixRlimit>,
    pub resources: Option<LinuxResources>,
    pub hooks: Hooks,
    /// Hooks for the end.
    pub poststop: Vec<Hook>,
    pub devices: Devices,
}

/// Changes a specification to what the embedded runtime understands.
pub(super) fn adapt(spec: &mut Spec) -> Taken {
    let mounts = cgroup::own_hierarchies().iter().map(|hierarchy| hierarchy.mount.clone());
    let shown: Vec<_> = mounts.filter(|mount| mount.starts_with("/sys/fs/cgroup")).collect();
    adapt_to(spec, &shown)
}

fn adapt_to(spec: &mut Spec, hierarchies: &[PathBuf]) -> Taken {
    let mut taken = Taken {
        seccomp: None,
        capabilities: None,
        rlimits: Vec::new(),
        resources: None,
        hooks: Hooks::default(),
        poststop: Vec::new(),
        devices: devices::take(spec),
    };
    if let Some(hooks) = spec.hooks() {
        taken.hooks.poststart = hooks.poststart().clone().unwrap_or_default();
        taken.poststop = hooks.poststop().clone().unwrap_or_default();
        taken.hooks.annotations = spec.annotations().clone().unwrap_or_default();
    }
    if let Some(process) = spec.process_mut() {
        taken.capabilities = process.capabilities().clone();
        process.set_capabilities(None);
        taken.rlimits = process.rlimits().clone().unwrap_or_default();
        process.set_rlimits(None);
    }
    let mut group = None;
    if let Some(linux) = spec.linux_mut() {
        taken.seccomp = linux.seccomp().clone();
        linux.set_seccomp(None);
        let propagation = root_propagation(linux.rootfs_propagation().as_deref());
        linux.set_rootfs_propagation(Some(propagation.to_owned()));
        // A directory, which systemd's names stand for.
        group =
            linux.cgroups_path().as_deref().map(|path| Path::new("/").join(cgroup::from_specification(path)));
        linux.set_cgroups_path(group.clone());
        taken.resources = Some(linux.resources().clone().unwrap_or_default());
        linux.set_resources(None);
    }
    if let Some(group) = group.filter(|_| !hierarchies.is_empty()) {
        bind_groups(spec, &group, hierarchies);
    }
    taken
}

fn root_propagation(wanted: Option<&str>) -> &'static str {
    match wanted.unwrap_or_default().trim_start_matches('r') {
        "shared" => "shared",
        "slave" => "slave",
        "unbindable" => "unbindable",
        _ => "private",
    }
}

/// Puts binds of the container's directories in all v1 hierarchies in place of the mount that stands for them.
fn bind_groups(spec: &mut Spec, group: &Path, hierarchies: &[PathBuf]) {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let Some(at) = mounts.iter().position(|mount| mount.typ().as_deref() == Some("cgroup")) else { return };
    let (top, options) = (mounts[at].destination().clone(), mounts[at].options().clone().unwrap_or_default());
    let read_only = options.iter().any(|option| option == "ro");
    let inside = group.strip_prefix("/").unwrap_or(group);
    let mut binds =
        vec![mount("tmpfs", Path::new("tmpfs"), &top, &["noexec", "nosuid", "nodev", "mode=755"])];
    for hierarchy in hierarchies {
        let options: Vec<_> = ["bind"].into_iter().chain(options.iter().map(String::as_str)).collect();
        // Controllers mounted together are found by the name of each, too.
        let whole = hierarchy.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let single = whole.split(',').filter(|name| *name != whole);
        for name in [whole].into_iter().chain(single) {
            binds.push(mount("bind", &hierarchy.join(inside), top.join(name), &options));
        }
    }
    mounts.splice(at..=at, binds);
    spec.set_mounts(Some(mounts));
    if let Some(linux) = spec.linux_mut().as_mut().filter(|_| read_only) {
        // The directory itself, once everything is mounted in it.
        let paths = linux.readonly_paths().clone().unwrap_or_default();
        let top = top.to_string_lossy().into_owned();
        linux.set_readonly_paths(Some(paths.into_iter().chain([top]).collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_propagation_of_the_root_is_private_unless_asked_otherwise() {
        for (wanted, given) in [
            (None, "private"),
            (Some("rprivate"), "private"),
            (Some("rslave"), "slave"),
            (Some("shared"), "shared"),
            (Some("unbindable"), "unbindable"),
        ] {
            assert_eq!(root_propagation(wanted), given, "{wanted:?}");
        }
    }

    #[test]
    fn on_cgroup_v1_the_containers_own_groups_are_bound() {
        let mut spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.2","linux":{"cgroupsPath":"/docker/a","resources":{"pids":{"limit":5}}},
                "mounts":[{"destination":"/proc","type":"proc"},{"destination":"/sys/fs/cgroup","type":"cgroup",
                           "source":"cgroup","options":["ro","nosuid"]},{"destination":"/x","type":"bind"}]}"#,
        )
        .unwrap();
        let hierarchies = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/pids"].map(PathBuf::from);
        let taken = adapt_to(&mut spec, &hierarchies);
        assert_eq!(taken.resources.unwrap().pids().unwrap().limit(), 5);
        let mounts = spec.mounts().as_deref().unwrap();
        let shown = mounts.iter().map(|mount| mount.destination().to_str().unwrap());
        let expected = [
            "/proc",
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/cpu,cpuacct",
            "/sys/fs/cgroup/cpu",
            "/sys/fs/cgroup/cpuacct",
            "/sys/fs/cgroup/pids",
            "/x",
        ];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
        assert_eq!(mounts[3].source().as_deref(), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/docker/a")));
        assert_eq!(mounts[3].options().as_ref().unwrap(), &["bind", "ro", "nosuid"]);
        let read_only = spec.linux().as_ref().unwrap().readonly_paths().clone();
        assert_eq!(read_only.unwrap(), ["/sys/fs/cgroup"]);
    }

    #[test]
    fn on_cgroup_v2_limits_and_groups_are_left_to_the_shim() {
        let mut spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.2",
                "linux":{"cgroupsPath":"system.slice:docker:a","resources":{"pids":{"limit":5}}}}"#,
        )
        .unwrap();
        let taken = adapt_to(&mut spec, &[]);
        assert_eq!(taken.resources.unwrap().pids().unwrap().limit(), 5);
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.resources(), &None);
        assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/system.slice/docker-a.scope")));
    }

    #[test]
    fn what_confines_the_process_is_left_to_the_shim() {
        let mut spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.2","mounts":[],
                "process":{"user":{"uid":0,"gid":0},"cwd":"/","capabilities":{"bounding":["CAP_KILL"]},
                           "rlimits":[{"type":"RLIMIT_NOFILE","hard":5,"soft":5}]},
                "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}"#,
        )
        .unwrap();
        let taken = adapt(&mut spec);
        assert!(taken.seccomp.is_some() && taken.capabilities.is_some());
        assert_eq!(taken.rlimits[0].hard(), 5);
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!((json["process"].get("capabilities"), json["process"].get("rlimits")), (None, None));
        assert_eq!(json["linux"].get("seccomp"), None);
    }
}
