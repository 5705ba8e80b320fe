//! Layers on disk and overlay mounts of them. Knows no images: who uses a layer is its callers' business.
//!
//! ```text
//! <root>/layers/<chain id>/fs           the layer as overlayfs wants it (whiteouts are devices 0/0)
//! <root>/layers/<chain id>/layer.json   sizes, diff id, and the boot it was written in
//! <root>/layers/.new-<chain id>-<x>     being unpacked; deleted at start-up
//! <root>/layers/.gone-<chain id>-<x>    being deleted; start-up goes on with it
//! <root>/synced/<chain id>              empty: this layer is on disk to stay
//! ```
//!
//! Unpacking syncs nothing. A layer is there for every process of this boot as soon as it is renamed into place; it
//! is there after a power cut only if [`Snapshots::sync`] marked it, and [`Snapshots::open`] drops the others: they
//! are a cache of blobs, and unpacking again is cheaper than syncing thousands of files one by one.

mod apply;
mod capability;
mod chain;
mod changes;
pub mod decompress;
mod look_up;
mod mounts;
mod pack;
mod pipe;
mod quota;
mod store;
mod trash;
mod writer;

pub use apply::{Extraction, Overwrite};
pub use chain::{ChainId, chain_ids};
pub use changes::{Change, ChangeKind};
pub use look_up::{Found, Kind};
pub use mounts::{MountOptions, Writable, unmount};
pub use pack::{Marks, pack, pack_object};
pub use quota::{can_limit, lift_limit};
pub use store::{LayerInfo, Snapshots};
pub use writer::{Applied, LayerWriter, extract};

pub use crate::base::sys::overlay::Durability;

use std::io;
use std::path::PathBuf;

use crate::base::archive::ArchiveError;

/// Why something about layers failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The layer's stream could not be read or inflated.
    #[error("reading the layer: {0}")]
    Source(#[source] io::Error),
    /// The layer is not a tar archive that can be unpacked.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry that names a place outside of the layer.
    #[error("invalid layer: {path:?} leads out of the layer")]
    Escape {
        /// The entry's name or link target.
        path: String,
    },
    /// An entry that makes no sense.
    #[error("invalid layer: {path:?}: {reason}")]
    Entry {
        /// The entry's name.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More entries than a layer may have.
    #[error("invalid layer: more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// A directory in the place of something else, or the other way round, where that is not wished.
    #[error("cannot overwrite {there} \"{}\" with {new} \"{}\"", path.display(), target.display())]
    Overwrite {
        /// What is there.
        there: &'static str,
        /// Where.
        path: PathBuf,
        /// What the archive has.
        new: &'static str,
        /// The directory that is unpacked to.
        target: PathBuf,
    },
    /// Unpacking an entry failed.
    #[error("unpacking {path:?}: {source}")]
    Unpack {
        /// The entry's name.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file or directory of the store could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Store {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Layers are committed from the base up, so that a layer there is never without those below it.
    #[error("layer {layer} is committed before its parent {parent}")]
    ParentMissing {
        /// The layer.
        layer: ChainId,
        /// The one below it.
        parent: ChainId,
    },
    /// A layer that is not there.
    #[error("layer {0} does not exist")]
    NotFound(ChainId),
    /// Two writers, or a commit before anything was unpacked.
    #[error("layer {0} has no content yet")]
    NothingApplied(ChainId),
    /// A stack of layers beyond the kernel's limit.
    #[error("{count} layers: overlayfs takes {limit} at most")]
    TooManyLayers {
        /// How many there are.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The overlay could not be mounted.
    #[error("mounting the overlay at {}: {source}", target.display())]
    Mount {
        /// Where.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel or the file system of the data root cannot do overlay mounts at all.
    #[error("overlay mounts do not work on {}: {reason}", root.display())]
    Unsupported {
        /// The store's directory.
        root: PathBuf,
        /// What a trial mount said.
        reason: io::Error,
    },
    /// What a container writes could not be limited.
    #[error("limiting the size of {} by a project quota: {source}", path.display())]
    Limit {
        /// The container's directory of changes.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A path could not be looked up in layers.
    #[error("looking for {}: {source}", path.display())]
    LookUp {
        /// As it was given.
        path: PathBuf,
        /// What the kernel said; ELOOP for too many links.
        source: io::Error,
    },
    /// A mount could not be taken down.
    #[error("unmounting {}: {source}", target.display())]
    Unmount {
        /// Where.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SnapshotError {
    fn store(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Store { action, path, source }
    }
}

#[cfg(test)]
mod tests;
