//! The parts of the engine that a container's owner works with.

use std::path::PathBuf;
use std::sync::Arc;

use super::oci_spec::Defaults;
use super::registry::Containers;
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
