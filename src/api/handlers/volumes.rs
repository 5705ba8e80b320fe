//! Operations of the tag Volume.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::filters::{Filters, Patterns};
use crate::api::respond;
use crate::api::spec::params;
use crate::api::versions::Feature;
use crate::api::view::volume::View;
use crate::volume::{CreateVolume, DRIVER, Missing, Volume, VolumeError, Volumes};

/// `GET /volumes`
pub async fn list(call: Call<params::VolumeList>) -> Outcome {
    let filters = &call.params.filters;
    filters.allow(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.boolean("dangling")?;
    let (volumes, names) = (&call.engine.volumes, filters.patterns("name"));
    let listed: Vec<Arc<Volume>> = (volumes.list().into_iter())
        .filter(|volume| matches(volume, filters, &names))
        .filter(|volume| dangling.is_none_or(|wanted| volumes.users(&volume.name).is_empty() == wanted))
        .collect();
    let views: Vec<View<'_>> = listed.iter().map(|volume| View::new(volume)).collect();
    Ok(respond::json(StatusCode::OK, &json!({ "Volumes": views, "Warnings": null })))
}

fn matches(volume: &Volume, filters: &Filters, names: &Patterns) -> bool {
    filters.exact("driver", DRIVER)
        && names.matches(&volume.name)
        && filters.labels("label", |key| volume.labels.get(key).map(String::as_str))
}

/// The body of `POST /volumes/create`; `null` is the same as absent everywhere.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    name: Option<String>,
    driver: Option<String>,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    cluster_volume_spec: Option<Value>,
}

/// `POST /volumes/create`
pub async fn create(mut call: Call<params::VolumeCreate>) -> Outcome {
    let body: CreateBody = call.json_or_default().await?;
    if body.cluster_volume_spec.is_some() {
        let message = "volume is a cluster volume, but this node is not a swarm manager";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message));
    }
    let wanted = CreateVolume {
        name: body.name,
        driver: body.driver,
        options: body.driver_opts.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
        user: None,
    };
    let volume = blocking(&call.engine.volumes, move |volumes| volumes.create(wanted)).await?;
    Ok(respond::json(StatusCode::CREATED, &View::new(&volume)))
}

/// `GET /volumes/{name}`
pub async fn inspect(call: Call<params::VolumeInspect>) -> Outcome {
    let volume = call.engine.volumes.get(&call.params.name)?;
    Ok(respond::json(StatusCode::OK, &View::new(&volume)))
}

/// `DELETE /volumes/{name}`
pub async fn delete(call: Call<params::VolumeDelete>) -> Outcome {
    let params::VolumeDelete { name, force } = call.params;
    let missing = if force { Missing::Fine } else { Missing::Error };
    blocking(&call.engine.volumes, move |volumes| volumes.remove(&name, missing)).await?;
    Ok(respond::no_content())
}

/// `POST /volumes/prune`
pub async fn prune(call: Call<params::VolumePrune>) -> Outcome {
    let filters = call.params.filters;
    filters.allow(&["all", "label", "label!"])?;
    let all = filters.boolean("all")?.unwrap_or(!call.version.has(Feature::PruneAnonymousVolumes));
    let wanted = move |volume: &Volume| {
        let label = |key: &str| volume.labels.get(key).map(String::as_str);
        (all || volume.is_anonymous())
            && filters.labels("label", label)
            && filters.without_labels("label!", label)
    };
    let pruned = blocking(&call.engine.volumes, move |volumes| volumes.prune(wanted)).await?;
    let body = json!({ "VolumesDeleted": pruned.names, "SpaceReclaimed": pruned.reclaimed });
    Ok(respond::json(StatusCode::OK, &body))
}

/// Runs what works on files where it keeps no other request waiting.
async fn blocking<T: Send + 'static>(
    volumes: &Arc<Volumes>,
    work: impl FnOnce(&Volumes) -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, ApiError> {
    let volumes = volumes.clone();
    let done = tokio::task::spawn_blocking(move || work(&volumes)).await;
    Ok(done.map_err(|error| ApiError::internal(error.to_string()))??)
}
