//! What a client is told while something is under way: one JSON object each on the wire.

use std::borrow::Cow;
use std::sync::Arc;

/// One message of a progress stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Text that is printed as it is.
    pub stream: Option<String>,
    /// What is being done, in dockerd's words: clients wait for some of them.
    pub status: Option<Cow<'static, str>>,
    /// What it is being done to: 12 digits of a layer's blob, or a tag.
    pub id: Option<Arc<str>>,
    /// How far it is.
    pub detail: Option<Detail>,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Bytes done, or seconds spent if the total is not known.
    pub current: u64,
    /// Bytes in all.
    pub total: Option<u64>,
}

impl Progress {
    /// Text that is printed as it is.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: Some(text.into()), ..Self::default() }
    }

    /// A line that concerns the whole.
    pub fn status(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Some(text.into()), ..Self::default() }
    }

    /// The state of one part.
    pub fn of(id: &Arc<str>, status: impl Into<Cow<'static, str>>) -> Self {
        Self { id: Some(id.clone()), ..Self::status(status) }
    }

    /// The same with how far it is.
    pub fn at(self, current: u64, total: Option<u64>) -> Self {
        Self { detail: Some(Detail { current, total }), ..self }
    }
}
