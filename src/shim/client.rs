//! A client that is connected to a process's streams: what is to be written to it, and how.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use nix::sys::uio::writev;

use super::detach::DetachKeys;
use super::poll::{Poller, Token};
use crate::logs::Stream;
use crate::logs::frame::{self, Channel};
use crate::runtime::protocol::{Framing, Streams};

/// Output that waits for a client before the process has to wait (dockerd's pipes hold 1 MB).
const HIGH_WATER: usize = 256 * 1024;

/// One connection.
pub struct Client {
    pub fd: OwnedFd,
    token: Token,
    streams: Streams,
    keys: DetachKeys,
    /// What the socket had no room for.
    out: Vec<u8>,
    written: usize,
    interest: EpollFlags,
    /// True until the client has closed its sending side, if it is connected to standard input.
    pub sends: bool,
    /// True if nothing more is to be written but what is in `out`.
    ending: bool,
    /// When the last byte was taken by the client; one that takes none is given up at the end.
    pub progress: Instant,
}

impl Client {
    /// Begins to watch the client.
    pub fn new(fd: OwnedFd, mut streams: Streams, token: Token, poller: &Poller) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        poller.add(&fd, token, EpollFlags::empty())?;
        let keys = DetachKeys::new(std::mem::take(&mut streams.detach_keys));
        Ok(Self {
            fd,
            token,
            sends: streams.stdin,
            streams,
            keys,
            out: Vec::new(),
            written: 0,
            interest: EpollFlags::empty(),
            ending: false,
            progress: Instant::now(),
        })
    }

    pub fn keys(&mut self) -> &mut DetachKeys {
        &mut self.keys
    }

    /// Whether the client gets this output.
    pub fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.streams.stdout,
            Stream::Stderr => self.streams.stderr,
        }
    }

    /// True if the process should wait for this client.
    pub fn is_behind(&self) -> bool {
        self.out.len() - self.written >= HIGH_WATER
    }

    /// Sends a piece of output or keeps it until there is room. An error means that the client is gone.
    pub fn send(&mut self, channel: Channel, bytes: &[u8]) -> io::Result<()> {
        if self.ending || bytes.is_empty() {
            return Ok(());
        }
        let header = match self.streams.framing {
            Framing::Multiplexed => Some(frame::header(channel, bytes.len() as u32)),
            Framing::Raw => None,
        };
        let header = header.as_ref().map_or(&[][..], |header| header);
        let mut sent = 0;
        if self.out.is_empty() {
            sent = match writev(&self.fd, &[IoSlice::new(header), IoSlice::new(bytes)]) {
                Ok(count) => count,
                Err(Errno::EAGAIN | Errno::EINTR) => 0,
                Err(e) => return Err(e.into()),
            };
            self.progress = Instant::now();
        }
        let left = header.len().saturating_sub(sent);
        self.out.extend_from_slice(&header[header.len() - left..]);
        self.out.extend_from_slice(&bytes[sent.saturating_sub(header.len())..]);
        Ok(())
    }

    /// Writes what waits, as far as there is room. An error means that the client is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match nix::unistd::write(&self.fd, &self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
            self.progress = Instant::now();
        }
        self.out = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// Nothing more will be sent; the connection is to be closed once what waits is written.
    pub fn end(&mut self) {
        self.ending = true;
        self.sends = false;
    }

    /// True if the connection can be closed.
    pub fn is_over(&self) -> bool {
        self.ending && self.out.is_empty()
    }

    /// Watches for what can be dealt with now. `reads` is whether input can be taken.
    pub fn watch(&mut self, poller: &Poller, reads: Reads) {
        let mut interest = EpollFlags::empty();
        if self.sends && reads == Reads::Now {
            interest |= EpollFlags::EPOLLIN;
        }
        if !self.out.is_empty() {
            interest |= EpollFlags::EPOLLOUT;
        }
        if interest != self.interest {
            poller.modify(&self.fd, self.token, interest);
            self.interest = interest;
        }
    }

    /// Closes the connection so that the client reads everything that was sent: what it sent itself and nobody read
    /// would turn the end of the stream into a reset.
    pub fn close(self, poller: &Poller) {
        poller.remove(&self.fd);
        let mut scrap = [0; 4096];
        for _ in 0..64 {
            match recv(self.fd.as_raw_fd(), &mut scrap, MsgFlags::MSG_DONTWAIT) {
                Ok(count) if count > 0 => {}
                _ => break,
            }
        }
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }
}

/// Whether the process takes input at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    Now,
    Later,
}

/// Makes reads and writes return instead of waiting.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
