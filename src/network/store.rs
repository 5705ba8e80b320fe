//! Durable records of networks: `<state dir>/<id>.json`, one each. The three predefined networks have records too,
//! so that their ids stay the same for the life of the data root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::model::Network;
use crate::base::durable;
use crate::base::id::NetworkId;
use crate::base::missing::missing_is_fine;

/// The directory of network records.
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the directory, making it (0700) if it is missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// All networks on record. A record that cannot be read is left alone and reported: losing one network must not
    /// keep the daemon from starting.
    pub fn load(&self) -> io::Result<Vec<Network>> {
        let mut networks = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(durable::NEW) {
                fs::remove_file(&path)?;
            } else if name.ends_with(".json") {
                match read(&path) {
                    Ok(network) => networks.push(network),
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "unreadable network record")
                    }
                }
            }
        }
        Ok(networks)
    }

    /// Writes or replaces a record; it survives a power cut.
    pub fn save(&self, network: &Network) -> io::Result<()> {
        durable::write_config(&self.path(&network.id), &serde_json::to_vec(network)?)
    }

    /// Removes a record; a missing one is no error.
    pub fn remove(&self, id: &NetworkId) -> io::Result<()> {
        missing_is_fine(fs::remove_file(self.path(id)))?;
        durable::sync_dir(&self.dir)
    }

    fn path(&self, id: &NetworkId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

fn read(path: &Path) -> io::Result<Network> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
