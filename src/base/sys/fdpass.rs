//! Descriptors passed over Unix sockets (unix(7), `SCM_RIGHTS`).
//!
//! The kernel keeps descriptors in the order of the bytes they were sent with, so a receiver queues them and a frame
//! that says how many belong to it takes them from the front.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// The most descriptors that one message may carry (`SCM_MAX_FD` of the kernel).
pub const MAX_FDS: usize = 253;

/// Sends the beginning of `bytes` and all of `fds` with its first byte; returns how many bytes went. Errors of kind
/// `WouldBlock` have sent nothing.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[_] = if raw.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)?)
}

/// Reads into `bytes` and appends received descriptors, close-on-exec, to `fds`. 0 is the end of the stream.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], fds: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_in_the_order_of_their_bytes() {
        let (a, b) = UnixStream::pair().unwrap();
        let file = File::open("/proc/self/comm").unwrap();
        let null = File::open("/dev/null").unwrap();
        assert_eq!(send(a.as_fd(), b"xy", &[]).unwrap(), 2);
        assert_eq!(send(a.as_fd(), b"one", &[file.as_fd(), null.as_fd()]).unwrap(), 3);
        drop(a);
        let (mut fds, mut got, mut buffer) = (VecDeque::new(), Vec::new(), [0; 64]);
        loop {
            match receive(b.as_fd(), &mut buffer, &mut fds).unwrap() {
                0 => break,
                n => got.extend_from_slice(&buffer[..n]),
            }
        }
        assert_eq!(got, b"xyone");
        assert_eq!(fds.len(), 2);
        let mut text = String::new();
        File::from(fds.pop_front().unwrap()).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
    }
}
