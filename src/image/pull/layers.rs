//! Second part of a pull: all layers at once. Each becomes visible when its blob and its content are verified and
//! the layers below it are visible.

use std::io;
use std::sync::Arc;

use tokio::sync::{OwnedMutexGuard, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::blocking;
use super::download::{Delivery, Download};
use super::log::ProgressLog;
use super::stream::{Feed, Pipe, pipe};
use crate::content::{ContentError, Contents};
use crate::image::assemble::Layer;
use crate::image::error::ImageError;
use crate::image::lease::Lease;
use crate::image::progress::Progress;
use crate::image::{Images, unpack};
use crate::registry::Session;
use crate::registry::manifest::Descriptor;
use crate::snapshot::{ChainId, LayerWriter, SnapshotError};

/// One layer's way.
struct Job {
    images: Arc<Images>,
    session: Arc<Session>,
    log: Arc<ProgressLog>,
    id: Arc<str>,
    layer: Layer,
    below: Vec<ChainId>,
    /// True when the layer below is visible.
    base: Option<watch::Receiver<bool>>,
    visible: watch::Sender<bool>,
}

/// What a download made.
enum Unpacking {
    /// The layer was unpacked as it came.
    Done(LayerWriter),
    /// It has to be unpacked from its blob.
    FromBlob,
}

impl Images {
    /// Downloads and unpacks what is missing. The first failure ends all.
    pub(super) async fn layers(
        self: &Arc<Self>,
        session: &Arc<Session>,
        lease: &Arc<Lease>,
        layers: &[Layer],
        log: &Arc<ProgressLog>,
    ) -> Result<(), ImageError> {
        let chain: Vec<_> = layers.iter().map(|layer| layer.chain).collect();
        let ids: Vec<Arc<str>> = layers.iter().map(|layer| layer.blob.digest.short().into()).collect();
        let present = self.present(lease, layers).await?;
        for (id, present) in ids.iter().zip(&present) {
            log.add(Progress::of(id, if *present { "Already exists" } else { "Pulling fs layer" }));
        }
        let mut jobs = JoinSet::new();
        let mut base = None;
        for (n, (layer, id)) in layers.iter().zip(ids).enumerate() {
            let (visible, next_base) = watch::channel(present[n]);
            let base = base.replace(next_base);
            if present[n] {
                continue;
            }
            let job = Job {
                images: self.clone(),
                session: session.clone(),
                log: log.clone(),
                id,
                layer: layer.clone(),
                below: chain[..n].to_vec(),
                base,
                visible,
            };
            jobs.spawn(job.run());
        }
        let mut result = Ok(());
        while let Some(ended) = jobs.join_next().await {
            match ended.map_err(|_| ImageError::Worker).and_then(|r| r) {
                Ok(()) => {}
                // Others failed because it did: its error says why.
                Err(ImageError::Worker) if result.is_ok() => result = Err(ImageError::Worker),
                Err(ImageError::Worker) => {}
                Err(error) => return Err(error),
            }
        }
        result
    }

    /// Of which layers neither blob nor unpacked layer is missing. Leased before they are looked for.
    async fn present(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        layers: &[Layer],
    ) -> Result<Vec<bool>, ImageError> {
        let (images, lease, layers) = (self.clone(), lease.clone(), layers.to_vec());
        let present = move |layer: &Layer| {
            lease.blob(&layer.blob.digest);
            lease.layer(&layer.chain);
            images.snapshots.exists(&layer.chain) && images.contents.contains(&layer.blob.digest)
        };
        blocking(move || Ok(layers.iter().map(present).collect())).await
    }
}

impl Job {
    async fn run(mut self) -> Result<(), ImageError> {
        let unpacking = self.fetch().await?;
        self.unpack(unpacking).await?;
        let _ = self.visible.send(true);
        self.say("Pull complete");
        Ok(())
    }

    fn say(&self, status: &'static str) {
        self.log.add(Progress::of(&self.id, status));
    }

    /// Sees to it that the blob is there.
    async fn fetch(&self) -> Result<Unpacking, ImageError> {
        // The writing thread holds it too: it may outlive a pull that was cancelled by a moment.
        let only = Arc::new(self.images.pulls.blobs.lock(&self.layer.blob.digest).await);
        if self.images.contents.contains(&self.layer.blob.digest) {
            return Ok(Unpacking::FromBlob);
        }
        let downloads = self.images.pulls.downloads();
        let _permit = match downloads.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                self.say("Waiting");
                downloads.acquire().await.map_err(|_| ImageError::Cancelled)?
            }
        };
        match self.download(only.clone()).await {
            // What an earlier attempt left was damaged, and is gone now.
            Err(ImageError::Content(ContentError::Mismatch { .. })) => self.download(only).await,
            other => other,
        }
    }

    async fn download(&self, only: Arc<OwnedMutexGuard<()>>) -> Result<Unpacking, ImageError> {
        let (feed, pipe) = pipe();
        let (tell, told) = oneshot::channel();
        let (contents, blob) = (self.images.contents.clone(), self.layer.blob.clone());
        let writing = tokio::task::spawn_blocking(move || {
            let _only = only;
            write(&contents, &blob, pipe, tell)
        });
        let Ok(received) = told.await else {
            return Err(joined(writing).await.err().unwrap_or(ImageError::Worker));
        };
        let mut feeds = vec![feed];
        // From the middle of a blob nothing can be unpacked: that is done from the disk when it is whole.
        let streamed = received == 0 && !self.images.snapshots.exists(&self.layer.chain);
        let unpacking = streamed.then(|| {
            let (feed, task) = self.start_unpacking();
            feeds.push(feed);
            task
        });
        let download = Download {
            session: &self.session,
            blob: &self.layer.blob,
            id: &self.id,
            log: &self.log,
            attempts: self.images.pulls.attempts,
            feeds,
            received,
        };
        if download.run().await? == Delivery::Refused {
            let unpacked = match unpacking {
                Some(task) => joined(task).await.map(drop),
                None => Ok(()),
            };
            return Err(refusal(joined(writing).await, unpacked));
        }
        self.say("Verifying Checksum");
        joined(writing).await?;
        self.say("Download complete");
        match unpacking {
            Some(task) => joined(task).await.map(Unpacking::Done),
            None => Ok(Unpacking::FromBlob),
        }
    }

    fn start_unpacking(&self) -> (Feed, JoinHandle<Result<LayerWriter, ImageError>>) {
        let (feed, mut pipe) = pipe();
        let (images, layer, below) = (self.images.clone(), self.layer.clone(), self.below.clone());
        let task = tokio::task::spawn_blocking(move || {
            let writer = images.snapshots.begin(&layer.chain, &below)?;
            let writer = unpack::apply(writer, &layer, &mut pipe)?;
            // What follows the compressed stream belongs to the blob: let it pass.
            io::copy(&mut pipe, &mut io::sink())
                .map_err(|source| ImageError::Unreadable { blob: layer.blob.digest, source })?;
            Ok(writer)
        });
        (feed, task)
    }

    /// Makes the layer visible, in its turn.
    async fn unpack(&mut self, unpacking: Unpacking) -> Result<(), ImageError> {
        self.log
            .add(Progress::of(&self.id, "Extracting").at(self.layer.blob.size, Some(self.layer.blob.size)));
        let _only = self.images.pulls.unpacks.lock(&self.layer.chain).await;
        let writer = match unpacking {
            Unpacking::Done(writer) => Some(writer),
            Unpacking::FromBlob => self.unpack_blob().await?,
        };
        if let Some(base) = &mut self.base {
            base.wait_for(|visible| *visible).await.map_err(|_| ImageError::Worker)?;
        }
        match writer {
            Some(writer) => blocking(move || unpack::publish(writer)).await,
            None => Ok(()),
        }
    }

    async fn unpack_blob(&self) -> Result<Option<LayerWriter>, ImageError> {
        if self.images.snapshots.exists(&self.layer.chain) {
            return Ok(None);
        }
        let (images, layer, below) = (self.images.clone(), self.layer.clone(), self.below.clone());
        blocking(move || unpack::from_store(&images.contents, &images.snapshots, &layer, &below).map(Some))
            .await
    }
}

