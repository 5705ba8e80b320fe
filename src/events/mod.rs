//! The bus to which every action reports: what `GET /events` replays and follows.
//!
//! Owns the last [`REPLAY`] events and the subscribers. Publishing never waits for a reader: a subscriber that falls
//! more than [`BACKLOG`] events behind loses the oldest and is told how many.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::base::time::Timestamp;

/// How many past events a new subscriber can ask for (as dockerd keeps).
pub const REPLAY: usize = 256;
/// How many events a subscriber may lag behind.
pub const BACKLOG: usize = 4096;

/// The kind of object that an event is about (`Type` on the wire).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    Builder,
    Container,
    Daemon,
    Image,
    Network,
    Plugin,
    Volume,
}

impl Subject {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builder => "builder",
            Self::Container => "container",
            Self::Daemon => "daemon",
            Self::Image => "image",
            Self::Network => "network",
            Self::Plugin => "plugin",
            Self::Volume => "volume",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    pub subject: Subject,
    /// dockerd's action word, with its argument where it has one: `die`, `exec_create: ls -l`.
    pub action: String,
    /// The full id of the object, or its name where objects have no id (volumes, images by tag).
    pub id: String,
    /// What filters match and clients read: labels, `name`, `image`, `exitCode`, …
    pub attributes: BTreeMap<String, String>,
    pub time: Timestamp,
}

impl Event {
    /// An event of this instant without attributes.
    pub fn now(subject: Subject, action: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            subject,
            action: action.into(),
            id: id.into(),
            attributes: BTreeMap::new(),
            time: Timestamp::now(),
        }
    }

    /// Adds an attribute.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }
}

/// Hands events from whatever happens to whoever listens. Clones share the bus.
#[derive(Clone)]
pub struct EventBus {
    shared: Arc<Shared>,
}

struct Shared {
    recent: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl Default for EventBus {
    fn default() -> Self {
        let (live, _) = broadcast::channel(BACKLOG);
        Self { shared: Arc::new(Shared { recent: Mutex::new(VecDeque::with_capacity(REPLAY)), live }) }
    }
}

impl EventBus {
    /// Reports an event to all subscribers and keeps it for later ones.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == REPLAY {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        // Sent under the lock, so that a subscriber sees each event either in the replay or live, never twice.
        let _ = self.shared.live.send(event);
    }

    /// The kept events, oldest first, and everything published from now on.
    pub fn subscribe(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().cloned().collect(), self.shared.live.subscribe())
    }

    /// How many readers follow the bus (`NEventsListener` of `/info`).
    pub fn listeners(&self) -> usize {
        self.shared.live.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_256_events_are_replayed_and_none_is_seen_twice() {
        let bus = EventBus::default();
        for n in 0..300 {
            bus.publish(Event::now(Subject::Container, "start", n.to_string()));
        }
        let (past, mut live) = bus.subscribe();
        bus.publish(Event::now(Subject::Container, "die", "x").with("exitCode", "0"));
        assert_eq!(past.len(), REPLAY);
        assert_eq!(past[0].id, "44");
        assert_eq!(live.try_recv().unwrap().action, "die");
        assert!(live.try_recv().is_err());
    }
}
