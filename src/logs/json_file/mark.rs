//! Which of a writer's entries a file begins with, so that a reader that was overtaken by rotation knows how many it
//! missed.
//!
//! Kept as an attribute of the file, where the file system has attributes: overlayfs asks the same of the data root.

use std::fs::File;
use std::io;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

use crate::base::time::Timestamp;

const NAME: &str = "trusted.slipway.first-entry";
/// Bytes of the longest value: two numbers and what is between them.
const LONGEST: usize = 48;

/// A place in what one writer writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// When the writer began: each has numbers of its own.
    pub writer: Timestamp,
    /// How many entries it wrote before.
    pub entries: u64,
}

impl Mark {
    /// Writes it to a file that begins here.
    pub fn set(&self, file: &File) -> io::Result<()> {
        let value = format!("{} {}", self.writer.nanos(), self.entries);
        Ok(fsetxattr(file, NAME, value.as_bytes(), XattrFlags::empty())?)
    }

    /// That of a file, if it has one.
    pub fn of(file: &File) -> Option<Self> {
        let mut value = [0; LONGEST];
        let length = fgetxattr(file, NAME, &mut value[..]).ok()?;
        let (writer, entries) = std::str::from_utf8(&value[..length]).ok()?.split_once(' ')?;
        Some(Self { writer: Timestamp::from_nanos(writer.parse().ok()?), entries: entries.parse().ok()? })
    }
}
