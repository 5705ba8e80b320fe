//! Blobs by digest, laid out as an OCI image layout keeps them: `blobs/sha256/<hex>`, byte for byte as received.
//!
//! A file under `blobs` is complete and has been verified: content is written under `ingest`, hashed on the way,
//! synced and renamed. What `ingest` holds after a crash is either resumed by the next download of that digest or
//! removed by [`Contents::sweep`]. Knows nothing of manifests, images or which blob is still needed.

mod ingest;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::base::digest::{Digest, InvalidDigest};
use crate::base::durable;

pub use ingest::Ingest;

/// How long a partial download is kept for a later pull to resume.
const PARTIAL_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What can go wrong with a blob.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("content {0} not found")]
    Missing(Digest),
    #[error("content digest is {actual}, expected {expected}")]
    Mismatch { expected: Digest, actual: Digest },
    #[error("content {digest} has {actual} bytes, expected {expected}")]
    WrongSize { digest: Digest, expected: u64, actual: u64 },
    #[error("content {digest} has {actual} bytes, more than the {limit} that are accepted")]
    TooLarge { digest: Digest, actual: u64, limit: u64 },
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl ContentError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

type Result<T> = std::result::Result<T, ContentError>;

/// The store of blobs under one directory. Every method blocks on the file system.
#[derive(Debug)]
pub struct Contents {
    blobs: PathBuf,
    ingests: PathBuf,
}

impl Contents {
    /// Opens or creates the store under `root` and removes what a crash left unfinished.
    pub fn open(root: &Path) -> Result<Self> {
        let store = Self { blobs: root.join("blobs/sha256"), ingests: root.join("ingest") };
        for dir in [&store.blobs, &store.ingests] {
            fs::create_dir_all(dir).map_err(ContentError::io("create", dir))?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// Where the blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// True if the blob is present, hence verified.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Bytes of the blob.
    pub fn size(&self, digest: &Digest) -> Result<u64> {
        let path = self.path(digest);
        fs::metadata(&path).map(|m| m.len()).map_err(|e| Self::read_error(digest, &path, e))
    }

    /// The blob, to be read from its start.
    pub fn get(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|e| Self::read_error(digest, &path, e))
    }

    /// A document of at most `limit` bytes, verified again: what decides what an image is must not rest on a disk
    /// that has gone bad.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let file = self.get(digest)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(ContentError::io("read", &self.path(digest)))?;
        if bytes.len() as u64 > limit {
            return Err(ContentError::TooLarge { digest: *digest, actual: self.size(digest)?, limit });
        }
        match Digest::of(&bytes) {
            actual if actual == *digest => Ok(bytes),
            actual => Err(ContentError::Mismatch { expected: *digest, actual }),
        }
    }

    /// Starts or resumes receiving the blob `digest`. One at a time for each digest: callers hold a lock for it.
    pub fn ingest(&self, digest: &Digest) -> Result<Ingest> {
        Ingest::resume(self.ingests.join(digest.hex()), &self.blobs)
    }

    /// Starts receiving a blob whose digest is not known yet.
    pub fn ingest_unknown(&self) -> Result<Ingest> {
        let name = format!("{}{}", durable::NEW, crate::base::id::random_hex_id());
        Ingest::resume(self.ingests.join(name), &self.blobs)
    }

