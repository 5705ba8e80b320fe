//! What happens to images, as `docker events` tells it.

use super::Images;
use super::state::State;
use crate::base::digest::Digest;
use crate::events::{Event, Subject};

impl Images {
    /// Reports `action`. The attributes are the image's labels and `name`.
    pub(super) fn report(&self, action: &str, actor: &str, name: &str, image: &Digest) {
        self.report_of(&self.state(), action, actor, name, image);
    }

    /// Reports what happened to an image that is not in the index any more.
    pub(super) fn report_of(&self, state: &State, action: &str, actor: &str, name: &str, image: &Digest) {
        let mut event = Event::now(Subject::Image, action, actor);
        if let Some(image) = state.target(image).and_then(|target| target.image(None)) {
            let labels = &image.config.config.labels;
            event.attributes.extend(labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        self.events.publish(event.with("name", name));
    }
}
