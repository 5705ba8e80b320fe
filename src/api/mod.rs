//! The only place that knows HTTP and Docker's JSON.
//!
//! # How to add a handler
//!
//! Each operation of the specification is a variant of [`spec::Operation`] and has a struct of decoded parameters of
//! the same name in [`spec::params`]. To serve one, write in the file of its tag in `handlers/`
//!
//! ```ignore
//! pub async fn inspect(call: Call<params::ContainerInspect>) -> Outcome {
//!     let container = call.engine.containers.resolve(&call.params.id)?;       // `?`: a From in error.rs
//!     Ok(respond::json(StatusCode::OK, &view::container::inspect(&container, call.version)))
//! }
//! ```
//!
//! and move the operation in `bind.rs` out of the `not_yet` block: `ContainerInspect => containers::inspect,`.
//!
//! - The request: `call.params`, `call.version.has(Feature::…)` (never compare numbers; add a row in `versions.rs`),
//!   `call.json::<T>().await?`, `call.json_or_default::<T>().await?`, `call.body_reader().await`,
//!   `call.upload().await`,
//!   `call.registry_auth()?`, filters: `call.params.filters.allow(&["label", "name"])?`, then `exact`, `prefix`,
//!   `pattern`, `labels`.
//! - The answer: `respond::{json, no_content, empty, bytes, json_stream, json_lines, channel, raw_stream}`.
//! - Errors: `impl From<YourError> for ApiError` in `error.rs`, a wildcard-free match that chooses the status.
//! - attach and exec: `let client = call.hijack(Framing::Multiplexed).await?` gives the client's socket.
//! - Handlers run in tasks of their own. Those of [`lifetime::Lifetime::Client`] are cancelled when the client goes;
//!   the others finish what they began. A streamed body is dropped with its client: its sender sees `closed()`.

pub mod adapt;
pub mod archive;
pub mod auth_header;
pub mod bind;
pub mod body;
mod body_reader;
pub mod call;
pub mod client_io;
pub mod conformance;
pub mod connection;
pub mod decode;
pub mod detach_keys;
pub mod error;
pub mod filters;
pub mod handlers;
pub mod hijack;
mod leftover;
pub mod lifetime;
mod loan;
pub mod moment;
mod request_line;
pub mod respond;
pub mod routing;
pub mod spec;
pub mod transfers;
pub mod unix_io;
pub mod versions;
pub mod view;
pub mod websocket;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use crate::api::call::Incoming;
use crate::api::decode::Form;
use crate::api::error::ApiError;
use crate::api::handlers::containers::Lists;
use crate::api::hijack::Connection;
use crate::api::leftover::Leftover;
use crate::api::routing::Matched;
use crate::api::spec::{NEWEST_VERSION, Route};
use crate::api::versions::{ApiVersion, SERVER, UnsupportedVersion};
use crate::base::path::clean;
use crate::engine::Engine;

/// The API of one engine.
pub struct Api {
    engine: Arc<Engine>,
    lists: Arc<Lists>,
}

/// A url-encoded body is small: it stands for a query.
const FORM_LIMIT: usize = 1 << 20;

impl Api {
    pub fn new(engine: Arc<Engine>) -> Arc<Self> {
        Arc::new(Self { engine, lists: Arc::default() })
    }

    /// Answers one request. Never fails and never panics: whatever a handler does ends in a response.
    pub async fn handle(&self, request: Request<Body>) -> Response {
        let mut response = match request.method() {
            &Method::OPTIONS => respond::empty(StatusCode::OK),
            _ => self.answer(request).await,
        };
        for (name, value) in COMMON_HEADERS {
            response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        response
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        let path = percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
        if let Some(clean) = redirection(&path, request.uri().query()) {
            return clean;
        }
        let (version, rest) = versions::split_prefix(&path);
        let version = match version.map_or(Ok(ApiVersion::NEWEST), ApiVersion::parse) {
            Ok(version) => version,
            Err(error) => return refuse(error),
        };
        let Some(matched) = routing::find(request.method().as_str(), rest) else {
            return ApiError::no_such_page().into_response();
        };
        match self.incoming(request, version, matched).await {
            Ok(incoming) => lifetime::run(incoming).await,
            Err(error) => error.into_response(),
        }
    }

    async fn incoming(
        &self,
        request: Request<Body>,
        version: ApiVersion,
        matched: Matched,
    ) -> Result<Incoming, ApiError> {
        let Matched { route, names } = matched;
        let (parts, body) = request.into_parts();
        let mut body = Leftover::of(body);
        let mut form = Form::parse(parts.uri.query().unwrap_or_default())?;
        if is_form(route, &parts) {
            let bytes = body::read(std::mem::take(&mut body), FORM_LIMIT).await?;
            form = form.with_body(Form::parse(&String::from_utf8_lossy(&bytes))?);
        }
        let connection = parts.extensions.get::<Connection>().cloned();
        let Route { operation, .. } = *route;
        let (engine, lists) = (self.engine.clone(), self.lists.clone());
        let headers = parts.headers;
        Ok(Incoming { engine, version, operation, names, form, headers, body, connection, lists })
    }
}

/// Whether the body holds parameters, as curl sends them. An operation that has a body of its own keeps it, whatever
/// its type claims to be: `curl --data-binary @image.tar` says it is a form.
fn is_form(route: &Route, parts: &http::request::Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let form = kind.is_some_and(|kind| kind.starts_with(b"application/x-www-form-urlencoded"));
    form && !route.has_body && matches!(parts.method, Method::POST | Method::PUT)
}

/// The headers of every response.
pub(crate) const COMMON_HEADERS: [(&str, &str); 4] = [
    ("Api-Version", NEWEST_VERSION),
    ("Docker-Experimental", "false"),
    ("Ostype", "linux"),
    ("Server", SERVER),
];

/// A path with empty, `.` or `..` parts is answered with where it leads, as Go's router does: clients that ask for a
/// thing without a name get the list instead.
fn redirection(path: &str, query: Option<&str>) -> Option<Response> {
    let destination = destination(path);
    if destination == path {
        return None;
    }
    let target = query.map_or_else(|| destination.clone(), |query| format!("{destination}?{query}"));
    let mut response = respond::empty(StatusCode::MOVED_PERMANENTLY);
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(LOCATION, target);
    }
    Some(response)
}

fn destination(path: &str) -> String {
    let mut destination = clean(path);
    if path.ends_with('/') && destination != "/" {
        destination.push('/');
    }
    destination
}

/// What came before 1.24 had errors as text, and such clients expect it.
fn refuse(error: UnsupportedVersion) -> Response {
    match error {
        UnsupportedVersion::TooNew(_) => ApiError::from(error).into_response(),
        UnsupportedVersion::TooOld(_) => {
            respond::bytes(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", format!("{error}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, expected) in [
            ("/containers//json", "/containers/json"),
            ("/a/./b/../c", "/a/c"),
            ("/networks/", "/networks/"),
            ("/", "/"),
            ("", "/"),
            ("/../x", "/x"),
        ] {
            assert_eq!(destination(path), expected, "{path}");
        }
    }
}
