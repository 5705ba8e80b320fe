//! Forked helpers of the shim: what changes its caller's attributes runs in one and leaves no memory behind.

use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::report::complain;

/// Exit status of a helper that panicked.
const PANICKED: i32 = 70;

/// Runs `body` in a child with no descriptors but 0 to 2 and `keep`; returns the child's process id.
pub fn fork(keep: &[RawFd], body: impl FnOnce()) -> io::Result<i32> {
    // SAFETY: the shim has one thread, so the child may do whatever the parent may.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid > 0 {
        return Ok(pid);
    }
    close_all_but(keep);
    let status = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => 0,
        Err(_) => {
            complain("a helper of the shim panicked");
            PANICKED
        }
    };
    // SAFETY: ends the process without running what belongs to the parent.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor from 3 on except `keep`: what a program could reach through `/proc/self/fd` while it is
/// being started (CVE-2024-21626).
pub fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<_> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep {
        close_range(from, fd - 1);
        from = fd + 1;
    }
    close_range(from, i32::MAX);
}

fn close_range(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: closes descriptors of a process that has just been forked and uses none of them.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}
