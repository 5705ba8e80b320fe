//! Bodies for threads that block, such as archives that are unpacked.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::sync::Notify;

/// Bytes that are read ahead, plus at most one piece of the connection's.
const AHEAD: usize = 1 << 20;

/// A body for a thread that blocks. A client that breaks off is a read error. The first piece has four bytes, if there
/// are as many: enough to tell how an archive is compressed.
///
/// Clients send archives in pieces of some 100 bytes, which is why neither side is woken for each of them: the reader
/// only when it has nothing left, the connection when half of what it had read ahead is used up.
pub struct BodyReader {
    shared: Arc<Shared>,
    piece: Bytes,
    started: bool,
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
    end: Option<io::Result<()>>,
    /// The reader waits.
    awaited: bool,
    /// The reader is gone.
    unwanted: bool,
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
    async fn receive(self, body: Body) {
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => self.0.put(|ahead| {
                    ahead.length += piece.len();
                    ahead.pieces.push_back(piece);
                }),
                Err(error) => return self.end(Err(io::Error::other(error))),
            }
            loop {
                match self.0.wish() {
                    Wish::More => break,
                    Wish::Room => self.0.room.notified().await,
                    Wish::Nothing => return,
                }
            }
        }
        self.end(Ok(()));
    }

    fn end(&self, end: io::Result<()>) {
        self.0.put(|ahead| {
            ahead.end.get_or_insert(end);
        });
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end(Err(io::ErrorKind::ConnectionAborted.into()));
    }
}

impl BodyReader {
    /// Starts to read the body.
    pub fn new(body: Body) -> Self {
        let shared = Arc::<Shared>::default();
        tokio::spawn(Receiver(shared.clone()).receive(body));
        Self { shared, piece: Bytes::new(), started: false }
    }

    /// The next piece; `None` at the end.
    fn next(&self) -> io::Result<Option<Bytes>> {
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
            match &mut ahead.end {
                Some(Ok(())) => return Ok(None),
                Some(Err(error)) => return Err(std::mem::replace(error, error.kind().into())),
                None => {}
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
        let mut reader = BodyReader::new(body(["a", "bc", "", "defg", "h"].map(|piece| Ok(piece.into()))));
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
        let mut reader = BodyReader::new(body(broken));
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
        let mut reader = BodyReader::new(body(pieces));
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
        let reader = BodyReader::new(body(pieces));
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
