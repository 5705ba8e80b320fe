//! Archives as bodies: from threads that block on files to connections that must not wait for them. A few pieces are on
//! their way at any time, whatever the archive's length.

use std::io::{self, Write};

use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue};
use tokio::sync::mpsc;

use crate::api::respond;
use crate::api::transfers::Turn;

/// Large enough that handing over costs little against reading or writing it.
const PIECE: usize = 256 << 10;
const QUEUE: usize = 4;

type Piece = io::Result<Bytes>;

/// Where an archive is written to that becomes a body.
pub struct Sink {
    sender: mpsc::Sender<Piece>,
    piece: Vec<u8>,
}

impl Sink {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        // Nobody reads any more: the client is gone.
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..length]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// How a body is encoded on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    /// What the client would like best (RFC 9110, 12.5.3).
    pub fn wanted(headers: &HeaderMap) -> Self {
        let all = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let gzip = all.flat_map(|value| value.split(',')).any(|one| {
            let mut words = one.split(';').map(str::trim);
            let refused = |word: &str| word.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
            words.next() == Some("gzip") && !words.any(refused)
        });
        if gzip { Self::Gzip } else { Self::Identity }
    }
}

/// Answers with the archive that `write` makes on a thread of its own. When it fails the connection is cut, so that
/// the client does not take the part for the whole.
pub fn respond<E: std::error::Error + Send + Sync + 'static>(
    content_type: &'static str,
    encoding: Encoding,
    turn: Turn,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E> + Send + 'static,
) -> Response {
    let (sender, receiver) = mpsc::channel::<Piece>(QUEUE);
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let failed = sender.clone();
        let sink = Sink { sender, piece: Vec::with_capacity(PIECE) };
        let written = match encoding {
            Encoding::Identity => finish(sink, write, |mut sink| sink.flush()),
            Encoding::Gzip => {
                let encoder = GzEncoder::new(sink, Compression::fast());
                finish(encoder, write, |encoder| encoder.finish()?.flush())
            }
        };
        if let Err(error) = written {
            tracing::debug!(%error, "an archive was not sent to its end");
            // The client may have gone.
            let _ = failed.blocking_send(Err(error));
        }
    });
    let pieces =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let mut response = respond::raw_stream(content_type, pieces);
    if encoding == Encoding::Gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn finish<W: Write, E: std::error::Error + Send + Sync + 'static>(
    mut sink: W,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    end: impl FnOnce(W) -> io::Result<()>,
) -> io::Result<()> {
    write(&mut sink).map_err(io::Error::other)?;
    end(sink)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn gzip_is_for_clients_that_ask_for_it() {
        for (value, expected) in [
            ("gzip", Encoding::Gzip),
            ("deflate, gzip;q=0.5", Encoding::Gzip),
            ("gzip;q=0", Encoding::Identity),
            ("identity", Encoding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(Encoding::wanted(&headers), expected, "{value}");
        }
        assert_eq!(Encoding::wanted(&HeaderMap::new()), Encoding::Identity);
    }

    #[tokio::test]
    async fn a_failure_in_the_middle_is_seen_by_the_reader() {
        let whole =
            respond("x/y", Encoding::Identity, Turn::take().await, |sink| sink.write_all(&[7; 3 * PIECE]));
        assert_eq!(whole.into_body().collect().await.unwrap().to_bytes().len(), 3 * PIECE);
        let broken = respond("x/y", Encoding::Identity, Turn::take().await, |sink| {
            sink.write_all(b"x")?;
            Err::<(), _>(io::Error::other("no"))
        });
        assert!(broken.into_body().collect().await.is_err());
    }
}
