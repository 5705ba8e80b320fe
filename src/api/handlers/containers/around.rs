//! What the views of containers ask of the engine.

use std::sync::Arc;

use crate::api::view::container::Surroundings;
use crate::base::digest::Digest;
use crate::base::time::Timestamp;
use crate::container::{Record, links};
use crate::engine::Engine;
use crate::network::Network;
use crate::registry::manifest::Descriptor;

/// The engine as the views see it.
pub struct Around<'a> {
    pub engine: &'a Engine,
    /// The moment that a view is of: one for all of it.
    pub now: Timestamp,
}

impl Surroundings for Around<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn network(&self, term: &str) -> Option<Arc<Network>> {
        self.engine.networks.resolve(term).ok()
    }

    fn image(&self, reference: &str) -> Option<Digest> {
        self.engine.images.resolve(reference).ok().map(|image| image.id)
    }

    fn manifest(&self, record: &Record) -> Option<Descriptor> {
        let image = self.engine.images.resolve(&record.image.to_string()).ok()?;
        (image.manifest.digest == record.manifest).then(|| image.manifest.clone())
    }

    fn links(&self, record: &Record) -> Option<Vec<String>> {
        links::shown(&self.engine.containers, record)
    }
}
