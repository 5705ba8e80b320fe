//! Request targets as people type them: `curl 'http://x/containers/json?filters={"status":["exited"]}'` sends the quotes
//! as they are. Go's server takes that, RFC 3986 does not, nor does the HTTP library here: such bytes are escaped
//! before it reads them.
//!
//! Only in the first request of a connection: where a later one begins is known only to whoever reads the bodies in
//! between, and what sends several requests by one connection escapes by itself.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than that is no line that anybody serves.
const LONGEST: usize = 64 << 10;

/// A transport whose first line is escaped.
pub struct Escaped<T> {
    io: T,
    line: Line,
    /// Read and not asked for yet.
    pending: Bytes,
}

/// Where in the first line the transport is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    In { read: usize },
    Over,
}

impl<T> Escaped<T> {
    pub fn new(io: T) -> Self {
        Self { io, line: Line::In { read: 0 }, pending: Bytes::new() }
    }

    /// The transport, and what was read of it and not asked for.
    pub fn into_parts(self) -> (T, Bytes) {
        (self.io, self.pending)
    }
}

impl Line {
    /// Escapes what of `bytes` is still in the line, and passes on the rest.
    fn pass(&mut self, bytes: &[u8]) -> Bytes {
        let Self::In { read } = self else { return Bytes::copy_from_slice(bytes) };
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let mut passed = BytesMut::with_capacity(bytes.len() + 16);
        for &byte in line {
            match byte {
                b'"' => passed.extend_from_slice(b"%22"),
                b'<' => passed.extend_from_slice(b"%3C"),
                b'>' => passed.extend_from_slice(b"%3E"),
                other => passed.extend_from_slice(&[other]),
            }
        }
        passed.extend_from_slice(rest);
        *read += line.len();
        if end.is_some() || *read > LONGEST {
            *self = Self::Over;
        }
        passed.freeze()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Escaped<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.pending.is_empty() {
            if this.line == Line::Over {
                return Pin::new(&mut this.io).poll_read(cx, buffer);
            }
            let mut bytes = [0; 8192];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            this.pending = this.line.pass(read.filled());
        }
        let count = this.pending.len().min(buffer.remaining());
        buffer.put_slice(&this.pending[..count]);
        this.pending.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Escaped<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What comes out when `bytes` come in pieces of `size`.
    async fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
        let (ours, mut client) = tokio::io::duplex(size);
        let sent = bytes.to_vec();
        let writing = tokio::spawn(async move { client.write_all(&sent).await });
        let mut all = Vec::new();
        Escaped::new(ours).read_to_end(&mut all).await.unwrap();
        writing.await.unwrap().unwrap();
        all
    }

    #[tokio::test]
    async fn the_first_line_is_escaped_and_nothing_after_it() {
        let sent = b"POST /x?f={\"a\":[\"<b>\"]} HTTP/1.1\r\nX: \"y\"\r\n\r\n\"<body>\"\n\"";
        let seen = b"POST /x?f={%22a%22:[%22%3Cb%3E%22]} HTTP/1.1\r\nX: \"y\"\r\n\r\n\"<body>\"\n\"";
        for size in [1, 3, 8, 1000] {
            assert_eq!(passed(sent, size).await, seen, "{size}");
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_given_up() {
        let sent = vec![b'"'; 3 * LONGEST];
        let seen = passed(&sent, 8192).await;
        assert!(seen.ends_with(b"\"\""), "what is too long is passed on as it is");
    }
}
