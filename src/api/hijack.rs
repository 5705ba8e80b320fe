//! Takes a connection out of HTTP: attach and exec get the client's own socket.
//!
//! The connection's driver ([`crate::api::connection`]) gives up the socket with all bytes that were read beyond the
//! request; the head of the response is written here, by hand, before anybody else has the socket. The same way
//! serves clients that ask for an upgrade (101) and those that do not (200 and a raw stream).
//!
//! No payload is sent until the client has read the head: docker-py and docker-modem lose what arrives in the same
//! read. A fast engine meets that race often, a slow one hardly ever.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::server::TlsStream;

use crate::base::sys::socket;

/// A client's socket after its connection has left HTTP.
#[derive(Debug)]
pub struct ClientSocket {
    /// The client's own socket, or one end of a pair behind which TLS is done. It is in non-blocking mode.
    pub socket: OwnedFd,
    /// What the client has sent already; it comes before what the socket gives.
    pub buffered: Vec<u8>,
}

/// Why a connection cannot leave HTTP.
#[derive(Debug, thiserror::Error)]
pub enum HijackError {
    #[error("this connection cannot be hijacked")]
    NotPossible,
    #[error("the client is gone")]
    Gone,
    #[error("writing the response failed")]
    Io(#[from] io::Error),
}

/// The transport of one client, under HTTP.
pub enum ClientIo {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    Unix,
    Tcp(SocketAddr),
}

/// What a connection gives up when it is taken out of HTTP: the transport, and what was read beyond the request.
pub type Taken = (ClientIo, Bytes);

/// A request's way to its connection; in each request's extensions.
#[derive(Clone, Debug)]
pub struct Connection {
    takeover: mpsc::Sender<oneshot::Sender<Taken>>,
    taken: Arc<AtomicBool>,
    pub peer: Peer,
}

impl Connection {
    /// The handle, and the driver's end of it.
    pub(super) fn new(peer: Peer) -> (Self, mpsc::Receiver<oneshot::Sender<Taken>>) {
        let (takeover, asked) = mpsc::channel(1);
        (Self { takeover, taken: Arc::default(), peer }, asked)
    }

    /// Whether the connection has left HTTP: its handler goes on without it.
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes the connection out of HTTP and answers with `head`. Returns when the client has read it.
    pub async fn take(&self, head: &str) -> Result<ClientSocket, HijackError> {
        let (io, buffered) = self.take_stream(head).await?;
        Ok(ClientSocket { socket: io.into_socket()?, buffered: buffered.into() })
    }

    /// The same for a handler that stays between the client and whatever it talks to.
    pub async fn take_stream(&self, head: &str) -> Result<Taken, HijackError> {
        let (sender, receiver) = oneshot::channel();
        self.taken.store(true, Ordering::Release);
        self.takeover.try_send(sender).map_err(|_| HijackError::NotPossible)?;
        let (mut io, buffered) = receiver.await.map_err(|_| HijackError::Gone)?;
        io.write_all(head.as_bytes()).await?;
        io.flush().await?;
        io.settle().await;
        Ok((io, buffered))
    }
}

/// How long a client that does not read the head may hold its stream up.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long to ask again and again before the timer's grain of a millisecond is good enough.
const EAGER: Duration = Duration::from_micros(150);

impl ClientIo {
    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        let address = match self {
            Self::Unix(_) => None,
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
        };
        address.map_or(Peer::Unix, Peer::Tcp)
    }

    /// Another descriptor of a Unix socket.
    pub(super) fn unix_socket(&self) -> Option<OwnedFd> {
        match self {
            Self::Unix(stream) => stream.as_fd().try_clone_to_owned().ok(),
            Self::Tcp(_) | Self::Tls(_) => None,
        }
    }

    /// Waits until the client has taken all that was written out of its socket.
    ///
    /// The kernel counts what a Unix peer has not read and what a TCP peer has not acknowledged. The latter may
    /// still be unread, so TCP clients get a moment more.
    async fn settle(&self) {
        let start = Instant::now();
        while socket::unsent(self.fd()).is_ok_and(|bytes| bytes > 0) && start.elapsed() < PATIENCE {
            match start.elapsed() < EAGER {
                true => tokio::task::yield_now().await,
                false => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        if !matches!(self, Self::Unix(_)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }

    /// The socket itself; for TLS one end of a pair whose other end the daemon carries to and fro.
    fn into_socket(self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(stream) => Ok(stream.into_std()?.into()),
            Self::Tcp(stream) => Ok(stream.into_std()?.into()),
            Self::Tls(mut stream) => {
                let (mut inner, outer) = UnixStream::pair()?;
                tokio::spawn(async move {
                    // Either end's failure ends the stream for both, which is all there is to tell.
                    let _ = tokio::io::copy_bidirectional(&mut *stream, &mut inner).await;
                });
                Ok(outer.into_std()?.into())
            }
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
