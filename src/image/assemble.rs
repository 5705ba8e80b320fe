//! From a digest in the content store to what is known of an image: reads its index, manifests and configurations
//! once, so that nothing has to read them again.

use std::sync::Arc;

use super::config::ImageConfig;
use super::error::ImageError;
use crate::base::digest::Digest;
use crate::content::Contents;
use crate::registry::Platform;
use crate::registry::manifest::{CONFIG_LIMIT, DOCUMENT_LIMIT, Descriptor, Document, Index, Manifest};
use crate::snapshot::{ChainId, Snapshots, chain_ids};

/// How deep indexes may be nested.
const DEPTH_LIMIT: usize = 4;

/// One platform's image whose configuration is present.
#[derive(Debug)]
pub struct Image {
    /// Identifies the image to users: the digest of the index or manifest that its name stands for.
    pub id: Digest,
    /// The platform's manifest; the same as the target if the name stands for a manifest.
    pub manifest: Descriptor,
    /// The configuration blob.
    pub config_blob: Descriptor,
    pub config: ImageConfig,
    pub platform: Platform,
    /// Base first.
    pub layers: Vec<Layer>,
    /// The layers' snapshots, base first.
    pub chain: Vec<ChainId>,
    /// Bytes of manifest, configuration and those layer blobs that are present.
    pub content_size: u64,
    /// Bytes of each unpacked layer on disk, in the same order; 0 for what is not unpacked.
    pub unpacked: Vec<u64>,
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct Layer {
    pub blob: Descriptor,
    pub diff_id: Digest,
    pub chain: ChainId,
}

/// What an index lists.
#[derive(Clone, Debug)]
pub struct Variant {
    pub descriptor: Descriptor,
    /// Present if the manifest and its configuration are.
    pub image: Option<Arc<Image>>,
}

/// What a name stands for: an index or a manifest, with all that is present of it.
#[derive(Debug)]
pub struct Target {
    pub descriptor: Descriptor,
    /// The manifests below an index in its order; the manifest itself otherwise.
    pub variants: Vec<Variant>,
    /// The indexes below the target, where indexes are nested.
    pub nested: Vec<Digest>,
}

impl Target {
    /// A target of which nothing is present.
    pub fn empty(descriptor: Descriptor) -> Self {
        Self { descriptor, variants: Vec::new(), nested: Vec::new() }
    }

    /// The images that are present, those that suit the host first.
    pub fn images(&self) -> Vec<&Arc<Image>> {
        let host = Platform::host();
        let mut images: Vec<_> = self.variants.iter().filter_map(|v| v.image.as_ref()).collect();
        images.sort_by_key(|image| host.rank(&image.platform).unwrap_or(usize::MAX));
        images
    }

    /// The image that suits `platform` best, or without a wish the host.
    pub fn image(&self, platform: Option<&Platform>) -> Option<&Arc<Image>> {
        match platform {
            None => self.images().first().copied(),
            Some(wanted) => self
                .variants
                .iter()
                .filter_map(|v| v.image.as_ref())
                .filter_map(|image| Some((wanted.rank(&image.platform)?, image)))
                .min_by_key(|(rank, _)| *rank)
                .map(|(_, image)| image),
        }
    }

    /// Bytes of all that is present, unpacked layers included. A layer that platforms share counts once for each.
    pub fn size(&self) -> u64 {
        let images = self.variants.iter().filter_map(|v| v.image.as_ref());
        let index = if self.descriptor.is_index() { self.descriptor.size } else { 0 };
        index + images.map(|image| image.size()).sum::<u64>()
    }
}

impl Image {
    /// Bytes of all unpacked layers.
    pub fn unpacked_size(&self) -> u64 {
        self.unpacked.iter().sum()
    }

