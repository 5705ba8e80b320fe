//! Processes held by descriptor, so that a number reused by another process is never signalled (pidfd_open(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A process, alive or not.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Holds the process that has the number `pid` now.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: a plain system call without pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sends a signal; `NotFound` if the process has been reaped.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let info: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: a null siginfo asks the kernel for what kill(2) sends.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, info, 0) };
        if sent == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ESRCH) => Err(io::ErrorKind::NotFound.into()),
            e => Err(e),
        }
    }

    /// Waits until the process has ended; it is still to be reaped by its parent. Needs a tokio runtime.
    pub async fn ended(self) -> io::Result<()> {
        let interest = tokio::io::Interest::READABLE;
        // SAFETY: `self` owns its descriptor, gives out nothing else, and does not change while it is registered.
        let process = unsafe { tokio::io::unix::AsyncFd::register_with_interest(self, interest) }?;
        process.readable().await.map(drop)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// When a process began, in clock ticks since boot (proc(5), stat field 22); with the number it names a process for
/// good. `None` if there is no such process.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may contain anything, also parentheses.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start_time() {
        let own = std::process::id() as i32;
        assert!(start_time(own).unwrap() > 0);
        assert_eq!(start_time(i32::MAX), None);
        PidFd::open(own).unwrap().signal(0).unwrap();
    }
}
