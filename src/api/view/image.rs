//! Images as lists, inspection and history show them, and the messages of progress streams.
//!
//! As dockerd with the containerd image store: `Id` is the digest of what the name stands for, and every name gives
//! a digest of its repository. Lists are never null; what inspection leaves out or gives as null depends on the
//! version.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::versions::{ApiVersion, Feature};
use crate::base::time::Timestamp;
use crate::image::assemble::Variant;
use crate::image::{History, Image, Progress, Removed, RunConfig, State, Target};
use crate::registry::Reference;
use crate::snapshot::{ChainId, Snapshots};

const NONE: &str = "<none>";

/// What a list adds to each image.
pub struct Counts {
    /// How many images have each layer, if shared sizes are wanted.
    pub shared: Option<HashMap<ChainId, usize>>,
    /// Whether each image's manifests are listed.
    pub manifests: bool,
}

/// How many images have each layer.
pub fn shared(state: &State) -> HashMap<ChainId, usize> {
    let mut counts = HashMap::new();
    for chain in state.targets().flat_map(|target| target.images()).flat_map(|image| &image.chain) {
        *counts.entry(*chain).or_default() += 1;
    }
    counts
}

/// When the image was made, or else when it came here.
pub fn created(state: &State, target: &Target) -> Timestamp {
    let made = target.image(None).and_then(|image| image.config.created);
    let came = || {
        state.names(&target.descriptor.digest).filter_map(|name| state.record(name)).map(|r| r.created).min()
    };
    made.or_else(came).unwrap_or(Timestamp::UNSET)
}

/// An image in a list, with the names that are to be shown.
pub fn summary(
    state: &State,
    target: &Target,
    names: &[&Reference],
    counts: &Counts,
    used: usize,
    version: ApiVersion,
) -> Value {
    let (mut tags, mut digests) = repositories(names, target);
    if tags.is_empty() && digests.is_empty() && !version.has(Feature::EmptyRepoTags) {
        tags.push(format!("{NONE}:{NONE}"));
        digests.push(format!("{NONE}@{NONE}"));
    }
    let image = target.image(None);
    let shared_size = counts.shared.as_ref().map_or(-1, |shared| {
        let is_shared = |chain: &ChainId| shared.get(chain).is_some_and(|count| *count > 1);
        let chain = image.iter().flat_map(|image| image.chain.iter().zip(&image.unpacked));
        chain.filter(|(chain, _)| is_shared(chain)).map(|(_, size)| *size as i64).sum()
    });
    let size = target.size();
    let mut summary = json!({
        "Containers": if version.has(Feature::ImageContainerCount) { used as i64 } else { -1 },
        "Created": created(state, target).seconds(),
        "Id": target.descriptor.digest,
        "Labels": image.map(|image| &image.config.config.labels).cloned().unwrap_or_default(),
        "ParentId": parent(state, target),
        "RepoDigests": digests,
        "RepoTags": tags,
        "SharedSize": shared_size,
        "Size": size,
    });
    if !version.has(Feature::NoVirtualSize) {
        summary["VirtualSize"] = json!(size);
    }
    if version.has(Feature::ImageDescriptor) {
        summary["Descriptor"] = json!(target.descriptor);
    }
    if counts.manifests {
        summary["Manifests"] = json!(target.variants.iter().map(manifest).collect::<Vec<_>>());
    }
    summary
}

/// `name:tag` of each tag, and `name@digest` of each repository.
fn repositories(names: &[&Reference], target: &Target) -> (Vec<String>, Vec<String>) {
    let tagged = names.iter().filter(|name| name.tag().is_some());
    let tags = tagged.map(|name| name.familiar()).collect();
    let mut digests: Vec<_> =
        names.iter().map(|name| name.with_digest(target.descriptor.digest).familiar()).collect();
    digests.dedup();
    (tags, digests)
}

