//! Pulling: from a name to an image. Pulls that are equal are one pull that several clients watch; it ends early
//! when the last of them has gone.
//!
//! A layer's bytes go at once to its blob, to the hash and to the unpacker; layers go in parallel. What a broken
//! pull leaves is verified blobs and layers, which the next one uses, and partial downloads, which it resumes.

mod documents;
mod download;
mod layers;
mod locks;
mod log;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

use super::error::ImageError;
use super::{Images, Progress, Target};
use crate::base::digest::Digest;
use crate::registry::{Credentials, Platform, Reference};
use crate::snapshot::ChainId;

pub(super) use documents::small_blob;
use locks::KeyedLocks;
use log::ProgressLog;

/// What is pulled, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PullRequest {
    /// With a tag or a digest.
    pub reference: Reference,
    pub credentials: Credentials,
    /// Without a wish the image that suits the host.
    pub platform: Option<Platform>,
}

/// How images are fetched.
#[derive(Clone, Debug)]
pub struct ImageSettings {
    /// Layers that are downloaded at the same time, over all pulls.
    pub max_concurrent_downloads: usize,
    /// How often one layer is tried.
    pub max_download_attempts: usize,
}

impl Default for ImageSettings {
    /// dockerd's defaults.
    fn default() -> Self {
        Self { max_concurrent_downloads: 3, max_download_attempts: 5 }
    }
}

/// The pulls under way and what they share.
#[derive(Debug)]
pub(super) struct Pulls {
    flights: Mutex<HashMap<PullRequest, Weak<Flight>>>,
    blobs: KeyedLocks<Digest>,
    unpacks: KeyedLocks<ChainId>,
    downloads: RwLock<Arc<Semaphore>>,
    attempts: usize,
}

impl Pulls {
    pub(super) fn new(settings: &ImageSettings) -> Self {
        Self {
            flights: Mutex::default(),
            blobs: KeyedLocks::default(),
            unpacks: KeyedLocks::default(),
            downloads: RwLock::new(permits(settings.max_concurrent_downloads)),
            attempts: settings.max_download_attempts.max(1),
        }
    }

    fn downloads(&self) -> Arc<Semaphore> {
        self.downloads.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn permits(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)))
}

type Outcome = Result<Arc<Target>, Arc<ImageError>>;

/// One pull that any number of clients watch. Dropping it ends the pull.
#[derive(Debug)]
struct Flight {
    log: Arc<ProgressLog>,
    outcome: watch::Receiver<Option<Outcome>>,
    task: AbortHandle,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Images {
    /// Takes over another number of layers that are downloaded at the same time. Those that have begun, and wait, are
    /// counted as they were.
    pub fn reconfigure(&self, settings: &ImageSettings) {
        let fresh = permits(settings.max_concurrent_downloads);
        *self.pulls.downloads.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// Pulls an image, or joins an equal pull. Messages go to `progress` in the order of what happens, for a slow
    /// reader with steps left out; the first is sent when the name has been resolved. Dropping the future is how a
    /// client goes away.
    pub async fn pull(
        self: &Arc<Self>,
        request: PullRequest,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Arc<Target>, ImageError> {
        let flight = self.join(request);
        let mut outcome = flight.outcome.clone();
        let mut reader = flight.log.reader();
        loop {
            tokio::select! {
                biased;
                ended = ended(&mut outcome) => {
                    reader.forward(&progress).await?;
                    return ended?.map_err(ImageError::Shared);
                }
                () = reader.changed() => reader.forward(&progress).await?,
                () = progress.closed() => return Err(ImageError::Cancelled),
            }
        }
    }

    fn join(self: &Arc<Self>, request: PullRequest) -> Arc<Flight> {
        let mut flights = self.pulls.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        let running = flights.get(&request).and_then(Weak::upgrade);
        if let Some(flight) = running.filter(|flight| flight.outcome.borrow().is_none()) {
            return flight;
        }
        let log = Arc::new(ProgressLog::default());
        let (send, outcome) = watch::channel(None);
        let (images, of, to) = (self.clone(), request.clone(), log.clone());
        let task = tokio::spawn(async move {
            let result = images.fly(&of, &to).await.map_err(Arc::new);
            let _ = send.send(Some(result));
        });
        let flight = Arc::new(Flight { log, outcome, task: task.abort_handle() });
        flights.insert(request, Arc::downgrade(&flight));
        flight
    }

    /// The pull itself.
    async fn fly(
        self: &Arc<Self>,
        request: &PullRequest,
        log: &Arc<ProgressLog>,
    ) -> Result<Arc<Target>, ImageError> {
        let reference = &request.reference;
        let session = Arc::new(self.registry.session(reference, request.credentials.clone()));
        let lease = Arc::new(self.leases.begin());
        let root = session.resolve().await?;
        let version = reference.digest().map(Digest::to_string);
        let version = version.or_else(|| reference.tag().map(str::to_owned)).unwrap_or_default();
        log.add(Progress::of(&version.into(), format!("Pulling from {}", reference.path())));

        let known = self.state().find(&reference.to_string()).ok().map(|t| t.descriptor.digest);
        let plan = self.documents(&session, &lease, root, request.platform.as_ref()).await?;
        self.layers(&session, &lease, &plan.layers, log).await?;

        let (images, name, target) = (self.clone(), reference.clone(), plan.target.clone());
        let target = blocking(move || images.register(target, Some(&name))).await?;
        let digest = target.descriptor.digest;
        log.add(Progress::status(format!("Digest: {digest}")));
        let news = if known == Some(digest) { "Image is up to date" } else { "Downloaded newer image" };
        log.add(Progress::status(format!("Status: {news} for {}", reference.familiar())));
        self.report("pull", &reference.familiar(), &reference.familiar_name(), &digest);

        let (images, chain) = (self.clone(), plan.layers.iter().map(|layer| layer.chain).collect::<Vec<_>>());
        // After the answer: without it the layers are unpacked again after a power cut, no more.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = images.snapshots.sync(&chain) {
                tracing::warn!(%error, "unpacked layers may not survive a power cut");
            }
        });
        Ok(target)
    }
}

/// Waits for the end of a flight.
async fn ended(outcome: &mut watch::Receiver<Option<Outcome>>) -> Result<Outcome, ImageError> {
    let ended = outcome.wait_for(Option::is_some).await.map_err(|_| ImageError::Cancelled)?;
    ended.clone().ok_or(ImageError::Cancelled)
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImageError::Worker)?
}

#[cfg(test)]
mod tests;
