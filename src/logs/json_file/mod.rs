//! The `json-file` driver's files: one JSON object per line, `{"log":…,"stream":…,"attrs":…,"time":…}`, as every tool
//! that reads dockerd's logs expects them.

mod decode;
mod encode;
mod mark;
mod rotate;
mod writer;

pub use decode::{Decoder, Entry};
pub use mark::Mark;
pub use rotate::{Segment, segments};
pub use writer::Writer;

use serde::{Deserialize, Serialize};

/// How a log is written; goes to the shim as part of its start message.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WriterOptions {
    /// Size in bytes at which a file is rotated; never if absent.
    pub max_size: Option<u64>,
    /// How many files there may be, the current one included; 0 counts as 1.
    pub max_file: u32,
    /// Whether rotated files are compressed.
    pub compress: Compression,
    /// A JSON object that goes into each line as `attrs`.
    pub attrs: Option<String>,
}

/// What becomes of rotated files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    Plain,
    /// Compressed by a process of its own (`slipwayd compress-log FILE`): the writer is single-threaded and must go
    /// on draining the container's output meanwhile.
    Gzip,
}
