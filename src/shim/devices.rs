//! Puts a `/dev` of the user's own, device nodes outside of the runtime's and the working directory in place: in the
//! container's first process, when the container's root is all that it sees. So whatever a volume or an image has there, and whoever
//! changes it meanwhile, no path leads out of the container.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libcontainer::capabilities::reset_effective;
use libcontainer::syscall::syscall::create_syscall;
use nix::sys::stat::umask;
use nix::unistd::{setfsgid, setfsuid};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::fchdir;

use crate::base::errno::reason;
use crate::base::sys::mount::Recursion;
use crate::base::sys::mount_point::{self, Kind, MAX_LINKS};
use crate::base::sys::root_fs::Root;
use crate::base::sys::tree;
use crate::runtime::protocol::{Devices, OwnDev};

const DEV: &str = "/dev";
const NULL: &str = "/dev/null";

/// What is to be put in place.
pub struct Prepared {
    devices: Devices,
    /// The user's `/dev`, mounted nowhere yet.
    dev: Option<OwnedFd>,
}

impl Prepared {
    /// Takes hold of what only the host's root leads to.
    pub fn new(devices: &Devices) -> io::Result<Self> {
        let dev = devices.own.as_ref().map(copy).transpose()?;
        Ok(Self { devices: devices.clone(), dev })
    }

    /// Puts all in place; the container's root is this process's, which has all capabilities still.
    pub fn put(&self) -> io::Result<()> {
        let Devices { own, nodes, working_dir, read_only, read_only_root } = &self.devices;
        if own.is_some() || !nodes.is_empty() {
            as_root(|| {
                if let (Some(own), Some(dev)) = (own, &self.dev) {
                    replace(own, dev)?;
                }
                make_all(nodes)
            })?;
        }
        working_dir.as_ref().map_or(Ok(()), |dir| work_in(dir))?;
        if own.is_some() {
            as_root(has_null)?;
        }
        read_only.iter().try_for_each(|path| make_read_only(path))?;
        if *read_only_root { make_read_only(Path::new("/")) } else { Ok(()) }
    }

    /// Where the program works.
    pub fn working_dir(&self) -> &Path {
        self.devices.working_dir.as_deref().unwrap_or(Path::new("/"))
    }
}

/// A `/dev` of the user's own without it is refused, as by runc: little works without.
fn has_null() -> io::Result<()> {
    let found = fs::stat(NULL).map(drop);
    found.map_err(|errno| in_words(&format!("unable to setup user: stat {NULL}"), &errno.into()))
}

/// Enters the program's working directory, which root makes if it is not there. What it may not enter the user may
/// (root squash).
fn work_in(dir: &Path) -> io::Result<()> {
    let refused =
        |error: io::Error| in_words(&format!("chdir to cwd ({dir:?}) set in config.json failed"), &error);
    // Descriptors of this process are no way to a directory (CVE-2024-21626): what is mounted may have links to them.
    let root = Root::open(Path::new("/"))?;
    as_root(|| fchdir(made(&root, dir)?).map_err(|error| refused(error.into()))).or_else(|error| match error
        .kind()
    {
        io::ErrorKind::PermissionDenied => fchdir(root.dir(dir).map_err(refused)?).map_err(|_| error),
        _ => Err(error),
    })
}

/// The directory; each that is missing on the way to it is made, and the error names the first that cannot be.
fn made(root: &Root, dir: &Path) -> io::Result<OwnedFd> {
    let refused = |error: io::Error| in_words(&format!("mkdir {}", dir.display()), &error);
    match root.dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        found => return found.map_err(refused),
    }
    let (Some(name), Some(parent)) = (dir.file_name(), dir.parent()) else {
        return Err(refused(Errno::NOENT.into()));
    };
    let parent = made(root, parent)?;
    let done = fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755));
    // Another container may have made it meanwhile; a link that leads nowhere is in the way.
    root.dir(dir).map_err(|error| match (error.kind(), done) {
        (io::ErrorKind::NotFound, Err(errno)) => refused(errno.into()),
        _ => refused(error),
    })
}

