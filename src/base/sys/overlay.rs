//! Overlay mounts (kernel documentation, filesystems/overlayfs.rst).
//!
//! The new mount API takes layers one by one (`lowerdir+`, Linux 6.7), so neither their count nor the length of their
//! paths meets a limit below the kernel's 500 layers. Older kernels take one page of options from mount(2): there the
//! layers are named by the numbers of descriptors, relative to /proc/self/fd.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{self, Mode, OFlags};
use rustix::mount::{self, MountFlags};

use super::mount::{attach, create_detached, open_file_system};
use super::root_fs::proc_path;

/// fsconfig(2) takes strings of up to 255 bytes.
const MAX_STRING: usize = 255;

/// The directories of an overlay mount.
#[derive(Debug, Clone)]
pub struct Overlay<'a> {
    /// Read-only layers, the base first; at least one, and two where nothing can be changed.
    pub layers: &'a [PathBuf],
    /// Where changes go; without it the mount is read-only.
    pub upper: Option<Upper<'a>>,
}

/// The writable part of an overlay.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a> {
    /// Where changes go; on the same file system as `work`.
    pub dir: &'a Path,
    /// The kernel's working directory.
    pub work: &'a Path,
    /// What happens to changes at a power cut.
    pub durability: Durability,
}

/// What an overlay does when a file is synced, and when it is unmounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// fsync(2) reaches the disk, and unmounting syncs the whole file system below.
    #[default]
    Synced,
    /// Nothing is synced (`volatile`): for changes that nobody wants to see again after a power cut. The kernel
    /// refuses to mount the same upper directory again until `work/work/incompat` is removed.
    Volatile,
}

impl Overlay<'_> {
    /// Mounts at `target`.
    pub fn mount(&self, target: &Path) -> io::Result<()> {
        match self.detached() {
            Ok(detached) => attach(detached, target),
            Err(e) if lacks_layer_option(&e) => self.mount_with_one_page(target),
            Err(e) => Err(e),
        }
    }

    fn detached(&self) -> io::Result<OwnedFd> {
        let context = open_file_system("overlay")?;
        let mut long = Vec::new();
        let mut set = |key: &str, path: &Path| -> io::Result<()> {
            if path.as_os_str().len() <= MAX_STRING {
                return Ok(mount::fsconfig_set_string(context.as_fd(), key, path)?);
            }
            let fd = handle(path)?;
            mount::fsconfig_set_string(context.as_fd(), key, proc_path(&fd))?;
            long.push(fd);
            Ok(())
        };
        // The first one given is the topmost.
        for layer in self.layers.iter().rev() {
            set("lowerdir+", layer)?;
        }
        if let Some(upper) = &self.upper {
            set("upperdir", upper.dir)?;
            set("workdir", upper.work)?;
        }
        for (key, value) in self.options() {
            mount::fsconfig_set_string(context.as_fd(), key, value)?;
        }
        if self.is_volatile() {
            mount::fsconfig_set_flag(context.as_fd(), "volatile")?;
        }
        // Shown as the source in mount tables; "none" otherwise.
        mount::fsconfig_set_string(context.as_fd(), "source", "overlay")?;
        create_detached(&context)
    }

    /// `index=off`: a lower layer is in many mounts, and an index in the upper directory would tie it to one of them.
    /// `redirect_dir=off`, `metacopy=off`: the upper directory alone is a container's change, readable as a plain
    /// tree, and nothing in it refers to paths elsewhere; so whatever a kernel's defaults are.
    fn options(&self) -> [(&'static str, &'static str); 3] {
        [("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")]
    }

    fn is_volatile(&self) -> bool {
        self.upper.is_some_and(|upper| upper.durability == Durability::Volatile)
    }

    /// By mount(2) for kernels before 6.7.
    fn mount_with_one_page(&self, target: &Path) -> io::Result<()> {
        let layers = self.layers.iter().rev().map(|layer| handle(layer)).collect::<io::Result<Vec<_>>>()?;
        let names: Vec<String> = layers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let mut options = format!("lowerdir={}", names.join(":"));
        let upper = self.upper.map(|upper| Ok::<_, io::Error>((handle(upper.dir)?, handle(upper.work)?)));
        // Open until the mount is made.
        let upper = upper.transpose()?;
        if let Some((dir, work)) = &upper {
            options.push_str(&format!(",upperdir={},workdir={}", dir.as_raw_fd(), work.as_raw_fd()));
        }
        for (key, value) in self.options() {
            options.push_str(&format!(",{key}={value}"));
        }
        if self.is_volatile() {
            options.push_str(",volatile");
        }
        let options = CString::new(options)?;
        let target = std::path::absolute(target)?;
        // A thread with a working directory of its own: the numbers are relative paths.
        let mounted = std::thread::scope(|scope| scope.spawn(|| mount_in_fd_dir(&target, &options)).join());
        mounted.unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    }
}

fn mount_in_fd_dir(target: &Path, options: &CString) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    // Not /proc/self/fd: the same, but it says that threads share descriptors.
    std::env::set_current_dir(format!("/proc/{}/fd", std::process::id()))?;
    Ok(mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())?)
}

fn handle(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// `lowerdir+` is EINVAL to kernels from 6.5 on that lack it; before, each option is taken and the path is wrong.
fn lacks_layer_option(error: &io::Error) -> bool {
    let supported = kernel_version().is_none_or(|version| version >= (6, 7));
    !supported && error.raw_os_error() != Some(libc::EPERM)
}

fn kernel_version() -> Option<(u32, u32)> {
    let name = nix::sys::utsname::uname().ok()?;
    version(name.release())
}

fn version(release: &OsStr) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(release.as_bytes()).ok()?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_hundred_layers_fit_in_the_one_page_of_older_kernels() {
        let mount = || {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).expect("this test needs root");
            let private = super::super::mount::MountPropagationFlags::PRIVATE;
            let all = super::super::mount::MountPropagationFlags::REC;
            super::super::mount::set_propagation(Path::new("/"), private | all).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            let layers: Vec<PathBuf> = (0..127).map(|n| path(&format!("{}{n}", "long".repeat(20)))).collect();
            for made in layers.iter().chain([&path("upper"), &path("work"), &path("target")]) {
                std::fs::create_dir(made).unwrap();
            }
            std::fs::write(layers[3].join("same"), "3").unwrap();
            std::fs::write(layers[4].join("same"), "4").unwrap();
            let (dir, work) = (path("upper"), path("work"));
            let upper = Upper { dir: &dir, work: &work, durability: Durability::Volatile };
            for upper in [Some(upper), None] {
                let overlay = Overlay { layers: &layers, upper };
                overlay.mount_with_one_page(&path("target")).unwrap();
                assert_eq!(std::fs::read(path("target").join("same")).unwrap(), b"4");
                assert_eq!(std::fs::write(path("target").join("new"), "").is_ok(), upper.is_some());
                super::super::mount::unmount(&path("target"), super::super::mount::Unmount::Plain).unwrap();
            }
        };
        std::thread::scope(|scope| scope.spawn(mount).join()).unwrap();
    }

    #[test]
    fn kernel_releases_are_compared_by_their_first_two_numbers() {
        for (release, expected) in [("6.18.44-fc", Some((6, 18))), ("6.7-rc1", Some((6, 7))), ("x", None)] {
            assert_eq!(version(OsStr::new(release)), expected, "{release}");
        }
    }
}
