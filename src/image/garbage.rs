//! What nothing leads to: found by marking from records, containers and leases, never by counting references.

use std::collections::{BTreeSet, HashSet};

use super::Images;
use super::assemble::{self, Target};
use super::error::ImageError;
use super::state::State;
use crate::base::digest::Digest;
use crate::content::Contents;
use crate::registry::manifest::{Descriptor, Document};
use crate::snapshot::{ChainId, chain_ids};

/// All that records lead to.
#[derive(Default)]
struct Marked {
    blobs: HashSet<Digest>,
    layers: HashSet<ChainId>,
}

impl Images {
    /// Removes those of `blobs` that nothing leads to; returns the bytes freed.
    pub(super) fn discard_unused(&self, blobs: &BTreeSet<Digest>) -> Result<u64, ImageError> {
        if blobs.is_empty() {
            return Ok(0);
        }
        let marked = mark(&self.state(), &self.contents)?;
        let mut freed = 0;
        for digest in blobs.iter().filter(|digest| !marked.blobs.contains(digest)) {
            freed += self.remove_blob(digest)?;
        }
        Ok(freed)
    }

    fn remove_blob(&self, digest: &Digest) -> Result<u64, ImageError> {
        let leased = self.leases.lock();
        if leased.blob(digest) {
            return Ok(0);
        }
        let size = self.contents.size(digest).unwrap_or(0);
        self.contents.remove(digest)?;
        Ok(size)
    }
}

fn mark(state: &State, contents: &Contents) -> Result<Marked, ImageError> {
    let mut marked = Marked::default();
    for target in state.targets() {
        marked.target(target, contents)?;
    }
    Ok(marked)
}

impl Marked {
    fn target(&mut self, target: &Target, contents: &Contents) -> Result<(), ImageError> {
        self.blobs.insert(target.descriptor.digest);
        self.blobs.extend(&target.nested);
        if target.variants.is_empty() {
            // It could not be read when the engine started: what it needs must be known before anything is removed.
            return self.unread(&target.descriptor, contents);
        }
        for variant in &target.variants {
            self.blobs.insert(variant.descriptor.digest);
            match &variant.image {
                Some(image) => {
                    self.blobs.insert(image.config_blob.digest);
                    self.blobs.extend(image.layers.iter().map(|layer| layer.blob.digest));
                    self.layers.extend(&image.chain);
                }
                None => self.unread(&variant.descriptor, contents)?,
            }
        }
        Ok(())
    }

    /// What is no image (an attestation, say), or was not known to be one.
    fn unread(&mut self, descriptor: &Descriptor, contents: &Contents) -> Result<(), ImageError> {
        if !contents.contains(&descriptor.digest) {
            return Ok(());
        }
        self.blobs.insert(descriptor.digest);
        match assemble::document(contents, descriptor)? {
            Document::Index(index) => {
                index.manifests.iter().try_for_each(|child| self.unread(child, contents))
            }
            Document::Manifest(manifest) => {
                self.blobs.insert(manifest.config.digest);
                self.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
                if manifest.layers.iter().any(Descriptor::is_layer)
                    && contents.contains(&manifest.config.digest)
                {
                    let config = assemble::config(contents, &manifest.config.digest)?;
                    self.layers.extend(chain_ids(&config.rootfs.diff_ids));
                }
                Ok(())
            }
        }
    }
}
