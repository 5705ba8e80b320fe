//! What a crash leaves of volumes: half made, half filled or half removed ones, those made for a container that never
//! came to be, and file systems still mounted for nobody.

use std::io;
use std::path::Path;

use super::index::Mounts;
use super::{DATA, Missing, Volume, Volumes};
use crate::base::durable;
use crate::base::id::ContainerId;
use crate::base::missing::missing_is_fine;
use crate::base::sys::mount::{self, Unmount};
use crate::base::sys::root_fs::remove_tree;

/// In the directory of an anonymous volume whose container is being created: that container's id.
const MAKER: &str = "maker";

/// Notes for which container a volume is made, before the volume is there.
pub(super) fn mark(dir: &Path, maker: &ContainerId) -> io::Result<()> {
    durable::write_config(&dir.join(MAKER), maker.as_str().as_bytes())
}

impl Volumes {
    /// Notes that the container an anonymous volume was made for is there to stay.
    pub fn settle(&self, name: &str) -> io::Result<()> {
        missing_is_fine(std::fs::remove_file(self.root.join(name).join(MAKER)))
    }

    /// Removes what a crash has left. Call it once all containers have said which volumes they use and which they may
    /// have mounted; volumes can be used meanwhile.
    pub fn sweep(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?.file_name();
            let Some(name) = entry.to_str() else { continue };
            let unfinished = name.strip_prefix(durable::NEW).or_else(|| name.strip_prefix(durable::GONE));
            if let Some(volume) = unfinished {
                // Whoever makes or removes this volume now holds its name; what is left then is the crash's.
                let _name = self.names.lock(volume);
                let path = self.root.join(name);
                mount::unmount_if_mounted(&path.join(DATA), Unmount::Lazy)?;
                remove_tree(&path)?;
            }
        }
        for volume in self.list() {
            if let Err(error) = self.sweep_volume(&volume) {
                tracing::warn!(volume = volume.name, %error, "what a crash left of it stays");
            }
        }
        Ok(())
    }

    fn sweep_volume(&self, volume: &Volume) -> io::Result<()> {
        if self.is_orphan(volume) {
            tracing::info!(volume = volume.name, "removed: its container was never made");
            return self.remove(&volume.name, Missing::Fine).map_err(io::Error::other);
        }
        let _name = self.names.lock(&volume.name);
        if volume.needs_mount() && self.index.mounts(&volume.name) == Mounts::None {
            mount::unmount_if_mounted(&volume.mountpoint, Unmount::Lazy)?;
        }
        let half_filled = durable::building(&volume.mountpoint)?;
        if half_filled.exists() { remove_tree(&half_filled) } else { Ok(()) }
    }

    /// A container that is being created right now holds its volumes already.
    fn is_orphan(&self, volume: &Volume) -> bool {
        self.root.join(&volume.name).join(MAKER).exists() && self.users(&volume.name).is_empty()
    }
}
