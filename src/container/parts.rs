//! The parts of the engine that a container's owner works with.

use std::path::PathBuf;
use std::sync::Arc;

use super::apparmor;
use super::host_config::HostConfig;
use super::oci_spec::{Defaults, bounding_set};
use super::registry::Containers;
use super::seccomp::{self, Circumstances};
use super::storage::Paths;
use crate::base::host::Host;
use crate::config::Config;
use crate::events::EventBus;
use crate::image::Images;
use crate::network::Networks;
use crate::runtime::Launcher;
use crate::volume::Volumes;

/// Shared by all owners.
pub struct Parts {
    pub config: Arc<Config>,
    pub host: Host,
    pub defaults: Defaults,
    pub paths: Paths,
    /// The file of this program, which containers with `--init` get as their first process.
    pub program: PathBuf,
    pub events: EventBus,
    pub containers: Arc<Containers>,
    pub images: Arc<Images>,
    pub networks: Networks,
    pub volumes: Arc<Volumes>,
    pub launcher: Launcher,
}

impl Parts {
    /// Makes ready what the first container would wait for: the copy of the program, and the filter and the AppArmor
    /// profile that a container without wishes gets. Blocks for some 50 milliseconds.
    pub fn warm_up(&self) {
        if let Err(error) = self.launcher.prepare() {
            tracing::warn!(%error, "the program cannot be copied for shims");
        }
        if self.defaults.apparmor_profile.is_some()
            && let Err(error) = apparmor::load_missing()
        {
            tracing::error!("{error}");
        }
        let capabilities = bounding_set(&HostConfig::default()).unwrap_or_default();
        let circumstances = Circumstances { capabilities: &capabilities, kernel: &self.host.kernel };
        let profile =
            seccomp::default(&circumstances).ok().and_then(|value| serde_json::from_value(value).ok());
        if let Some(profile) = profile.filter(|_| self.defaults.seccomp.is_none()) {
            self.launcher.prepare_seccomp(&profile);
        }
    }
}
