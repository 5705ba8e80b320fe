//! What a container reports to the event bus, with dockerd's actions and attributes (wire: `GET /events`).

use std::time::Duration;

use super::record::Record;
use super::state::Ended;
use crate::base::id::ExecId;
use crate::events::{Event, EventBus, Subject};

/// Publishes events of one container: all labels, `image` as requested and `name` without slash go with each.
#[derive(Clone, Copy)]
pub struct Reporter<'a> {
    pub events: &'a EventBus,
    pub record: &'a Record,
}

impl Reporter<'_> {
    /// An action without further attributes.
    pub fn plain(&self, action: impl Into<String>) {
        self.with(action, []);
    }

    /// An action with further attributes.
    pub fn with<const N: usize>(&self, action: impl Into<String>, extra: [(&str, String); N]) {
        let mut event = Event::now(Subject::Container, action, self.record.id.as_str());
        event.attributes.extend(self.record.config.labels.clone());
        event.attributes.insert("image".to_owned(), self.record.config.image.clone());
        event.attributes.insert("name".to_owned(), self.record.name.trim_start_matches('/').to_owned());
        event.attributes.extend(extra.map(|(key, value)| (key.to_owned(), value)));
        self.events.publish(event);
    }

    /// The end of its process; `oom` comes before `die`, as dockerd sends it.
    pub fn died(&self, ended: Ended, ran: Duration) {
        self.with(
            "die",
            [("exitCode", ended.exit_code.to_string()), ("execDuration", ran.as_secs().to_string())],
        );
    }

    /// The end of an exec's process.
    pub fn exec_died(&self, id: &ExecId, code: i32) {
        self.with("exec_die", [("execID", id.to_string()), ("exitCode", code.to_string())]);
    }

    /// A client typed the detach keys.
    pub fn detached(&self, exec: Option<&ExecId>) {
        match exec {
            None => self.plain("detach"),
            Some(id) => self.with("exec_detach", [("execID", id.to_string())]),
        }
    }
}
