//! First part of a pull: index, manifest and configuration. Small, one after the other, each verified and kept byte
//! for byte before the next is asked for.

use std::sync::Arc;

use super::blocking;
use crate::base::digest::Digest;
use crate::image::assemble::{self, Layer};
use crate::image::error::ImageError;
use crate::image::lease::Lease;
use crate::image::{ImageConfig, Images};
use crate::registry::manifest::{CONFIG_LIMIT, Descriptor, Document, Index, Manifest};
use crate::registry::{Fetched, Platform, RegistryError, Session};

const DEPTH_LIMIT: usize = 4;

/// What has to be fetched.
pub struct Plan {
    pub target: Descriptor,
    pub layers: Vec<Layer>,
}

impl Images {
    /// Fetches all documents of the image for `platform`.
    pub(super) async fn documents(
        self: &Arc<Self>,
        session: &Session,
        lease: &Arc<Lease>,
        root: Fetched,
        platform: Option<&Platform>,
    ) -> Result<Plan, ImageError> {
        let (mut document, media_type) = Document::parse(&root.bytes, &root.media_type)?;
        let target = Descriptor::new(&media_type, root.digest, root.bytes.len() as u64);
        self.store(lease, root.bytes).await?;
        for _ in 0..DEPTH_LIMIT {
            match document {
                Document::Manifest(manifest) => {
                    let config = self.config(session, lease, &manifest).await?;
                    check(session, &manifest, &config, platform)?;
                    return Ok(Plan { target, layers: assemble::layers(&manifest, &config)? });
                }
                Document::Index(index) => {
                    let child = choose(&index, platform)?.clone();
                    let fetched = session.manifest(&child.digest).await?;
                    document = Document::parse(&fetched.bytes, &child.media_type)?.0;
                    self.store(lease, fetched.bytes).await?;
                }
            }
        }
        Err(RegistryError::Answer("indexes are nested too deeply").into())
    }

    async fn config(
        self: &Arc<Self>,
        session: &Session,
        lease: &Arc<Lease>,
        manifest: &Manifest,
    ) -> Result<ImageConfig, ImageError> {
        let blob = &manifest.config;
        lease.blob(&blob.digest);
        let (contents, digest) = (self.contents.clone(), blob.digest);
        let present = blocking(move || match contents.contains(&digest) {
            true => assemble::config(&contents, &digest).map(Some),
            false => Ok(None),
        });
        if let Some(config) = present.await? {
            return Ok(config);
        }
        let bytes = small_blob(session, blob).await?;
        let config = serde_json::from_slice(&bytes).map_err(ImageError::Config)?;
        self.store(lease, bytes).await?;
        Ok(config)
    }

    async fn store(self: &Arc<Self>, lease: &Arc<Lease>, bytes: Vec<u8>) -> Result<(), ImageError> {
        let (contents, lease) = (self.contents.clone(), lease.clone());
        blocking(move || {
            lease.blob(&Digest::of(&bytes));
            contents.put(&bytes)?;
            Ok(())
        })
        .await
    }
}

/// The manifest that suits the platform best.
fn choose<'a>(index: &'a Index, platform: Option<&Platform>) -> Result<&'a Descriptor, ImageError> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let candidates = index.manifests.iter().filter(|child| !child.is_attestation());
    candidates
        .filter_map(|child| {
            let rank = match &child.platform {
                Some(offered) => wanted.rank(offered)?,
                // Without a platform it is whatever it is, and taken if nothing better is there.
                None => usize::MAX,
            };
            Some((rank, child))
        })
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, child)| child)
        .ok_or_else(|| ImageError::NoManifestFor { platform: wanted.to_string() })
}

fn check(
    session: &Session,
    manifest: &Manifest,
    config: &ImageConfig,
    platform: Option<&Platform>,
) -> Result<(), ImageError> {
    if let Some(layer) = manifest.layers.iter().find(|layer| !layer.is_layer()) {
        return Err(ImageError::LayerType { blob: layer.digest, media_type: layer.media_type.clone() });
    }
    match platform {
        Some(wanted) if !config.architecture.is_empty() && wanted.rank(&config.platform()).is_none() => {
            Err(ImageError::WrongPlatform { reference: session.name(), platform: wanted.to_string() })
        }
        _ => Ok(()),
    }
}

/// A blob that fits into memory, verified.
pub async fn small_blob(session: &Session, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
    if blob.size > CONFIG_LIMIT {
        let what = format!("the image configuration {}", blob.digest);
        return Err(RegistryError::TooLarge { what, limit: CONFIG_LIMIT }.into());
    }
    let mut stream = session.blob(blob, 0).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > blob.size {
            break;
        }
    }
    let actual = Digest::of(&bytes);
    if actual != blob.digest {
        return Err(RegistryError::Mismatch { expected: blob.digest, actual }.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::manifest::DOCKER_MANIFEST;

    #[test]
    fn the_best_manifest_is_chosen_and_attestations_never() {
        let child = |n: u8, platform: Option<&str>| Descriptor {
            platform: platform.map(|p| p.parse().unwrap()),
            ..Descriptor::new(DOCKER_MANIFEST, Digest::of(&[n]), 1)
        };
        let mut attestation = child(9, Some("linux/amd64"));
        attestation.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        let manifests = vec![
            attestation,
            child(1, Some("linux/arm64")),
            child(2, Some("linux/386")),
            child(3, Some("linux/amd64")),
        ];
        let mut index = Index { manifests, annotations: Default::default() };
        let pick = |index: &Index, platform: &str| {
            let platform: Platform = platform.parse().unwrap();
            choose(index, Some(&platform)).map(|d| d.digest)
        };
        assert_eq!(pick(&index, "linux/amd64").unwrap(), Digest::of(&[3]));
        assert_eq!(pick(&index, "linux/arm64/v8").unwrap(), Digest::of(&[1]));
        index.manifests.pop();
        assert_eq!(pick(&index, "linux/amd64").unwrap(), Digest::of(&[2]));
        let message = pick(&index, "linux/s390x").unwrap_err().to_string();
        assert_eq!(message, "no matching manifest for linux/s390x in the manifest list entries");
    }
}
