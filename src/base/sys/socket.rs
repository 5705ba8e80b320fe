//! What the kernel knows about a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::MsgFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};

/// How many written bytes have not arrived: on a Unix socket what the peer has not read (with the kernel's own
/// overhead), on TCP what is not acknowledged (unix(7), tcp(7): SIOCOUTQ).
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (the number of SIOCOUTQ) writes one int, which `bytes` is; the descriptor is borrowed and open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}

/// Ends when the peer of a Unix stream socket has closed it altogether, not just its sending half.
pub async fn hung_up(socket: impl AsRawFd) -> io::Result<()> {
    // Such sockets have no priority data, and epoll(7) reports a hang-up whatever is asked for; a closed sending half
    // only with readability.
    // SAFETY: the descriptor is owned and stays open until after its registration is dropped with `watched`.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::PRIORITY)? };
    watched.ready(Interest::PRIORITY).await.map(drop)
}

/// Whether the peer has closed its socket altogether (poll(2), POLLHUP), not just its sending half.
pub fn is_hung_up(socket: &OwnedFd) -> bool {
    let mut watched = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::empty())];
    let ready = nix::poll::poll(&mut watched, nix::poll::PollTimeout::ZERO);
    let gone = nix::poll::PollFlags::POLLHUP | nix::poll::PollFlags::POLLERR;
    ready.is_ok_and(|count| count > 0) && watched[0].revents().is_some_and(|events| events.intersects(gone))
}

/// Takes what the socket has, as much as there is room for (recv(2)).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
    loop {
        // SAFETY: only what is filled below counts as initialised.
        let room = unsafe { buffer.unfilled_mut() };
        match rustix::io::read(socket, room) {
            Ok((filled, _)) => {
                let length = filled.len();
                // SAFETY: the kernel has written that much.
                unsafe { buffer.assume_init(length) };
                buffer.advance(length);
                return Ok(());
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes all of `bytes` to a socket in whatever mode. A peer that does not read keeps only the caller waiting.
pub async fn write_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for longer than `watched` lives.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::WRITABLE)? };
    while !bytes.is_empty() {
        let written = watched.async_io(Interest::WRITABLE, |socket| send(socket.as_fd(), bytes)).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    loop {
        match nix::sys::socket::send(socket.as_raw_fd(), bytes, flags) {
            Err(nix::errno::Errno::EINTR) => {}
            sent => return Ok(sent?),
        }
    }
}
