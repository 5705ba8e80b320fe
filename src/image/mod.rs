//! Images: what names lead to which content, how it comes in and when it goes.
//!
//! An image is identified by the digest of what its name stands for, an index or a manifest. The database
//! ([`database`]) says which names there are; blobs are in [`crate::content`], unpacked layers in
//! [`crate::snapshot`]. The order of every change: blobs and layers verified and on disk, then the database, then
//! the index in memory ([`state`]), then the event. Garbage is what no record, container or lease leads to.
//! Knows nothing of containers but what a closure says of their use of images; knows no HTTP of ours.

pub mod archive;
pub mod assemble;
pub mod changes;
pub mod commit;
pub mod config;
pub mod database;
pub mod error;
mod events;
mod garbage;
pub mod import;
mod lease;
pub mod name;
pub mod progress;
mod prune;
pub mod pull;
pub mod remote;
mod remove;
pub mod state;
mod unpack;
mod write;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::base::digest::Digest;
use crate::base::id_map::IdMaps;
use crate::content::{ContentError, Contents};
use crate::events::EventBus;
use crate::registry::manifest::Descriptor;
use crate::registry::{Platform, Reference, Registry};
use crate::snapshot::{ChainId, Snapshots};

pub use assemble::{Image, Layer, Target};
pub use config::{Healthcheck, History, ImageConfig, RunConfig};
pub use error::ImageError;
pub use name::Name;
pub use progress::{Detail, Progress};
pub use prune::{PruneScope, Pruned};
pub use pull::{ImageSettings, PullRequest};
pub use remove::{Activity, ImageUser, Purpose, RemoveMode, Removed, Users};
pub use state::State;

pub use database::Record;
use database::{Change, Database};
pub use lease::Lease;
use lease::Leases;
use prune::PruneFlag;
use pull::Pulls;

/// All images of this engine. Methods that change something block on the disk: call them where that is allowed.
pub struct Images {
    contents: Arc<Contents>,
    snapshots: Arc<Snapshots>,
    /// Also serialises all changes: who holds it may read the state, commit and publish.
    database: Mutex<Database>,
    state: RwLock<Arc<State>>,
    leases: Leases,
    events: EventBus,
    registry: Arc<Registry>,
    pulls: Pulls,
    pruning: PruneFlag,
}

impl Images {
    /// Opens what is under the data root (`content`, `layers`, `images.redb`) and rebuilds the index. An image
    /// whose documents cannot be read is listed without them and does not keep the engine from starting. `ids` are those
    /// that the files of containers belong to.
    pub fn open(
        data_root: &Path,
        ids: &IdMaps,
        registry: Arc<Registry>,
        settings: ImageSettings,
        events: EventBus,
    ) -> Result<Arc<Self>, ImageError> {
        let create = |dir: &Path| {
            fs::create_dir_all(dir).map_err(|source| {
                ImageError::from(ContentError::Io { action: "create", path: dir.to_owned(), source })
            })
        };
        create(data_root)?;
        let contents = Arc::new(Contents::open(&data_root.join("content"))?);
        let snapshots = Arc::new(Snapshots::open(&data_root.join("layers"), ids)?);
        let database = Database::open(&data_root.join("images.redb"))?;
        let state = rebuild(&contents, &snapshots, &database)?;
        Ok(Arc::new(Self {
            contents,
            snapshots,
            database: Mutex::new(database),
            state: RwLock::new(Arc::new(state)),
            leases: Leases::default(),
            events,
            pulls: Pulls::new(&settings),
            pruning: PruneFlag::default(),
            registry,
        }))
    }

    /// The unpacked layers.
    pub fn snapshots(&self) -> &Arc<Snapshots> {
        &self.snapshots
    }

    /// The blobs.
    pub fn contents(&self) -> &Arc<Contents> {
        &self.contents
    }

    /// All that is known of images at this moment. Never touches the disk.
    pub fn state(&self) -> Arc<State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The image that `reference` names (a name, a digest or the beginning of an id), for the platform that suits
    /// the host best. From memory.
    pub fn resolve(&self, reference: &str) -> Result<Arc<Image>, ImageError> {
        let state = self.state();
        let target = state.find(reference)?;
        target.image(None).cloned().ok_or_else(|| not_found(reference))
    }

    /// The image that `reference` names for one platform.
    pub fn resolve_for(&self, reference: &str, platform: &Platform) -> Result<Arc<Image>, ImageError> {
        let state = self.state();
        let target = state.find(reference)?;
        target.image(Some(platform)).cloned().ok_or_else(|| ImageError::WrongPlatform {
            reference: reference.to_owned(),
            platform: platform.to_string(),
        })
    }

    /// Keeps an image's blobs and layers until the lease is dropped: for a container that is being made of it and is
    /// not among the image's users yet. Fails if the image has just been removed.
    pub fn keep(&self, image: &Image) -> Result<Lease, ImageError> {
        let lease = self.leases.begin();
        lease.blob(&image.id);
        lease.blob(&image.manifest.digest);
        lease.blob(&image.config_blob.digest);
        image.layers.iter().for_each(|layer| lease.blob(&layer.blob.digest));
        image.chain.iter().for_each(|chain| lease.layer(chain));
        match self.state().target(&image.id) {
            Some(_) => Ok(lease),
            None => Err(not_found(&image.id.to_string())),
        }
    }

