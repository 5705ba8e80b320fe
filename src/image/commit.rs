//! `docker commit`: an image with one more layer, and another configuration.

use std::io::{self, Write};
use std::sync::Arc;

use super::Images;
use super::assemble::{Image, Layer};
use super::config::{History, ImageConfig, RootFs, RunConfig};
use super::error::ImageError;
use crate::base::digest::Digest;
use crate::base::time::Timestamp;
use crate::content::{ContentError, Ingest};
use crate::registry::manifest::{DOCKER_LAYER, Descriptor};
use crate::registry::{Platform, Reference};
use crate::snapshot::{SnapshotError, chain_ids};

/// What distinguishes the new image from its parent.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    pub name: Option<Reference>,
    /// The image that the layer lies on, if any.
    pub parent: Option<Arc<Image>>,
    pub run: RunConfig,
    pub author: String,
    pub comment: String,
    /// What made the layer, for the history.
    pub created_by: String,
}

/// Why the changes could not be archived.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("reading the container's changes: {0}")]
    Io(#[from] io::Error),
}

/// The content store as something to write to. Its own error is kept: a writer's is only a shadow of it.
struct Blob {
    ingest: Ingest,
    failed: Option<ContentError>,
}

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.ingest.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("the content store does not take more"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Images {
    /// Makes an image of a parent and of the layer that `pack` writes. Blocks.
    pub fn commit(
        &self,
        request: &CommitRequest,
        pack: impl FnOnce(&mut dyn Write) -> Result<(), SnapshotError>,
    ) -> Result<Digest, ImageError> {
        let lease = match &request.parent {
            Some(parent) => self.keep(parent)?,
            None => self.leases.begin(),
        };
        let blob = self.receive_layer(pack)?;
        lease.blob(&blob.digest);
        let result = self.make_child(request, blob.clone(), &lease);
        drop(lease);
        if result.is_err() {
            self.discard_unused(&[blob.digest].into())?;
        }
        let id = result?;
        let name = request.name.as_ref().map_or_else(|| id.to_string(), Reference::familiar);
        self.report("create", &id.to_string(), &name, &id);
        if request.name.is_some() {
            self.report("tag", &id.to_string(), &name, &id);
        }
        Ok(id)
    }

    fn receive_layer(
        &self,
        pack: impl FnOnce(&mut dyn Write) -> Result<(), SnapshotError>,
    ) -> Result<Descriptor, ImageError> {
        let blob = Blob { ingest: self.contents.ingest_unknown()?, failed: None };
        let mut writer = io::BufWriter::with_capacity(256 << 10, blob);
        let packed = pack(&mut writer).map_err(PackError::from);
        let packed = packed.and_then(|()| Ok(writer.flush()?));
        let (blob, _) = writer.into_parts();
        match (blob.failed, packed) {
            (Some(error), _) => Err(error.into()),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(())) => {
                let (digest, size) = blob.ingest.commit(None, None)?;
                Ok(Descriptor::new(DOCKER_LAYER, digest, size))
            }
        }
    }

    fn make_child(
        &self,
        request: &CommitRequest,
        blob: Descriptor,
        lease: &super::Lease,
    ) -> Result<Digest, ImageError> {
        let parent = request.parent.as_deref();
        // Uncompressed: its digest is the diff id.
        let added = (blob.digest != empty_archive()).then_some(blob);
        let config = child_config(request, added.as_ref().map(|blob| blob.digest));
        let mut layers: Vec<Layer> = parent.map(|parent| parent.layers.clone()).unwrap_or_default();
        if let (Some(blob), Some(chain)) = (added, chain_ids(&config.rootfs.diff_ids).last()) {
            layers.push(Layer { diff_id: blob.digest, blob, chain: *chain });
        }
        let target = self.write(&config, &layers, lease)?;
        let target = self.register_child(target, request.name.as_ref(), parent.map(|parent| parent.id))?;
        Ok(target.descriptor.digest)
    }
}

fn child_config(request: &CommitRequest, diff_id: Option<Digest>) -> ImageConfig {
    let now = Timestamp::now();
    let scratch = || {
        let Platform { architecture, os, variant, .. } = Platform::host();
        let rootfs = RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() };
        ImageConfig { architecture, os, variant, rootfs, ..ImageConfig::default() }
    };
    let mut config = request.parent.as_ref().map_or_else(scratch, |parent| parent.config.clone());
    config.config = request.run.clone();
    config.author = request.author.clone();
    config.comment = request.comment.clone();
    config.created = Some(now);
    config.history.push(History {
        created: Some(now),
        created_by: request.created_by.clone(),
        author: request.author.clone(),
        comment: request.comment.clone(),
        empty_layer: diff_id.is_none(),
    });
    config.rootfs.diff_ids.extend(diff_id);
    config
}

/// An archive without entries: its end mark alone. dockerd takes it for no layer at all.
fn empty_archive() -> Digest {
    Digest::of(&[0; 1024])
}
