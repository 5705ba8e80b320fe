//! What the embedded runtime (libcontainer 0.7) needs to be told otherwise than the OCI specification has it, so that
//! everything above writes one specification for every runtime.
//!
//! - The seccomp filter and the capabilities are taken out: the shim applies both right before it executes the program.
//!   libcontainer would compile the filter anew for each start (20 ms and more for the default profile), compares
//!   masked arguments the wrong way round, and needs privilege at a moment when it has dropped it.
//! - Propagation of single mounts is ignored there, so that of the root decides: private unless asked otherwise.
//! - A read-only cgroup mount is made writable on cgroup v1; read-only paths over it make up for that.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp, Mount, Spec};

/// What the shim applies in the runtime's place.
pub(super) struct Taken {
    pub seccomp: Option<LinuxSeccomp>,
    pub capabilities: Option<LinuxCapabilities>,
}

/// Changes a specification to what the embedded runtime understands.
pub(super) fn adapt(spec: &mut Spec) -> Taken {
    let groups = read_only_groups(spec.mounts().as_deref().unwrap_or_default());
    let mut taken = Taken { seccomp: None, capabilities: None };
    if let Some(process) = spec.process_mut() {
        taken.capabilities = process.capabilities().clone();
        process.set_capabilities(None);
    }
    if let Some(linux) = spec.linux_mut() {
        taken.seccomp = linux.seccomp().clone();
        linux.set_seccomp(None);
        let propagation = root_propagation(linux.rootfs_propagation().as_deref());
        linux.set_rootfs_propagation(Some(propagation.to_owned()));
        if !groups.is_empty() {
            let paths = linux.readonly_paths().clone().unwrap_or_default();
            linux.set_readonly_paths(Some(paths.into_iter().chain(groups).collect()));
        }
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

/// The directories in the container that show the host's v1 hierarchies and must not be written to.
fn read_only_groups(mounts: &[Mount]) -> Vec<String> {
    let is_read_only = |mount: &Mount| mount.options().iter().flatten().any(|option| option == "ro");
    let Some(mount) = mounts.iter().find(|mount| mount.typ().as_deref() == Some("cgroup")) else {
        return Vec::new();
    };
    if !is_read_only(mount) {
        return Vec::new();
    }
    let hierarchies = v1_hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    let names = hierarchies.iter().filter_map(|hierarchy| hierarchy.file_name());
    let inside: Vec<PathBuf> = names.map(|name| mount.destination().join(name)).collect();
    let outside = (!inside.is_empty()).then(|| mount.destination().clone());
    outside.into_iter().chain(inside).map(|path| path.to_string_lossy().into_owned()).collect()
}

/// Mount points of v1 hierarchies (proc(5), mountinfo).
fn v1_hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let lines = mountinfo.lines().filter(|line| line.contains(" - cgroup "));
    let points = lines.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(Path::new("/sys/fs/cgroup"))).collect()
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
    fn hierarchies_are_those_of_cgroup_v1() {
        let mountinfo = "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu\n\
                         32 25 0:28 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
                         33 25 0:29 / /elsewhere rw - cgroup cgroup rw,pids\n";
        assert_eq!(v1_hierarchies(mountinfo), [PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")]);
    }

    #[test]
    fn the_filter_and_the_capabilities_are_left_to_the_shim() {
        let mut spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.2","mounts":[],
                "process":{"user":{"uid":0,"gid":0},"cwd":"/","capabilities":{"bounding":["CAP_KILL"]}},
                "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}"#,
        )
        .unwrap();
        let taken = adapt(&mut spec);
        assert!(taken.seccomp.is_some() && taken.capabilities.is_some());
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(json["process"].get("capabilities"), None);
        assert_eq!(json["linux"].get("seccomp"), None);
    }
}
