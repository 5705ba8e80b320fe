//! What changes a container's state or name.

use std::path::PathBuf;

use http::StatusCode;
use http::header::CONTENT_LENGTH;
use serde_json::json;

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::filters::Filters;
use crate::api::spec::params;
use crate::api::{adapt, moment, respond};
use crate::base::signal;
use crate::base::time::Timestamp;
use crate::container::checkpoints::Wanted;
use crate::container::host_config::HostConfig;
use crate::container::state::{Force, Refusal};
use crate::container::{ContainerError, Published, RemoveOptions, StopOptions, Volumes, links, update};
use crate::runtime::Size;

/// Longer bodies are the start options of very old clients, which would be ignored silently.
const SHORTEST_OPTIONS: u64 = 7;

/// `POST /containers/{id}/start`
pub async fn start(call: Call<params::ContainerStart>) -> Outcome {
    let length = call.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > SHORTEST_OPTIONS) {
        let message = "starting container with non-empty request body was deprecated since API v1.22 and removed in \
                       v1.24";
        return Err(ApiError::invalid(message));
    }
    let handle = call.engine.containers.resolve(&call.params.id)?;
    match call.params.checkpoint.as_deref().filter(|name| !name.is_empty()) {
        None => handle.start().await?,
        Some(name) => {
            let name = name.to_owned();
            let dir = call.params.checkpoint_dir.clone().filter(|dir| !dir.is_empty());
            let wanted = Wanted { term: call.params.id.clone(), name, dir: dir.map(PathBuf::from) };
            handle.start_from_checkpoint(call.engine.parts(), &wanted).await?;
        }
    }
    Ok(respond::no_content())
}

/// `POST /containers/{id}/stop`
pub async fn stop(call: Call<params::ContainerStop>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let options = stop_options(call.params.signal.as_deref(), call.params.t)?;
    match handle.stop(options).await {
        Err(ContainerError::Refused(_, Refusal::NotRunning)) => Ok(respond::empty(StatusCode::NOT_MODIFIED)),
        other => other.map(|()| respond::no_content()).map_err(ApiError::from),
    }
}

/// `POST /containers/{id}/restart`
pub async fn restart(call: Call<params::ContainerRestart>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let options = stop_options(call.params.signal.as_deref(), call.params.t)?;
    // dockerd says what it was about to do, and forgets what kind of failure it was.
    let failed = |error| ApiError::internal(format!("Cannot restart container {}: {error}", call.params.id));
    handle.restart(options).await.map(|()| respond::no_content()).map_err(failed)
}

fn stop_options(signal: Option<&str>, grace: Option<i64>) -> Result<StopOptions, ApiError> {
    Ok(StopOptions { signal: signal.map(named_signal).transpose()?, grace, ..StopOptions::default() })
}

fn named_signal(name: &str) -> Result<i32, ApiError> {
    signal::parse(name).ok_or_else(|| ApiError::invalid(format!("invalid signal: {name}")))
}

/// `POST /containers/{id}/kill`
pub async fn kill(call: Call<params::ContainerKill>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id).map_err(|error| {
        // dockerd names what it was about to do before everything else.
        let error = ApiError::from(error);
        ApiError { message: format!("cannot kill container: {}: {}", call.params.id, error.message), ..error }
    })?;
    handle.kill(named_signal(&call.params.signal)?).await?;
    Ok(respond::no_content())
}

/// `POST /containers/{id}/pause`
pub async fn pause(call: Call<params::ContainerPause>) -> Outcome {
    call.engine.containers.resolve(&call.params.id)?.pause().await?;
    Ok(respond::no_content())
}

/// `POST /containers/{id}/unpause`
pub async fn unpause(call: Call<params::ContainerUnpause>) -> Outcome {
    call.engine.containers.resolve(&call.params.id)?.resume().await?;
    Ok(respond::no_content())
}

/// `POST /containers/{id}/rename`
pub async fn rename(call: Call<params::ContainerRename>) -> Outcome {
    call.engine.rename_container(&call.params.id, &call.params.name).await?;
    Ok(respond::no_content())
}

/// `POST /containers/{id}/update`
pub async fn update(mut call: Call<params::ContainerUpdate>) -> Outcome {
    let mut wanted: HostConfig = call.json().await?;
    adapt::update(&mut wanted, call.version);
    let warnings = update::check(&mut wanted, &call.engine.host)?;
    call.engine.containers.resolve(&call.params.id)?.update(wanted).await?;
    Ok(respond::json(StatusCode::OK, &json!({ "Warnings": warnings })))
}

/// `POST /containers/{id}/resize`
pub async fn resize(call: Call<params::ContainerResize>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id)?;
    handle.resize(size(call.params.h, call.params.w)).await?;
    Ok(respond::empty(StatusCode::OK))
}

/// The kernel's terminals count in 16 bits.
pub fn size(rows: u32, columns: u32) -> Size {
    let fitting = |count| u16::try_from(count).unwrap_or(u16::MAX);
    Size { rows: fitting(rows), columns: fitting(columns) }
}

/// `DELETE /containers/{id}`
pub async fn delete(call: Call<params::ContainerDelete>) -> Outcome {
    if call.params.link {
        links::remove(&call.engine.containers, &call.params.id).await?;
        return Ok(respond::no_content());
    }
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let force = if call.params.force { Force::Kill } else { Force::OnlyStopped };
    let volumes = if call.params.v { Volumes::RemoveAnonymous } else { Volumes::Keep };
    handle.remove(RemoveOptions { force, volumes }).await?;
    Ok(respond::no_content())
}

/// `POST /containers/prune`
pub async fn prune(call: Call<params::ContainerPrune>) -> Outcome {
    let filters = &call.params.filters;
    filters.allow(&["label", "label!", "until"])?;
    let until = filters.single("until")?.map(|until| moment::before(until, Timestamp::now())).transpose()?;
    let matches =
        |now: &Published| until.is_none_or(|until| now.record.created < until) && has_labels(filters, now);
    let pruned = call.engine.prune_containers(matches).await;
    let deleted = (!pruned.removed.is_empty()).then_some(pruned.removed);
    let reply = json!({ "ContainersDeleted": deleted, "SpaceReclaimed": pruned.reclaimed });
    Ok(respond::json(StatusCode::OK, &reply))
}

fn has_labels(filters: &Filters, now: &Published) -> bool {
    let label = |key: &str| now.record.config.labels.get(key).map(String::as_str);
    filters.labels("label", label) && filters.without_labels("label!", label)
}
