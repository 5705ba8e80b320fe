//! Bodies for threads that block, such as archives that are unpacked.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, BodyDataStream};
use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::sync::Notify;

use crate::api::hijack::Connection;
use crate::api::loan::Loan;
use crate::api::transfers::Turn;

/// Bytes that are read ahead, plus at most one piece of the connection's.
const AHEAD: usize = 1 << 20;
/// What follows after so many bytes is received by the reader, if it comes in small pieces.
const LARGE: u64 = 256 << 10;
/// Of pieces this long each is worth waking somebody: receiving and using them at the same time is faster.
const LONG: usize = 64 << 10;

/// A body for a thread that blocks. A client that breaks off is a read error. The first piece has four bytes, if there
/// are as many: enough to tell how an archive is compressed.
///
/// Clients send archives in pieces of some 100 bytes to 32 KiB, which is why neither side is woken for each of them:
/// the reader only when it has nothing left, the connection when half of what it had read ahead is used up. Of a large
/// body in small pieces the reader receives the most part by itself, if it may have the connection.
pub struct BodyReader {
    shared: Arc<Shared>,
    rest: Option<Box<Rest>>,
    piece: Bytes,
    started: bool,
    turn: Option<Turn>,
}

#[derive(Default)]
struct Shared {
    ahead: Mutex<Ahead>,
    arrived: Condvar,
    room: Notify,
}

/// What was received and not read yet.
#[derive(Default)]
struct Ahead {
    pieces: VecDeque<Bytes>,
    /// Bytes in all pieces.
    length: usize,
    end: Option<End>,
    /// The reader waits.
    awaited: bool,
    /// The reader is gone.
    unwanted: bool,
}

/// What comes after the pieces.
enum End {
    Whole,
    Broken(io::Error),
    /// The reader receives the rest by itself.
    Handed(Box<Rest>),
}

/// What is still to be received.
struct Rest {
    pieces: BodyDataStream,
    loan: Loan,
}

impl Rest {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.loan.block_on(self.pieces.next()).transpose().map_err(io::Error::other)
    }
}

impl Shared {
    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wish(&self) -> Wish {
        let ahead = self.ahead();
        match ahead.length {
            _ if ahead.unwanted => Wish::Nothing,
            AHEAD.. => Wish::Room,
            _ => Wish::More,
        }
    }

    /// Changes what is there, and wakes a reader that waits.
    fn put(&self, change: impl FnOnce(&mut Ahead)) {
        let mut ahead = self.ahead();
        change(&mut ahead);
        if std::mem::take(&mut ahead.awaited) {
            self.arrived.notify_one();
        }
    }
}

/// What is to be done before the next piece.
enum Wish {
    More,
    /// The reader must use up some of what is there.
    Room,
    /// The reader is gone.
    Nothing,
}

/// The receiving side. A body that is not received to its end has an error there.
struct Receiver(Arc<Shared>);

impl Receiver {
    async fn receive(self, body: Body, connection: Option<Connection>) {
        let mut pieces = body.into_data_stream();
        if let Some(connection) = connection {
            let ControlFlow::Continue(last) = self.receive_some(&mut pieces, LARGE).await else { return };
            if last < LONG
                && let Some(loan) = connection.borrow().await
            {
                return self.end(End::Handed(Box::new(Rest { pieces, loan })));
            }
        }
        // How it ends is told to the reader.
        let _ = self.receive_some(&mut pieces, u64::MAX).await;
    }

    /// Receives the next `most` bytes or a little more. Goes on with the length of the last piece.
    async fn receive_some(&self, pieces: &mut BodyDataStream, most: u64) -> ControlFlow<(), usize> {
        let (mut received, mut last) = (0, 0);
        while received < most {
            let Some(piece) = pieces.next().await else {
                self.end(End::Whole);
                return ControlFlow::Break(());
            };
            match piece {
                Ok(piece) => {
                    last = piece.len();
                    received += last as u64;
                    self.0.put(|ahead| {
                        ahead.length += last;
                        ahead.pieces.push_back(piece);
                    });
                }
                Err(error) => {
                    self.end(End::Broken(io::Error::other(error)));
                    return ControlFlow::Break(());
                }
            }
            loop {
                match self.0.wish() {
                    Wish::More => break,
                    Wish::Room => self.0.room.notified().await,
                    Wish::Nothing => return ControlFlow::Break(()),
                }
            }
        }
        ControlFlow::Continue(last)
    }

    fn end(&self, end: End) {
        self.0.put(|ahead| {
            ahead.end.get_or_insert(end);
        });
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end(End::Broken(io::ErrorKind::ConnectionAborted.into()));
    }
}

