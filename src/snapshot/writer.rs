//! Building one layer: unpacked under a name nobody looks at, then renamed into place.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};

use super::apply::{Extraction, Unpacked, copy_attributes, unpack, unpack_among};
use super::decompress::{self, Compression};
use super::pipe::{Pieces, pipe};
use super::store::{LayerInfo, Store};
use super::{ChainId, SnapshotError};
use crate::base::archive::Reader;
use crate::base::digest::Digest;
use crate::base::sys::root_fs::Root;
use crate::crash_point;

/// What igzip likes to write to at once.
const PIECE: usize = 256 * 1024;

/// What [`LayerWriter::apply`] unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// sha256 of the whole uncompressed stream, also of what follows the archive's end mark.
    pub diff_id: Digest,
    /// Sum of the lengths of regular files in bytes: what dockerd calls a layer's size.
    pub size: u64,
    /// Bytes allocated on disk, as `du` counts.
    pub usage: u64,
}

/// A layer being built. Dropping it without [`commit`](Self::commit) removes it.
#[derive(Debug)]
pub struct LayerWriter {
    store: Arc<Store>,
    chain: ChainId,
    parents: Vec<ChainId>,
    building: PathBuf,
    applied: Option<(Applied, Unpacked)>,
    committed: bool,
}

impl LayerWriter {
    pub(super) fn begin(
        store: Arc<Store>,
        chain: ChainId,
        parents: Vec<ChainId>,
    ) -> Result<Self, SnapshotError> {
        let building = store.building(&chain);
        let tree = building.join("fs");
        // Owner and mode count where neither the archive nor a layer below says what the root's are.
        let owner = store.ids.root();
        let created = std::fs::create_dir_all(&tree)
            .and_then(|()| chown(&tree, Some(owner.uid), Some(owner.gid)))
            .and_then(|()| set_mode(&tree, 0o755));
        created.map_err(SnapshotError::store("creating", &tree))?;
        Ok(Self { store, chain, parents, building, applied: None, committed: false })
    }

    /// Unpacks an uncompressed tar stream; blocks until all of it is read. Compare `diff_id` with what the image's
    /// configuration says before committing. After an error the writer is only good for dropping. Once per writer.
    pub fn apply(&mut self, tar: impl Read + Send) -> Result<Applied, SnapshotError> {
        let tree = self.building.join("fs");
        let root = Root::open(&tree).map_err(SnapshotError::store("opening", &tree))?;
        let root = root.with_ids(&self.store.ids);
        let (feeder, pieces) = pipe();
        let (fed, unpacked) = std::thread::scope(|scope| {
            let unpacking = scope.spawn(move || unpack_all(root, pieces));
            let fed = feeder.feed(tar);
            (fed, unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        // A source that failed looks like a short archive to the other thread: its own error is the better one.
        let fed = fed.map_err(SnapshotError::Source)?;
        let unpacked = unpacked?;
        let fed = fed.ok_or(SnapshotError::NothingApplied(self.chain))?;
        let applied = Applied { diff_id: fed.digest, size: unpacked.size, usage: unpacked.usage };
        self.applied = Some((applied, unpacked));
        crash_point!("snapshot-applied");
        Ok(applied)
    }

    /// Makes the layer visible. The layers below must have been committed: directories that the archive left out take
    /// their attributes from there. Another writer may have been faster with the same layer: then this one's work is
    /// discarded. Survives the daemon's death; for power cuts see [`Snapshots::sync`](super::Snapshots::sync).
    pub fn commit(mut self) -> Result<(), SnapshotError> {
        let (applied, unpacked) = self.applied.take().ok_or(SnapshotError::NothingApplied(self.chain))?;
        if let Some(parent) = self.parents.iter().find(|parent| !self.store.contains(parent)) {
            return Err(SnapshotError::ParentMissing { layer: self.chain, parent: *parent });
        }
        self.adopt_attributes(&unpacked)?;
        let info = LayerInfo {
            diff_id: applied.diff_id,
            size: applied.size,
            usage: applied.usage,
            opaque_root: unpacked.opaque_root,
        };
        crash_point!("snapshot-before-commit");
        self.committed = self.store.publish(&self.chain, &self.building, info)?;
        Ok(())
    }

    fn adopt_attributes(&self, unpacked: &Unpacked) -> Result<(), SnapshotError> {
        if unpacked.implied.is_empty() || unpacked.opaque_root {
            return Ok(());
        }
        let open = |path: &Path| Root::open(path).map_err(SnapshotError::store("opening", path));
        let tree = open(&self.building.join("fs"))?;
        // The nearest layer below first.
        let below = self.parents.iter().rev().map(|parent| open(&self.store.tree(parent)));
        let below = below.collect::<Result<Vec<_>, _>>()?;
        for path in &unpacked.implied {
            let path = Path::new(OsStr::from_bytes(path));
            let open = |root: &Root| {
                root.open_in(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            };
            let Some(model) = below.iter().find_map(|layer| open(layer).ok()) else { continue };
            let copied = open(&tree).and_then(|directory| copy_attributes(&model, &directory));
            copied.map_err(SnapshotError::store("copying attributes to", path))?;
        }
        Ok(())
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        if !self.committed {
            self.store.trash.dispose(std::mem::take(&mut self.building));
        }
    }
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// The unpacking thread: what it changes of itself ends with it.
fn unpack_all(root: Root, pieces: Pieces) -> Result<Unpacked, SnapshotError> {
    drop_umask()?;
    let mut reader = Reader::new(pieces);
    let unpacked = unpack(root, &mut reader)?;
    // What follows the end mark belongs to the digest: let it through.
    std::io::copy(&mut reader.into_source(), &mut std::io::sink()).map_err(SnapshotError::Source)?;
    Ok(unpacked)
}

/// Unpacks `archive`, compressed or not, among the files of `root`. Its first piece must tell how it is compressed:
/// four bytes, if there are as many. All of it is read, also what follows the end mark. Blocks. Owners are the root's.
pub fn extract(root: Root, how: &Extraction, mut archive: impl BufRead + Send) -> Result<(), SnapshotError> {
    let compression = Compression::sniff(archive.fill_buf().map_err(SnapshotError::Source)?);
    if compression == Compression::None {
        return on_own_thread(|| extract_plain(root, how, archive));
    }
    let plain = decompress::reader(compression, archive).map_err(SnapshotError::Source)?;
    on_own_thread(|| extract_plain(root, how, BufReader::with_capacity(PIECE, plain)))
}

fn extract_plain(root: Root, how: &Extraction, archive: impl BufRead) -> Result<(), SnapshotError> {
    drop_umask()?;
    let mut reader = Reader::new(archive);
    unpack_among(root, how, &mut reader)?;
    std::io::copy(&mut reader.into_source(), &mut std::io::sink()).map_err(SnapshotError::Source)?;
    Ok(())
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives this thread a file system context of its own, so that the umask is this thread's only.
fn drop_umask() -> Result<(), SnapshotError> {
    unshare(CloneFlags::CLONE_FS).map_err(|source| SnapshotError::Store {
        action: "preparing to unpack in",
        path: PathBuf::from("fs"),
        source: source.into(),
    })?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    Ok(())
}
