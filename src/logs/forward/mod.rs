//! Log drivers that send a container's output elsewhere: syslog, GELF, Fluentd, the systemd journal.
//!
//! The shim writes such a container's output to files as for every other (`docker logs` reads those: dockerd's "dual
//! logging"), and a process of its own, `slipwayd forward-log`, follows the files and sends what they say. So a sink
//! that is slow or gone holds up nobody: what it missed waits on disk, as far as the files' limits go.

mod address;
mod fluentd;
mod gelf;
mod journald;
mod options;
mod role;
mod sender;
mod sink;
mod syslog;
mod tls;

use serde::{Deserialize, Serialize};

use super::json_file::Entry;
pub use address::Address;
pub use options::{ForwardError, read, validate};
pub use role::{Forwarder, ROLE, main};
pub use tls::Tls;

/// Names of the drivers.
pub const DRIVERS: [&str; 4] = ["fluentd", "gelf", "journald", "syslog"];

/// Where lines go and how they are written; goes to the shim as part of its start message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Forward {
    pub to: Address,
    pub format: Format,
    /// For an address that asks for TLS.
    #[serde(default)]
    pub tls: Tls,
    /// Whether the container starts without the sink.
    pub may_be_absent: bool,
}

/// How lines are written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Format {
    Syslog(syslog::Syslog),
    Gelf(gelf::Gelf),
    Fluentd(fluentd::Fluentd),
    Journald(journald::Journald),
}

impl Forward {
    /// Whether the sink can be reached, as far as that can be told; waits for seconds at most.
    pub fn check(&self) -> std::io::Result<()> {
        if self.may_be_absent { Ok(()) } else { sink::connect(&self.to, &self.tls).map(drop) }
    }

    /// The packets, or pieces of a stream, that an entry becomes.
    fn encode(&self, entry: &Entry<'_>) -> Vec<Vec<u8>> {
        match &self.format {
            Format::Syslog(syslog) => vec![syslog.encode(entry)],
            Format::Gelf(gelf) => gelf.encode(entry, &self.to),
            Format::Fluentd(fluentd) => vec![fluentd.encode(entry)],
            Format::Journald(journald) => vec![journald.encode(entry)],
        }
    }
}

/// The text of an entry without its line end, and whether the line goes on in the next entry.
fn text<'a>(entry: &Entry<'a>) -> (&'a [u8], bool) {
    match entry.line.strip_suffix(b"\n") {
        Some(text) => (text, false),
        None => (entry.line, true),
    }
}