impl BodyReader {
    /// Starts to read the body. With a `connection` nothing is sent to the client while the reader is not read.
    pub fn new(body: Body, connection: Option<Connection>) -> Self {
        let shared = Arc::<Shared>::default();
        tokio::spawn(Receiver(shared.clone()).receive(body, connection));
        Self { shared, rest: None, piece: Bytes::new(), started: false, turn: None }
    }

    /// Keeps `turn` as long as there is a reader.
    pub fn in_turn(mut self, turn: Turn) -> Self {
        self.turn = Some(turn);
        self
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(rest) = &mut self.rest {
            return rest.next().inspect_err(|_| self.rest = None);
        }
        let mut ahead = self.shared.ahead();
        loop {
            if let Some(piece) = ahead.pieces.pop_front() {
                let before = ahead.length;
                ahead.length -= piece.len();
                if before > AHEAD / 2 && ahead.length <= AHEAD / 2 {
                    self.shared.room.notify_one();
                }
                return Ok(Some(piece));
            }
            match ahead.end.take() {
                None => {}
                Some(End::Handed(rest)) => {
                    // That is what comes after an error of the rest.
                    ahead.end = Some(End::Broken(io::ErrorKind::ConnectionAborted.into()));
                    drop(ahead);
                    self.rest = Some(rest);
                    return self.next();
                }
                Some(End::Whole) => {
                    ahead.end = Some(End::Whole);
                    return Ok(None);
                }
                Some(End::Broken(error)) => {
                    ahead.end = Some(End::Broken(error.kind().into()));
                    return Err(error);
                }
            }
            ahead.awaited = true;
            ahead = self.shared.arrived.wait(ahead).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        self.shared.ahead().unwanted = true;
        self.shared.room.notify_one();
    }
}

impl BufRead for BodyReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() || (!self.started && self.piece.len() < 4) {
            let Some(next) = self.next()? else { break };
            self.piece = match self.piece.is_empty() {
                true => next,
                false => [self.piece.as_ref(), next.as_ref()].concat().into(),
            };
        }
        self.started = true;
        Ok(&self.piece)
    }

    fn consume(&mut self, length: usize) {
        self.piece.advance(length);
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::stream;

    use super::*;

    fn body(pieces: impl IntoIterator<Item = io::Result<Bytes>, IntoIter: Send + 'static>) -> Body {
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_body_s_first_piece_is_long_enough_to_look_at() {
        let mut reader =
            BodyReader::new(body(["a", "bc", "", "defg", "h"].map(|piece| Ok(piece.into()))), None);
        let read = tokio::task::spawn_blocking(move || {
            let first = reader.fill_buf().unwrap().to_vec();
            let mut all = String::new();
            reader.read_to_string(&mut all).unwrap();
            (first, all)
        });
        assert_eq!(read.await.unwrap(), (b"abcdefg".to_vec(), "abcdefgh".to_owned()));
    }

    #[tokio::test]
    async fn a_client_that_breaks_off_is_an_error_after_what_it_sent() {
        let broken = [Ok(Bytes::from("abcd")), Err(io::ErrorKind::BrokenPipe.into())];
        let mut reader = BodyReader::new(body(broken), None);
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            let ended = reader.read_to_end(&mut all);
            (all, ended.is_err(), reader.read(&mut [0]).is_err())
        });
        assert_eq!(read.await.unwrap(), (b"abcd".to_vec(), true, true));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bounded_part_is_read_ahead_and_all_of_it_arrives() {
        const PIECE: usize = 1000;
        const PIECES: usize = 10 * AHEAD / PIECE;
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let pieces = (0..PIECES).map(move |number| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(vec![number as u8; PIECE].into())
        });
        let mut reader = BodyReader::new(body(pieces), None);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let ahead = taken.load(Ordering::SeqCst) * PIECE;
        assert!((AHEAD..=AHEAD + 2 * PIECE).contains(&ahead), "{ahead} bytes");
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        let all = read.await.unwrap().unwrap();
        assert_eq!(all.len(), PIECES * PIECE);
        assert!(
            all.chunks(PIECE).zip(0..).all(|(piece, number)| piece.iter().all(|byte| *byte == number as u8))
        );
    }

    #[tokio::test]
    async fn what_nobody_reads_is_not_received() {
        let taken = Arc::new(());
        let count = taken.clone();
        let pieces = std::iter::repeat_with(move || {
            let _ = &count;
            Ok(vec![0; 1000].into())
        });
        let reader = BodyReader::new(body(pieces), None);
        tokio::task::yield_now().await;
        drop(reader);
        let gone = async {
            while Arc::strong_count(&taken) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the body is dropped");
    }
}
