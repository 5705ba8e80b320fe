//! The transport of a client: a Unix socket, TCP, or TLS over it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::api::unix_io::{Attention, UnixIo};
use crate::base::sys::socket;

/// The transport of one client, under HTTP.
pub enum ClientIo {
    Unix(UnixIo),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    Unix,
    Tcp(SocketAddr),
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

    /// Who looks at a Unix socket; `None` for others.
    pub(super) fn attention(&self) -> Option<Arc<Attention>> {
        match self {
            Self::Unix(stream) => Some(stream.attention()),
            Self::Tcp(_) | Self::Tls(_) => None,
        }
    }

    /// Waits until the client has taken all that was written out of its socket.
    ///
    /// The kernel counts what a Unix peer has not read and what a TCP peer has not acknowledged. The latter may
    /// still be unread, so TCP clients get a moment more.
    pub(super) async fn settle(&self) {
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
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(stream) => stream.into_socket(),
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
