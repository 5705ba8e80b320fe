//! One UDP port: each client gets a socket of its own towards the container, by which answers find their way back.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use super::super::poll::{Poller, Token};
use super::{CHUNK, PORT, TURN};

/// Clients that are remembered at once; the one that was silent the longest makes room.
const MAX_CLIENTS: usize = 512;
/// How long a silent client is remembered: twice what the kernel's connection tracking grants one that sends only.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct Port {
    id: u32,
    socket: UdpSocket,
    to: SocketAddr,
    /// By the number of their token.
    clients: BTreeMap<u16, Client>,
    last: u16,
}

struct Client {
    address: SocketAddr,
    container: UdpSocket,
    heard: Instant,
}

impl Port {
    pub fn new(id: u32, socket: UdpSocket, to: SocketAddr) -> Self {
        Self { id, socket, to, clients: BTreeMap::new(), last: PORT }
    }

    /// Carries datagrams. One that cannot be delivered is lost, as datagrams are.
    pub fn ready(&mut self, which: u16, poller: &Poller) {
        let mut datagram = [0; CHUNK];
        for _ in 0..TURN {
            let carried = match which {
                PORT => self.carry_in(&mut datagram, poller),
                client => self.carry_out(client, &mut datagram),
            };
            if carried.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
        }
    }

    fn carry_in(&mut self, datagram: &mut [u8], poller: &Poller) -> io::Result<()> {
        let (length, address) = self.socket.recv_from(datagram)?;
        let known = self.clients.values_mut().find(|client| client.address == address);
        let client = match known {
            Some(client) => client,
            None => self.remember(address, poller)?,
        };
        client.heard = Instant::now();
        // A container whose buffer is full loses this one.
        let _ = client.container.send(&datagram[..length]);
        Ok(())
    }

    fn carry_out(&mut self, which: u16, datagram: &mut [u8]) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&which) else { return Err(io::ErrorKind::WouldBlock.into()) };
        let length = client.container.recv(datagram)?;
        client.heard = Instant::now();
        let _ = self.socket.send_to(&datagram[..length], client.address);
        Ok(())
    }

    fn remember(&mut self, address: SocketAddr, poller: &Poller) -> io::Result<&mut Client> {
        self.forget(poller);
        let any: IpAddr = match self.to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let failed = |error: io::Error| match error.kind() {
            // Not to be taken for an empty queue.
            io::ErrorKind::WouldBlock => io::ErrorKind::Other.into(),
            _ => error,
        };
        let container = UdpSocket::bind((any, 0)).map_err(failed)?;
        container.connect(self.to)?;
        container.set_nonblocking(true)?;
        let free = |number: &u16| *number != PORT && !self.clients.contains_key(number);
        let number = std::iter::successors(Some(self.last.wrapping_add(1)), |n| Some(n.wrapping_add(1)))
            .find(free)
            .unwrap_or(1);
        self.last = number;
        poller.add(&container, Token::Relay(self.id, number), EpollFlags::EPOLLIN)?;
        Ok(self.clients.entry(number).or_insert(Client { address, container, heard: Instant::now() }))
    }

    /// Makes room for one more client.
    fn forget(&mut self, poller: &Poller) {
        let surplus = (self.clients.len() + 1).saturating_sub(MAX_CLIENTS);
        let mut by_age: Vec<_> =
            self.clients.iter().map(|(number, client)| (client.heard, *number)).collect();
        by_age.sort();
        let idle = by_age.iter().take_while(|(heard, _)| heard.elapsed() > IDLE).count();
        for (_, number) in by_age.into_iter().take(idle.max(surplus)) {
            if let Some(client) = self.clients.remove(&number) {
                poller.remove(&client.container);
            }
        }
    }

    pub fn close(&self, poller: &Poller) {
        poller.remove(&self.socket);
        self.clients.values().for_each(|client| poller.remove(&client.container));
    }
}
