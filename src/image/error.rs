//! What can go wrong with images, in dockerd's words where clients match on them.

use std::sync::Arc;

use crate::base::digest::Digest;
use crate::content::ContentError;
use crate::image::archive::InvalidArchive;
use crate::image::changes::InvalidChange;
use crate::image::commit::PackError;
use crate::registry::RegistryError;
use crate::registry::manifest::InvalidDocument;
use crate::registry::platform::InvalidPlatform;
use crate::registry::reference::{AnyReference, InvalidReference};
use crate::snapshot::SnapshotError;

/// Why something could not be done with an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    #[error(transparent)]
    Platform(#[from] InvalidPlatform),
    #[error("No such image: {}", .0.familiar())]
    NotFound(AnyReference),
    #[error("ambiguous reference")]
    Ambiguous,
    #[error(
        "image with reference {reference} was found but does not provide the specified platform ({platform})"
    )]
    WrongPlatform { reference: String, platform: String },
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoManifestFor { platform: String },
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    #[error("conflict: unable to delete {reference} ({force}) - {reason}")]
    Conflict { reference: String, force: Force, reason: ConflictReason },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Document(#[from] InvalidDocument),
    #[error("invalid image configuration: {0}")]
    Config(#[source] serde_json::Error),
    #[error("the manifest has {layers} layers, but the configuration lists {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("layer {blob} unpacks to {actual}, but the configuration says {expected}")]
    WrongDiffId { blob: Digest, expected: Digest, actual: Digest },
    #[error("cannot read layer {blob}")]
    Unreadable { blob: Digest, source: std::io::Error },
    #[error("layer {blob} has the unsupported media type {media_type}")]
    LayerType { blob: Digest, media_type: String },
    #[error(transparent)]
    Archive(#[from] InvalidArchive),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("image database: {0}")]
    Database(#[from] redb::Error),
    #[error("image database: {0}")]
    Record(#[source] serde_json::Error),
    #[error(transparent)]
    Change(InvalidChange),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("a prune operation is already running")]
    PruneRunning,
    #[error("the pull was cancelled")]
    Cancelled,
    /// The failure of something that several clients waited for.
    #[error(transparent)]
    Shared(Arc<ImageError>),
    #[error("an image worker ended early")]
    Worker,
}

/// Whether force would have helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    Must,
    Cannot,
}

impl std::fmt::Display for Force {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Must => "must be forced",
            Self::Cannot => "cannot be forced",
        })
    }
}

/// What an image is needed for.
#[derive(Debug, thiserror::Error)]
pub enum ConflictReason {
    #[error("container {container} is using its referenced image {image}")]
    Referenced { container: String, image: String },
    #[error("image is being used by running container {0}")]
    Running(String),
    #[error("image is being used by stopped container {0}")]
    Stopped(String),
    #[error("image is referenced in multiple repositories")]
    SeveralRepositories,
}

/// Every kind of redb error becomes one.
macro_rules! database_error {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for ImageError {
            fn from(error: redb::$error) -> Self {
                Self::Database(error.into())
            }
        })*
    };
}
database_error!(DatabaseError, TransactionError, TableError, StorageError, CommitError);
