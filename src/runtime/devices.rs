//! What the embedded runtime (libcontainer 0.7) does wrong in `/dev` and does not do in mounts, taken out of the
//! specification for the shim.
//!
//! - It fills whatever is mounted at `/dev` with nodes and links, and ends if one is there. Under runc a `/dev` of the
//!   user's own (`-v /dev:/dev`, a volume) stays as it is. So the runtime gets a `/dev` as every container has it, for
//!   what it needs one for itself (masks, the terminal), and the shim puts the user's in its place afterwards.
//! - A tmpfs that is read-only it mounts so before anything can be mounted or made in it, and a `/dev` not at all. The
//!   shim makes them read-only when all is done.
//! - It makes no nodes outside of `/dev`, and walks by name through volumes, which other containers may be changing
//!   meanwhile, while it still has the host's root. The shim makes those nodes when the container's root is all there is.
//! - It makes no working directory in what is mounted, and looks for one before the user's `/dev` is there.

use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{FsType, fstatfs};
use oci_spec::runtime::{LinuxDevice, Mount, Process, Spec};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

use super::protocol::{Devices, OwnDev};

const DEV: &str = "/dev";
const PTS: &str = "/dev/pts";
const CONSOLE: &str = "/dev/console";
const DEVPTS_MAGIC: FsType = FsType(0x1cd1);

/// Takes out of a specification what the shim does.
pub(super) fn take(spec: &mut Spec) -> Devices {
    let terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let own = take_own_dev(&mut mounts, terminal);
    let working_dir = spec.process_mut().as_mut().and_then(take_working_dir);
    let mut nodes = Vec::new();
    if let Some(linux) = spec.linux_mut() {
        let all = linux.devices().clone().unwrap_or_default();
        let (theirs, ours): (Vec<_>, Vec<_>) = all.into_iter().partition(|node| is_plain(node, &mounts));
        // In a `/dev` of the user's own runc makes none.
        linux.set_devices(Some(if own.is_some() { Vec::new() } else { theirs }));
        nodes = if own.is_some() { Vec::new() } else { ours };
    }
    let read_only = mounts.iter_mut().filter_map(written_first).collect();
    spec.set_mounts(Some(mounts));
    let mut read_only_root = false;
    if let Some(root) = spec.root_mut().as_mut().filter(|_| !nodes.is_empty()) {
        read_only_root = root.readonly().unwrap_or(false);
        root.set_readonly(Some(false));
    }
    Devices { own, nodes, working_dir, read_only, read_only_root }
}

fn take_working_dir(process: &mut Process) -> Option<PathBuf> {
    let dir = process.cwd().clone();
    process.set_cwd("/".into());
    (dir != Path::new("/")).then_some(dir)
}

/// The place of a tmpfs that is read-only, which the specification does not say of it any more: as runc has it, what is
/// mounted or made in it is so before.
fn written_first(mount: &mut Mount) -> Option<PathBuf> {
    if mount.typ().as_deref() != Some("tmpfs") {
        return None;
    }
    let mut options = mount.options().clone().unwrap_or_default();
    let last = options.iter().rev().find(|option| matches!(option.as_str(), "ro" | "rw"))?;
    let is_read_only = last == "ro";
    options.retain(|option| option != "ro");
    mount.set_options(Some(options));
    is_read_only.then(|| mount.destination().clone())
}

/// Whether a node is made in the file system that the runtime has just mounted at `/dev`.
fn is_plain(node: &LinuxDevice, mounts: &[Mount]) -> bool {
    let path = node.path();
    let below =
        |mount: &Mount| mount.destination() != Path::new(DEV) && path.starts_with(mount.destination());
    path.starts_with(DEV)
        && path.components().all(|part| part != Component::ParentDir)
        && !mounts.iter().any(|mount| below(mount) && mount.destination().starts_with(DEV))
}

fn take_own_dev(mounts: &mut Vec<Mount>, terminal: bool) -> Option<OwnDev> {
    let is_own =
        |mount: &Mount| mount.destination() == Path::new(DEV) && mount.typ().as_deref() == Some("bind");
    let at = mounts.iter().rposition(is_own)?;
    let options = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let mount = std::mem::replace(&mut mounts[at], describe("tmpfs", Path::new("tmpfs"), DEV, &options));
    let mut over: Vec<PathBuf> = Vec::new();
    for inner in &mounts[at + 1..] {
        let destination = inner.destination();
        // What lies in another goes with that.
        if destination.starts_with(DEV) && !over.iter().any(|outer| destination.starts_with(outer)) {
            over.push(destination.clone());
        }
    }
    if terminal {
        over.push(CONSOLE.into());
        if !mounts.iter().any(|mount| mount.destination() == Path::new(PTS)) {
            mounts.insert(at + 1, terminals(&mount));
        }
    }
    Some(OwnDev { mount, over })
}

/// Where the runtime makes the terminal: in what the user's `/dev` has, if that has terminals.
fn terminals(dev: &Mount) -> Mount {
    let source = dev.source().as_deref().unwrap_or(Path::new(DEV));
    if has_terminals(source) {
        return describe("bind", &source.join("pts"), PTS, &["bind"]);
    }
    let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    describe("devpts", Path::new("devpts"), PTS, &options)
}

