//! Published ports of an IP version that the container does not have: the packet filter cannot translate between
//! versions, so the shim carries what comes there to the container itself. Such clients appear in the container under
//! the host's address; all others are served by the packet filter and never come here.

mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{SockType, SockaddrStorage, getsockname, getsockopt, sockopt};

use super::poll::{Poller, Token};
use super::report;
use crate::runtime::protocol::{Relay, RelayProtocol};

/// Bytes carried at once.
const CHUNK: usize = 64 * 1024;
/// How many chunks or datagrams are carried in one direction before others have their turn.
const TURN: usize = 16;
/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Which part of a [`Token::Relay`] is the port's own socket.
const PORT: u16 = 0;

/// All that is carried for a container.
#[derive(Default)]
pub(super) struct Relays {
    parts: BTreeMap<u32, Part>,
    next: u32,
    /// True while no more connections are accepted.
    full: bool,
}

enum Part {
    Listener { socket: TcpListener, to: SocketAddr },
    Connection(Box<tcp::Connection>),
    Datagrams(udp::Port),
}

impl Relays {
    /// Begins to serve `wanted`. The ports' sockets are among `held`, from where they are taken.
    pub fn serve(&mut self, wanted: &[Relay], held: &mut Vec<OwnedFd>, poller: &Poller) -> io::Result<()> {
        for relay in wanted {
            let Some(at) = held.iter().position(|socket| is_bound(socket, relay)) else {
                return Err(io::Error::other(format!("no socket holds {}", relay.host)));
            };
            self.add(held.swap_remove(at), relay, poller)?;
        }
        Ok(())
    }

    fn add(&mut self, socket: OwnedFd, relay: &Relay, poller: &Poller) -> io::Result<()> {
        let id = self.number();
        poller.add(&socket, Token::Relay(id, PORT), EpollFlags::EPOLLIN)?;
        let part = match relay.protocol {
            RelayProtocol::Tcp => {
                let socket = TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                Part::Listener { socket, to: relay.container }
            }
            RelayProtocol::Udp => {
                let socket = UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                Part::Datagrams(udp::Port::new(id, socket, relay.container))
            }
        };
        self.parts.insert(id, part);
        Ok(())
    }

    fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Something can be carried.
    pub fn ready(&mut self, id: u32, which: u16, flags: EpollFlags, poller: &Poller) {
        match self.parts.get_mut(&id) {
            Some(Part::Listener { .. }) => self.accept(id, poller),
            Some(Part::Datagrams(port)) => port.ready(which, poller),
            Some(Part::Connection(connection)) => match connection.ready(which, flags, poller) {
                tcp::State::Open => {}
                tcp::State::Over => {
                    connection.close(poller);
                    self.parts.remove(&id);
                    self.pause(false, poller);
                }
            },
            None => {}
        }
    }

    fn accept(&mut self, id: u32, poller: &Poller) {
        for _ in 0..TURN {
            if self.parts.len() >= MAX_CONNECTIONS {
                return self.pause(true, poller);
            }
            let Some(Part::Listener { socket, to }) = self.parts.get(&id) else { return };
            let (client, to) = match socket.accept() {
                Ok((client, _)) => (client, *to),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // Out of descriptors: it would be told over and over.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    return self.pause(true, poller);
                }
                // This client is gone already.
                Err(_) => continue,
            };
            let number = self.number();
            match tcp::Connection::open(number, client, to, poller) {
                Ok(connection) => _ = self.parts.insert(number, Part::Connection(Box::new(connection))),
                Err(error) => report::complain(&format!("shim: a connection to {to} failed: {error}")),
            }
        }
    }

    /// Stops accepting, or takes it up again.
    fn pause(&mut self, full: bool, poller: &Poller) {
        if std::mem::replace(&mut self.full, full) == full {
            return;
        }
        let interest = if full { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        for (id, part) in &self.parts {
            if let Part::Listener { socket, .. } = part {
                poller.modify(socket, Token::Relay(*id, PORT), interest);
            }
        }
    }

    /// Ends everything.
    pub fn close(&mut self, poller: &Poller) {
        for part in std::mem::take(&mut self.parts).into_values() {
            match part {
                Part::Listener { socket, .. } => poller.remove(&socket),
                Part::Connection(connection) => connection.close(poller),
                Part::Datagrams(port) => port.close(poller),
            }
        }
    }
}

fn is_bound(socket: &OwnedFd, relay: &Relay) -> bool {
    use std::os::fd::AsRawFd;
    let kind = match relay.protocol {
        RelayProtocol::Tcp => SockType::Stream,
        RelayProtocol::Udp => SockType::Datagram,
    };
    let name = getsockname::<SockaddrStorage>(socket.as_raw_fd());
    getsockopt(socket, sockopt::SockType).is_ok_and(|found| found == kind)
        && name.is_ok_and(|name| name == SockaddrStorage::from(relay.host))
}

#[cfg(test)]
mod tests;
