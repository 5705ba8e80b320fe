//! `GET /system/df`: what images, containers and volumes take.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::handlers::containers::{Around, file_system_size, shown};
use crate::api::respond;
use crate::api::spec::params;
use crate::api::versions::{ApiVersion, Feature};
use crate::api::view::container as container_view;
use crate::api::view::image::{self as image_view, Counts};
use crate::api::view::usage::{Activity, Item, Report, Usage};
use crate::api::view::volume::{UsageData, View};
use crate::base::digest::Digest;
use crate::base::time::Timestamp;
use crate::container::Handle;
use crate::container::links::LinkNames;
use crate::engine::Engine;
use crate::image::{State, Target};

const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// `GET /system/df`
pub async fn data_usage(call: Call<params::SystemDataUsage>) -> Outcome {
    let (engine, version) = (&call.engine, call.version);
    if let Some(unknown) = call.params.types.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(ApiError::invalid(format!("unknown object type: {unknown}")));
    }
    let wants = |kind: &str| call.params.types.is_empty() || call.params.types.iter().any(|t| t == kind);
    let mut report = Report::default();
    if wants("container") {
        report.containers = Some(containers(engine, version).await);
    }
    if wants("image") {
        report.images = Some(measured(engine, move |engine| images(engine, version)).await?);
    }
    if wants("volume") {
        report.volumes = Some(measured(engine, volumes).await?);
    }
    if wants("build-cache") {
        report.build_cache = Some(Usage::of(Vec::new()));
    }
    let mut reply = match (version.has(Feature::DiskUsageByKind), call.params.verbose) {
        (true, true) => report.with_items(),
        (true, false) => report.numbers_and_lists(),
        (false, _) => report.lists(),
    };
    if !version.has(Feature::BuildCacheParents) {
        reply["BuilderSize"] = json!(0);
    }
    Ok(respond::json(StatusCode::OK, &reply))
}

/// Looks at files where it keeps no other request waiting.
async fn measured(
    engine: &Arc<Engine>,
    work: impl FnOnce(&Engine) -> Usage + Send + 'static,
) -> Result<Usage, ApiError> {
    let engine = engine.clone();
    let done = tokio::task::spawn_blocking(move || work(&engine)).await;
    done.map_err(|error| ApiError::internal(error.to_string()))
}

async fn containers(engine: &Arc<Engine>, version: ApiVersion) -> Usage {
    let mut items = Vec::new();
    let mut containers: Vec<_> = engine.containers.all().iter().map(Handle::snapshot).collect();
    containers.sort_by_key(|now| Reverse(now.record.created));
    let links = LinkNames::given_by(containers.iter().map(Arc::as_ref));
    for now in &containers {
        let size = file_system_size(engine, now).await;
        let one = shown(now);
        let view = json!(container_view::summary(
            one,
            links.of(&now.record.id),
            Some(size),
            &Around { engine, now: Timestamp::now() },
            version
        ));
        let activity = if one.is_running() { Activity::Used } else { Activity::Unused };
        items.push(Item { view, own: size.writable, activity });
    }
    Usage::of(items)
}

fn images(engine: &Engine, version: ApiVersion) -> Usage {
    let state = engine.images.state();
    let mut users: HashMap<Digest, usize> = HashMap::new();
    for handle in engine.containers.all() {
        *users.entry(handle.snapshot().record.image).or_default() += 1;
    }
    let counts = Counts { shared: Some(image_view::shared(&state)), manifests: false };
    let visible = state.targets().filter(|target| state.is_visible(&target.descriptor.digest));
    let items = visible.map(|target| {
        let used = users.get(&target.descriptor.digest).copied().unwrap_or(0);
        image(&state, target, &counts, used, version)
    });
    Usage { items: items.collect(), total: images_size(engine, &state) }
}

fn image(state: &State, target: &Target, counts: &Counts, used: usize, version: ApiVersion) -> Item {
    let names: Vec<_> = state.names(&target.descriptor.digest).filter_map(|name| name.reference()).collect();
    let mut view = image_view::summary(state, target, &names, counts, used, version);
    // Here every version has the number.
    view["Containers"] = json!(used);
    let shared = view["SharedSize"].as_u64().unwrap_or(0);
    let activity = if used > 0 { Activity::Used } else { Activity::Unused };
    Item { own: target.size().saturating_sub(shared), view, activity }
}

/// Bytes of all images together: each blob and each unpacked layer once.
fn images_size(engine: &Engine, state: &State) -> u64 {
    let (mut layers, mut blobs) = (HashMap::new(), HashMap::new());
    for target in state.targets() {
        blobs.insert(target.descriptor.digest, target.descriptor.size);
        for image in target.images() {
            blobs.insert(image.manifest.digest, image.manifest.size);
            blobs.insert(image.config_blob.digest, image.config_blob.size);
            layers.extend(image.chain.iter().copied().zip(image.unpacked.iter().copied()));
            for layer in &image.layers {
                blobs.entry(layer.blob.digest).or_insert_with_key(|digest| {
                    // What is not here takes nothing.
                    engine.images.contents().size(digest).unwrap_or(0)
                });
            }
        }
    }
    layers.values().chain(blobs.values()).sum()
}

fn volumes(engine: &Engine) -> Usage {
    let listed = engine.volumes.list();
    let items = listed.iter().map(|volume| {
        let own = engine.volumes.size(volume);
        let users = engine.volumes.users(&volume.name).len();
        let usage = UsageData {
            ref_count: i64::try_from(users).unwrap_or(i64::MAX),
            size: i64::try_from(own).unwrap_or(i64::MAX),
        };
        let view: Value = json!(View::new(volume).with_usage(usage));
        Item { view, own, activity: if users > 0 { Activity::Used } else { Activity::Unused } }
    });
    Usage::of(items.collect())
}
