//! What nothing leads to: found by marking from records, containers and leases, never by counting references.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::Images;
use super::assemble::{self, Target};
use super::database::Change;
use super::error::ImageError;
use super::name::Name;
use super::remove::Users;
use super::state::State;
use crate::base::digest::Digest;
use crate::content::Contents;
use crate::crash_point;
use crate::registry::manifest::{Descriptor, Document};
use crate::snapshot::{ChainId, chain_ids};

/// All that the records of one state lead to.
#[derive(Default)]
struct Marked {
    state: Arc<State>,
    blobs: HashSet<Digest>,
    layers: HashSet<ChainId>,
}

impl Images {
    /// Removes all that nothing leads to; returns the bytes freed. May be killed at any point: what is left is found
    /// by the next call. Blocks.
    pub fn collect_garbage(&self, users: Users<'_>) -> Result<u64, ImageError> {
        self.change(None, |state| {
            let held = state.records().map(|(name, _)| name);
            let free = held.filter(|name| matches!(name, Name::Held(id) if users(id).is_empty()));
            Ok((free.map(|name| Change::Remove(name.clone())).collect(), ()))
        })?;
        let mut marked = mark(self.state(), &self.contents)?;
        let mut freed = 0;
        for chain in self.snapshots.list() {
            freed += self.remove_layer(&mut marked, &chain)?;
        }
        for (digest, _) in self.contents.list()? {
            freed += self.remove_blob(&mut marked, &digest)?;
        }
        Ok(freed)
    }

    /// Removes what only this target led to, if no record leads to it any more.
    pub(super) fn free(&self, target: &Target) -> Result<u64, ImageError> {
        let (state, id) = (self.state(), target.descriptor.digest);
        if state.target(&id).is_some() {
            return Ok(0);
        }
        let mut candidates = Marked::default();
        candidates.target(target, &self.contents)?;
        let mut marked = mark(state, &self.contents)?;
        let mut freed = 0;
        for chain in &candidates.layers {
            freed += self.remove_layer(&mut marked, chain)?;
        }
        for digest in &candidates.blobs {
            freed += self.remove_blob(&mut marked, digest)?;
        }
        Ok(freed)
    }

    /// Removes those of `blobs` that nothing leads to.
    pub(super) fn discard_unused(&self, blobs: &BTreeSet<Digest>) -> Result<(), ImageError> {
        if blobs.is_empty() {
            return Ok(());
        }
        let mut marked = mark(self.state(), &self.contents)?;
        blobs.iter().try_for_each(|digest| self.remove_blob(&mut marked, digest).map(drop))
    }

    fn remove_blob(&self, marked: &mut Marked, digest: &Digest) -> Result<u64, ImageError> {
        let leased = self.leases.lock();
        self.mark_again(marked)?;
        if marked.blobs.contains(digest) || leased.blob(digest) {
            return Ok(0);
        }
        let size = self.contents.size(digest).unwrap_or(0);
        crash_point!("image-garbage-blob");
        self.contents.remove(digest)?;
        Ok(size)
    }

    /// What was just pulled is leased until its record is in the state: whoever holds off leases and looks at the
    /// state then sees the one or the other.
    fn mark_again(&self, marked: &mut Marked) -> Result<(), ImageError> {
        let state = self.state();
        if !Arc::ptr_eq(&state, &marked.state) {
            *marked = mark(state, &self.contents)?;
        }
        Ok(())
    }

    fn remove_layer(&self, marked: &mut Marked, chain: &ChainId) -> Result<u64, ImageError> {
        let leased = self.leases.lock();
        self.mark_again(marked)?;
        if marked.layers.contains(chain) || leased.layer(chain) || !self.snapshots.exists(chain) {
            return Ok(0);
        }
        let size = self.snapshots.usage(chain);
        crash_point!("image-garbage-layer");
        self.snapshots.remove(chain)?;
        Ok(size)
    }
}

fn mark(state: Arc<State>, contents: &Contents) -> Result<Marked, ImageError> {
    let mut marked = Marked { state: state.clone(), ..Marked::default() };
    state.targets().try_for_each(|target| marked.target(target, contents))?;
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
