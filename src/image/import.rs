//! `docker import`: a file system in an archive becomes an image of one layer.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::Images;
use super::archive::InvalidArchive;
use super::assemble::Layer;
use super::changes;
use super::config::{History, ImageConfig, RootFs};
use super::error::ImageError;
use super::unpack;
use crate::base::digest::Digest;
use crate::base::time::Timestamp;
use crate::registry::manifest::{DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, Descriptor};
use crate::registry::{Platform, Reference};
use crate::snapshot::chain_ids;
use crate::snapshot::decompress::{self, Compression};

/// What is imported as what.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    pub name: Option<Reference>,
    pub message: String,
    /// Dockerfile instructions that only concern the configuration.
    pub changes: Vec<String>,
    pub platform: Platform,
}

impl Images {
    /// Makes an image of `archive` (plain, gzip or zstd). Blocks.
    pub fn import(&self, archive: impl Read + Send, request: &ImportRequest) -> Result<Digest, ImageError> {
        let run = changes::apply(&request.changes)?;
        let lease = self.leases.begin();
        let (blob, compression) = self.receive(archive)?;
        lease.blob(&blob.digest);
        let result = self.make(request, run, blob.clone(), compression, &lease);
        if result.is_err() {
            drop(lease);
            self.discard_unused(&[blob.digest].into())?;
        }
        let id = result?;
        let name = request.name.as_ref().map_or_else(|| id.to_string(), Reference::familiar);
        self.report("import", &id.to_string(), &name, &id);
        Ok(id)
    }

    fn receive(&self, archive: impl Read + Send) -> Result<(Descriptor, Compression), ImageError> {
        let (start, archive) = unpack::peek(archive).map_err(InvalidArchive::Read)?;
        let mut compression = Compression::sniff(&start);
        let mut archive: Box<dyn Read + Send> = Box::new(archive);
        if matches!(compression, Compression::Bzip2 | Compression::Xz) {
            // Layers of these have no media type: kept without.
            archive = decompress::reader(compression, archive).map_err(InvalidArchive::Read)?;
            compression = Compression::None;
        }
        let mut ingest = self.contents.ingest_unknown()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match archive.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => ingest.write(&buffer[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(InvalidArchive::Read(e).into()),
            }
        }
        let media_type = match compression {
            Compression::None | Compression::Bzip2 | Compression::Xz => DOCKER_LAYER,
            Compression::Gzip => DOCKER_LAYER_GZIP,
            Compression::Zstd => DOCKER_LAYER_ZSTD,
        };
        let (digest, size) = ingest.commit(None, None)?;
        Ok((Descriptor::new(media_type, digest, size), compression))
    }

    fn make(
        &self,
        request: &ImportRequest,
        run: super::RunConfig,
        blob: Descriptor,
        compression: Compression,
        lease: &super::lease::Lease,
    ) -> Result<Digest, ImageError> {
        let diff_id = self.diff_id(&blob, compression)?;
        let now = Timestamp::now();
        let config = ImageConfig {
            architecture: request.platform.architecture.clone(),
            os: request.platform.os.clone(),
            variant: request.platform.variant.clone(),
            comment: request.message.clone(),
            created: Some(now),
            config: run,
            history: vec![History {
                created: Some(now),
                comment: request.message.clone(),
                ..History::default()
            }],
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
            ..ImageConfig::default()
        };
        let chain = chain_ids(&config.rootfs.diff_ids);
        let layers: Vec<_> =
            chain.iter().map(|chain| Layer { blob: blob.clone(), diff_id, chain: *chain }).collect();
        let target = self.write(&config, &layers, lease)?;
        Ok(self.register(target, request.name.as_ref())?.descriptor.digest)
    }

    /// What the layer's digest is when it is not compressed.
    fn diff_id(&self, blob: &Descriptor, compression: Compression) -> Result<Digest, ImageError> {
        if compression == Compression::None {
            return Ok(blob.digest);
        }
        let unreadable = |source| ImageError::Unreadable { blob: blob.digest, source };
        let mut tar =
            decompress::reader(compression, self.contents.get(&blob.digest)?).map_err(unreadable)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match tar.read(&mut buffer).map_err(unreadable)? {
                0 => return Ok(Digest::from(<[u8; 32]>::from(hasher.finalize()))),
                n => hasher.update(&buffer[..n]),
            }
        }
    }
}
