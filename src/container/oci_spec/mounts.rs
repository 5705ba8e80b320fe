//! What is mounted in a container, in the order in which it must be.

use serde_json::{Value, json};

use super::{INIT_PATH, Prepared, SpecInput};
use crate::container::host_config::MountType;
use crate::container::record::{MountPoint, ReadOnly};

pub(super) fn list(input: &SpecInput<'_>) -> Vec<Value> {
    let host_config = &input.record.host_config;
    let own = |destination: &str| {
        input.mounts.iter().any(|mount| mount.point.destination == destination)
            || host_config.tmpfs.contains_key(destination)
    };
    // A `/dev` of the user's own stays as it is.
    let taken = |path: &str| own(path) || (path.starts_with("/dev/") && own("/dev"));
    let mut list: Vec<Value> =
        system(input).into_iter().filter(|mount| !taken(text(mount, "destination"))).collect();
    let mut user: Vec<Value> = input.mounts.iter().map(|mount| user_mount(mount, input.kernel)).collect();
    user.extend(host_config.tmpfs.iter().map(|(target, options)| tmpfs(target, options)));
    user.extend(devices(input));
    user.extend(files(input).into_iter().filter(|mount| !taken(text(mount, "destination"))));
    // A mount comes after those that it lies in.
    user.sort_by_key(|mount| text(mount, "destination").split('/').filter(|part| !part.is_empty()).count());
    list.extend(user);
    list
}

/// Whether mounts made on the host later may appear in the container, or its own on the host, which a slave or shared
/// bind asks for; the runtime's default otherwise.
pub(super) fn root_propagation(input: &SpecInput<'_>) -> Option<&'static str> {
    let asks =
        |word: &str| input.mounts.iter().any(|mount| mount.point.propagation.trim_start_matches('r') == word);
    match () {
        () if asks("shared") => Some("shared"),
        () if asks("slave") => Some("rslave"),
        () => None,
    }
}

fn system(input: &SpecInput<'_>) -> Vec<Value> {
    let host_config = &input.record.host_config;
    let access = if host_config.privileged { "rw" } else { "ro" };
    let writable_cgroups =
        host_config.security_opt.iter().flatten().any(|option| option == "writable-cgroups=true");
    let cgroup_access = if host_config.privileged || writable_cgroups { "rw" } else { "ro" };
    let shm = format!("size={}", host_config.shm_size);
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[cgroup_access, "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    match &input.shm {
        Some(dir) => list.push(bind("/dev/shm", &dir.to_string_lossy(), &["rbind", "rprivate"])),
        None if host_config.ipc_mode == "none" => {}
        None => {
            list.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]))
        }
    }
    list
}

/// The host's device nodes, where the container can make none.
fn devices(input: &SpecInput<'_>) -> Vec<Value> {
    let mounted = input.devices.iter().filter(|_| input.userns.is_some());
    mounted.map(|device| bind(&device.path, &device.source, &["bind", "rprivate"])).collect()
}

fn files(input: &SpecInput<'_>) -> Vec<Value> {
    let access = if input.record.host_config.readonly_rootfs { "ro" } else { "rw" };
    let mut list: Vec<Value> = input
        .files
        .iter()
        .map(|(target, source)| bind(target, &source.to_string_lossy(), &["rbind", "rprivate", access]))
        .collect();
    if let Some(init) = input.init {
        list.push(bind(INIT_PATH, &init.to_string_lossy(), &["bind", "ro"]));
    }
    list
}

fn user_mount(mount: &Prepared, kernel: &str) -> Value {
    let point = &mount.point;
    if point.kind == MountType::Tmpfs {
        return tmpfs(&point.destination, &point.options.join(","));
    }
    let propagation = if point.propagation.is_empty() { "rprivate" } else { point.propagation.as_str() };
    let how = if point.recursive { "rbind" } else { "bind" };
    let mut options = vec![how, propagation];
    if !point.rw {
        options.extend(read_only(point, kernel));
    }
    bind(&point.destination, &mount.source.to_string_lossy(), &options)
}

/// `ro` is for the topmost mount; `rro` (mount_setattr(2), Linux 5.12) for those below it too.
fn read_only(point: &MountPoint, kernel: &str) -> &'static [&'static str] {
    let recursive = match point.read_only {
        ReadOnly::Recursive => true,
        ReadOnly::IfPossible => point.recursive && has_recursive_attributes(kernel),
        ReadOnly::Topmost => false,
    };
    if recursive { &["rro", "ro"] } else { &["ro"] }
}

fn has_recursive_attributes(kernel: &str) -> bool {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 12)
}

/// Options of the user's own come after the defaults, so that they win.
fn tmpfs(target: &str, options: &str) -> Value {
    let own = options.split(',').filter(|option| !option.is_empty());
    let all: Vec<&str> = ["noexec", "nosuid", "nodev"].into_iter().chain(own).collect();
    mount(target, "tmpfs", "tmpfs", &all)
}

fn bind(target: &str, source: &str, options: &[&str]) -> Value {
    mount(target, "bind", source, options)
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

fn text<'v>(mount: &'v Value, key: &str) -> &'v str {
    mount[key].as_str().unwrap_or_default()
}
