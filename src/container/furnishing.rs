//! What every container's root has though no image brings it: `/.dockerenv`, by which programs tell that they are in
//! a container, `/etc/mtab`, the working directory, and what the engine's own mounts lie on. To dockerd the most of
//! it is a layer between the image and the container: it is no change of the container's, and in no image made of it.
//!
//! Made when the root is first mounted, by a start or by a copy; never outside the root, whatever links it holds.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::base::id_map::IdMaps;
use crate::base::sys::mount_point;
use crate::base::sys::root_fs::Root;
use crate::snapshot::Kind;

/// Made last: where it is, the rest was made.
const MARK: &str = ".dockerenv";
const DIRECTORIES: [&str; 4] = ["dev/pts", "dev/shm", "proc", "sys"];
const FILES: [&str; 5] = ["dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf", MARK];
const MTAB: &str = "etc/mtab";
const MTAB_TARGET: &str = "/proc/mounts";

/// What a start makes besides: some containers need it.
const LATER_DIRECTORIES: [&str; 2] = ["dev", "dev/mqueue"];
const LATER_FILES: [&str; 1] = ["sbin/docker-init"];

/// Furnishes the root that is mounted at `rootfs` with the changes `upper` over an image; `working_dir` is the
/// container's.
pub(super) fn furnish(rootfs: &Path, upper: &Path, ids: &IdMaps, working_dir: &str) -> io::Result<()> {
    let root = Root::open(rootfs)?.with_ids(ids);
    // Not of the image, which may have been made of a container: what has been taken away is marked too.
    if !exists(&upper.join(MARK))? {
        make_all(&root)?;
    }
    make_working_dir(&root, working_dir)
}

/// Makes a container's working directory in its root.
pub(super) fn make_working_dir(root: &Root, working_dir: &str) -> io::Result<()> {
    if matches!(working_dir, "" | "/") {
        return Ok(());
    }
    match root.dir(Path::new(working_dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => passable(
            mount_point::place(root, Path::new(working_dir), mount_point::Kind::Directory, &[]).map(drop),
        ),
        // What is no directory is the runtime's to complain about.
        _ => Ok(()),
    }
}

fn make_all(root: &Root) -> io::Result<()> {
    for path in DIRECTORIES.into_iter().chain([MARK]) {
        clear(root, path)?;
    }
    for dir in DIRECTORIES {
        passable(root.create_dirs(Path::new(dir), 0o755).map(drop))?;
    }
    passable(make(root, MTAB, |dir, name| rustix::fs::symlinkat(MTAB_TARGET, dir, name)))?;
    for file in FILES {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        passable(make(root, file, |dir, name| {
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o755)).map(drop)
        }))?;
    }
    Ok(())
}

/// Takes away what an image has on the way to `path`, or there, that is no directory: images have links to directories
/// for `/proc` or `/dev`, and nothing may be mounted through those.
fn clear(root: &Root, path: &str) -> io::Result<()> {
    let mut dir = root.dir(Path::new(""))?;
    for name in path.split('/') {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            Ok(inner) => inner,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return passable(rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(io::Error::from));
            }
            Err(error) => return passable(Err(error.into())),
        };
    }
    Ok(())
}

/// Makes one entry and gives it to whom the root belongs.
fn make(
    root: &Root,
    path: &str,
    call: impl FnOnce(&std::os::fd::OwnedFd, &OsStr) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let path = Path::new(path);
    let dir = root.create_dirs(path.parent().unwrap_or(Path::new("")), 0o755)?;
    let Some(name) = path.file_name() else { return Ok(()) };
    call(&dir, name)?;
    root.give(&dir, name)
}

/// An image may have something else in these places, and a full disk keeps nobody from copying what is on it; what
/// cannot do without them says so when it starts.
fn passable(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EEXIST | libc::ENOTDIR | libc::ELOOP | libc::ENOENT | libc::ENOSPC | libc::EDQUOT)
            ) =>
        {
            Ok(())
        }
        made => made,
    }
}

fn exists(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What of this is at `path` or in its way: files, which a working directory cannot be made over.
pub(super) fn in_the_way(path: &Path) -> Option<Kind> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let file = FILES.iter().find(|file| path.starts_with(file))?;
    Some(if path == Path::new(file) { Kind::Other } else { Kind::ThroughOther })
}

/// Bytes that this takes of a container's changes, whose directory is `upper`. Files are empty: they are mounted over.
pub fn size(upper: &Path) -> u64 {
    let found = std::fs::symlink_metadata(upper.join(MTAB));
    found.map_or(
        0,
        |meta| if meta.is_symlink() && meta.len() == MTAB_TARGET.len() as u64 { meta.len() } else { 0 },
    )
}

