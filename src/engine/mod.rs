//! Use cases that touch several kinds of objects, and start-up recovery. Holds the parts; never grows into the object
//! that knows everything.

mod commit;
mod create;
pub mod identity;
mod open;
mod prune;
mod recover;
mod rename;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::host::{self, Host};
use crate::config::Config;
use crate::container::{self, Containers, Parts};
use crate::events::{Event, EventBus, Subject};
use crate::image::{ImageError, ImageUser, Images};
use crate::network::{NetworkError, Networks};
use crate::registry::Registry;
use crate::volume::{VolumeError, Volumes};

pub use commit::{CommitError, CommitOptions, Pause};
pub use create::{CreateError, CreateRequest, Created};
pub use prune::Pruned;

/// The engine's parts.
pub struct Engine {
    /// The engine's own id ([`identity`]).
    pub id: String,
    pub config: Arc<Config>,
    pub host: Host,
    pub events: EventBus,
    pub registry: Arc<Registry>,
    pub images: Arc<Images>,
    pub networks: Networks,
    pub volumes: Arc<Volumes>,
    pub containers: Arc<Containers>,
    parts: Arc<Parts>,
    /// True once the containers of earlier runs are in the list.
    listed: tokio::sync::watch::Sender<bool>,
}

/// Why the engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot read or make the engine's id")]
    Identity(#[source] io::Error),
    #[error("cannot open the images: {0}")]
    Images(#[from] ImageError),
    #[error("cannot open the networks: {0}")]
    Networks(#[from] NetworkError),
    #[error("cannot open the volumes: {0}")]
    Volumes(#[from] VolumeError),
    #[error(
        "Storage option overlay2.size not supported. Filesystem does not support Project Quota: mount that of {} with \
         'pquota' (XFS), or with 'prjquota' (ext4 with the features 'quota,project'), or take the option out",
        .0.display()
    )]
    SizeLimit(PathBuf),
    #[error("cannot find this program's file")]
    Program(#[source] io::Error),
}

impl Engine {
    /// The parts that containers are carried out with.
    pub fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// The containers that were made of an image, or mount it.
    pub fn image_users(&self, image: &Digest) -> Vec<ImageUser> {
        container::image_users(&self.containers, image)
    }

    /// Waits until the containers of earlier runs are in the list. What became of each may still be being found out.
    pub async fn listed(&self) {
        // The sender lives as long as the engine.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// Tells that the configuration was read again.
    pub fn config_reloaded(&self, attributes: BTreeMap<String, String>) {
        self.registry.reconfigure(open::registry_settings(&self.config));
        self.images.reconfigure(&open::image_settings(&self.config));
        let mut event = Event::now(Subject::Daemon, "reload", self.id.clone());
        event.attributes = attributes;
        self.events.publish(event.with("name", host::name()));
    }
}
