//! The layout of `docker save` before OCI: `manifest.json` names a configuration and layer files. Docker's own
//! manifest is made from it, the same bytes as containerd makes, so that an image has the same id whichever loads it.

use serde::{Deserialize, Serialize};

use super::collect::Collected;
use super::{Entry, InvalidArchive};
use crate::base::digest::Digest;
use crate::content::Contents;
use crate::image::assemble;
use crate::image::error::ImageError;
use crate::image::lease::Lease;
use crate::registry::manifest::{
    DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, DOCKER_MANIFEST, Descriptor,
};
use crate::registry::{InvalidReference, Reference};
use crate::snapshot::decompress::Compression;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Field order as containerd writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Part<'a>,
    layers: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
}

/// Makes a manifest for each image of the archive; an image with several names is one entry for each.
pub fn entries(
    collected: &mut Collected,
    contents: &Contents,
    lease: &Lease,
) -> Result<Vec<Entry>, ImageError> {
    let mut entries = Vec::new();
    for saved in collected.manifest::<Vec<Saved>>()? {
        let target = manifest(&saved, collected, contents, lease)?;
        let names = saved.repo_tags.unwrap_or_default();
        if names.is_empty() {
            entries.push(Entry { target: target.clone(), name: None });
        }
        for name in names {
            let name: Reference = name.parse().map_err(|e: InvalidReference| ImageError::Reference(e))?;
            entries.push(Entry { target: target.clone(), name: Some(name.or_latest()) });
        }
    }
    Ok(entries)
}

fn manifest(
    saved: &Saved,
    collected: &mut Collected,
    contents: &Contents,
    lease: &Lease,
) -> Result<Descriptor, ImageError> {
    let config = collected.get(&saved.config)?;
    let layers: Vec<_> =
        saved.layers.iter().flatten().map(|path| collected.get(path)).collect::<Result<_, _>>()?;
    let expected = assemble::config(contents, &config.digest)?.rootfs.diff_ids.len();
    if layers.len() != expected {
        return Err(InvalidArchive::LayerCount { expected, actual: layers.len() }.into());
    }
    let layers = layers.iter().map(|layer| {
        let media_type = match layer.compression {
            // For the last two there is no type; whoever unpacks a layer looks at how it begins.
            Compression::None | Compression::Bzip2 | Compression::Xz => DOCKER_LAYER,
            Compression::Gzip => DOCKER_LAYER_GZIP,
            Compression::Zstd => DOCKER_LAYER_ZSTD,
        };
        Part { media_type, digest: layer.digest, size: layer.size }
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: DOCKER_MANIFEST,
        config: Part { media_type: DOCKER_CONFIG, digest: config.digest, size: config.size },
        layers: layers.collect(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(ImageError::Config)?;
    let digest = Digest::of(&bytes);
    lease.blob(&digest);
    if !contents.contains(&digest) {
        collected.added.insert(digest);
        contents.put(&bytes)?;
    }
    Ok(Descriptor::new(DOCKER_MANIFEST, digest, bytes.len() as u64))
}
