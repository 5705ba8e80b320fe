//! What an image that is made here becomes in the store.

use serde_json::json;

use super::assemble::Layer;
use super::config::ImageConfig;
use super::error::ImageError;
use super::lease::Lease;
use super::{Images, unpack};
use crate::base::digest::Digest;
use crate::registry::manifest::{DOCKER_CONFIG, DOCKER_MANIFEST, Descriptor};

impl Images {
    /// Unpacks the layers, whose blobs are in the store, and writes the configuration and a manifest (Image Manifest
    /// Version 2, Schema 2). Returns the manifest's descriptor; `lease` keeps all of it until that is registered.
    pub(super) fn write(
        &self,
        config: &ImageConfig,
        layers: &[Layer],
        lease: &Lease,
    ) -> Result<Descriptor, ImageError> {
        layers.iter().for_each(|layer| lease.layer(&layer.chain));
        unpack::missing(&self.contents, &self.snapshots, layers)?;
        let config = serde_json::to_vec(config).map_err(ImageError::Config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": Descriptor::new(DOCKER_CONFIG, Digest::of(&config), config.len() as u64),
            "layers": layers.iter().map(|layer| &layer.blob).collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        for document in [&config, &manifest] {
            lease.blob(&Digest::of(document));
            self.contents.put(document)?;
        }
        Ok(Descriptor::new(DOCKER_MANIFEST, Digest::of(&manifest), manifest.len() as u64))
    }
}
