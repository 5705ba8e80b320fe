//! What a container takes from its image and from the daemon where its creator says nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::CreateDefaults;
use crate::base::host::{self, CgroupVersion, Host};
use crate::container::config::{ContainerConfig, Empty, HealthConfig};
use crate::container::host_config::{HostConfig, LogConfig};
use crate::container::oci_spec::{masked_paths, readonly_paths};
use crate::image::{Healthcheck, RunConfig};

/// The rules of `docker run` on top of an image: the container's own word wins, lists and maps are joined by key.
pub(in crate::container) fn with_image(config: &mut ContainerConfig, image: &RunConfig) {
    fill(&mut config.user, &image.user);
    fill(&mut config.working_dir, &image.working_dir);
    for port in image.exposed_ports.iter().filter_map(|port| port.parse().ok()) {
        config.exposed_ports.entry(port).or_default();
    }
    config.env = merged_env(config.env.take().unwrap_or_default(), &image.env);
    for (key, value) in &image.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    // The image's command belongs to the image's entrypoint: an entrypoint of the container's own drops it.
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd = image.cmd.clone();
            config.args_escaped = image.args_escaped;
        }
        // An empty one of the container's own says that there is none.
        config.entrypoint = config.entrypoint.take().or_else(|| image.entrypoint.clone());
    }
    if let Some(probe) = &image.healthcheck {
        with_image_probe(config.healthcheck.get_or_insert_default(), probe);
    }
    let volumes: BTreeSet<&String> =
        config.volumes.iter().flat_map(BTreeMap::keys).chain(&image.volumes).collect();
    config.volumes = match volumes.is_empty() {
        true => None,
        false => Some(volumes.into_iter().map(|path| (path.clone(), Empty {})).collect()),
    };
    if config.stop_signal.as_ref().is_none_or(String::is_empty) && !image.stop_signal.is_empty() {
        config.stop_signal = Some(image.stop_signal.clone());
    }
}

fn with_image_probe(own: &mut HealthConfig, image: &Healthcheck) {
    if own.test.as_ref().is_none_or(Vec::is_empty) {
        own.test = Some(image.test.clone());
    }
    for (own, image) in [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ] {
        if *own == 0 {
            *own = image;
        }
    }
}

/// The container's variables first, then those of the image that it does not set.
fn merged_env(own: Vec<String>, image: &[String]) -> Option<Vec<String>> {
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let set: BTreeSet<String> = own.iter().map(|entry| key(entry)).collect();
    let inherited = image.iter().filter(|entry| !set.contains(&key(entry))).cloned();
    let all: Vec<String> = own.into_iter().chain(inherited).collect();
    (!all.is_empty()).then_some(all)
}

/// What inspect shows of a container whose creator left it open.
pub(super) fn with_defaults(host_config: &mut HostConfig, defaults: &CreateDefaults, host: &Host) {
    if matches!(host_config.network_mode.as_str(), "" | "default") {
        host_config.network_mode = "bridge".to_owned();
    }
    fill(&mut host_config.restart_policy.name, "no");
    let log = &mut host_config.log_config;
    if log.driver.is_empty() {
        let own = std::mem::take(&mut log.options);
        *log = LogConfig { driver: defaults.log_driver.clone(), options: defaults.log_opts.clone() };
        log.options.extend(own);
    } else if log.driver == defaults.log_driver && log.options.is_empty() {
        log.options = defaults.log_opts.clone();
    }
    if host_config.shm_size == 0 {
        host_config.shm_size = defaults.shm_size;
    }
    fill(&mut host_config.ipc_mode, &defaults.ipc_mode);
    if host_config.cgroupns_mode.is_empty() {
        // On v2 engines and systemd in a privileged container arrange the groups that they see.
        let is_host = host_config.privileged && host.cgroups.version == CgroupVersion::V1;
        let mode = if is_host { "host" } else { defaults.cgroupns_mode.as_str() };
        host_config.cgroupns_mode = mode.to_owned();
    }
    fill(&mut host_config.runtime, &defaults.runtime);
    if host_config.memory > 0 && host_config.memory_swap == 0 {
        host_config.memory_swap = host_config.memory.saturating_mul(2);
    }
    if !host_config.privileged {
        host_config.masked_paths.get_or_insert_with(masked_paths);
        host_config.readonly_paths.get_or_insert_with(readonly_paths);
    }
    if host_config.memory_swappiness == Some(-1) {
        host_config.memory_swappiness = None;
    }
}

/// The host name: the user's, the host's own in its namespace, else the short id.
pub(super) fn names(config: &mut ContainerConfig, host_config: &HostConfig, short_id: &str) {
    let shares_host = host_config.network_mode == "host" || host_config.uts_mode == "host";
    match config.hostname.is_empty() {
        true if shares_host => config.hostname = host::name(),
        true => config.hostname = short_id.to_owned(),
        false => {}
    }
}

fn fill(own: &mut String, default: &str) {
    if own.is_empty() {
        *own = default.to_owned();
    }
}
