//! What the views of containers ask of the engine.

use std::sync::Arc;

use crate::api::view::container::Surroundings;
use crate::base::digest::Digest;
use crate::base::time::Timestamp;
use crate::container::Record;
use crate::engine::Engine;
use crate::network::Network;
use crate::registry::manifest::Descriptor;

/// The engine as the views see it.
pub struct Around<'a>(pub &'a Engine);

impl Surroundings for Around<'_> {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn network(&self, term: &str) -> Option<Arc<Network>> {
        self.0.networks.resolve(term).ok()
    }

    fn image(&self, reference: &str) -> Option<Digest> {
        self.0.images.resolve(reference).ok().map(|image| image.id)
    }

    fn manifest(&self, record: &Record) -> Option<Descriptor> {
        let image = self.0.images.resolve(&record.image.to_string()).ok()?;
        (image.manifest.digest == record.manifest).then(|| image.manifest.clone())
    }
}
