//! Catches what libcontainer logs as errors while it makes a container: its returned errors often say only which step
//! failed, the log says why. Kept small: this runs once, in a helper that ends afterwards.

use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::report::{Reporter, complain};

/// Tells errors as hints, and writes those of the process it was made in to the shim's log: in the processes that
/// become the container, standard error is the container's.
pub struct Hints {
    reporter: Reporter,
    helper: u32,
}

impl Hints {
    pub fn new(reporter: Reporter) -> Self {
        Self { reporter, helper: std::process::id() }
    }
}

impl Subscriber for Hints {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::ERROR)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let line = format!("{}{}", text.message, text.fields);
        if std::process::id() == self.helper {
            complain(&line);
        }
        self.reporter.hint(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}
