//! A daemon's connection to the shim. Nothing here waits: what the daemon does not read is kept for it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::client::set_nonblocking;
use super::poll::{Poller, Token};
use crate::base::sys::fdpass;
use crate::runtime::protocol::{self, Frames, Message};

/// One connection.
pub struct Connection {
    fd: OwnedFd,
    token: Token,
    frames: Frames,
    out: Vec<u8>,
    /// Whether the daemon is waited for to make room.
    is_behind: bool,
}

/// A request as it came: JSON and descriptors.
pub type Frame = (Vec<u8>, Vec<OwnedFd>);

impl Connection {
    /// Begins to watch the connection.
    pub fn new(fd: OwnedFd, token: Token, poller: &Poller) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        poller.add(&fd, token, EpollFlags::EPOLLIN)?;
        Ok(Self { fd, token, frames: Frames::default(), out: Vec::new(), is_behind: false })
    }

    /// Reads what is there; an error means that the connection is of no use any more.
    pub fn receive(&mut self) -> io::Result<Vec<Frame>> {
        let mut buffer = [0; 4096];
        let mut whole = Vec::new();
        loop {
            match fdpass::receive(self.fd.as_fd(), &mut buffer, &mut self.frames.fds) {
                Ok(0) if whole.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => return Ok(whole),
                Ok(count) => self.frames.push(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(whole),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            while let Some(frame) = self.frames.pop().map_err(io::Error::other)? {
                whole.push(frame);
            }
        }
    }

    /// Sends a message, or keeps it until there is room.
    pub fn send(&mut self, message: &Message, poller: &Poller) -> io::Result<()> {
        self.out.extend(protocol::encode(message, 0));
        self.flush(poller)
    }

    /// Writes what waits, as far as there is room.
    pub fn flush(&mut self, poller: &Poller) -> io::Result<()> {
        while !self.out.is_empty() {
            match fdpass::send(self.fd.as_fd(), &self.out, &[]) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(e) if e.raw_os_error() == Some(Errno::EAGAIN as i32) => break,
                Err(e) => return Err(e),
            }
        }
        let is_behind = !self.out.is_empty();
        if is_behind != self.is_behind {
            self.is_behind = is_behind;
            let more = if is_behind { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            poller.modify(&self.fd, self.token, EpollFlags::EPOLLIN | more);
        }
        Ok(())
    }

    /// Ends the connection.
    pub fn close(self, poller: &Poller) {
        poller.remove(&self.fd);
    }
}
