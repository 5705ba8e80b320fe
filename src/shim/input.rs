//! The shim's end of a process's standard input.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::client::set_nonblocking;
use super::poll::{Poller, Token};

/// Input that waits for the process; while there is any, no more is read from clients.
pub struct Input {
    fd: OwnedFd,
    token: Token,
    pending: Vec<u8>,
    written: usize,
    watched: bool,
    ending: bool,
    broken: bool,
}

impl Input {
    pub fn new(fd: OwnedFd, token: Token, poller: &Poller) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        poller.add(&fd, token, EpollFlags::empty())?;
        Ok(Self { fd, token, pending: Vec::new(), written: 0, watched: false, ending: false, broken: false })
    }

    /// Gives bytes to the process; keeps what it does not take now.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.ending || self.broken {
            return;
        }
        self.pending.extend_from_slice(bytes);
        self.flush();
    }

    /// Writes what waits, as far as the process takes it.
    pub fn flush(&mut self) {
        while self.written < self.pending.len() && !self.broken {
            match nix::unistd::write(&self.fd, &self.pending[self.written..]) {
                Ok(count) => self.written += count,
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // The process has closed its input; a terminal whose processes are gone.
                Err(_) => self.broken = true,
            }
        }
        self.pending = Vec::new();
        self.written = 0;
    }

    /// Takes no more; is over once what waits is written.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// True if the descriptor can be closed.
    pub fn is_over(&self) -> bool {
        self.broken || (self.ending && self.pending.is_empty())
    }

    /// True if bytes wait for the process.
    pub fn is_full(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Watches for room if there is something to write.
    pub fn watch(&mut self, poller: &Poller) {
        if self.is_full() != self.watched {
            self.watched = self.is_full();
            let interest = if self.watched { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            poller.modify(&self.fd, self.token, interest);
        }
    }

    /// Closes the process's input.
    pub fn close(self, poller: &Poller) {
        poller.remove(&self.fd);
    }
}
