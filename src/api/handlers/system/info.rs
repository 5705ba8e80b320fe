//! `GET /info` and `GET /version`.

use http::StatusCode;

use crate::api::call::{Call, Outcome};
use crate::api::respond;
use crate::api::spec::params;
use crate::api::view;
use crate::api::view::info::{ContainerCounts, Sources};
use crate::container::cdi::Catalogue;
use crate::container::state::Phase;
use crate::engine::Engine;

/// `GET /info`
pub async fn info(call: Call<params::SystemInfo>) -> Outcome {
    let engine = &call.engine;
    let dirs = engine.config.cdi_spec_dirs.clone();
    let devices = tokio::task::spawn_blocking(move || Catalogue::read(&dirs)).await.unwrap_or_default();
    let sources = Sources {
        id: &engine.id,
        host: &engine.host,
        config: &engine.config,
        containers: containers(engine),
        images: visible_images(engine),
        listeners: engine.events.listeners(),
        devices: &devices,
    };
    Ok(respond::json(StatusCode::OK, &view::info::info(&sources, call.version)))
}

fn containers(engine: &Engine) -> ContainerCounts {
    let mut counts = ContainerCounts::default();
    for handle in engine.containers.all() {
        match handle.snapshot().state.phase {
            Phase::Running | Phase::Restarting => counts.running += 1,
            Phase::Paused => counts.paused += 1,
            Phase::Created | Phase::Starting | Phase::Exited | Phase::Removing | Phase::Dead => {
                counts.stopped += 1
            }
        }
    }
    counts
}

fn visible_images(engine: &Engine) -> usize {
    let state = engine.images.state();
    state.targets().filter(|target| state.is_visible(&target.descriptor.digest)).count()
}

/// `GET /version`
pub async fn version(call: Call<params::SystemVersion>) -> Outcome {
    Ok(respond::json(
        StatusCode::OK,
        &view::version::version(&call.engine.host, call.engine.config.experimental),
    ))
}
