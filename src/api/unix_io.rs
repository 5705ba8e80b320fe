//! A client's Unix socket. As a rule the runtime watches it and wakes the connection for whatever arrives. While a thread
//! attends to the connection alone, nobody watches: the thread looks when it has time, and finds more at once.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::base::sys::socket;

/// The transport.
pub struct UnixIo {
    stream: Stream,
    attention: Arc<Attention>,
}

enum Stream {
    Watched(UnixStream),
    Unwatched(StdStream),
    /// Registering it again has failed.
    Lost,
}

/// Who looks at a socket.
pub struct Attention {
    socket: OwnedFd,
    /// A thread of its own, not the runtime.
    thread: AtomicBool,
    /// That thread could not write all that there is to write.
    full: AtomicBool,
}

impl Attention {
    /// Whether a thread of its own looks from now on.
    pub fn by_thread(&self, thread: bool) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// Whether something waits for room in the socket, since this was asked last.
    pub fn take_full(&self) -> bool {
        self.full.swap(false, Ordering::Relaxed)
    }
}

impl AsFd for Attention {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Attention {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl UnixIo {
    /// Fails when there are no descriptors left.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let attention = Attention {
            socket: stream.as_fd().try_clone_to_owned()?,
            thread: AtomicBool::new(false),
            full: AtomicBool::new(false),
        };
        Ok(Self { stream: Stream::Watched(stream), attention: Arc::new(attention) })
    }

    pub(super) fn attention(&self) -> Arc<Attention> {
        self.attention.clone()
    }

    /// The socket, in non-blocking mode.
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        match self.stream {
            Stream::Watched(stream) => Ok(stream.into_std()?.into()),
            Stream::Unwatched(stream) => Ok(stream.into()),
            Stream::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// The stream as it is to be looked at.
    fn stream(&mut self) -> io::Result<&mut Stream> {
        let by_thread = self.attention.thread.load(Ordering::Relaxed);
        match (&self.stream, by_thread) {
            (Stream::Watched(_), true) | (Stream::Unwatched(_), false) => {
                self.stream = match std::mem::replace(&mut self.stream, Stream::Lost) {
                    Stream::Watched(stream) => Stream::Unwatched(stream.into_std()?),
                    Stream::Unwatched(stream) => Stream::Watched(UnixStream::from_std(stream)?),
                    Stream::Lost => Stream::Lost,
                };
            }
            _ => {}
        }
        Ok(&mut self.stream)
    }
}

impl AsFd for UnixIo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.attention.as_fd()
    }
}

/// Nobody wakes the connection of an unwatched socket: its thread looks again by itself.
fn unwatched<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}

impl AsyncRead for UnixIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut().stream()? {
            Stream::Watched(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unwatched(stream) => unwatched(socket::receive(stream.as_fd(), buffer)),
            Stream::Lost => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for UnixIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.stream()? {
            Stream::Watched(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Unwatched(stream) => {
                let written = unwatched(io::Write::write_vectored(stream, slices));
                if written.is_pending() {
                    this.attention.full.store(true, Ordering::Relaxed);
                }
                written
            }
            Stream::Lost => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().stream()? {
            Stream::Watched(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unwatched(stream) => Poll::Ready(stream.shutdown(Shutdown::Write)),
            Stream::Lost => Poll::Ready(Ok(())),
        }
    }
}
