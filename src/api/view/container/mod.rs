//! Containers as clients read them: inspect, list, and which containers a list has.
//!
//! Pure: a container is what its owner published last; whatever else a view shows is asked of [`Surroundings`]. Fields
//! that a version dropped are kept in every version. Explicit rules: maps and lists that clients walk through are
//! `{}` and `[]`, the user's own lists are `null` where the user gave none, as dockerd has them.

mod inspect;
mod list;
mod mount;
mod network;
mod select;
mod status;

use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::time::Timestamp;
use crate::container::record::Record;
use crate::container::state::{Phase, State};
use crate::network::{Network, Sandbox};
use crate::registry::manifest::Descriptor;

pub use inspect::{Inspected, Place, inspect};
pub use list::{Summary, summary};
pub use select::Selection;
pub use status::changes_at;

/// A container as of its last transition.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub record: &'a Record,
    pub state: &'a State,
    /// Present while it has a network.
    pub sandbox: Option<&'a Sandbox>,
}

impl Shown<'_> {
    /// `State.Running`: also while it is frozen or waits for an automatic restart.
    pub fn is_running(&self) -> bool {
        matches!(self.state.shown(), Phase::Running | Phase::Paused | Phase::Restarting)
    }

    fn has_started(&self) -> bool {
        !self.state.started_at.is_unset()
    }

    /// True once a start has made its files and joined its networks, whether its process ran or not.
    fn was_set_up(&self) -> bool {
        self.has_started() || !self.state.error.is_empty()
    }
}

/// Bytes of a container's file system; asked for by `size=1`, which is slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// The writable layer alone.
    pub writable: u64,
    /// All layers together.
    pub total: u64,
}

/// What views ask of the other parts of the engine.
pub trait Surroundings {
    /// The present moment.
    fn now(&self) -> Timestamp;
    /// The network of this name or id.
    fn network(&self, term: &str) -> Option<Arc<Network>>;
    /// The image that a reference stands for now.
    fn image(&self, reference: &str) -> Option<Digest>;
    /// What the manifest that a container was made of looks like, while its image is there.
    fn manifest(&self, record: &Record) -> Option<Descriptor>;
    /// The legacy links that a container has, as inspect shows them; `None` without links.
    fn links(&self, record: &Record) -> Option<Vec<String>>;
}

#[cfg(test)]
mod tests;
