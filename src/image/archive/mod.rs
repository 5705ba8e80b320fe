//! `docker load`: images from a tar archive, in the layout of OCI or of older Docker releases, plain or
//! compressed. The archive is read once from front to back; nothing in it names a file on the host.

mod collect;
mod docker;
mod members;

use std::io::Read;
use std::sync::Arc;

use super::error::ImageError;
use super::{Image, Images, Progress, Target, assemble, lease::Lease, unpack};
use crate::base::archive::ArchiveError;
use crate::base::digest::Digest;
use crate::content::Contents;
use crate::registry::manifest::{Descriptor, Document};
use crate::registry::{Platform, Reference};
use crate::snapshot::decompress::{self, Compression};

use collect::Collected;

/// containerd's annotation with the full name of an image in an archive.
const NAME_ANNOTATION: &str = "io.containerd.image.name";

/// Why an archive holds no images.
#[derive(Debug, thiserror::Error)]
pub enum InvalidArchive {
    #[error("reading the archive: {0}")]
    Read(#[from] std::io::Error),
    #[error("unrecognized image format")]
    Format,
    #[error("unsupported OCI version {0}")]
    Version(String),
    #[error("cannot read {name} in the archive: {source}")]
    Json { name: &'static str, source: serde_json::Error },
    #[error("{name} is {size} bytes, more than the {limit} that are accepted")]
    DocumentTooLarge { name: &'static str, size: u64, limit: u64 },
    #[error(transparent)]
    Tar(ArchiveError),
    #[error("{0:?} is a sparse file, which no image has")]
    Sparse(String),
    #[error("more than {0} entries")]
    TooManyEntries(usize),
    #[error("{path:?} is named in the archive but not in it")]
    Missing { path: String },
    #[error("invalid manifest, layers length mismatch: expected {expected}, got {actual}")]
    LayerCount { expected: usize, actual: usize },
    #[error("{digest} in the archive has no image for {platform}")]
    NoImage { digest: Digest, platform: String },
}

/// What the caller wants of a load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Unpack the image of this platform and fail if there is none; without a wish the host's is unpacked.
    pub platform: Option<Platform>,
}

/// One image of an archive: what it is and how it is called.
struct Entry {
    target: Descriptor,
    name: Option<Reference>,
}

impl Images {
    /// Reads images from `archive` and keeps them. Blocks. Images are visible one by one as each is complete.
    pub fn load(
        &self,
        archive: impl Read + Send,
        options: &LoadOptions,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Arc<Target>>, ImageError> {
        let lease = self.leases.begin();
        let mut collected = Collected::default();
        let loaded = self
            .collect(archive, &lease, &mut collected)
            .and_then(|entries| entries.iter().map(|e| self.admit(e, options, &lease, report)).collect());
        drop(lease);
        self.discard_unused(&collected.added)?;
        loaded
    }

    fn collect(
        &self,
        archive: impl Read + Send,
        lease: &Lease,
        into: &mut Collected,
    ) -> Result<Vec<Entry>, ImageError> {
        let (start, archive) = unpack::peek(archive).map_err(InvalidArchive::Read)?;
        let tar = decompress::reader(Compression::sniff(&start), archive).map_err(InvalidArchive::Read)?;
        into.read(tar, &self.contents, lease)?;
        if into.is_oci()? {
            return oci_entries(&into.index()?);
        }
        docker::entries(into, &self.contents, lease)
    }

    /// Verifies, unpacks and registers one image.
    fn admit(
        &self,
        entry: &Entry,
        options: &LoadOptions,
        lease: &Lease,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Arc<Target>, ImageError> {
        lease_all(&self.contents, &entry.target, lease)?;
        let target = assemble::target(&self.contents, &self.snapshots, &entry.target)?;
        let wanted = options.platform.clone().unwrap_or_else(Platform::host);
        match target.image(Some(&wanted)) {
            Some(image) => self.unpack_leased(image, lease)?,
            None if options.platform.is_none() && target.image(None).is_some() => {}
            None => {
                let (digest, platform) = (entry.target.digest, wanted.to_string());
                return Err(InvalidArchive::NoImage { digest, platform }.into());
            }
        }
        let target = self.register(entry.target.clone(), entry.name.as_ref())?;
        let id = target.descriptor.digest.to_string();
        report(Progress::stream(match &entry.name {
            Some(name) => format!("Loaded image: {}\n", name.familiar()),
            None => format!("Loaded image ID: {id}\n"),
        }));
        self.report("load", &id, &id, &target.descriptor.digest);
        Ok(target)
    }

    fn unpack_leased(&self, image: &Image, lease: &Lease) -> Result<(), ImageError> {
        image.chain.iter().for_each(|chain| lease.layer(chain));
        unpack::missing(&self.contents, &self.snapshots, &image.layers)
    }
}

/// Keeps every blob that a target leads to, and fails if a manifest's own blobs are missing.
fn lease_all(contents: &Contents, descriptor: &Descriptor, lease: &Lease) -> Result<(), ImageError> {
    lease.blob(&descriptor.digest);
    match assemble::document(contents, descriptor)? {
        Document::Index(index) => {
            let present = index.manifests.iter().filter(|child| contents.contains(&child.digest));
            present
                .filter(|child| child.is_manifest())
                .try_for_each(|child| lease_all(contents, child, lease))
        }
        Document::Manifest(manifest) => {
            lease.blob(&manifest.config.digest);
            manifest.layers.iter().for_each(|layer| lease.blob(&layer.digest));
            Ok(())
        }
    }
}

/// The images that the index of an OCI layout lists. Names in containerd's annotation count, as with dockerd.
fn oci_entries(index: &[u8]) -> Result<Vec<Entry>, ImageError> {
    let Document::Index(index) = Document::parse(index, crate::registry::manifest::OCI_INDEX)?.0 else {
        return Err(InvalidArchive::Format.into());
    };
    let images = index.manifests.into_iter().filter(|d| !d.is_attestation());
    Ok(images
        .map(|target| {
            let name =
                target.annotations.get(NAME_ANNOTATION).and_then(|name| name.parse::<Reference>().ok());
            let target = Descriptor { annotations: Default::default(), ..target };
            Entry { target, name: name.map(Reference::or_latest) }
        })
        .collect())
}

#[cfg(test)]
mod tests;
