//! Reading, hashing and writing a layer on two threads: one inflates and hashes, the other makes the files. Pieces go
//! through a short queue and their buffers come back, so memory is bounded and nothing is copied in between.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use sha2::{Digest as _, Sha256};

use crate::base::digest::Digest;

/// A piece stays in the second-level cache between inflating, hashing and writing.
const PIECE: usize = 256 * 1024;
const QUEUE: usize = 4;

struct Piece {
    bytes: Box<[u8]>,
    length: usize,
}

/// The reading end: what the source gave, in order.
pub(super) struct Pieces {
    queue: Receiver<Piece>,
    spent: Sender<Box<[u8]>>,
    current: Option<Piece>,
    taken: usize,
}

/// The feeding end.
pub(super) struct Feeder {
    queue: SyncSender<Piece>,
    spent: Receiver<Box<[u8]>>,
}

/// What went through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fed {
    pub digest: Digest,
}

/// A queue between two threads.
pub(super) fn pipe() -> (Feeder, Pieces) {
    let (queue_in, queue_out) = sync_channel(QUEUE);
    let (spent_in, spent_out) = channel();
    (
        Feeder { queue: queue_in, spent: spent_out },
        Pieces { queue: queue_out, spent: spent_in, current: None, taken: 0 },
    )
}

impl Feeder {
    /// Feeds all of `source` and hashes it. Ends early, with `None`, when the other end has gone.
    pub(super) fn feed(self, mut source: impl Read) -> io::Result<Option<Fed>> {
        let mut hash = Sha256::new();
        loop {
            let mut bytes = self.spent.try_recv().unwrap_or_else(|_| vec![0; PIECE].into_boxed_slice());
            let length = read_full(&mut source, &mut bytes)?;
            if length == 0 {
                return Ok(Some(Fed { digest: Digest::from(<[u8; 32]>::from(hash.finalize())) }));
            }
            hash.update(&bytes[..length]);
            if self.queue.send(Piece { bytes, length }).is_err() {
                return Ok(None);
            }
        }
    }
}

fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_none() {
            // A closed queue is the end; whether it came too early is what the feeding end reports.
            self.current = self.queue.recv().ok();
            self.taken = 0;
        }
        Ok(self.current.as_ref().map_or(&[], |piece| &piece.bytes[self.taken..piece.length]))
    }

    fn consume(&mut self, length: usize) {
        self.taken += length;
        if self.current.as_ref().is_some_and(|piece| self.taken >= piece.length)
            && let Some(piece) = self.current.take()
        {
            // The feeder may have ended.
            let _ = self.spent.send(piece.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_fed_comes_out_in_order_and_is_hashed() {
        let content: Vec<u8> = (0..3 * PIECE + 17).map(|i| (i * 31 % 251) as u8).collect();
        let (feeder, mut pieces) = pipe();
        let mut out = Vec::new();
        let fed = std::thread::scope(|scope| {
            let feeding = scope.spawn(|| feeder.feed(content.as_slice()));
            pieces.read_to_end(&mut out).unwrap();
            feeding.join().unwrap()
        });
        assert_eq!(fed.unwrap().unwrap().digest, Digest::of(&content));
        assert_eq!(out, content);
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_feeding() {
        let (feeder, pieces) = pipe();
        drop(pieces);
        assert!(feeder.feed(io::repeat(1)).unwrap().is_none());
    }
}
