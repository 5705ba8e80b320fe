//! What is kept of a volume.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DATA;
use crate::base::durable;
use crate::base::time::Timestamp;

/// The only driver.
pub const DRIVER: &str = "local";
/// Marks volumes whose name nobody has chosen.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

const FILE: &str = "volume.json";

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    pub name: String,
    /// `type`, `device`, `o`: what is mounted; empty for a plain directory.
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub created: Timestamp,
    /// The directory with its content.
    pub mountpoint: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    created: Timestamp,
}

impl Volume {
    /// Whether nobody has chosen its name.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS_LABEL)
    }

    /// Whether it has a file system of its own.
    pub fn needs_mount(&self) -> bool {
        ["type", "device"].iter().any(|key| self.options.get(*key).is_some_and(|value| !value.is_empty()))
    }

    /// Writes the record into the volume's directory.
    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        let Self { options, labels, created, .. } = self.clone();
        durable::write_config(&dir.join(FILE), &serde_json::to_vec(&Kept { options, labels, created })?)
    }

    /// Reads the record in the volume's directory.
    pub(super) fn load(dir: &Path, name: &str) -> io::Result<Self> {
        let Kept { options, labels, created } = serde_json::from_slice(&std::fs::read(dir.join(FILE))?)?;
        Ok(Self { name: name.to_owned(), options, labels, created, mountpoint: dir.join(DATA) })
    }
}
