//! Reads request bodies: content-type rules and JSON with dockerd's messages.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::base::json::from_value;

/// The largest JSON document that is read. The largest honest one carries a seccomp profile or a swarm's config.
pub const JSON_LIMIT: usize = 16 << 20;

/// What is wrong with a body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("malformed Content-Type header (): mime: no media type")]
    NoContentType,
    #[error("unsupported Content-Type header ({header}): must be 'application/json'")]
    ContentType { header: String },
    #[error("invalid JSON: {0}")]
    Json(String),
    #[error("unexpected content after JSON")]
    Trailing,
    #[error("request body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("reading the request body failed: {0}")]
    Interrupted(String),
}

/// What an absent body means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// The same as `{}`.
    Empty,
    /// An error.
    Refused,
}

/// Reads one JSON document; `null` is the same as `{}`.
pub async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    absent: Absent,
) -> Result<T, BodyError> {
    check_content_type(headers)?;
    let bytes = read(body, JSON_LIMIT).await?;
    if bytes.trim_ascii().is_empty() {
        return match absent {
            Absent::Empty => parse(b"{}"),
            Absent::Refused => Err(BodyError::Json("EOF".to_owned())),
        };
    }
    parse(&bytes)
}

/// Reads a whole body of at most `limit` bytes.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit }),
        Err(error) => Err(BodyError::Interrupted(error.to_string())),
    }
}

/// JSON is asked for if there is a body; without one, any or no type is fine.
fn check_content_type(headers: &HeaderMap) -> Result<(), BodyError> {
    let header =
        headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let Some(header) = header.filter(|header| !header.is_empty()) else {
        return match has_body(headers) {
            true => Err(BodyError::NoContentType),
            false => Ok(()),
        };
    };
    let kind = header.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(BodyError::ContentType { header })
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).map(|value| value.as_bytes());
    length.is_some_and(|length| length != b"0") || headers.contains_key(http::header::TRANSFER_ENCODING)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    let refused = |error| BodyError::Json(in_gos_words(&error));
    let mut documents = serde_json::Deserializer::from_slice(bytes);
    let document = match Value::deserialize(&mut documents).map_err(refused)? {
        Value::Null => json!({}),
        document => document,
    };
    let value = from_value(document).map_err(refused)?;
    match documents.end() {
        Ok(()) => Ok(value),
        Err(_) => Err(BodyError::Trailing),
    }
}

fn in_gos_words(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected EOF".to_owned() } else { error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug, PartialEq, Default)]
    #[serde(default)]
    struct Sample {
        #[serde(rename = "Name")]
        name: String,
    }

    async fn read_sample(kind: Option<&str>, text: &'static str, absent: Absent) -> Result<Sample, String> {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        }
        if !text.is_empty() {
            headers.insert(CONTENT_LENGTH, text.len().into());
        }
        json(&headers, Body::from(text), absent).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn bodies_are_refused_in_dockerds_words() {
        for (kind, text, message) in [
            (Some("application/json"), "", "invalid JSON: EOF"),
            (None, "", "invalid JSON: EOF"),
            (Some("application/json"), "{", "invalid JSON: unexpected EOF"),
            (Some("application/json"), "{}{}", "unexpected content after JSON"),
            (None, "{}", "malformed Content-Type header (): mime: no media type"),
            (
                Some("text/plain"),
                "{}",
                "unsupported Content-Type header (text/plain): must be 'application/json'",
            ),
        ] {
            assert_eq!(read_sample(kind, text, Absent::Refused).await.unwrap_err(), message, "{text}");
        }
        let wrong =
            read_sample(Some("application/json"), r#"{"Name":1}"#, Absent::Refused).await.unwrap_err();
        assert!(wrong.starts_with("invalid JSON: "), "{wrong}");
    }

    #[tokio::test]
    async fn null_and_unknown_fields_are_fine() {
        let json = Some("application/json; charset=utf-8");
        for text in ["null", "{}", r#"{"Other":1}"#, " null "] {
            assert_eq!(read_sample(json, text, Absent::Refused).await.unwrap(), Sample::default(), "{text}");
        }
        assert_eq!(read_sample(None, "", Absent::Empty).await.unwrap(), Sample::default());
    }
}
