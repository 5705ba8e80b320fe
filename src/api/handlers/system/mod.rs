//! Operations of the tag System.

mod auth;
mod events;
mod info;
mod usage;

pub use auth::auth;
pub use events::events;
pub use info::{info, version};
pub use usage::data_usage;

use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, PRAGMA};
use http::{HeaderValue, StatusCode};

use crate::api::call::{Call, Outcome};
use crate::api::respond;
use crate::api::spec::params;
use crate::engine::Engine;

/// `GET /_ping`
pub async fn ping(call: Call<params::SystemPing>) -> Outcome {
    Ok(with_ping_headers(respond::bytes(StatusCode::OK, PLAIN, "OK"), &call.engine))
}

/// `HEAD /_ping`
pub async fn ping_head(call: Call<params::SystemPingHead>) -> Outcome {
    let mut response = respond::bytes(StatusCode::OK, PLAIN, "");
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    Ok(with_ping_headers(response, &call.engine))
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn with_ping_headers(mut response: Response, engine: &Engine) -> Response {
    let headers = response.headers_mut();
    if engine.config.experimental {
        headers.insert("Docker-Experimental", HeaderValue::from_static("true"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("Builder-Version", HeaderValue::from_static("2"));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    response
}
