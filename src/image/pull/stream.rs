//! The bounded pipe between the download, which is async, and the threads that write, hash and unpack.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Pieces on their way at most; each is what the network gave at once, some hundred KiB at the very most.
const DEPTH: usize = 16;

/// The sending side. Dropping it without [`Feed::end`] tells the reader that the rest will never come.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<Option<Bytes>>);

/// The reading side, for a thread that may block.
#[derive(Debug)]
pub struct Pipe {
    pieces: mpsc::Receiver<Option<Bytes>>,
    current: Bytes,
    ended: bool,
}

/// A new pipe.
pub fn pipe() -> (Feed, Pipe) {
    let (send, pieces) = mpsc::channel(DEPTH);
    (Feed(send), Pipe { pieces, current: Bytes::new(), ended: false })
}

impl Feed {
    /// Hands on a piece; false if the reader has given up.
    pub async fn send(&self, piece: Bytes) -> bool {
        self.0.send(Some(piece)).await.is_ok()
    }

    /// Says that this was all.
    pub async fn end(self) {
        let _ = self.0.send(None).await;
    }
}

impl Pipe {
    /// The next piece, nothing at the end.
    pub fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        match self.pieces.blocking_recv() {
            Some(Some(piece)) => Ok(Some(piece)),
            Some(None) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the download was given up")),
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.next()? {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
