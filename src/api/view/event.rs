//! An event as clients read it.

use serde_json::{Value, json};

use crate::api::versions::{ApiVersion, Feature};
use crate::events::{Event, Subject};

/// The JSON of one event.
pub fn event(event: &Event, version: ApiVersion) -> Value {
    let mut wire = json!({
        "Type": event.subject.as_str(),
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time.seconds(),
        "timeNano": event.time.nanos(),
    });
    // The docker CLI before 25.0 panics without these.
    let legacy = matches!(event.subject, Subject::Container | Subject::Image);
    if legacy && !version.has(Feature::EventsAsJsonLines) {
        wire["status"] = json!(event.action);
        wire["id"] = json!(event.id);
        if event.subject == Subject::Container {
            wire["from"] = json!(event.attributes.get("image"));
        }
    }
    wire
}

/// Whether clients of this version know the event.
pub fn is_known(event: &Event, version: ApiVersion) -> bool {
    let created = event.subject == Subject::Image && event.action == "create";
    let pruned = event.action == "prune";
    (!created || version.has(Feature::ImageCreateEvent)) && (!pruned || version.has(Feature::PruneEvent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conformance;

    fn die() -> Event {
        let event =
            Event::now(Subject::Container, "die", "abc").with("image", "busybox").with("exitCode", "0");
        Event { time: crate::base::time::Timestamp::from_nanos(1_700_000_000_123_456_789), ..event }
    }

    #[test]
    fn events_keep_their_old_fields_until_1_51() {
        let new = event(&die(), ApiVersion::NEWEST);
        assert_eq!(
            new,
            json!({
                "Type": "container", "Action": "die",
                "Actor": { "ID": "abc", "Attributes": { "image": "busybox", "exitCode": "0" } },
                "scope": "local", "time": 1_700_000_000, "timeNano": 1_700_000_000_123_456_789_i64,
            })
        );
        let old = event(&die(), ApiVersion::of_minor(51));
        assert_eq!(
            (&old["status"], &old["id"], &old["from"]),
            (&json!("die"), &json!("abc"), &json!("busybox"))
        );
    }

    #[test]
    fn events_fit_the_specification() {
        for minor in [40, 52, 55] {
            let version = ApiVersion::of_minor(minor);
            let body = event(&die(), version).to_string();
            let found = conformance::validate_operation("SystemEvents", version, 200, body.as_bytes());
            // `status`, `id` and `from` are in no version of the specification, and in every old daemon.
            assert!(
                found.iter().all(|violation| minor < 52 && violation.fault == conformance::Fault::Unknown)
            );
        }
    }

    #[test]
    fn older_clients_do_not_see_newer_events() {
        let create = Event::now(Subject::Image, "create", "x");
        assert!(!is_known(&create, ApiVersion::of_minor(45)) && is_known(&create, ApiVersion::of_minor(46)));
        let prune = Event::now(Subject::Volume, "prune", "");
        assert!(!is_known(&prune, ApiVersion::of_minor(40)) && is_known(&prune, ApiVersion::of_minor(41)));
    }
}
