//! Network namespaces: made on a thread of their own, kept alive by a bind mount, entered by short-lived threads.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::userns::{self, Of};
use crate::base::missing::missing_is_fine;

/// The calling thread's own namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Makes a namespace, binds it at `path` (created; its directory must exist) and runs `inside` in it. When anything
/// fails nothing of it is left.
///
/// The thread that enters the namespace ends with this call, so no caller's thread ever changes its namespace.
pub fn create<T, F>(path: &Path, inside: F) -> io::Result<T>
where
    T: Send,
    F: FnOnce() -> io::Result<T> + Send,
{
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::create_new(path)?;
        let done = mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(io::Error::from)
            .and_then(|()| inside());
        if done.is_err() {
            let _ = remove(path);
        }
        done
    })
}

/// As [`create`], with a namespace that a user namespace owns, which is bound at `user`.
pub fn create_owned<T, F>(of: Of<'_>, path: &Path, user: &Path, inside: F) -> io::Result<T>
where
    T: Send,
    F: FnOnce() -> io::Result<T> + Send,
{
    userns::pin(of, path, user)?;
    let done = open(path).and_then(|netns| enter(netns, inside));
    if done.is_err() {
        let _ = remove(path);
        let _ = remove(user);
    }
    done
}

/// Runs `inside` in the namespace behind `netns`, on a thread of its own.
pub fn enter<T, F>(netns: impl AsFd + Sync, inside: F) -> io::Result<T>
where
    T: Send,
    F: FnOnce() -> io::Result<T> + Send,
{
    on_own_thread(|| {
        setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
        inside()
    })
}

/// Opens the namespace bound at `path`.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(File::open(path)?.into())
}

/// Opens the calling thread's namespace.
pub fn current() -> io::Result<OwnedFd> {
    open(Path::new(OWN))
}

/// Lets go of the namespace bound at `path`; the kernel tears it down when its last process is gone. A path that
/// does not exist or is no mount is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(e) => return Err(e.into()),
    }
    missing_is_fine(fs::remove_file(path))
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread of a network namespace panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_outlives_its_thread_and_is_gone_once_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ns");
        let ids = |inside: io::Result<String>| inside.unwrap();
        let own = || fs::read_link(OWN).map(|l| l.to_string_lossy().into_owned());
        let made = ids(create(&path, own));
        assert_ne!(made, own().unwrap());
        assert_eq!(ids(enter(open(&path).unwrap(), own)), made);
        assert!(create(&path, own).is_err());
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_failed_set_up_leaves_no_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ns");
        assert!(create(&path, || Err::<(), _>(io::Error::other("no"))).is_err());
        assert!(!path.exists());
    }
}
