//! `GET /info` and `GET /version`.

use http::StatusCode;

use crate::api::call::{Call, Outcome};
use crate::api::respond;
use crate::api::spec::params;
use crate::api::view;
use crate::api::view::info::{ContainerCounts, Sources};

/// `GET /info`
pub async fn info(call: Call<params::SystemInfo>) -> Outcome {
    let engine = &call.engine;
    let sources = Sources {
        id: &engine.id,
        host: &engine.host,
        config: &engine.config,
        containers: ContainerCounts::default(),
        images: 0,
        listeners: engine.events.listeners(),
    };
    Ok(respond::json(StatusCode::OK, &view::info::info(&sources, call.version)))
}

/// `GET /version`
pub async fn version(call: Call<params::SystemVersion>) -> Outcome {
    Ok(respond::json(StatusCode::OK, &view::version::version(&call.engine.host)))
}
