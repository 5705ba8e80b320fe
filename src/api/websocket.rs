//! The WebSocket protocol (RFC 6455) around a byte stream: the answer to the handshake, and the carrying of frames.
//!
//! Knows nothing of containers. What a client sends in text or binary frames goes to the stream as it is; what the
//! stream gives goes out in frames of one kind.

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::COMMON_HEADERS;
use super::hijack::Taken;

/// Bytes of the stream in one frame.
const CHUNK: usize = 32 * 1024;
/// The longest message of a client. They carry what somebody types.
const LONGEST: usize = 1 << 20;

/// A request that is no handshake, in the words of Go's library.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHandshake {
    #[error("not websocket protocol")]
    NotWebSocket,
    #[error("missing or bad WebSocket Version")]
    Version,
    #[error("mismatch challenge/response")]
    Key,
}

/// The kind of frame that output is sent in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    Binary,
}

/// The head of the response that accepts a handshake. The first protocol that a client names is taken, as Go does.
pub fn accept(headers: &HeaderMap) -> Result<String, BadHandshake> {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let upgrades = value(CONNECTION).split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    if !upgrades || !value(UPGRADE).eq_ignore_ascii_case("websocket") {
        return Err(BadHandshake::NotWebSocket);
    }
    if value(SEC_WEBSOCKET_VERSION) != "13" {
        return Err(BadHandshake::Version);
    }
    let key = value(SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return Err(BadHandshake::Key);
    }
    let accept = derive_accept_key(key.as_bytes());
    let protocol = match value(SEC_WEBSOCKET_PROTOCOL).split(',').next().map(str::trim) {
        Some(name) if !name.is_empty() => format!("Sec-WebSocket-Protocol: {name}\r\n"),
        _ => String::new(),
    };
    let common = COMMON_HEADERS.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}{common}\r\n"
    ))
}

/// Carries frames between a client and `stream` until either ends.
pub async fn carry((io, early): Taken, stream: UnixStream, kind: Kind) {
    let config = WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    let socket = WebSocketStream::from_partially_read(io, early.into(), Role::Server, Some(config)).await;
    let (mut sink, mut frames) = socket.split();
    let (mut output, mut input) = stream.into_split();
    let to_client = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = output.read(&mut buffer).await {
            if sink.send(message(kind, &buffer[..count])).await.is_err() {
                return;
            }
        }
        // A client that is gone needs no farewell.
        let _ = sink.close().await;
    };
    let from_client = async {
        while let Some(Ok(frame)) = frames.next().await {
            let written = match frame {
                Message::Text(text) => input.write_all(text.as_bytes()).await,
                Message::Binary(bytes) => input.write_all(&bytes).await,
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
            };
            if written.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = to_client => {}
        () = from_client => {}
    }
}

/// Text must be UTF-8 (RFC 6455, section 5.6); what is not is replaced.
fn message(kind: Kind, bytes: &[u8]) -> Message {
    match kind {
        Kind::Binary => Message::binary(bytes.to_vec()),
        Kind::Text => Message::text(String::from_utf8_lossy(bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_handshake_is_answered_as_the_standard_says() {
        // The example of RFC 6455, section 1.3.
        let head = accept(&headers(&[
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "chat, superchat"),
            ("sec-websocket-version", "13"),
        ]))
        .unwrap();
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Protocol: chat\r\n"), "{head}");
        assert!(head.starts_with("HTTP/1.1 101 ") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
        for (more, error) in [
            (&[][..], BadHandshake::Version),
            (&[("sec-websocket-version", "8")], BadHandshake::Version),
            (&[("sec-websocket-version", "13")], BadHandshake::Key),
        ] {
            assert_eq!(accept(&headers(&[&upgrade, more].concat())), Err(error));
        }
        assert_eq!(accept(&HeaderMap::new()), Err(BadHandshake::NotWebSocket));
    }
}