/// Does what makes files as the container's root, whoever its user is.
fn as_root(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let (uid, gid) = (setfsuid(nix::unistd::Uid::from_raw(0)), setfsgid(nix::unistd::Gid::from_raw(0)));
    let old = umask(nix::sys::stat::Mode::empty());
    let done = work();
    umask(old);
    setfsgid(gid);
    setfsuid(uid);
    // Becoming somebody else takes capabilities that concern files (capabilities(7)).
    reset_effective(create_syscall().as_ref()).map_err(io::Error::other)?;
    done
}

/// Makes the mount at a place in the container read-only.
fn make_read_only(path: &Path) -> io::Result<()> {
    let mount = Root::open(Path::new("/")).and_then(|root| root.dir(path));
    let done = mount.and_then(|mount| tree::make_read_only(mount.as_fd(), Recursion::Single));
    done.map_err(|error| in_words(&format!("remounting {} read-only", path.display()), &error))
}

fn make_all(nodes: &[LinuxDevice]) -> io::Result<()> {
    if nodes.is_empty() {
        return Ok(());
    }
    let root = Root::open(Path::new("/"))?;
    nodes.iter().try_for_each(|node| {
        let what = format!("device node {}", node.path().display());
        make(&root, node).map_err(|error| in_words(&what, &error))
    })
}

fn in_words(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {}", reason(error)))
}

fn options(own: &OwnDev) -> impl Iterator<Item = &str> {
    own.mount.options().iter().flatten().map(String::as_str)
}

/// A copy of the user's mount with its options, but for its propagation: that is set where it will be.
fn copy(own: &OwnDev) -> io::Result<OwnedFd> {
    let source = own.mount.source().as_deref().unwrap_or(Path::new(DEV));
    let has = |option: &str| options(own).any(|given| given == option);
    let recursion = |all: bool| if all { Recursion::Recursive } else { Recursion::Single };
    let copied = tree::copy(source, recursion(has("rbind"))).and_then(|dev| {
        if has("ro") || has("rro") {
            tree::make_read_only(dev.as_fd(), recursion(has("rro")))?;
        }
        Ok(dev)
    });
    copied.map_err(|error| in_words(&format!("mount {} to {DEV}", source.display()), &error))
}

/// Puts the user's `/dev` in the place of the runtime's, with what was mounted there for the user.
fn replace(own: &OwnDev, dev: &OwnedFd) -> io::Result<()> {
    let copies =
        own.over.iter().map(|path| tree::copy(path, Recursion::Recursive)).collect::<io::Result<Vec<_>>>()?;
    unmount(DEV, UnmountFlags::DETACH)?;
    let root = Root::open(Path::new("/"))?;
    tree::attach_over(dev, root.dir(Path::new(DEV))?)?;
    mount_change(DEV, propagation(own))?;
    for (path, copy) in own.over.iter().zip(copies) {
        put_over(&root, path, &copy)
            .map_err(|error| in_words(&format!("mount {}", path.display()), &error))?;
    }
    Ok(())
}

