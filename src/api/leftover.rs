//! What a handler leaves of a request's body is read and thrown away, as Go's server does: a client that is still
//! sending when the connection closes reports "broken pipe" and never reads the answer. An archive's padding after its
//! end is such a rest, and so is the body of a request that is refused.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};

/// The most that is read; a client that has more is cut off (Go's limit).
const LIMIT: usize = 256 << 10;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A body whose rest is read when it is dropped.
pub struct Leftover(Option<Body>);

impl Leftover {
    /// Wraps `body`; one without content stays as it is.
    pub fn of(body: Body) -> Body {
        if body.is_end_stream() { body } else { Body::new(Self(Some(body))) }
    }
}

impl HttpBody for Leftover {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(PATIENCE, discard(body)));
        }
    }
}

async fn discard(body: Body) {
    let mut rest = Limited::new(body, LIMIT);
    while let Some(Ok(_)) = rest.frame().await {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn counted(pieces: usize) -> (Body, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let count = read.clone();
        let stream = futures_util::stream::iter((0..pieces).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1024]))
        }));
        (Body::from_stream(stream), read)
    }

    #[tokio::test]
    async fn the_rest_of_a_body_is_read_up_to_a_limit() {
        // One before, as many as there may be, and the one that is too much.
        for (pieces, read) in [(100, 100), (1000, 258)] {
            let (body, count) = counted(pieces);
            let mut body = Leftover::of(body);
            body.frame().await.unwrap().unwrap();
            drop(body);
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            assert_eq!(count.load(Ordering::SeqCst), read);
        }
    }
}
