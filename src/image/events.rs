//! What happens to images, as `docker events` tells it.

use super::Images;
use crate::base::digest::Digest;
use crate::events::{Event, Subject};

impl Images {
    /// Reports `action`. The attributes are the image's labels, if it is still known, and the name.
    pub(super) fn report(&self, action: &str, actor: &str, name: &str, image: Option<&Digest>) {
        let mut event = Event::now(Subject::Image, action, actor);
        let state = self.state();
        let image = image.and_then(|id| state.target(id)).and_then(|target| target.image(None));
        if let Some(image) = image {
            let labels = &image.config.config.labels;
            event.attributes.extend(labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        self.events.publish(event.with("name", name));
    }
}