    /// Bytes of blobs and unpacked layers together, as dockerd reports the size.
    pub fn size(&self) -> u64 {
        self.content_size + self.unpacked_size()
    }
}

/// Reads what is present of `descriptor`. A document that is missing below an index is no error, a damaged one is.
pub fn target(
    contents: &Contents,
    snapshots: &Snapshots,
    descriptor: &Descriptor,
) -> Result<Target, ImageError> {
    let reader = Reader { contents, snapshots, id: descriptor.digest };
    let mut target = Target::empty(descriptor.clone());
    reader.collect(descriptor, DEPTH_LIMIT, &mut target)?;
    Ok(target)
}

/// Reads and checks a manifest or an index.
pub fn document(contents: &Contents, descriptor: &Descriptor) -> Result<Document, ImageError> {
    let bytes = contents.read(&descriptor.digest, DOCUMENT_LIMIT)?;
    Ok(Document::parse(&bytes, &descriptor.media_type)?.0)
}

/// Reads a configuration.
pub fn config(contents: &Contents, blob: &Digest) -> Result<ImageConfig, ImageError> {
    let bytes = contents.read(blob, CONFIG_LIMIT)?;
    serde_json::from_slice(&bytes).map_err(ImageError::Config)
}

/// Pairs a manifest's layers with the configuration's diff ids and derives the chain.
pub fn layers(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Layer>, ImageError> {
    let diff_ids = &config.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        return Err(ImageError::LayerCount { layers: manifest.layers.len(), diff_ids: diff_ids.len() });
    }
    let chain = chain_ids(diff_ids);
    let zipped = manifest.layers.iter().zip(diff_ids).zip(chain);
    Ok(zipped
        .map(|((blob, diff_id), chain)| Layer { blob: blob.clone(), diff_id: *diff_id, chain })
        .collect())
}

struct Reader<'a> {
    contents: &'a Contents,
    snapshots: &'a Snapshots,
    id: Digest,
}

impl Reader<'_> {
    fn collect(&self, descriptor: &Descriptor, depth: usize, into: &mut Target) -> Result<(), ImageError> {
        if depth == 0 || !self.contents.contains(&descriptor.digest) {
            into.variants.push(Variant { descriptor: descriptor.clone(), image: None });
            return Ok(());
        }
        match document(self.contents, descriptor)? {
            Document::Index(Index { manifests, .. }) => {
                if depth < DEPTH_LIMIT {
                    into.nested.push(descriptor.digest);
                }
                for child in &manifests {
                    self.collect(child, depth - 1, into)?;
                }
            }
            Document::Manifest(manifest) => {
                let image = self.image(descriptor, &manifest)?.map(Arc::new);
                into.variants.push(Variant { descriptor: descriptor.clone(), image });
            }
        }
        Ok(())
    }

    /// Nothing if it is no image, or its configuration is not here.
    fn image(&self, descriptor: &Descriptor, manifest: &Manifest) -> Result<Option<Image>, ImageError> {
        let is_image = manifest.layers.is_empty() || manifest.layers.iter().any(Descriptor::is_layer);
        if descriptor.is_attestation() || !is_image || !self.contents.contains(&manifest.config.digest) {
            return Ok(None);
        }
        let config = config(self.contents, &manifest.config.digest)?;
        let layers = layers(manifest, &config)?;
        let platform = match &descriptor.platform {
            Some(platform) if !platform.architecture.is_empty() => platform.clone(),
            _ => config.platform(),
        };
        let blobs: u64 = layers.iter().filter_map(|l| self.contents.size(&l.blob.digest).ok()).sum();
        let chain: Vec<_> = layers.iter().map(|layer| layer.chain).collect();
        let unpacked = chain.iter().map(|chain| self.snapshots.usage(chain)).collect();
        Ok(Some(Image {
            id: self.id,
            manifest: descriptor.clone(),
            config_blob: manifest.config.clone(),
            config,
            platform: platform.normalised(),
            content_size: descriptor.size + manifest.config.size + blobs,
            unpacked,
            layers,
            chain,
        }))
    }
}
