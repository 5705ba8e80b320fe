//! Log drivers: what writes a container's output to disk, and what reads it back.
//!
//! [`json_file`] is written by the shim (blocking calls, no tokio) and read by the daemon ([`reader`], and [`follow`]
//! for the waiting). Writer and reader share nothing but the files: the writer appends whole lines and rotates by
//! rename, the reader tells files apart by inode, so neither ever waits for the other.
//! Deliberately absent: containers, HTTP, and the choice of the file's place.

pub mod attributes;
pub mod compress;
pub mod follow;
pub mod forward;
pub mod frame;
pub mod json_file;
pub mod losses;
pub mod options;
pub mod reader;
mod watch;

use serde::{Deserialize, Serialize};

/// Which of the container's outputs a line came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Longest piece of a line that becomes one entry; longer lines are split, as dockerd does.
pub const MAX_LINE: usize = 16 * 1024;
