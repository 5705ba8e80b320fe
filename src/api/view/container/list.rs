//! One container of `GET /containers/json`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::mount::{MountView, mounts};
use super::network::{Detail, Endpoint, PortView, endpoints, ports};
use super::status::{health_word, sentence};
use super::{Shown, Size, Surroundings};
use crate::api::versions::{ApiVersion, Feature};
use crate::base::digest::Digest;
use crate::container::record::Record;
use crate::container::state::State;
use crate::registry::manifest::Descriptor;

/// `ContainerSummary` of the Engine API.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary<'a> {
    id: &'a str,
    names: Vec<&'a str>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: &'a Digest,
    command: String,
    /// Seconds.
    created: i64,
    ports: Vec<PortView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    labels: &'a BTreeMap<String, String>,
    state: &'static str,
    status: String,
    host_config: HostView<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
    network_settings: Networks<'a>,
    mounts: Vec<MountView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_manifest_descriptor: Option<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostView<'a> {
    network_mode: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Networks<'a> {
    networks: BTreeMap<String, Endpoint<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: &'static str,
    failing_streak: u32,
}

/// The container's entry in a list; `links` are the names that it has from others' links.
pub fn summary<'a>(
    shown: Shown<'a>,
    links: &'a [String],
    size: Option<Size>,
    around: &dyn Surroundings,
    version: ApiVersion,
) -> Summary<'a> {
    let record = shown.record;
    let annotations = &record.host_config.annotations;
    let shows_annotations = version.has(Feature::ListAnnotations) && !annotations.is_empty();
    let manifest = || around.manifest(record);
    let mut names: Vec<&str> = links.iter().map(String::as_str).chain([record.name.as_str()]).collect();
    names.sort_unstable();
    Summary {
        id: record.id.as_str(),
        names,
        image: image(record, around),
        image_id: &record.image,
        command: command(&record.args),
        created: record.created.seconds(),
        ports: ports(shown),
        size_rw: size.map(|size| size.writable),
        size_root_fs: size.map(|size| size.total),
        labels: &record.config.labels,
        state: shown.state.status(),
        status: sentence(shown.state, around.now()),
        host_config: HostView {
            network_mode: &record.host_config.network_mode,
            annotations: shows_annotations.then_some(annotations),
        },
        health: version.has(Feature::ListHealth).then(|| health(shown.state)),
        network_settings: Networks { networks: endpoints(shown, around, Detail::Addresses) },
        mounts: mounts(record),
        image_manifest_descriptor: version.has(Feature::ImageManifestDescriptor).then(manifest).flatten(),
    }
}

fn health(state: &State) -> Health {
    let failing_streak = state.health.as_ref().map_or(0, |health| health.failing_streak);
    Health { status: health_word(state), failing_streak }
}

/// The image as it was asked for while that still stands for the same image, else its digest.
fn image(record: &Record, around: &dyn Surroundings) -> String {
    let asked = &record.config.image;
    match around.image(asked) {
        Some(digest) if digest == record.image => asked.clone(),
        _ => record.image.to_string(),
    }
}

/// Words with spaces are quoted, for people.
fn command(args: &[String]) -> String {
    let quoted = args.iter().enumerate().map(|(index, word)| match word.contains(' ') && index > 0 {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}