/// Whether there are terminals in a `/dev`. What a link leads to is not in it: who else has a volume may lead a terminal
/// into the host's.
fn has_terminals(dev: &Path) -> bool {
    let pts = || {
        let dev = open(dev, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&dev, "pts", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    pts().is_ok_and(|pts| fstatfs(&pts).is_ok_and(|found| found.filesystem_type() == DEVPTS_MAGIC))
}

/// A mount as specifications have it.
pub(super) fn describe(kind: &str, source: &Path, destination: impl AsRef<Path>, options: &[&str]) -> Mount {
    let options = options.iter().map(|&option| option.to_owned()).collect();
    let mut mount = Mount::default();
    mount.set_typ(Some(kind.to_owned())).set_source(Some(source.to_owned()));
    mount.set_destination(destination.as_ref().to_owned()).set_options(Some(options));
    mount
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn taken(mounts: Value, terminal: bool) -> (Devices, Spec) {
        let node = |path: &str| json!({ "path": path, "type": "c", "major": 1, "minor": 5 });
        let mut spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.0.2",
            "process": { "terminal": terminal, "user": { "uid": 0, "gid": 0 }, "cwd": "/" },
            "mounts": mounts,
            "root": { "path": "rootfs", "readonly": true },
            "linux": { "devices": [node("/dev/a"), node("/b"), node("/dev/../c"), node("/dev/vol/d")] },
        }))
        .unwrap();
        (take(&mut spec), spec)
    }

    fn paths<'a>(nodes: impl IntoIterator<Item = &'a LinuxDevice>) -> Vec<String> {
        nodes.into_iter().map(|node| node.path().display().to_string()).collect()
    }

    #[test]
    fn nodes_that_are_not_in_dev_itself_are_made_by_the_shim() {
        let mounts = json!([
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/dev/vol", "type": "bind", "source": "/v" },
        ]);
        let (devices, spec) = taken(mounts, true);
        assert!(devices.own.is_none());
        assert_eq!(paths(&devices.nodes), ["/b", "/dev/../c", "/dev/vol/d"]);
        assert_eq!(paths(spec.linux().as_ref().unwrap().devices().as_ref().unwrap()), ["/dev/a"]);
        assert!(devices.read_only_root);
        assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(false));
    }

    #[test]
    fn only_the_root_is_a_working_directory_for_the_runtime() {
        for (cwd, taken) in [("/", None), ("/x", Some(Path::new("/x")))] {
            let mut process = Process::default();
            process.set_cwd(cwd.into());
            assert_eq!(take_working_dir(&mut process).as_deref(), taken);
            assert_eq!(process.cwd(), Path::new("/"));
        }
    }

    #[test]
    fn a_tmpfs_becomes_read_only_when_all_is_in_it() {
        let tmpfs =
            |at: &str, options: &[&str]| json!({ "destination": at, "type": "tmpfs", "options": options });
        let mounts = json!([
            tmpfs("/dev", &["ro", "size=1m"]),
            tmpfs("/rw", &["ro", "rw"]),
            tmpfs("/ro", &["rw", "ro"]),
            tmpfs("/plain", &[]),
            { "destination": "/x", "type": "bind", "source": "/v", "options": ["ro"] },
        ]);
        let (devices, spec) = taken(mounts, false);
        assert_eq!(devices.read_only, [Path::new("/dev"), Path::new("/ro")]);
        let options = spec.mounts().as_deref().unwrap().iter().map(|mount| mount.options().clone().unwrap());
        assert_eq!(options.collect::<Vec<_>>().concat(), ["size=1m", "rw", "rw", "ro"]);
    }

    #[test]
    fn terminals_are_found_in_a_dev_and_not_where_a_link_leads() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/pts", dir.path().join("pts")).unwrap();
        for (source, kind) in [(Path::new("/dev"), "bind"), (dir.path(), "devpts")] {
            let dev = describe("bind", source, "/dev", &[]);
            assert_eq!(terminals(&dev).typ().as_deref(), Some(kind), "{}", source.display());
        }
    }

    #[test]
    fn a_dev_of_the_users_own_takes_the_place_of_the_runtimes() {
        let own =
            json!({ "destination": "/dev", "type": "bind", "source": "/nowhere", "options": ["rbind"] });
        let bind = |destination: &str| json!({ "destination": destination, "type": "bind", "source": "/v" });
        let mounts = json!([own, bind("/data"), bind("/dev/sub"), bind("/dev/sub/inner")]);
        let (devices, spec) = taken(mounts, true);
        let own = devices.own.unwrap();
        assert_eq!(own.mount.source().as_deref(), Some(Path::new("/nowhere")));
        assert_eq!(own.over, [Path::new("/dev/sub"), Path::new("/dev/console")]);
        assert!(devices.nodes.is_empty());
        assert_eq!(spec.linux().as_ref().unwrap().devices().as_ref().unwrap().len(), 0);
        let mounts = spec.mounts().as_deref().unwrap();
        let shown: Vec<_> =
            mounts.iter().map(|m| (m.typ().as_deref().unwrap(), m.destination().to_str().unwrap())).collect();
        let expected = [
            ("tmpfs", "/dev"),
            ("devpts", "/dev/pts"),
            ("bind", "/data"),
            ("bind", "/dev/sub"),
            ("bind", "/dev/sub/inner"),
        ];
        assert_eq!(shown, expected);
    }
}
