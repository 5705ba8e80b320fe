//! Takes possession of the state on disk. Quick: clients are answered right after.

use std::sync::Arc;

use super::{Engine, OpenError, identity};
use crate::base::host::Host;
use crate::config::Config;
use crate::container::request;
use crate::container::storage::Paths;
use crate::container::{Containers, Parts};
use crate::events::EventBus;
use crate::image::{ImageSettings, Images};
use crate::network::{self, Networks};
use crate::registry::{Proxies, Registry, RegistrySettings};
use crate::runtime::Launcher;
use crate::snapshot;
use crate::volume::Volumes;

impl Engine {
    /// Reads what exists; touches no kernel object.
    pub fn open(config: Arc<Config>) -> Result<Arc<Self>, OpenError> {
        let id = identity::read_or_create(&config.data_root).map_err(OpenError::Identity)?;
        let events = EventBus::default();
        let registry = Registry::new(registry_settings(&config));
        let images = Images::open(
            &config.data_root,
            &config.ids,
            registry.clone(),
            image_settings(&config),
            events.clone(),
        )?;
        let networks = Networks::open(network::Options::of(&config), events.clone())?;
        let volumes = Arc::new(Volumes::open(&config.data_root, config.ids.root(), events.clone())?);
        let containers = Arc::new(Containers::default());
        let host = Host::detect();
        let paths = Paths { data_root: config.data_root.clone(), exec_root: config.exec_root.clone() };
        if config.size_limit > 0 && !snapshot::can_limit(&paths.data_root) {
            return Err(OpenError::SizeLimit(paths.data_root));
        }
        let parts = Arc::new(Parts {
            defaults: request::defaults(&config, &host),
            config: config.clone(),
            host: host.clone(),
            paths,
            program: std::env::current_exe().map_err(OpenError::Program)?,
            events: events.clone(),
            containers: containers.clone(),
            images: images.clone(),
            networks: networks.clone(),
            volumes: volumes.clone(),
            launcher: Launcher::new(),
        });
        Ok(Arc::new(Self {
            id,
            config,
            host,
            events,
            registry,
            images,
            networks,
            volumes,
            containers,
            parts,
            listed: tokio::sync::watch::channel(false).0,
        }))
    }
}

/// What the configuration says of pulls now.
pub(super) fn image_settings(config: &Config) -> ImageSettings {
    let live = config.live();
    ImageSettings {
        max_concurrent_downloads: live.max_concurrent_downloads,
        max_download_attempts: live.max_download_attempts,
    }
}

/// What the configuration says of registries now.
pub(super) fn registry_settings(config: &Config) -> RegistrySettings {
    let live = config.live();
    RegistrySettings {
        insecure: live.insecure_registries.clone(),
        mirrors: live.registry_mirrors.clone(),
        proxies: Proxies {
            http: config.http_proxy.clone(),
            https: config.https_proxy.clone(),
            none: config.no_proxy.clone(),
        },
        ..RegistrySettings::default()
    }
}