    /// Stores a document whole.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.contains(&digest) {
            let mut ingest = self.ingest_unknown()?;
            ingest.write(bytes)?;
            ingest.commit(Some(&digest), None)?;
        }
        Ok(digest)
    }

    /// Makes the names of all blobs committed so far survive a power cut. Called once before something refers to
    /// them, instead of at each of an image's blobs.
    pub fn sync(&self) -> Result<()> {
        durable::sync_dir(&self.blobs).map_err(ContentError::io("sync", &self.blobs))
    }

    /// Removes the blob; one that is not there is no error.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ContentError::io("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    /// Every blob with its size.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.blobs).map_err(ContentError::io("list", &self.blobs))? {
            let entry = entry.map_err(ContentError::io("list", &self.blobs))?;
            let Ok(digest) = Digest::from_hex(&entry.file_name().to_string_lossy()) else { continue };
            let size = entry.metadata().map_err(ContentError::io("read", &entry.path()))?.len();
            found.push((digest, size));
        }
        Ok(found)
    }

    /// Removes unfinished blobs that nothing can resume: those without a known digest, and partial downloads
    /// nobody has come back to for a day. Called while nothing is being received.
    pub fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.ingests).map_err(ContentError::io("list", &self.ingests))? {
            let entry = entry.map_err(ContentError::io("list", &self.ingests))?;
            let age = entry.metadata().and_then(|m| m.modified()).ok();
            let age = age.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
            let resumable = Digest::from_hex(&entry.file_name().to_string_lossy()).is_ok();
            if !resumable || age > PARTIAL_LIFETIME {
                fs::remove_file(entry.path()).map_err(ContentError::io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    fn read_error(digest: &Digest, path: &Path, error: io::Error) -> ContentError {
        match error.kind() {
            io::ErrorKind::NotFound => ContentError::Missing(*digest),
            _ => ContentError::io("read", path)(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Contents) {
        let dir = tempfile::tempdir().unwrap();
        let store = Contents::open(dir.path()).unwrap();
        (dir, store)
    }

    #[test]
    fn a_blob_is_visible_only_after_its_digest_was_verified() {
        let (dir, store) = store();
        let digest = Digest::of(b"hello");
        let mut ingest = store.ingest(&digest).unwrap();
        ingest.write(b"hel").unwrap();
        assert!(!store.contains(&digest));
        ingest.write(b"lo").unwrap();
        ingest.commit(Some(&digest), Some(5)).unwrap();
        assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
        assert_eq!(fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0);
    }

    #[test]
    fn a_wrong_digest_or_size_leaves_nothing() {
        let (dir, store) = store();
        let digest = Digest::of(b"hello");
        let mut ingest = store.ingest(&digest).unwrap();
        ingest.write(b"hellO").unwrap();
        assert!(matches!(ingest.commit(Some(&digest), None), Err(ContentError::Mismatch { .. })));
        let mut ingest = store.ingest(&digest).unwrap();
        assert_eq!(ingest.received(), 0);
        ingest.write(b"hello").unwrap();
        assert!(matches!(ingest.commit(Some(&digest), Some(4)), Err(ContentError::WrongSize { .. })));
        assert!(!store.contains(&digest));
        assert_eq!(fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0);
    }

    #[test]
    fn a_dropped_ingest_is_resumed_where_it_stopped() {
        let (_dir, store) = store();
        let digest = Digest::of(b"hello");
        let mut ingest = store.ingest(&digest).unwrap();
        ingest.write(b"hel").unwrap();
        drop(ingest);
        let mut ingest = store.ingest(&digest).unwrap();
        assert_eq!(ingest.received(), 3);
        ingest.write(b"lo").unwrap();
        assert_eq!(ingest.commit(Some(&digest), Some(5)).unwrap(), (digest, 5));
    }

    #[test]
    fn documents_are_bounded_and_verified_when_read() {
        let (_dir, store) = store();
        let digest = store.put(b"{}").unwrap();
        assert!(matches!(store.read(&digest, 1), Err(ContentError::TooLarge { .. })));
        fs::write(store.path(&digest), b"[]").unwrap();
        assert!(matches!(store.read(&digest, 9), Err(ContentError::Mismatch { .. })));
        assert!(matches!(store.read(&Digest::of(b"?"), 9), Err(ContentError::Missing(_))));
    }

    #[test]
    fn opening_removes_what_cannot_be_resumed() {
        let (dir, store) = store();
        let mut unknown = store.ingest_unknown().unwrap();
        unknown.write(b"x").unwrap();
        std::mem::forget(unknown);
        let mut known = store.ingest(&Digest::of(b"hello")).unwrap();
        known.write(b"hel").unwrap();
        drop(known);
        Contents::open(dir.path()).unwrap();
        let left: Vec<_> =
            fs::read_dir(dir.path().join("ingest")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [Digest::of(b"hello").hex().as_str()]);
    }
}
