//! `GET /events`: replay and follow of the event bus.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http::header::ACCEPT;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::filters::Filters;
use crate::api::moment;
use crate::api::respond;
use crate::api::spec::params;
use crate::api::versions::{ApiVersion, Feature};
use crate::api::view;
use crate::base::time::Timestamp;
use crate::events::{Event, Subject};

/// How many events a client may be behind before the bus drops for it.
const BACKLOG: usize = 64;

/// `GET /events`
pub async fn events(call: Call<params::SystemEvents>) -> Outcome {
    let span = Span::of(&call.params)?;
    let (past, live) = call.engine.events.subscribe();
    let wanted = Wanted { filters: call.params.filters.clone(), version: call.version, span };
    let format = Format::negotiate(&call.headers, call.version);
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(report(wanted, format, past, live, sender));
    Ok(stream(format, receiver))
}

fn stream(format: Format, receiver: mpsc::Receiver<Bytes>) -> Response {
    respond::channel(format.content_type(), receiver)
}

/// Sends what was and what comes until the span ends or the client goes.
async fn report(
    wanted: Wanted,
    format: Format,
    past: Vec<Arc<Event>>,
    mut live: broadcast::Receiver<Arc<Event>>,
    sender: mpsc::Sender<Bytes>,
) {
    let now = Timestamp::now();
    for event in past.iter().filter(|event| wanted.span.replays(event) && wanted.takes(event)) {
        if sender.send(format.encode(event, wanted.version)).await.is_err() {
            return;
        }
    }
    let Some(left) = wanted.span.left(now) else { return };
    let end = tokio::time::sleep(left);
    tokio::pin!(end);
    loop {
        let event = tokio::select! {
            event = live.recv() => event,
            () = &mut end => return,
            () = sender.closed() => return,
        };
        match event {
            Ok(event) if wanted.takes(&event) => {
                if sender.send(format.encode(&event, wanted.version)).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a reader of events is too slow"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// From when until when events are asked for.
#[derive(Clone, Copy, Debug)]
struct Span {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// Longer than any connection; timers do not take arbitrary lengths.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Span {
    fn of(params: &params::SystemEvents) -> Result<Self, ApiError> {
        let read = |text: &Option<String>| text.as_deref().map(moment::unix).transpose();
        let (since, until) = (read(&params.since)?, read(&params.until)?);
        if let (Some(from), Some(to)) = (since, until)
            && to < from
        {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            return Err(ApiError::invalid(format!(
                "`since` time ({}) cannot be after `until` time ({})",
                text(&params.since),
                text(&params.until)
            )));
        }
        Ok(Self { since, until })
    }

    /// Past events are sent only to those who ask for some time.
    fn replays(&self, event: &Event) -> bool {
        (self.since.is_some() || self.until.is_some())
            && self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time <= until)
    }

    /// How long to go on, `None` if only the past was asked for.
    fn left(&self, now: Timestamp) -> Option<Duration> {
        match self.until {
            None => Some(FOREVER),
            Some(until) if until < now => None,
            Some(until) => Some(until.since(now).min(FOREVER)),
        }
    }
}

struct Wanted {
    filters: Filters,
    version: ApiVersion,
    span: Span,
}

impl Wanted {
    fn takes(&self, event: &Event) -> bool {
        view::event::is_known(event, self.version) && matches(&self.filters, event)
    }
}

/// dockerd's comparison: `event` exactly, the kinds of objects by beginning of id or name, images also without tag.
fn matches(filters: &Filters, event: &Event) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    let kinds = ["daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config"];
    has_action(filters, &event.action)
        && filters.exact("type", event.subject.as_str())
        && filters.exact("scope", "local")
        && kinds.iter().all(|kind| filters.prefix(kind, &event.id) || filters.prefix(kind, name))
        && has_image(filters, event)
        && filters.labels("label", |key| event.attributes.get(key).map(String::as_str))
}

/// These have an argument behind the action, which a filter may leave out.
fn has_action(filters: &Filters, action: &str) -> bool {
    let bare =
        filters.values("event").any(|value| matches!(value, "health_status" | "exec_create" | "exec_start"));
    if bare { filters.prefix("event", action) } else { filters.exact("event", action) }
}

fn has_image(filters: &Filters, event: &Event) -> bool {
    let key = if event.subject == Subject::Image { "name" } else { "image" };
    let name = event.attributes.get(key).map_or("", String::as_str);
    [&event.id, name]
        .iter()
        .any(|text| filters.exact("image", text) || filters.exact("image", without_tag(text)))
}

fn without_tag(reference: &str) -> &str {
    let repository = reference.split('@').next().unwrap_or(reference);
    match repository.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => repository,
    }
}

/// How events are separated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    /// What clients before 1.52 expect: one object per line under the name of a single one.
    Json,
    JsonLines,
    NdJson,
    /// RFC 7464: each begins with a record separator.
    JsonSequence,
}

