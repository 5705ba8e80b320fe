//! Archives made block by block, also such as no tool would write.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::base::digest::Digest;
use crate::base::id_map::IdMaps;
use crate::snapshot::{Applied, ChainId, SnapshotError, Snapshots};

/// An archive in the making.
#[derive(Default, Clone)]
pub(super) struct Archive(Vec<u8>);

pub(super) fn header(kind: EntryType, name: &str) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(0);
    header
}

impl Archive {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a header, after setting its size and checksum, and its data.
    pub(super) fn push(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_size(data.len() as u64);
        self.push_as_is(header, data);
        self
    }

    /// Adds a header whose size is the caller's.
    pub(super) fn push_as_is(&mut self, mut header: Header, data: &[u8]) {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        self.push(header(EntryType::Regular, name), data)
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.push(header(EntryType::Directory, name), b"")
    }

    pub(super) fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = header(kind, name);
        header.set_link_name_literal(target).unwrap();
        self.push(header, b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    /// PAX records for the entry that follows.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.push(header(EntryType::XHeader, "pax"), &data)
    }

    /// The archive with its end mark.
    pub(super) fn bytes(self) -> Vec<u8> {
        [self.0, vec![0; 1024]].concat()
    }
}

/// A store in a temporary directory. `secret` lies beside it, to be attacked.
pub(super) struct Bench {
    pub dir: TempDir,
    pub snapshots: Snapshots,
}

impl Bench {
    pub(super) fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make devices and set owners: run them as root"
        );
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        let snapshots = Snapshots::open(&dir.path().join("store"), &IdMaps::default()).unwrap();
        Self { dir, snapshots }
    }

    /// Unpacks and commits a layer on top of `parents`; returns its chain id.
    pub(super) fn layer(&self, archive: Archive, parents: &[ChainId]) -> ChainId {
        self.try_layer(&archive.bytes(), parents).unwrap().0
    }

    pub(super) fn try_layer(
        &self,
        bytes: &[u8],
        parents: &[ChainId],
    ) -> Result<(ChainId, Applied), SnapshotError> {
        let diff_id = Digest::of(bytes);
        let chain = parents.last().map_or_else(|| ChainId::base(diff_id), |below| below.on_top(&diff_id));
        let mut writer = self.snapshots.begin(&chain, parents)?;
        let applied = writer.apply(bytes)?;
        writer.commit()?;
        Ok((chain, applied))
    }

    /// Unpacks one layer and returns its directory.
    pub(super) fn unpack(&self, archive: Archive) -> PathBuf {
        self.snapshots.tree(&self.layer(archive, &[]))
    }

    /// The error of a layer that must not unpack. Nothing of it may be left.
    pub(super) fn refuse(&self, archive: Archive) -> SnapshotError {
        let before = self.snapshots.list().len();
        let error = self.try_layer(&archive.bytes(), &[]).unwrap_err();
        assert_eq!(self.snapshots.list().len(), before);
        self.wait_for_layers(before);
        self.assert_untouched();
        error
    }

    /// Waits until nothing else than `count` layers is on disk.
    pub(super) fn wait_for_layers(&self, count: usize) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let on_disk = || fs::read_dir(self.dir.path().join("store/layers")).unwrap().count();
        while on_disk() != count {
            assert!(std::time::Instant::now() < deadline, "{} directories instead of {count}", on_disk());
            std::thread::yield_now();
        }
    }

    /// What lies outside of the store is as it was.
    pub(super) fn assert_untouched(&self) {
        let secret = self.dir.path().join("secret");
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        let stat = fs::metadata(&secret).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.nlink()), (0o644, 0, 1));
        let mut names: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["secret", "store"]);
    }
}

pub(super) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode()
}