/// Whether what a container has beyond its image is only this. `path` is without its first slash.
pub(super) fn is_ours(path: &[u8], stat: &Stat) -> bool {
    let among = |names: &[&str]| names.iter().any(|name| name.as_bytes() == path);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => among(&DIRECTORIES) || among(&LATER_DIRECTORIES),
        FileType::RegularFile => stat.st_size == 0 && (among(&FILES) || among(&LATER_FILES)),
        FileType::Symlink => stat.st_size == MTAB_TARGET.len() as i64 && among(&[MTAB]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn furnished(prepare: impl FnOnce(&Path)) -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("root");
        fs::create_dir(&root).unwrap();
        prepare(&root);
        furnish(&root, &root, &IdMaps::default(), "/app/x").unwrap();
        top
    }

    #[test]
    fn an_empty_root_gets_it_all() {
        let top = furnished(|_| ());
        for path in DIRECTORIES.iter().chain(&FILES).chain(&["app/x"]) {
            assert!(top.path().join("root").join(path).exists(), "{path}");
        }
        assert_eq!(fs::read_link(top.path().join("root/etc/mtab")).unwrap(), Path::new("/proc/mounts"));
    }

    #[test]
    fn what_an_image_has_in_its_place_stays_and_links_lead_nowhere_outside() {
        let top = furnished(|root| {
            symlink("..", root.join("app")).unwrap();
            fs::write(root.join("etc"), "no directory").unwrap();
        });
        let outside: Vec<_> =
            fs::read_dir(top.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(outside, ["root"]);
        assert_eq!(fs::read(top.path().join("root/etc")).unwrap(), b"no directory");
        assert!(top.path().join("root/.dockerenv").exists());
    }

    #[test]
    fn what_is_no_directory_where_the_kernel_s_own_files_belong_makes_room() {
        let top = furnished(|root| {
            symlink("..", root.join("dev")).unwrap();
            symlink("/nowhere", root.join("proc")).unwrap();
            fs::write(root.join("sys"), "no directory").unwrap();
        });
        for path in DIRECTORIES {
            assert!(fs::symlink_metadata(top.path().join("root").join(path)).unwrap().is_dir(), "{path}");
        }
        assert!(!top.path().join("pts").exists());
    }

    #[test]
    fn an_image_made_of_a_container_is_furnished_too() {
        let top = tempfile::tempdir().unwrap();
        let (root, upper) = (top.path().join("root"), top.path().join("upper"));
        for dir in [&root, &upper] {
            fs::create_dir(dir).unwrap();
        }
        fs::write(root.join(MARK), "of another container").unwrap();
        furnish(&root, &upper, &IdMaps::default(), "").unwrap();
        assert!(root.join("proc").is_dir());
        assert_eq!(fs::read(root.join(MARK)).unwrap(), b"");
    }

    #[test]
    fn what_a_user_takes_away_later_stays_away() {
        let top = furnished(|_| ());
        let root = top.path().join("root");
        fs::remove_file(root.join("etc/mtab")).unwrap();
        furnish(&root, &root, &IdMaps::default(), "").unwrap();
        assert!(fs::symlink_metadata(root.join("etc/mtab")).is_err());
    }

    #[test]
    fn only_what_was_made_and_is_as_it_was_made_is_ours() {
        let top = furnished(|_| ());
        let root = top.path().join("root");
        let ours = |path: &str| is_ours(path.as_bytes(), &rustix::fs::lstat(root.join(path)).unwrap());
        for path in DIRECTORIES.iter().chain(&FILES).chain(&[MTAB, "dev"]) {
            assert!(ours(path), "{path}");
        }
        assert_eq!(size(&root), 12);
        fs::create_dir(root.join("dev/mqueue")).unwrap();
        fs::create_dir(root.join("sbin")).unwrap();
        fs::write(root.join("sbin/docker-init"), "").unwrap();
        assert!(ours("dev/mqueue") && ours("sbin/docker-init"));
        fs::write(root.join("etc/hosts"), "x").unwrap();
        fs::remove_file(root.join(MTAB)).unwrap();
        symlink("/elsewhere", root.join(MTAB)).unwrap();
        fs::write(root.join("etc/fstab"), "").unwrap();
        symlink(MTAB_TARGET, root.join("etc/link")).unwrap();
        for path in ["etc/hosts", MTAB, "etc/fstab", "etc/link", "app", "etc"] {
            assert!(!ours(path), "{path}");
        }
        assert_eq!(size(&root), 0);
        fs::remove_file(root.join(MTAB)).unwrap();
        fs::write(root.join(MTAB), "/proc/mounts").unwrap();
        assert!(!ours(MTAB));
        assert_eq!(size(&root), 0);
    }
}
