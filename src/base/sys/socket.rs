//! What the kernel knows about a socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How many written bytes have not arrived: on a Unix socket what the peer has not read (with the kernel's own
/// overhead), on TCP what is not acknowledged (unix(7), tcp(7): SIOCOUTQ).
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (the number of SIOCOUTQ) writes one int, which `bytes` is; the descriptor is borrowed and open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}

/// Ends when the peer of a Unix stream socket has closed it altogether, not just its sending half.
pub async fn hung_up(socket: OwnedFd) -> io::Result<()> {
    // Such sockets have no priority data, and epoll(7) reports a hang-up whatever is asked for; a closed sending half
    // only with readability.
    // SAFETY: the descriptor is owned and stays open until after its registration is dropped with `watched`.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::PRIORITY)? };
    watched.ready(Interest::PRIORITY).await.map(drop)
}