fn parent(state: &State, target: &Target) -> String {
    let records = state.names(&target.descriptor.digest).filter_map(|name| state.record(name));
    records.filter_map(|record| record.parent).next().map(|id| id.to_string()).unwrap_or_default()
}

/// One entry of `Manifests`.
fn manifest(variant: &Variant) -> Value {
    let descriptor = &variant.descriptor;
    let content = variant.image.as_ref().map_or(0, |image| image.content_size);
    let unpacked = variant.image.as_ref().map_or(0, |image| image.unpacked_size());
    let kind = match (&variant.image, descriptor.is_attestation()) {
        (_, true) => "attestation",
        (Some(_), false) => "image",
        (None, false) => "unknown",
    };
    let mut entry = json!({
        "ID": descriptor.digest,
        "Descriptor": descriptor,
        "Available": variant.image.is_some(),
        "Size": { "Content": content, "Total": content + unpacked },
        "Kind": kind,
    });
    if let Some(image) = &variant.image {
        entry["ImageData"] =
            json!({ "Platform": image.platform, "Containers": [], "Size": { "Unpacked": unpacked } });
    } else if let Some(image) = descriptor.annotations.get("vnd.docker.reference.digest") {
        entry["AttestationData"] = json!({ "For": image });
    }
    entry
}

/// `GET /images/{name}/json`
pub fn inspect(state: &State, image: &Image, version: ApiVersion, manifests: bool) -> Value {
    let Some(target) = state.target(&image.id) else { return Value::Null };
    let names: Vec<_> = state.names(&image.id).filter_map(|name| name.reference()).collect();
    let (tags, digests) = repositories(&names, target);
    let tagged =
        state.names(&image.id).filter_map(|name| state.record(name)).map(|record| record.updated).max();
    let config = &image.config;
    let size = image.size();
    let mut reply = json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": comment(image),
        "Author": config.author,
        "Config": run_config(&config.config, version),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "Metadata": { "LastTagTime": tagged.unwrap_or(Timestamp::UNSET) },
        "GraphDriver": { "Name": "overlayfs", "Data": {} },
        "Parent": parent(state, target),
        "DockerVersion": config.docker_version,
    });
    match config.created {
        Some(created) => reply["Created"] = json!(created),
        None if version.has(Feature::ImageCreatedOmitted) => {}
        None => reply["Created"] = json!(Timestamp::UNSET),
    }
    for (name, value) in [("Variant", &config.variant), ("OsVersion", &config.os_version)] {
        if !value.is_empty() {
            reply[name] = json!(value);
        }
    }
    if version.has(Feature::ImageInspectCompact) {
        drop_empty(&mut reply, &["Parent", "Comment", "DockerVersion", "Author"]);
    }
    if version.has(Feature::StorageField) {
        reply["Storage"] = json!({ "RootFS": { "Snapshot": { "Name": "overlayfs" } } });
    }
    if !version.has(Feature::NoVirtualSize) {
        reply["VirtualSize"] = json!(size);
    }
    // Gone since 1.45, but Compose 1 speaks the newest version and cannot recreate a container without it.
    reply["Container"] = json!("");
    reply["ContainerConfig"] = json!(run_config(&RunConfig::default(), version));
    if version.has(Feature::ImageDescriptor) {
        reply["Descriptor"] = json!(target.descriptor);
        if manifests {
            reply["Manifests"] = json!(target.variants.iter().map(manifest).collect::<Vec<_>>());
        }
    }
    reply
}

fn comment(image: &Image) -> &str {
    let last = image.config.history.last().map(|step| step.comment.as_str());
    if image.config.comment.is_empty() { last.unwrap_or_default() } else { &image.config.comment }
}

fn drop_empty(reply: &mut Value, names: &[&str]) {
    if let Value::Object(map) = reply {
        map.retain(|name, value| !names.contains(&name.as_str()) || value != "");
    }
}