impl Format {
    fn negotiate(headers: &HeaderMap, version: ApiVersion) -> Self {
        let default = if version.has(Feature::EventsAsJsonLines) { Self::JsonLines } else { Self::Json };
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let kinds = accepted.flat_map(|value| value.split(',')).filter_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let format = Self::named(parts.next()?)?;
            let weight =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
            Some((format, weight.filter(|weight| *weight > 0.0)?))
        });
        let best = kinds.fold(None, |best: Option<(Self, f32)>, kind| match best {
            Some(best) if best.1 >= kind.1 => Some(best),
            _ => Some(kind),
        });
        best.map_or(default, |(format, _)| format)
    }

    fn named(content_type: &str) -> Option<Self> {
        [Self::JsonLines, Self::NdJson, Self::JsonSequence]
            .into_iter()
            .find(|one| one.content_type() == content_type)
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonl",
            Self::NdJson => "application/x-ndjson",
            Self::JsonSequence => "application/json-seq",
        }
    }

    fn encode(self, event: &Event, version: ApiVersion) -> Bytes {
        let start = if self == Self::JsonSequence { "\x1e" } else { "" };
        format!("{start}{}\n", view::event::event(event, version)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(json: &str) -> Filters {
        Filters::parse(json).unwrap()
    }

    #[test]
    fn filters_match_as_dockerds_do() {
        let exec = Event::now(Subject::Container, "exec_create: ls -l", "abcdef")
            .with("name", "web")
            .with("image", "nginx:1")
            .with("a", "1");
        let pull = Event::now(Subject::Image, "pull", "localhost:5000/x:2").with("name", "localhost:5000/x");
        for (json, of_exec, of_pull) in [
            ("{}", true, true),
            (r#"{"type":["container"]}"#, true, false),
            (r#"{"event":["exec_create"]}"#, true, false),
            (r#"{"event":["exec_create: ls -l"]}"#, true, false),
            (r#"{"event":["exec"]}"#, false, false),
            (r#"{"event":["pull"]}"#, false, true),
            (r#"{"event":["pul"]}"#, false, false),
            (r#"{"container":["abc"]}"#, true, false),
            (r#"{"container":["we"]}"#, true, false),
            (r#"{"container":["eb"]}"#, false, false),
            (r#"{"image":["nginx"]}"#, true, false),
            (r#"{"image":["nginx:1"]}"#, true, false),
            (r#"{"image":["localhost:5000/x"]}"#, false, true),
            (r#"{"image":["localhost"]}"#, false, false),
            (r#"{"label":["a=1"]}"#, true, false),
            (r#"{"label":["a","b"]}"#, false, false),
            (r#"{"scope":["swarm"]}"#, false, false),
            (r#"{"type":["container","image"],"event":["pull"]}"#, false, true),
        ] {
            let filters = filters(json);
            assert_eq!((matches(&filters, &exec), matches(&filters, &pull)), (of_exec, of_pull), "{json}");
        }
    }

    #[test]
    fn the_format_is_negotiated() {
        for (accept, minor, format) in [
            ("", 51, Format::Json),
            ("", 52, Format::JsonLines),
            ("*/*", 52, Format::JsonLines),
            ("application/x-ndjson", 44, Format::NdJson),
            ("application/json-seq;q=0.5, application/x-ndjson", 55, Format::NdJson),
            ("application/json-seq", 55, Format::JsonSequence),
            ("application/json-seq;q=0", 55, Format::JsonLines),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(Format::negotiate(&headers, ApiVersion::of_minor(minor)), format, "{accept} {minor}");
        }
        let event = Event::now(Subject::Daemon, "reload", "x");
        assert!(Format::JsonSequence.encode(&event, ApiVersion::NEWEST).starts_with(b"\x1e{"));
    }

    #[test]
    fn the_past_is_replayed_only_on_demand() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let event = Event { time: at(100), ..Event::now(Subject::Daemon, "reload", "x") };
        for (since, until, replays) in [
            (None, None, false),
            (Some(99), None, true),
            (Some(101), None, false),
            (None, Some(100), true),
            (None, Some(99), false),
        ] {
            let span = Span { since: since.map(at), until: until.map(at) };
            assert_eq!(span.replays(&event), replays, "{since:?} {until:?}");
        }
        let until = |seconds| Span { since: None, until: Some(at(seconds)) };
        assert_eq!(until(99).left(at(100)), None);
        assert_eq!(until(103).left(at(100)), Some(Duration::from_secs(3)));
    }
}
