//! Use cases that touch several kinds of objects, and start-up recovery. Holds the parts; never grows into the object
//! that knows everything.

pub mod identity;

use std::sync::Arc;

use crate::base::host::Host;
use crate::config::Config;
use crate::events::EventBus;

/// The engine's parts.
pub struct Engine {
    /// The engine's own id ([`identity`]).
    pub id: String,
    pub config: Arc<Config>,
    pub host: Host,
    pub events: EventBus,
}
