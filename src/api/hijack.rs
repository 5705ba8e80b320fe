//! Takes a connection out of HTTP: attach and exec get the client's own socket.
//!
//! The connection's driver ([`crate::api::connection`]) gives up the socket with all bytes that were read beyond the
//! request; the head of the response is written here, by hand, before anybody else has the socket. The same way
//! serves clients that ask for an upgrade (101) and those that do not (200 and a raw stream).
//!
//! No payload is sent until the client has read the head: docker-py and docker-modem lose what arrives in the same
//! read. A fast engine meets that race often, a slow one hardly ever.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use crate::api::client_io::{ClientIo, Peer};
use crate::api::loan::Loan;
use crate::base::sys::bell::Bell;

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

/// What a connection gives up when it is taken out of HTTP: the transport, and what was read beyond the request.
pub type Taken = (ClientIo, Bytes);

/// What a handler wants of its connection's driver.
pub(super) enum Ask {
    /// The socket; the connection is over.
    Take(oneshot::Sender<Taken>),
    /// To drive the connection itself for a while.
    Borrow(Bell, oneshot::Sender<Loan>),
}

/// A request's way to its connection; in each request's extensions.
#[derive(Clone, Debug)]
pub struct Connection {
    asks: mpsc::Sender<Ask>,
    taken: Arc<AtomicBool>,
    pub peer: Peer,
}

impl Connection {
    /// The handle, and the driver's end of it.
    pub(super) fn new(peer: Peer) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(1);
        (Self { asks, taken: Arc::default(), peer }, asked)
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
        self.asks.try_send(Ask::Take(sender)).map_err(|_| HijackError::NotPossible)?;
        let (mut io, buffered) = receiver.await.map_err(|_| HijackError::Gone)?;
        io.write_all(head.as_bytes()).await?;
        io.flush().await?;
        io.settle().await;
        Ok((io, buffered))
    }

    /// The connection itself, to be driven by the thread that reads the request's body; `None` when it is over, or
    /// descriptors are wanting.
    pub async fn borrow(&self) -> Option<Loan> {
        let (sender, receiver) = oneshot::channel();
        self.asks.try_send(Ask::Borrow(Bell::new().ok()?, sender)).ok()?;
        receiver.await.ok()
    }
}
