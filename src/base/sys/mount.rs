//! Mounting, unmounting, and reading what is mounted.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};
pub use rustix::mount::{MountFlags, MountPropagationFlags};

/// Whether what is mounted below the source of a bind mount comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursion {
    /// The one mount only.
    Single,
    /// All that is mounted below it too.
    Recursive,
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Fails with EBUSY while in use.
    Plain,
    /// Out of sight at once, gone when no longer in use.
    Lazy,
}

/// Shows the tree at `source` at `target` too.
pub fn bind(source: &Path, target: &Path, recursion: Recursion) -> io::Result<()> {
    Ok(match recursion {
        Recursion::Single => mount::mount_bind(source, target),
        Recursion::Recursive => mount::mount_bind_recursive(source, target),
    }?)
}

/// Changes the flags (read-only, nosuid, …) of one bind mount, not of its file system.
pub fn remount_bind(target: &Path, flags: MountFlags) -> io::Result<()> {
    Ok(mount::mount_remount(target, flags | MountFlags::BIND, c"")?)
}

/// Sets how mounts below `target` spread to other namespaces.
pub fn set_propagation(target: &Path, propagation: MountPropagationFlags) -> io::Result<()> {
    Ok(mount::mount_change(target, propagation)?)
}

/// A new tmpfs that mount tables show as `source`, with `options` as of tmpfs(5), such as `mode=755,size=64m`.
pub fn tmpfs(source: &str, target: &Path, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(mount::mount(source, target, "tmpfs", flags, options.as_c_str())?)
}

/// Takes the topmost mount off `target`. Does not follow a symbolic link there.
pub fn unmount(target: &Path, how: Unmount) -> io::Result<()> {
    let flags = match how {
        Unmount::Plain => UnmountFlags::NOFOLLOW,
        Unmount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    Ok(mount::unmount(target, flags)?)
}

/// As [`unmount`], where nothing may be mounted: false if so.
pub fn unmount_if_mounted(target: &Path, how: Unmount) -> io::Result<bool> {
    match unmount(target, how) {
        Ok(()) => Ok(true),
        // EINVAL: not a mount point.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput || e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether a mount lies on `path` itself. A missing `path` is none.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = match path.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    Ok(mounts()?.iter().any(|mount| mount.target == path))
}

/// Opens a context in which a file system is configured (fsopen(2)).
pub(super) fn open_file_system(kind: &str) -> io::Result<OwnedFd> {
    Ok(mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?)
}

/// Makes the configured file system, mounted nowhere yet: it goes away with the descriptor unless [`attach`]ed.
pub(super) fn create_detached(context: &OwnedFd) -> io::Result<OwnedFd> {
    mount::fsconfig_create(context.as_fd())?;
    Ok(mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Puts a detached mount at `target`.
pub fn attach(detached: impl AsFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(mount::move_mount(detached.as_fd(), "", rustix::fs::CWD, target, flags)?)
}

/// One line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Unique among the mounts of now.
    pub id: u32,
    /// The mount that this one lies on.
    pub parent: u32,
    /// The directory of the file system that is seen here.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Options of this mount: `rw,nosuid,…`.
    pub options: String,
    /// `shared:N`, `master:N`, … separated by spaces; empty for a private mount.
    pub propagation: String,
    /// Kind of file system.
    pub kind: String,
    /// What is mounted: a device, or any word.
    pub source: String,
    /// Options of the file system.
    pub super_options: String,
}

/// The mounts of this process's namespace, in the order they lie on each other.
pub fn mounts() -> io::Result<Vec<MountPoint>> {
    read_mounts("self")
}

/// The mounts that a process sees, as it sees them.
pub fn mounts_of(pid: i32) -> io::Result<Vec<MountPoint>> {
    read_mounts(&pid.to_string())
}

fn read_mounts(process: &str) -> io::Result<Vec<MountPoint>> {
    let text = std::fs::read(format!("/proc/{process}/mountinfo"))?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse_line).collect())
}

fn parse_line(line: &[u8]) -> Option<MountPoint> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let path = |field: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(unescape(field)));
    Some(MountPoint {
        id: text(fields.first()?).parse().ok()?,
        parent: text(fields.get(1)?).parse().ok()?,
        root: path(fields.get(3)?),
        target: path(fields.get(4)?),
        options: text(fields.get(5)?),
        propagation: fields.get(6..dash)?.iter().map(|field| text(field)).collect::<Vec<_>>().join(" "),
        kind: text(fields.get(dash + 1)?),
        source: String::from_utf8_lossy(&unescape(fields.get(dash + 2)?)).into_owned(),
        super_options: text(fields.get(dash + 3)?),
    })
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let escaped =
            tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(digits) = escaped {
            plain.push(
                digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
            );
            rest = &tail[3..];
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_is_read_with_its_escapes_and_optional_fields() {
        let line =
            br"36 35 98:0 /mnt1 /mnt\0402 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue";
        let mount = parse_line(line).unwrap();
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert_eq!(mount.target, Path::new("/mnt 2"));
        assert_eq!(mount.propagation, "shared:1 master:2");
        assert_eq!((mount.kind.as_str(), mount.source.as_str()), ("ext3", "/dev/root"));
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"36 35 98:0 / /x rw"), None);
        let private = parse_line(b"1 0 0:1 / / rw - tmpfs none rw").unwrap();
        assert_eq!(private.propagation, "");
    }
}

#[cfg(test)]
mod properties {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    /// As the kernel's `mangle` writes a path (fs/proc_namespace.c).
    fn mangled(path: &[u8]) -> Vec<u8> {
        let byte = |byte: &u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            byte => vec![*byte],
        };
        path.iter().flat_map(byte).collect()
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_mount_point_is_found_whatever_its_name(
            name in prop::collection::vec(prop_oneof![1..=255u8, Just(b' '), Just(b'\\'), b'0'..=b'7'], 0..20),
            propagation in "(shared:[0-9] )?(master:[0-9] )?",
        ) {
            let target = [b"/", &name[..]].concat();
            let (start, end) = (b"36 35 98:0 /sub ", b"- ext4 /dev/root rw");
            let line = [start, &mangled(&target)[..], b" rw,noatime ", propagation.as_bytes(), end].concat();
            let mount = parse_line(&line).unwrap();
            prop_assert_eq!(mount.target.as_os_str().as_bytes(), target);
            prop_assert_eq!((mount.id, mount.parent, mount.kind.as_str()), (36, 35, "ext4"));
            prop_assert_eq!(mount.propagation, propagation.trim_end());
        }

        #[test]
        fn any_line_is_a_mount_or_none(
            line in prop::collection::vec(prop_oneof![3 => Just(b' '), 2 => Just(b'-'), 1 => any::<u8>(), 2 => b'0'..=b'9'], 0..60),
        ) {
            let _ = parse_line(&line);
        }
    }
}