fn propagation(own: &OwnDev) -> MountPropagationFlags {
    let flags = options(own).find_map(|option| {
        let plain = option.strip_prefix('r').filter(|rest| *rest != "o" && *rest != "bind");
        let flag = match plain.unwrap_or(option) {
            "private" => MountPropagationFlags::PRIVATE,
            "slave" => MountPropagationFlags::DOWNSTREAM,
            "shared" => MountPropagationFlags::SHARED,
            "unbindable" => MountPropagationFlags::UNBINDABLE,
            _ => return None,
        };
        Some(if plain.is_some() { flag | MountPropagationFlags::REC } else { flag })
    });
    flags.unwrap_or(MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

fn put_over(root: &Root, path: &Path, copy: &OwnedFd) -> io::Result<()> {
    let kind = match FileType::from_raw_mode(fs::fstat(copy)?.st_mode) {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    // A link would have what is mounted here appear elsewhere (CVE-2025-52565 was of this kind).
    if mount_point::place(root, path, kind, &[])? != path {
        return Err(Errno::LOOP.into());
    }
    tree::attach_over(copy, root.open_in(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?)
}

/// The directory and the name that `path` means: a link at its end is followed too, inside the root as all others.
fn settle(root: &Root, path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = mount_point::place(root, parent, Kind::Directory, &[])?;
        let dir = root.dir(&parent)?;
        match fs::readlinkat(&dir, name, Vec::new()) {
            Ok(target) => path = parent.join(OsStr::from_bytes(target.as_bytes())),
            Err(Errno::INVAL | Errno::NOENT) => return Ok((dir, name.to_owned())),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::LOOP.into())
}

/// Makes a device node, or finds the very same one: runc takes whatever it finds.
fn make(root: &Root, node: &LinuxDevice) -> io::Result<()> {
    let (dir, name) = settle(root, node.path())?;
    let kind = match node.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let number =
        |number: i64| u32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let device = match kind {
        FileType::Fifo => 0,
        _ => fs::makedev(number(node.major())?, number(node.minor())?),
    };
    let made = fs::mknodat(&dir, &name, kind, Mode::from_raw_mode(node.file_mode().unwrap_or(0o666)), device);
    if !matches!(made, Ok(()) | Err(Errno::EXIST)) {
        return Ok(made?);
    }
    let found = fs::openat(&dir, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fs::fstat(&found)?;
    if (FileType::from_raw_mode(stat.st_mode), stat.st_rdev) != (kind, device) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another file is there"));
    }
    if made.is_ok() {
        let (uid, gid) = (node.uid().unwrap_or(0), node.gid().unwrap_or(0));
        fs::chownat(&found, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn node(path: &str, minor: i64) -> LinuxDevice {
        let mut node = LinuxDevice::default();
        node.set_path(path.into()).set_typ(LinuxDeviceType::C).set_major(1).set_minor(minor);
        node.set_file_mode(Some(0o640)).set_gid(Some(7));
        node
    }

    #[test]
    fn a_node_is_made_in_the_root_or_is_there_already() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/", dir.path().join("up")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for _ in 0..2 {
            make(&root, &node("/up/../../a/zero", 5)).unwrap();
        }
        let meta = dir.path().join("a/zero").symlink_metadata().unwrap();
        assert_eq!((meta.rdev(), meta.gid()), (fs::makedev(1, 5), 7));
        let refused = make(&root, &node("/a/zero", 3)).unwrap_err();
        assert_eq!(refused.to_string(), "another file is there");
        for (link, target, place) in [
            ("link", "zero", "a/zero"),
            ("dangling", "/up/b/other", "b/other"),
            ("up", "../../../../c", "c"),
            ("chain", "dangling", "b/other"),
        ] {
            symlink(target, dir.path().join("a").join(link)).unwrap();
            make(&root, &node(&format!("/a/{link}"), 5)).unwrap();
            let meta = dir.path().join(place).symlink_metadata().unwrap();
            assert_eq!(meta.rdev(), fs::makedev(1, 5), "{link}");
        }
        symlink("loop", dir.path().join("a/loop")).unwrap();
        symlink("..", dir.path().join("a/above")).unwrap();
        for refused in ["/a/loop", "/a/above", "/a/.."] {
            assert!(make(&root, &node(refused, 5)).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_directory_is_made_with_those_on_the_way_to_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        symlink("/nowhere", dir.path().join("link")).unwrap();
        symlink("/proc/self/fd/0", dir.path().join("out")).unwrap();
        symlink("/a", dir.path().join("inside")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for (path, refused) in [
            ("/", None),
            ("/a/b/c", None),
            ("/a/b/c", None),
            ("/inside/d", None),
            ("/file", Some("mkdir /file: not a directory")),
            ("/file/x/y", Some("mkdir /file: not a directory")),
            ("/link/x", Some("mkdir /link: file exists")),
            ("/out/x", Some("mkdir /out: file exists")),
        ] {
            let refusal = made(&root, Path::new(path)).err().map(|error| error.to_string());
            assert_eq!(refusal.as_deref(), refused, "{path}");
        }
        assert!(dir.path().join("a/d").is_dir());
    }

    #[test]
    fn propagation_is_private_unless_asked_otherwise() {
        let of = |given: &[&str]| {
            let mut own = OwnDev { mount: Default::default(), over: Vec::new() };
            own.mount.set_options(Some(given.iter().map(|&option| option.to_owned()).collect()));
            propagation(&own)
        };
        assert_eq!(of(&["rbind", "ro"]), MountPropagationFlags::PRIVATE | MountPropagationFlags::REC);
        assert_eq!(of(&["rbind", "rslave"]), MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC);
        assert_eq!(of(&["rro", "shared"]), MountPropagationFlags::SHARED);
    }
}
