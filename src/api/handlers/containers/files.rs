//! A container's files: `docker cp`, `docker export`, `docker diff`.

use axum::response::Response;
use http::{HeaderValue, StatusCode};

use crate::api::archive::{self, Encoding};
use crate::api::call::{Call, Outcome};
use crate::api::decode::is_true;
use crate::api::error::ApiError;
use crate::api::respond;
use crate::api::spec::params;
use crate::api::transfers::Turn;
use crate::api::view::files as view;
use crate::container::files::{ExtractRequest, Ownership, PathStat};
use crate::snapshot::Overwrite;

const PATH_STAT: &str = "X-Docker-Container-Path-Stat";

/// `HEAD /containers/{id}/archive`
pub async fn archive_info(call: Call<params::ContainerArchiveInfo>) -> Outcome {
    let params::ContainerArchiveInfo { id, path } = call.params;
    let path = named(path)?;
    let handle = call.engine.containers.resolve(&id)?;
    let stat = handle.stat_path(call.engine.parts(), path, id).await?;
    with_stat(respond::empty(StatusCode::OK), &stat)
}

/// `GET /containers/{id}/archive`
pub async fn archive(call: Call<params::ContainerArchive>) -> Outcome {
    let encoding = Encoding::wanted(&call.headers);
    let params::ContainerArchive { id, path } = call.params;
    let path = named(path)?;
    let handle = call.engine.containers.resolve(&id)?;
    let turn = Turn::take().await;
    let (stat, archive) = handle.archive_path(call.engine.parts(), path, id).await?;
    let body = archive::respond(respond::TAR, encoding, turn, move |sink| archive.write_to(sink).map(drop));
    with_stat(body, &stat)
}

/// `PUT /containers/{id}/archive`
pub async fn put_archive(mut call: Call<params::PutContainerArchive>) -> Outcome {
    let archive = call.upload().await;
    let params::PutContainerArchive { id, copy_uidgid, no_overwrite_dir_non_dir, path } = call.params;
    let asked = |value: Option<String>| value.as_deref().is_some_and(is_true);
    let path = named(path)?;
    let handle = call.engine.containers.resolve(&id)?;
    let request = ExtractRequest {
        path,
        term: id,
        overwrite: if asked(no_overwrite_dir_non_dir) { Overwrite::SameKind } else { Overwrite::Anything },
        ownership: if asked(copy_uidgid) { Ownership::ContainerUser } else { Ownership::Archive },
    };
    handle.extract(call.engine.parts(), request, archive).await?;
    Ok(respond::empty(StatusCode::OK))
}

/// `GET /containers/{id}/export`
pub async fn export(call: Call<params::ContainerExport>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let turn = Turn::take().await;
    let export = handle.export(call.engine.parts()).await?;
    let write = move |sink: &mut dyn std::io::Write| export.write_to(sink).map(drop);
    Ok(archive::respond("application/octet-stream", Encoding::Identity, turn, write))
}

/// `GET /containers/{id}/changes`
pub async fn changes(call: Call<params::ContainerChanges>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let changes = handle.changes(call.engine.parts()).await?;
    Ok(respond::json(StatusCode::OK, &view::changes(&changes)))
}

/// An absent path is refused in dockerd's words, with its slip.
fn named(path: String) -> Result<String, ApiError> {
    if path.is_empty() { Err(ApiError::invalid("bad parameter: pathcannot be empty")) } else { Ok(path) }
}

fn with_stat(mut response: Response, stat: &PathStat) -> Outcome {
    let value = HeaderValue::from_str(&view::path_stat(stat));
    let value = value.map_err(|error| ApiError::internal(error.to_string()))?;
    response.headers_mut().insert(PATH_STAT, value);
    Ok(response)
}
