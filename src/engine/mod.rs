//! Use cases that touch several kinds of objects, and start-up recovery. Holds the parts; never grows into the object
//! that knows everything.

use crate::base::host::Host;
use crate::events::EventBus;

/// The engine's parts.
pub struct Engine {
    pub events: EventBus,
    pub host: Host,
}
