//! Use cases that touch several kinds of objects, and start-up recovery. Holds the parts; never grows into the object
//! that knows everything.

pub mod identity;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::host::{self, Host};
use crate::config::Config;
use crate::events::{Event, EventBus, Subject};
use crate::image::{ImageError, ImageSettings, ImageUser, Images};
use crate::network::{self, NetworkError, Networks};
use crate::registry::{Registry, RegistrySettings};
use crate::volume::{VolumeError, Volumes};

/// The engine's parts.
pub struct Engine {
    /// The engine's own id ([`identity`]).
    pub id: String,
    pub config: Arc<Config>,
    pub host: Host,
    pub events: EventBus,
    pub registry: Arc<Registry>,
    pub networks: Networks,
    pub volumes: Arc<Volumes>,
    pub images: Arc<Images>,
}

/// Why the engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot read or make the engine's id")]
    Identity(#[source] io::Error),
    #[error("cannot open the images")]
    Images(#[from] ImageError),
    #[error("cannot open the networks")]
    Networks(#[source] NetworkError),
    #[error("cannot open the volumes")]
    Volumes(#[source] VolumeError),
}

impl Engine {
    /// Takes possession of the state on disk. Quick: clients are answered right after.
    pub fn open(config: Arc<Config>) -> Result<Arc<Self>, OpenError> {
        let id = identity::read_or_create(&config.data_root).map_err(OpenError::Identity)?;
        let registry = Registry::new(registry_settings(&config));
        let events = EventBus::default();
        let networks =
            Networks::open(network::Options::of(&config), events.clone()).map_err(OpenError::Networks)?;
        let volumes = Arc::new(Volumes::open(&config.data_root, events.clone()).map_err(OpenError::Volumes)?);
        let images =
            Images::open(&config.data_root, registry.clone(), image_settings(&config), events.clone())?;
        Ok(Arc::new(Self { id, config, host: Host::detect(), events, registry, networks, volumes, images }))
    }

    /// The containers that were made of an image.
    pub fn image_users(&self, _image: &Digest) -> Vec<ImageUser> {
        Vec::new()
    }

    /// Takes over what reading the configuration again has changed, and tells of it.
    pub fn config_reloaded(&self, attributes: BTreeMap<String, String>) {
        self.registry.reconfigure(registry_settings(&self.config));
        let mut event = Event::now(Subject::Daemon, "reload", self.id.clone());
        event.attributes = attributes;
        self.events.publish(event.with("name", host::name()));
    }

    /// Finds again what runs, and finishes what a crash left half done.
    pub async fn recover(&self) {}

    /// Brings everything to rest: containers stop unless live restore is on.
    pub async fn shutdown(&self) {
        self.networks.settle().await;
    }
}

fn registry_settings(config: &Config) -> RegistrySettings {
    let live = config.live();
    RegistrySettings {
        insecure: live.insecure_registries.clone(),
        mirrors: live.registry_mirrors.clone(),
        ..RegistrySettings::default()
    }
}

fn image_settings(config: &Config) -> ImageSettings {
    let live = config.live();
    ImageSettings {
        max_concurrent_downloads: live.max_concurrent_downloads,
        max_download_attempts: live.max_download_attempts,
    }
}
