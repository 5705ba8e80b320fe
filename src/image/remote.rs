//! What a registry says of an image, without pulling it.

use std::sync::Arc;

use super::Images;
use super::error::ImageError;
use super::pull::small_blob;
use crate::registry::manifest::{Descriptor, Document};
use crate::registry::{Credentials, Platform, Reference};

/// An image in a registry.
#[derive(Clone, Debug)]
pub struct Remote {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}

impl Images {
    /// Asks what `reference` stands for.
    pub async fn remote(
        self: &Arc<Self>,
        reference: &Reference,
        credentials: Credentials,
    ) -> Result<Remote, ImageError> {
        let session = self.registry.session(reference, credentials);
        let root = session.resolve().await?;
        let (document, media_type) = Document::parse(&root.bytes, &root.media_type)?;
        let platforms = match document {
            Document::Index(index) => index.manifests.into_iter().filter_map(|m| m.platform).collect(),
            Document::Manifest(manifest) => {
                let config = small_blob(&session, &manifest.config).await?;
                vec![serde_json::from_slice(&config).map_err(ImageError::Config)?]
            }
        };
        let descriptor = Descriptor::new(&media_type, root.digest, root.bytes.len() as u64);
        Ok(Remote { descriptor, platforms })
    }
}