/// `Config`: what is not set is null for older clients, who look for it, and left out for newer ones.
fn run_config(config: &RunConfig, version: ApiVersion) -> Value {
    let mut fields = match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let list_like = ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"];
    let compact = version.has(Feature::ImageInspectCompact);
    for name in list_like {
        // No command is another thing than an empty one.
        let says = |value: &Value| !is_empty(value) || !compact && !value.is_null() && is_command(name);
        match fields.remove(name).filter(says) {
            Some(value) => drop(fields.insert(name.to_owned(), value)),
            None if compact => {}
            None => drop(fields.insert(name.to_owned(), Value::Null)),
        }
    }
    if compact {
        fields.retain(|_, value| value != "");
    }
    if !version.has(Feature::OciImageConfig) {
        for name in ["Hostname", "Domainname", "Image"] {
            fields.insert(name.to_owned(), json!(""));
        }
        for name in ["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"] {
            fields.insert(name.to_owned(), json!(false));
        }
    }
    Value::Object(fields)
}

fn is_command(name: &str) -> bool {
    matches!(name, "Cmd" | "Entrypoint")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// `GET /images/{name}/history`, the newest step first.
pub fn history(state: &State, image: &Image, snapshots: &Snapshots) -> Value {
    let tagged = state.names(&image.id).filter_map(|name| name.reference());
    let tags: Vec<_> = tagged.filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
    let mut layers = image.chain.iter();
    let mut steps: Vec<Value> =
        image.config.history.iter().map(|step| step_view(step, &mut layers, snapshots)).collect();
    // What a configuration says nothing about is there all the same.
    steps.extend(layers.map(|chain| step_of(&History::default(), size(snapshots, chain))));
    if let Some(last) = steps.last_mut() {
        last["Id"] = json!(image.id);
        last["Tags"] = json!(tags);
    }
    steps.reverse();
    Value::Array(steps)
}

fn step_view<'a>(
    step: &History,
    layers: &mut impl Iterator<Item = &'a ChainId>,
    snapshots: &Snapshots,
) -> Value {
    let size = match step.empty_layer {
        true => 0,
        false => layers.next().map_or(0, |chain| size(snapshots, chain)),
    };
    step_of(step, size)
}

fn step_of(step: &History, size: u64) -> Value {
    json!({
        "Id": "<missing>",
        "Created": step.created.map_or(0, Timestamp::seconds),
        "CreatedBy": step.created_by,
        "Tags": null,
        "Size": size,
        "Comment": step.comment,
    })
}

fn size(snapshots: &Snapshots, chain: &ChainId) -> u64 {
    snapshots.find(chain).map_or(0, |layer| layer.size)
}

/// What a removal did.
pub fn removed(removed: &[Removed]) -> Vec<Value> {
    let entry = |removed: &Removed| match removed {
        Removed::Untagged(name) => json!({ "Untagged": name }),
        Removed::Deleted(id) => json!({ "Deleted": id }),
    };
    removed.iter().map(entry).collect()
}

/// One object of a progress stream.
#[derive(Debug, Default, Serialize)]
pub struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    error_detail: Option<Value>,
    /// The same text once more: docker-py reads it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Message {
    /// The end of what failed.
    pub fn error(text: String) -> Self {
        Self { error_detail: Some(json!({ "message": text })), error: Some(text), ..Self::default() }
    }
}

impl From<Progress> for Message {
    fn from(progress: Progress) -> Self {
        let detail = progress.detail.map(|detail| {
            let mut value = json!({ "current": detail.current });
            if let Some(total) = detail.total {
                value["total"] = json!(total);
            }
            value
        });
        // Parts have a detail, if only an empty one.
        let detail = detail.or_else(|| progress.id.as_ref().map(|_| json!({})));
        Self {
            stream: progress.stream,
            status: progress.status.map(|status| status.into_owned()),
            detail,
            id: progress.id.map(|id| id.to_string()),
            ..Self::default()
        }
    }
}
