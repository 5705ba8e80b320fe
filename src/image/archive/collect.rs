//! First half of a load: every file of the archive goes to the content store as it comes by, since what it is good
//! for is often said only at the end.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;

use serde::Deserialize;

use super::InvalidArchive;
use super::members::{self, Member};
use crate::base::digest::Digest;
use crate::content::Contents;
use crate::image::error::ImageError;
use crate::image::lease::Lease;
use crate::registry::manifest::DOCUMENT_LIMIT;
use crate::snapshot::decompress::Compression;

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const MANIFEST: &str = "manifest.json";
/// Files of Docker's oldest layout that say nothing the others do not.
const LEGACY: [&str; 3] = ["VERSION", "json", "repositories"];
const LINK_LIMIT: usize = 8;

/// A file of the archive, now in the content store.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    pub digest: Digest,
    pub size: u64,
    pub compression: Compression,
}

/// What an archive consists of.
#[derive(Default)]
pub struct Collected {
    files: HashMap<String, Stored>,
    links: HashMap<String, String>,
    documents: HashMap<&'static str, Vec<u8>>,
    /// Blobs that were not there before.
    pub added: BTreeSet<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

impl Collected {
    /// Reads the whole archive.
    pub fn read(&mut self, tar: impl Read, contents: &Contents, lease: &Lease) -> Result<(), ImageError> {
        members::each(tar, |path, member| match member {
            Member::Link(target) => {
                self.links.insert(path, target);
                Ok(())
            }
            Member::File { size, content } => self.file(path, size, content, contents, lease),
        })
    }

    fn file(
        &mut self,
        path: String,
        size: u64,
        content: &mut dyn Read,
        contents: &Contents,
        lease: &Lease,
    ) -> Result<(), ImageError> {
        if let Some(name) = [LAYOUT, INDEX, MANIFEST].into_iter().find(|name| *name == path) {
            if size > DOCUMENT_LIMIT {
                return Err(InvalidArchive::DocumentTooLarge { name, size, limit: DOCUMENT_LIMIT }.into());
            }
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(InvalidArchive::Read)?;
            self.documents.insert(name, bytes);
            return Ok(());
        }
        if LEGACY.contains(&path.rsplit('/').next().unwrap_or_default()) {
            return Ok(());
        }
        let expected = path.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
        if let Some(digest) = expected {
            lease.blob(&digest);
            if contents.contains(&digest) {
                let stored = Stored { digest, size, compression: sniff(contents, &digest)? };
                self.files.insert(path, stored);
                return Ok(());
            }
        }
        let stored = self.ingest(expected, size, content, contents, lease)?;
        self.files.insert(path, stored);
        Ok(())
    }

    fn ingest(
        &mut self,
        expected: Option<Digest>,
        size: u64,
        content: &mut dyn Read,
        contents: &Contents,
        lease: &Lease,
    ) -> Result<Stored, ImageError> {
        let mut ingest = contents.ingest_unknown()?;
        let mut buffer = vec![0; 256 << 10];
        let mut compression = Compression::None;
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => break,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(InvalidArchive::Read)?,
            };
            if ingest.received() == 0 {
                compression = Compression::sniff(&buffer[..n]);
            }
            ingest.write(&buffer[..n])?;
        }
        let digest = ingest.digest();
        lease.blob(&digest);
        if !contents.contains(&digest) {
            self.added.insert(digest);
        }
        let (digest, size) = ingest.commit(expected.as_ref(), Some(size))?;
        Ok(Stored { digest, size, compression })
    }

    /// True for an OCI layout, which counts where an archive is both.
    pub fn is_oci(&self) -> Result<bool, InvalidArchive> {
        let Some(layout) = self.documents.get(LAYOUT) else { return Ok(false) };
        let layout: Layout = parse(LAYOUT, layout)?;
        match layout.image_layout_version.as_str() {
            "1.0.0" => Ok(true),
            other => Err(InvalidArchive::Version(other.to_owned())),
        }
    }

    /// The index of an OCI layout.
    pub fn index(&self) -> Result<Vec<u8>, InvalidArchive> {
        self.documents.get(INDEX).cloned().ok_or_else(|| InvalidArchive::Missing { path: INDEX.to_owned() })
    }

    /// The list of images in Docker's own layout.
    pub fn manifest<T: for<'de> Deserialize<'de>>(&self) -> Result<T, InvalidArchive> {
        parse(MANIFEST, self.documents.get(MANIFEST).ok_or(InvalidArchive::Format)?)
    }

    /// The file at a path, through links.
    pub fn get(&self, path: &str) -> Result<Stored, InvalidArchive> {
        let missing = || InvalidArchive::Missing { path: path.to_owned() };
        let mut current = path;
        for _ in 0..LINK_LIMIT {
            if let Some(stored) = self.files.get(current) {
                return Ok(*stored);
            }
            current = self.links.get(current).ok_or_else(missing)?;
        }
        Err(missing())
    }
}

fn parse<T: for<'de> Deserialize<'de>>(name: &'static str, bytes: &[u8]) -> Result<T, InvalidArchive> {
    serde_json::from_slice(bytes).map_err(|source| InvalidArchive::Json { name, source })
}

fn sniff(contents: &Contents, digest: &Digest) -> Result<Compression, ImageError> {
    let (start, _) = super::unpack::peek(contents.get(digest)?).map_err(InvalidArchive::Read)?;
    Ok(Compression::sniff(&start))
}
