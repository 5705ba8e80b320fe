//! User namespaces that are made before their first process: bound at a path as network namespaces are, so that
//! whoever joins them later finds a network namespace that they own already, with interfaces in it.
//!
//! A process with threads can neither make nor enter a user namespace, so a copy of it does, which runs nothing but a
//! few system calls and ends with the call that made it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::netns;
use crate::base::id_map::IdMaps;

/// Which user namespace owns what is made.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    /// A new one with these ids.
    New(&'a IdMaps),
    /// The one at this path.
    Existing(&'a Path),
}

/// Makes a network namespace that the user namespace owns, and binds them at `network` and `user`, new files in
/// directories that exist. When anything fails nothing of either is left.
pub fn pin(of: Of<'_>, network: &Path, user: &Path) -> io::Result<()> {
    let existing = match of {
        Of::New(_) => None,
        Of::Existing(path) => Some(OwnedFd::from(File::open(path)?)),
    };
    let holder = Holder::start(existing.as_ref())?;
    if let Of::New(maps) = of {
        fs::write(holder.file("uid_map"), maps.users.to_proc())?;
        fs::write(holder.file("gid_map"), maps.groups.to_proc())?;
    }
    bind(&holder.file("ns/net"), network)?;
    bind(&holder.file("ns/user"), user).inspect_err(|_| {
        let _ = netns::remove(network);
    })
}

/// What is at `path` already stays.
fn bind(namespace: &str, path: &Path) -> io::Result<()> {
    File::create_new(path)?;
    let bound = mount(Some(namespace), path, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bound.map_err(|errno| {
        let _ = fs::remove_file(path);
        errno.into()
    })
}

/// A process in the namespaces; it ends when this is dropped, or with the thread that made it.
struct Holder(Pid);

impl Holder {
    fn start(existing: Option<&OwnedFd>) -> io::Result<Self> {
        let (mut reader, writer) = io::pipe()?;
        let namespaces = if existing.is_some() { 0 } else { libc::CLONE_NEWUSER | libc::CLONE_NEWNET };
        // What the child needs is made before: it must not allocate, since other threads may hold the allocator's lock.
        let join = existing.map(AsRawFd::as_raw_fd);
        let told = writer.as_raw_fd();
        // SAFETY: as fork(2); the child makes system calls only and never returns.
        let pid = unsafe { libc::syscall(libc::SYS_clone, namespaces | libc::SIGCHLD, 0, 0, 0, 0) };
        match pid {
            -1 => return Err(io::Error::last_os_error()),
            0 => hold(join, told),
            _ => {}
        }
        drop(writer);
        let holder = Self(Pid::from_raw(pid as i32));
        let mut errno = [0; 4];
        // It also ends without a word when this process's other threads are killed.
        reader.read_exact(&mut errno)?;
        match i32::from_ne_bytes(errno) {
            0 => Ok(holder),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It is not reaped yet, so the number is still its own.
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// The child: enters the namespaces if they are not new, says how that went, and waits for its end.
fn hold(join: Option<RawFd>, told: RawFd) -> ! {
    // SAFETY: system calls on numbers and on a buffer of this frame.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // It has this process's descriptors, which nobody in the namespace may get at by tracing it.
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        let entered = match join {
            Some(fd) => libc::setns(fd, libc::CLONE_NEWUSER) == 0 && libc::unshare(libc::CLONE_NEWNET) == 0,
            None => true,
        };
        let errno = if entered { 0 } else { *libc::__errno_location() };
        libc::write(told, (&raw const errno).cast(), 4);
        loop {
            libc::pause();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id_map::IdMap;

    fn namespace(fd: &OwnedFd) -> u64 {
        nix::sys::stat::fstat(fd).unwrap().st_ino
    }

    #[test]
    fn a_network_belongs_to_the_user_namespace_it_was_made_with() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let map = IdMap::of(&[(100_000, 65_536)]).unwrap();
        let maps = IdMaps { users: map.clone(), groups: map };
        pin(Of::New(&maps), &at("net"), &at("user")).unwrap();
        pin(Of::Existing(&at("user")), &at("net2"), &at("user2")).unwrap();
        assert!(pin(Of::New(&maps), &at("net"), &at("other")).is_err());
        assert!(pin(Of::Existing(&at("net")), &at("net3"), &at("user3")).is_err());
        let id = |name: &str| namespace(&netns::open(&at(name)).unwrap());
        assert_eq!(id("user"), id("user2"));
        assert_ne!(id("net"), id("net2"));
        for name in ["net", "net2"] {
            // NS_GET_USERNS (ioctl_ns(2)).
            let net = File::open(at(name)).unwrap();
            // SAFETY: an ioctl without arguments that gives a new descriptor.
            let owner = unsafe { libc::ioctl(net.as_raw_fd(), 0xb701) };
            assert!(owner >= 0);
            // SAFETY: the kernel has just made it for us.
            let owner: OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(owner) };
            assert_eq!(namespace(&owner), id("user"));
        }
        for name in ["net", "user", "net2", "user2", "net3", "other"] {
            netns::remove(&at(name)).unwrap();
            assert!(!at(name).exists());
        }
    }
}
