//! Descriptors that this process was started with.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// First descriptor that systemd passes (sd_listen_fds(3)).
pub const FIRST: RawFd = 3;

/// Takes the `count` descriptors from [`FIRST`] on, as sd_listen_fds(3) passes them, and keeps them from children.
/// Those that are not open are left out. Call it once, before anything else opens descriptors.
pub fn take(count: usize) -> Vec<OwnedFd> {
    (FIRST..).take(count).filter_map(take_one).collect()
}

fn take_one(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD on a number that is no open descriptor fails with EBADF and does nothing else.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return None;
    }
    // SAFETY: it is open, it was open when the process started (the caller's promise), so nobody else owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    Some(owned)
}