    /// Unpacks the layers of an image that are not unpacked: one of a foreign platform may have been loaded only.
    pub fn unpack(&self, image: &Image) -> Result<(), ImageError> {
        if image.chain.iter().all(|chain| self.snapshots.exists(chain)) {
            return Ok(());
        }
        unpack::missing(&self.contents, &self.snapshots, &image.layers)?;
        self.refresh(&image.id)
    }

    /// Sees to it that the layers of a container are unpacked: a power cut takes what was not on disk yet. Looks at
    /// memory alone where nothing is missing; else it blocks.
    pub fn unpack_chain(&self, id: &Digest, chain: &[ChainId]) -> Result<(), ImageError> {
        if chain.iter().all(|layer| self.snapshots.exists(layer)) {
            return Ok(());
        }
        let state = self.state();
        let images = state.target(id).map(|target| target.images()).unwrap_or_default();
        let image = images.into_iter().find(|image| image.chain == chain);
        self.unpack(image.ok_or_else(|| not_found(&id.to_string()))?)
    }

    /// Gives the image another name.
    pub fn tag(&self, source: &str, name: &Reference) -> Result<Digest, ImageError> {
        if name.digest().is_some() {
            return Err(ImageError::TagWithDigest);
        }
        let name = name.clone().or_latest();
        let id = self.change(None, |state| {
            let target = &state.find(source)?.descriptor;
            let parent = state.names(&target.digest).find_map(|n| state.record(n)?.parent);
            Ok((state.pointing(&name, target, parent), target.digest))
        })?;
        self.report("tag", &id.to_string(), &name.familiar(), &id);
        Ok(id)
    }

    /// The image of a container, which is kept as long as the container even if it has lost its names.
    pub fn held(&self, id: &Digest, manifest: &Digest) -> Result<Arc<Image>, ImageError> {
        let state = self.state();
        let images = state.target(id).map(|target| target.images()).unwrap_or_default();
        let found = images.into_iter().find(|image| image.manifest.digest == *manifest).cloned();
        found.ok_or_else(|| not_found(&id.to_string()))
    }

    /// Makes what is in the content store an image: under `name`, or dangling. All blobs have been verified and
    /// committed.
    fn register(&self, target: Descriptor, name: Option<&Reference>) -> Result<Arc<Target>, ImageError> {
        self.register_child(target, name, None)
    }

    /// As [`register`](Self::register), for one that was made from `parent`.
    fn register_child(
        &self,
        target: Descriptor,
        name: Option<&Reference>,
        parent: Option<Digest>,
    ) -> Result<Arc<Target>, ImageError> {
        self.contents.sync()?;
        let target = Arc::new(assemble::target(&self.contents, &self.snapshots, &target)?);
        let descriptor = target.descriptor.clone();
        self.change(Some(target.clone()), |state| match name {
            Some(name) => Ok((state.pointing(name, &descriptor, parent), ())),
            None => Ok((state.keeping(&descriptor, parent), ())),
        })?;
        Ok(target)
    }

    /// Reads again what is present of a target.
    fn refresh(&self, id: &Digest) -> Result<(), ImageError> {
        let Some(old) = self.state().target(id).cloned() else { return Ok(()) };
        let target = assemble::target(&self.contents, &self.snapshots, &old.descriptor)?;
        self.change(Some(Arc::new(target)), |_| Ok((Vec::new(), ())))
    }

    /// The only way to change anything: decides on the current state, commits, then publishes.
    fn change<T>(
        &self,
        learned: Option<Arc<Target>>,
        decide: impl FnOnce(&State) -> Result<(Vec<Change>, T), ImageError>,
    ) -> Result<T, ImageError> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.state());
        let (changes, result) = decide(&state)?;
        if !changes.is_empty() {
            database.commit(&changes)?;
        }
        if let Some(target) = learned {
            state.learn(target);
        }
        state.apply(&changes);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        Ok(result)
    }
}

fn rebuild(contents: &Contents, snapshots: &Snapshots, database: &Database) -> Result<State, ImageError> {
    let records = database.load()?;
    let mut state = State::default();
    for (name, record) in &records {
        if state.target(&record.target.digest).is_some() {
            continue;
        }
        let target = assemble::target(contents, snapshots, &record.target).unwrap_or_else(|error| {
            tracing::warn!(%name, %error, "an image cannot be read");
            Target::empty(record.target.clone())
        });
        state.learn(Arc::new(target));
    }
    let changes: Vec<_> = records.into_iter().map(|(name, record)| Change::Set(name, record)).collect();
    state.apply(&changes);
    Ok(state)
}

fn not_found(reference: &str) -> ImageError {
    match reference.parse() {
        Ok(parsed) => ImageError::NotFound(parsed),
        Err(invalid) => ImageError::Reference(invalid),
    }
}
