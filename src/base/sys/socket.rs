//! What the kernel knows about a socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many written bytes have not arrived: on a Unix socket what the peer has not read (with the kernel's own
/// overhead), on TCP what is not acknowledged (unix(7), tcp(7): SIOCOUTQ).
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (the number of SIOCOUTQ) writes one int, which `bytes` is; the descriptor is borrowed and open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}
