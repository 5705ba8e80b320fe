//! From a request to create a container to what its record will hold: the image's defaults merged in, the daemon's
//! defaults filled in, everything checked. Pure: nothing is created here, and nothing when a check fails.

pub(super) mod check;
pub(super) mod limits;
mod merge;
mod mounts;
mod size_limit;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::config::ContainerConfig;
use super::host_config::HostConfig;
use super::record::MountPoint;
use crate::base::host::Host;
use crate::base::json;
use crate::base::path::clean;
use crate::image::RunConfig;
use crate::network::EndpointSettings;

pub(super) use merge::with_image;
pub use mounts::InvalidMount;
pub(super) use mounts::asked_propagation;
use size_limit::size_limit;

/// The body of `POST /containers/create`.
#[derive(Clone, Debug, Default)]
pub struct CreateBody {
    pub config: ContainerConfig,
    pub host_config: Option<HostConfig>,
    pub networking: Option<NetworkingConfig>,
}

/// What a body has beside the fields of the configuration.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BesideConfig {
    host_config: Option<HostConfig>,
    networking_config: Option<NetworkingConfig>,
}

// serde's `flatten` would hide from `base::json` which names are those of fields.
impl<'de> Deserialize<'de> for CreateBody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let document = Value::deserialize(from)?;
        let config = json::from_value(document.clone()).map_err(D::Error::custom)?;
        let beside: BesideConfig = json::from_value(document).map_err(D::Error::custom)?;
        Ok(Self { config, host_config: beside.host_config, networking: beside.networking_config })
    }
}

/// Wishes for places in networks.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NetworkingConfig {
    #[serde(rename = "EndpointsConfig", default)]
    pub endpoints: Option<BTreeMap<String, Option<EndpointSettings>>>,
}

/// What the daemon fills in where a request says nothing.
#[derive(Clone, Debug)]
pub struct CreateDefaults {
    pub log_driver: String,
    pub log_opts: BTreeMap<String, String>,
    /// Bytes.
    pub shm_size: i64,
    pub ipc_mode: String,
    pub cgroupns_mode: String,
    pub runtime: String,
    /// Names that `Runtime` may have.
    pub runtimes: Vec<String>,
    pub systemd_cgroup: bool,
    /// Whether containers have ids of their own unless they ask for the host's.
    pub remapped: bool,
    /// Where the daemon keeps everything.
    pub data_root: PathBuf,
    /// Whether the file system of the data root limits what a container writes.
    pub can_limit_size: bool,
    /// Bytes that a container may write into its root if its request says nothing; 0 is no limit.
    pub size_limit: u64,
}

/// A request that is refused, in dockerd's words. Bad input, except for the few that dockerd answers with 500.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    pub message: String,
}

impl Invalid {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// A request that holds.
#[derive(Debug)]
pub struct Checked {
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// Entrypoint and command together.
    pub args: Vec<String>,
    /// In order of their targets; anonymous volumes have no name yet.
    pub mounts: Vec<MountPoint>,
    /// Bytes that it may write into its root.
    pub size_limit: Option<u64>,
    pub warnings: Vec<String>,
}

/// Merges, fills in and checks. `short_id` is the hostname of a container that asks for none, `inherited` what it
/// takes over from other containers.
pub fn prepare(
    body: CreateBody,
    image: Option<&RunConfig>,
    defaults: &CreateDefaults,
    host: &Host,
    short_id: &str,
    inherited: Vec<MountPoint>,
) -> Result<Checked, Invalid> {
    let CreateBody { mut config, host_config, networking } = body;
    let mut host_config = host_config.unwrap_or_default();
    if let Some(image) = image {
        merge::with_image(&mut config, image);
    }
    merge::with_defaults(&mut host_config, defaults, host);
    let mut warnings = Vec::new();
    check::config(&config)?;
    if !config.working_dir.is_empty() {
        config.working_dir = clean(&config.working_dir);
    }
    check::host_config(&mut host_config, defaults, host, &mut warnings)?;
    check::network(&mut host_config, &config, &mut warnings)?;
    let size_limit = size_limit(&host_config.storage_opt, defaults)?;
    let args = arguments(&config)?;
    let mounts = mounts::decide(&config, &host_config, image, inherited, &defaults.data_root)?;
    merge::names(&mut config, &host_config, short_id);
    let endpoints = networking.and_then(|networking| networking.endpoints).unwrap_or_default();
    // docker(1) names the default network so; it has another name, which the mode has by now.
    let named = |name: String| if name == "default" { host_config.network_mode.clone() } else { name };
    let endpoints =
        endpoints.into_iter().map(|(name, settings)| (named(name), settings.unwrap_or_default())).collect();
    check::endpoints(&endpoints, &host_config)?;
    Ok(Checked { config, host_config, endpoints, args, mounts, size_limit, warnings })
}

fn arguments(config: &ContainerConfig) -> Result<Vec<String>, Invalid> {
    let entrypoint = config.entrypoint.iter().flatten();
    let args: Vec<String> = entrypoint.chain(config.cmd.iter().flatten()).cloned().collect();
    // `--entrypoint ""` sends a list of one empty word, which stands for none.
    let args: Vec<String> = match config.entrypoint.as_deref() {
        Some([word]) if word.is_empty() => args.into_iter().skip(1).collect(),
        _ => args,
    };
    match args.first() {
        None => Err(Invalid::new("no command specified")),
        Some(_) => Ok(args),
    }
}

#[cfg(test)]
mod tests;
