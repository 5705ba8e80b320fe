//! Device nodes of the host that go into containers.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::host_config::DeviceMapping;
use super::oci_spec::{DeviceKind, HostDevice};

/// A device that cannot be given; the text is dockerd's.
#[derive(Debug, thiserror::Error)]
#[error("error gathering device information while adding custom device \"{path}\": {source}")]
pub struct DeviceError {
    path: String,
    source: io::Error,
}

/// Directories below `/dev` that are made anew in each container.
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", "console"];

/// The device of a mapping, or all below it if it is a directory.
pub(super) fn find(mapping: &DeviceMapping) -> Result<Vec<HostDevice>, DeviceError> {
    let host = Path::new(&mapping.path_on_host);
    let inside =
        if mapping.path_in_container.is_empty() { &mapping.path_on_host } else { &mapping.path_in_container };
    let access =
        if mapping.cgroup_permissions.is_empty() { "rwm" } else { mapping.cgroup_permissions.as_str() };
    let fail = |source| DeviceError { path: mapping.path_on_host.clone(), source };
    if fs::metadata(host).map_err(fail)?.is_dir() {
        let mut found = Vec::new();
        walk(host, &mut found);
        for device in &mut found {
            if let Some(rest) = device.path.strip_prefix(&mapping.path_on_host) {
                device.path = format!("{inside}{rest}");
            }
            device.access = access.to_owned();
        }
        return Ok(found);
    }
    match device(host, inside, access).map_err(fail)? {
        Some(device) => Ok(vec![device]),
        None => Err(fail(io::Error::other("not a device node"))),
    }
}

/// Every device of the host, for privileged containers.
pub(super) fn all() -> Vec<HostDevice> {
    let mut found = Vec::new();
    walk(Path::new("/dev"), &mut found);
    found
}

fn walk(dir: &Path, found: &mut Vec<HostDevice>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
            walk(&path, found);
        } else if kind.is_char_device() || kind.is_block_device() {
            let name = path.to_string_lossy().into_owned();
            if !name.ends_with("/console") {
                found.extend(device(&path, &name, "rwm").ok().flatten());
            }
        }
    }
}

fn device(host: &Path, inside: &str, access: &str) -> io::Result<Option<HostDevice>> {
    let meta = fs::metadata(host)?;
    let kind = match () {
        () if meta.file_type().is_char_device() => DeviceKind::Character,
        () if meta.file_type().is_block_device() => DeviceKind::Block,
        () => return Ok(None),
    };
    Ok(Some(HostDevice {
        source: host.to_string_lossy().into_owned(),
        path: inside.to_owned(),
        kind,
        major: nix::sys::stat::major(meta.rdev()),
        minor: nix::sys::stat::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.to_owned(),
    }))
}
