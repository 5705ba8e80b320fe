//! One TCP connection, carried between a client and the container with half-closes as they come.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use super::super::poll::{Poller, Token};
use super::{CHUNK, TURN};

/// The connection's ends, by the number of their token.
const CLIENT: usize = 0;
const CONTAINER: usize = 1;

/// Whether there is anything left to carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Open,
    Over,
}

pub(super) struct Connection {
    id: u32,
    ends: [End; 2],
    /// False until the container has accepted.
    connected: bool,
}

struct End {
    stream: TcpStream,
    /// What the other end sent and this one has not taken.
    pending: Vec<u8>,
    /// It has sent its last byte.
    ended: bool,
    /// It has been told that there is no more for it.
    shut: bool,
}

impl Connection {
    /// Begins to connect a client to the container.
    pub fn open(id: u32, client: TcpStream, to: SocketAddr, poller: &Poller) -> io::Result<Self> {
        client.set_nonblocking(true)?;
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let container = socket(family, SockType::Stream, flags, None)?;
        match connect(container.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ends = [client, TcpStream::from(container)].map(|stream| {
            // Who sends small pieces has asked for it at its own end.
            let _ = stream.set_nodelay(true);
            End { stream, pending: Vec::new(), ended: false, shut: false }
        });
        let connection = Self { id, ends, connected: false };
        poller.add(&connection.ends[CLIENT].stream, connection.token(CLIENT), EpollFlags::empty())?;
        poller.add(&connection.ends[CONTAINER].stream, connection.token(CONTAINER), EpollFlags::EPOLLOUT)?;
        Ok(connection)
    }

    fn token(&self, end: usize) -> Token {
        Token::Relay(self.id, end as u16 + 1)
    }

    /// Carries what there is.
    pub fn ready(&mut self, which: u16, flags: EpollFlags, poller: &Poller) -> State {
        let end = usize::from(which != CLIENT as u16 + 1);
        self.connected |= end == CONTAINER && !flags.contains(EpollFlags::EPOLLERR);
        if !self.connected {
            return State::Over;
        }
        let carried = self.carry(CLIENT, CONTAINER).and_then(|()| self.carry(CONTAINER, CLIENT));
        if carried.is_err() || self.ends.iter().all(|end| end.shut) {
            return State::Over;
        }
        if flags.contains(EpollFlags::EPOLLHUP) {
            // Told over and over, while only the other end has something to do.
            poller.remove(&self.ends[end].stream);
        }
        for (this, other) in [(CLIENT, CONTAINER), (CONTAINER, CLIENT)] {
            let mut interest = EpollFlags::empty();
            interest.set(EpollFlags::EPOLLIN, self.ends[other].pending.is_empty() && !self.ends[this].ended);
            interest.set(EpollFlags::EPOLLOUT, !self.ends[this].pending.is_empty());
            poller.modify(&self.ends[this].stream, self.token(this), interest);
        }
        State::Open
    }

    fn carry(&mut self, from: usize, to: usize) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        for _ in 0..TURN {
            if !self.ends[to].flush()? {
                return Ok(());
            }
            if self.ends[from].ended {
                return Ok(());
            }
            match self.ends[from].stream.read(&mut chunk) {
                Ok(0) => {
                    self.ends[from].ended = true;
                    return self.ends[to].shut();
                }
                Ok(count) => self.ends[to].pending.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub fn close(&self, poller: &Poller) {
        self.ends.iter().for_each(|end| poller.remove(&end.stream));
    }
}

impl End {
    /// Writes what is pending; true if all of it was taken.
    fn flush(&mut self) -> io::Result<bool> {
        let mut written = 0;
        while written < self.pending.len() {
            match self.stream.write(&self.pending[written..]) {
                Ok(count) => written += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.pending.drain(..written);
        if self.pending.is_empty() {
            // Most connections rest most of the time.
            self.pending = Vec::new();
        }
        Ok(self.pending.is_empty())
    }

    fn shut(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.shut, true) {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}