/// Writes what comes to the blob, verifies and commits it. Says first how much is there already.
fn write(
    contents: &Contents,
    blob: &Descriptor,
    mut pipe: Pipe,
    tell: oneshot::Sender<u64>,
) -> Result<(), ImageError> {
    let mut ingest = contents.ingest(&blob.digest)?;
    if ingest.received() > blob.size {
        ingest.restart()?;
    }
    let _ = tell.send(ingest.received());
    let given_up = |source| ImageError::Unreadable { blob: blob.digest, source };
    while let Some(piece) = pipe.next().map_err(given_up)? {
        ingest.write(&piece)?;
    }
    ingest.commit(Some(&blob.digest), Some(blob.size))?;
    Ok(())
}

/// Why a reader gave up: the error of the one that did, not of the other that was told so.
fn refusal(written: Result<(), ImageError>, unpacked: Result<(), ImageError>) -> ImageError {
    let told = |error: &ImageError| match error {
        ImageError::Unreadable { source, .. } | ImageError::Snapshot(SnapshotError::Source(source)) => {
            source.kind() == io::ErrorKind::ConnectionAborted
        }
        _ => false,
    };
    let errors = [written, unpacked].into_iter().filter_map(Result::err);
    errors.min_by_key(told).unwrap_or(ImageError::Worker)
}

async fn joined<T>(task: JoinHandle<Result<T, ImageError>>) -> Result<T, ImageError> {
    task.await.map_err(|_| ImageError::Worker)?
}
