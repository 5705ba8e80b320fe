//! Builds responses: JSON without HTML escaping, progress streams, lines, raw streams.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

/// Streams of a terminal, or of what older clients take for one.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Streams in frames that say which of them it is.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";
/// Archives.
pub const TAR: &str = "application/x-tar";

/// JSON documents.
pub const JSON: &str = "application/json";

/// One JSON document and a newline, as Go's encoder ends it.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match json_line(value, b"\n") {
        Ok(line) => bytes(status, JSON, line),
        Err(error) => {
            tracing::error!(%error, "a response cannot be written as JSON");
            bytes(
                StatusCode::INTERNAL_SERVER_ERROR,
                JSON,
                Bytes::from_static(b"{\"message\":\"encoding failed\"}\n"),
            )
        }
    }
}

/// 204
pub fn no_content() -> Response {
    empty(StatusCode::NO_CONTENT)
}

/// A status without body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A body of known length.
pub fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// 200, headers at once, then what the stream gives, in chunks. An error ends the connection, so that the client
/// cannot take the part for the whole. Dropping of the stream is how its maker learns that the client is gone.
pub fn raw_stream<S, E>(content_type: &'static str, stream: S) -> Response
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    bytes(StatusCode::OK, content_type, Body::from_stream(stream))
}

/// 200, headers at once, then what the sender sends, in chunks. The sender's `closed()` ends when the client is gone.
pub fn channel(content_type: &'static str, receiver: mpsc::Receiver<Bytes>) -> Response {
    raw_stream(content_type, received(receiver))
}

/// A progress stream: JSON objects, each followed by `\r\n`.
pub fn json_stream<T: Serialize + Send + 'static>(receiver: mpsc::Receiver<T>) -> Response {
    separated(JSON, receiver, b"\r\n")
}

/// JSON objects, each followed by a newline.
pub fn json_lines<T: Serialize + Send + 'static>(
    content_type: &'static str,
    receiver: mpsc::Receiver<T>,
) -> Response {
    separated(content_type, receiver, b"\n")
}

fn separated<T: Serialize + Send + 'static>(
    content_type: &'static str,
    receiver: mpsc::Receiver<T>,
    end: &'static [u8],
) -> Response {
    let objects = stream::unfold(receiver, move |mut receiver| async move {
        let value = receiver.recv().await?;
        Some((json_line(&value, end), receiver))
    });
    raw_stream(content_type, objects)
}

fn received(receiver: mpsc::Receiver<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(receiver, |mut receiver| async move { Some((Ok(receiver.recv().await?), receiver)) })
}

/// A value as JSON with `end` behind it.
pub fn json_line<T: Serialize + ?Sized>(value: &T, end: &[u8]) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.extend_from_slice(end);
    Ok(line.into())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn json_is_not_escaped_for_html() {
        let response = json(StatusCode::OK, &json!({ "a": "<&>" }));
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(text(response).await, "{\"a\":\"<&>\"}\n");
    }

    #[tokio::test]
    async fn progress_is_separated_by_carriage_return_and_newline() {
        let (sender, receiver) = mpsc::channel(2);
        sender.send(json!({ "status": "x" })).await.unwrap();
        sender.send(json!({ "status": "y" })).await.unwrap();
        drop(sender);
        assert_eq!(text(json_stream(receiver)).await, "{\"status\":\"x\"}\r\n{\"status\":\"y\"}\r\n");
    }

    #[tokio::test]
    async fn the_sender_learns_that_the_client_is_gone() {
        let (sender, receiver) = mpsc::channel::<Bytes>(1);
        drop(channel(RAW_STREAM, receiver));
        sender.closed().await;
    }
}
