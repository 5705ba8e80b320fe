//! A connection to a sink that is made again whenever it breaks. Blocking: its process does nothing else.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use super::address::Address;
use super::tls::{self, Tls, TlsStream};
use crate::base::errno::reason;

/// How long a connection may take to be made, or to take bytes.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A connection.
pub enum Connection {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    Udp(UdpSocket),
    Unix(UnixStream),
    UnixDatagram(UnixDatagram),
}

/// Connects; waits for seconds at most. Errors say where to, in the words of Go's `net` package.
pub fn connect(to: &Address, tls: &Tls) -> io::Result<Connection> {
    let (network, place) = match to {
        Address::Tls(host) => return Ok(Connection::Tls(Box::new(secure(host, tls)?))),
        Address::Tcp(host) => ("tcp", host.clone()),
        Address::Udp(host) => ("udp", host.clone()),
        Address::Unix(path) => ("unix", path.display().to_string()),
        Address::UnixDatagram(path) => ("unixgram", path.display().to_string()),
    };
    open(to).map_err(|error| in_words(network, &place, &error))
}

fn in_words(network: &str, place: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("dial {network} {place}: connect: {}", reason(error)))
}

fn secure(host: &str, tls: &Tls) -> io::Result<TlsStream> {
    let config = tls.config()?;
    let socket = connect_tcp(host).map_err(|error| in_words("tcp", host, &error))?;
    tls::handshake(host, socket, config)
}

fn open(to: &Address) -> io::Result<Connection> {
    Ok(match to {
        Address::Tcp(host) | Address::Tls(host) => Connection::Tcp(connect_tcp(host)?),
        Address::Udp(host) => {
            let address = first(host)?;
            let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect(address)?;
            Connection::Udp(socket)
        }
        Address::Unix(path) => {
            let socket = UnixStream::connect(path)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Connection::Unix(socket)
        }
        Address::UnixDatagram(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Connection::UnixDatagram(socket)
        }
    })
}

fn connect_tcp(host: &str) -> io::Result<TcpStream> {
    let mut outcome = Err(ErrorKind::NotFound.into());
    for address in host.to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, PATIENCE);
        if outcome.is_ok() {
            break;
        }
    }
    let stream = outcome?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn first(host: &str) -> io::Result<std::net::SocketAddr> {
    host.to_socket_addrs()?.next().ok_or_else(|| ErrorKind::NotFound.into())
}

impl Connection {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(message),
            Self::Unix(stream) => stream.write_all(message),
            Self::Tls(stream) => stream.write_all(message).and_then(|()| stream.flush()),
            Self::Udp(socket) => socket.send(message).map(drop),
            Self::UnixDatagram(socket) => socket.send(message).map(drop),
        }
    }
}

/// Whether a message left as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    Whole,
    /// It is longer than the sink's kind of packet can be.
    TooLong,
}

impl Sent {
    /// Whether both left.
    pub fn and(self, other: Self) -> Self {
        if self == Self::Whole { other } else { self }
    }
}

/// A sink, connected or not.
pub struct Sink {
    to: Address,
    tls: Tls,
    connection: Option<Connection>,
    pause: Duration,
}

impl Sink {
    pub fn new(to: Address, tls: Tls) -> Self {
        Self { to, tls, connection: None, pause: FIRST_PAUSE }
    }

    /// Sends a message, connecting as often as it takes, for ever.
    pub fn send(&mut self, message: &[u8]) -> Sent {
        loop {
            match self.try_send(message) {
                Ok(()) => {
                    self.pause = FIRST_PAUSE;
                    return Sent::Whole;
                }
                // No smaller message would come of trying again.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Sent::TooLong,
                Err(_) => self.connection = None,
            }
            std::thread::sleep(self.pause);
            self.pause = (self.pause * 2).min(LAST_PAUSE);
        }
    }

    fn try_send(&mut self, message: &[u8]) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.to, &self.tls)?),
        };
        connection.send(message)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // What was sent arrives before the end.
        match &mut self.connection {
            Some(Connection::Tcp(stream)) => {
                let _ = stream.shutdown(Shutdown::Write);
            }
            Some(Connection::Tls(stream)) => tls::close(stream),
            _ => {}
        }
    }
}
