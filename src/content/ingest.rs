//! One blob on its way in: hashed as it is written, visible only after [`Ingest::commit`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{ContentError, Result};
use crate::base::digest::Digest;
use crate::base::{durable, sys};
use crate::crash_point;

/// How much is written before the kernel is asked to start writing it out. Without this the sync at the end waits
/// for the whole layer, while the disk sat idle during the download.
const WRITE_OUT: u64 = 8 << 20;

/// A blob being received. Dropping it keeps what a later [`super::Contents::ingest`] can resume.
#[derive(Debug)]
pub struct Ingest {
    path: PathBuf,
    blobs: PathBuf,
    file: File,
    hasher: Sha256,
    received: u64,
    written_out: u64,
}

impl Ingest {
    pub(super) fn resume(path: PathBuf, blobs: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(ContentError::io("open", &path))?;
        let mut hasher = Sha256::new();
        let received = hash_existing(&mut file, &mut hasher).map_err(ContentError::io("read", &path))?;
        Ok(Self { path, blobs: blobs.to_owned(), file, hasher, received, written_out: received })
    }

    /// Bytes received so far, those of an earlier attempt included.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Appends `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(ContentError::io("write", &self.path))?;
        self.received += bytes.len() as u64;
        if self.received - self.written_out >= WRITE_OUT {
            sys::writeback::start(&self.file, self.written_out, self.received - self.written_out);
            self.written_out = self.received;
        }
        Ok(())
    }

    /// Forgets what was received: the source does not resume.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(ContentError::io("truncate", &self.path))?;
        io::Seek::rewind(&mut self.file).map_err(ContentError::io("rewind", &self.path))?;
        self.hasher = Sha256::new();
        (self.received, self.written_out) = (0, 0);
        Ok(())
    }

    /// The digest of what was received so far.
    pub fn digest(&self) -> Digest {
        Digest::from(<[u8; 32]>::from(self.hasher.clone().finalize()))
    }

    /// What was received so far, for reading from the start.
    pub fn received_part(&self) -> Result<impl Read + Send + 'static> {
        let file = File::open(&self.path).map_err(ContentError::io("open", &self.path))?;
        Ok(file.take(self.received))
    }

    /// Verifies, syncs and publishes the blob; returns its digest and size. After a mismatch nothing of it is
    /// kept. [`super::Contents::sync`] must follow before anything durable refers to the blob.
    pub fn commit(self, digest: Option<&Digest>, size: Option<u64>) -> Result<(Digest, u64)> {
        match self.verify(digest, size) {
            Ok(actual) => {
                crash_point!("content-verified");
                self.file.sync_data().map_err(ContentError::io("sync", &self.path))?;
                crash_point!("content-synced");
                let target = self.blobs.join(actual.hex());
                fs::rename(&self.path, &target).map_err(ContentError::io("rename", &self.path))?;
                crash_point!("content-renamed");
                Ok((actual, self.received))
            }
            Err(mismatch) => {
                self.discard();
                Err(mismatch)
            }
        }
    }

    /// Removes what was received.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }

    fn verify(&self, digest: Option<&Digest>, size: Option<u64>) -> Result<Digest> {
        let actual = self.digest();
        if let Some(expected) = size
            && expected != self.received
        {
            let digest = digest.copied().unwrap_or(actual);
            return Err(ContentError::WrongSize { digest, expected, actual: self.received });
        }
        match digest {
            Some(expected) if *expected != actual => {
                Err(ContentError::Mismatch { expected: *expected, actual })
            }
            _ => Ok(actual),
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let name = self.path.file_name().unwrap_or_default();
        // Empty or of unknown digest: nothing that could be resumed. After a commit the name is gone already.
        if self.received == 0 || name.to_string_lossy().starts_with(durable::NEW) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn hash_existing(file: &mut File, hasher: &mut Sha256) -> io::Result<u64> {
    let mut buffer = [0; 64 << 10];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            n => {
                hasher.update(&buffer[..n]);
                total += n as u64;
            }
        }
    }
}
