//! `GET /containers/{id}/json`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::mount::{MountView, mounts};
use super::network::{NetworkView, settings};
use super::{Shown, Size, Surroundings};
use crate::api::versions::{ApiVersion, Feature};
use crate::base::digest::Digest;
use crate::base::id::ExecId;
use crate::base::time::Timestamp;
use crate::container::config::ContainerConfig;
use crate::container::health::Health;
use crate::container::host_config::HostConfig;
use crate::container::record::Record;
use crate::container::state::{Phase, State};
use crate::registry::manifest::Descriptor;

/// What dockerd calls the driver of containers' root file systems when images are content-addressed.
const DRIVER: &str = "overlayfs";

/// Where a container's files are, and what only inspect shows.
pub struct Place<'a> {
    /// Holds `hosts`, `hostname`, `resolv.conf` and the writable layer.
    pub dir: &'a Path,
    /// Where its root is mounted while it runs.
    pub rootfs: &'a Path,
    /// Its log, if its driver keeps a file.
    pub log: Option<&'a Path>,
    /// Processes that were added to it and run.
    pub execs: &'a [ExecId],
    pub size: Option<Size>,
    /// The AppArmor profile of a container that has run.
    pub app_armor_profile: Option<&'a str>,
}

/// The response.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected<'a> {
    id: &'a str,
    created: Timestamp,
    path: &'a str,
    args: &'a [String],
    state: StateView<'a>,
    image: &'a Digest,
    resolv_conf_path: String,
    hostname_path: String,
    hosts_path: String,
    log_path: String,
    name: &'a str,
    restart_count: u32,
    driver: &'static str,
    platform: &'a str,
    mount_label: &'static str,
    process_label: &'static str,
    app_armor_profile: &'a str,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<&'a str>>,
    host_config: Cow<'a, HostConfig>,
    graph_driver: GraphDriver,
    storage: Storage,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    mounts: Vec<MountView<'a>>,
    config: &'a ContainerConfig,
    network_settings: NetworkView<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_manifest_descriptor: Option<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StateView<'a> {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: i32,
    exit_code: i32,
    error: &'a str,
    started_at: Timestamp,
    finished_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<&'a Health>,
}

/// Tools look for a running container's files here; 1.52 has `Storage` in its place.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: BTreeMap<&'static str, String>,
    name: &'static str,
}

#[derive(Serialize)]
struct Storage {
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    snapshot: Snapshot,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Snapshot {
    name: &'static str,
}

/// The response for one container.
pub fn inspect<'a>(
    shown: Shown<'a>,
    place: &Place<'a>,
    around: &dyn Surroundings,
    version: ApiVersion,
) -> Inspected<'a> {
    let record = shown.record;
    let (path, args) = record.args.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    // They are written by the first start.
    let file = |name: &str| if shown.was_set_up() { text(&place.dir.join(name)) } else { String::new() };
    let manifest = || around.manifest(record);
    Inspected {
        id: record.id.as_str(),
        created: record.created,
        path,
        args,
        state: state(shown),
        image: &record.image,
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: place.log.filter(|_| shown.was_set_up()).map(text).unwrap_or_default(),
        name: &record.name,
        restart_count: shown.state.restart_count,
        driver: DRIVER,
        platform: record.platform.split('/').next().unwrap_or_default(),
        mount_label: "",
        process_label: "",
        app_armor_profile: place.app_armor_profile.unwrap_or_default(),
        exec_ids: (!place.execs.is_empty()).then(|| place.execs.iter().map(ExecId::as_str).collect()),
        host_config: host_config(record, around),
        graph_driver: graph_driver(place),
        storage: Storage { root_fs: RootFs { snapshot: Snapshot { name: DRIVER } } },
        size_rw: place.size.map(|size| size.writable),
        size_root_fs: place.size.map(|size| size.total),
        mounts: mounts(record),
        config: &record.config,
        network_settings: settings(shown, around, version),
        image_manifest_descriptor: version.has(Feature::ImageManifestDescriptor).then(manifest).flatten(),
    }
}

fn state(shown: Shown<'_>) -> StateView<'_> {
    let State { pid, exit_code, error, oom_killed, started_at, finished_at, health, .. } = shown.state;
    let phase = shown.state.shown();
    StateView {
        status: shown.state.status(),
        running: shown.is_running(),
        paused: phase == Phase::Paused,
        restarting: phase == Phase::Restarting,
        oom_killed: *oom_killed,
        dead: phase == Phase::Dead,
        pid: pid.unwrap_or(0),
        exit_code: *exit_code,
        error,
        started_at: *started_at,
        finished_at: *finished_at,
        health: health.as_ref(),
    }
}

fn host_config<'a>(record: &'a Record, around: &dyn Surroundings) -> Cow<'a, HostConfig> {
    match around.links(record) {
        None => Cow::Borrowed(&record.host_config),
        links => Cow::Owned(HostConfig { links, ..record.host_config.clone() }),
    }
}

fn graph_driver(place: &Place<'_>) -> GraphDriver {
    let data = BTreeMap::from([
        ("MergedDir", text(place.rootfs)),
        ("UpperDir", text(&place.dir.join("upper"))),
        ("WorkDir", text(&place.dir.join("work"))),
    ]);
    GraphDriver { data, name: DRIVER }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
