//! Volumes of the `local` driver: directories that outlive containers, some with a file system of their own mounted.
//!
//! `<data root>/volumes/<name>/` holds `volume.json` (synced) and `_data`, which containers see. A volume appears and
//! goes by one rename. What the daemon asks often is answered from memory: all records, who uses which volume, who has
//! it mounted. The engine says who uses a volume ([`Volumes::retain`]), before clients are served.
//! All calls are blocking unless they say otherwise. Deliberately absent: containers beyond their ids, plugins, HTTP.

mod copy;
mod driver_options;
mod error;
mod index;
mod measure;
mod names;
mod record;
mod sweep;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::durable;
use crate::base::id::{ContainerId, random_hex_id};
use crate::base::id_map::Owner;
use crate::base::sys::mount::{self, Unmount};
use crate::base::sys::root_fs::remove_tree;
use crate::base::time::Timestamp;
use crate::crash_point;
use crate::events::{Event, EventBus, Subject};

pub use error::VolumeError;
pub use record::{ANONYMOUS_LABEL, DRIVER, Volume};

use index::{Index, Mounts};
use names::Names;

const DATA: &str = "_data";

/// All volumes.
pub struct Volumes {
    root: PathBuf,
    /// Who gets new volumes.
    owner: Owner,
    events: EventBus,
    index: Index,
    /// One change to a volume at a time; different volumes do not wait for each other.
    names: Names,
}

/// A volume that is wanted.
#[derive(Clone, Debug, Default)]
pub struct CreateVolume {
    /// A random one, and the label of anonymous volumes, if absent or empty.
    pub name: Option<String>,
    /// `local` if absent or empty.
    pub driver: Option<String>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// The container that needs it: protects it from removal from the first instant.
    pub user: Option<ContainerId>,
}

/// How a container sees a volume; goes into the event of mounting it.
#[derive(Clone, Debug)]
pub struct MountedAs<'a> {
    pub destination: &'a str,
    pub writable: bool,
    pub propagation: &'a str,
}

/// What removing a missing volume means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    Error,
    Fine,
}

/// What a prune has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub names: Vec<String>,
    /// Bytes.
    pub reclaimed: u64,
}

impl Volumes {
    /// Reads what volumes there are. Quick: one small file for each. New ones belong to `owner`.
    pub fn open(data_root: &Path, owner: Owner, events: EventBus) -> Result<Self, VolumeError> {
        let root = data_root.join("volumes");
        // Containers of other users reach their volume by its path, and see no other (CVE-2021-41091).
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o701).create(&root);
        made.and_then(|()| std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o701)))
            .map_err(|source| VolumeError::Io { path: root.clone(), source })?;
        let index = Index::read(&root).map_err(|source| VolumeError::Io { path: root.clone(), source })?;
        Ok(Self { root, owner, events, index, names: Names::default() })
    }

    /// Makes a volume, or gives the one there is under that name.
    pub fn create(&self, wanted: CreateVolume) -> Result<Arc<Volume>, VolumeError> {
        let CreateVolume { name, driver, options, mut labels, user } = wanted;
        let given = name.filter(|name| !name.is_empty());
        let anonymous = given.is_none();
        let name = given.unwrap_or_else(random_hex_id);
        let refuse = |reason| VolumeError::Create { name: name.clone(), reason };
        if driver.as_deref().is_some_and(|driver| !driver.is_empty() && driver != DRIVER) {
            return Err(VolumeError::UnknownDriver { name, driver: driver.unwrap_or_default() });
        }
        driver_options::check_name(&name).map_err(refuse)?;
        driver_options::check(&options).map_err(refuse)?;
        if anonymous {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let _name = self.names.lock(&name);
        let existing = self.index.find(&name);
        let is_new = existing.is_none();
        let volume = match existing {
            Some(volume) => volume,
            None => {
                let data = self.root.join(&name).join(DATA);
                let volume = Volume { name, options, labels, created: Timestamp::now(), mountpoint: data };
                self.write(&volume, user.as_ref().filter(|_| anonymous))
                    .map_err(|source| VolumeError::Io { path: volume.mountpoint.clone(), source })?;
                self.index.insert(volume)
            }
        };
        if let Some(user) = user {
            self.index.retain(&volume.name, user);
        }
        if is_new {
            self.tell("create", &volume.name, |event| event);
        }
        Ok(volume)
    }

    fn write(&self, volume: &Volume, maker: Option<&ContainerId>) -> io::Result<()> {
        let dir = self.root.join(&volume.name);
        let building = durable::building(&dir)?;
        if building.exists() {
            remove_tree(&building)?;
        }
        std::fs::DirBuilder::new().mode(0o701).create(&building)?;
        let data = building.join(DATA);
        std::fs::create_dir(&data)?;
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755))?;
        chown(&data, Some(self.owner.uid), Some(self.owner.gid))?;
        volume.save(&building)?;
        if let Some(maker) = maker {
            sweep::mark(&building, maker)?;
        }
        crash_point!("volume.create.built");
        durable::publish_dir(&dir)?;
        durable::sync_dir(&self.root)
    }

    /// The volume of that name. Does not block.
    pub fn get(&self, name: &str) -> Result<Arc<Volume>, VolumeError> {
        self.index.find(name).ok_or_else(|| VolumeError::NotFound(name.to_owned()))
    }

    /// All volumes by name. Does not block.
    pub fn list(&self) -> Vec<Arc<Volume>> {
        self.index.list()
    }

    /// The containers that use a volume. Does not block.
    pub fn users(&self, name: &str) -> Vec<ContainerId> {
        self.index.users(name)
    }

    /// Notes that a container uses a volume, which then cannot be removed. Does not block.
    pub fn retain(&self, name: &str, user: &ContainerId) -> Result<(), VolumeError> {
        match self.index.retain(name, user.clone()) {
            true => Ok(()),
            false => Err(VolumeError::NotFound(name.to_owned())),
        }
    }

    /// Notes that a container is gone. Does not block.
    pub fn release(&self, name: &str, user: &ContainerId) {
        self.index.release(name, user);
    }

    /// Prepares a volume for a container that starts: its file system is mounted if it has one of its own. Returns
    /// the directory to show the container.
    pub fn mount(
        &self,
        name: &str,
        user: &ContainerId,
        seen: &MountedAs<'_>,
    ) -> Result<PathBuf, VolumeError> {
        let _name = self.names.lock(name);
        let volume = self.get(name)?;
        self.make_available(&volume)
            .map_err(|source| VolumeError::Mount { name: name.to_owned(), source })?;
        self.index.mounted(name, user.clone());
        self.tell("mount", name, |event| {
            event
                .with("container", user.as_str())
                .with("destination", seen.destination)
                .with("read/write", seen.writable.to_string())
                .with("propagation", seen.propagation)
        });
        Ok(volume.mountpoint.clone())
    }

    /// Makes a volume's content visible to a thread with a mount namespace of its own, in which its file system is
    /// mounted if it has one that is not mounted yet. Returns its directory.
    pub fn show(&self, name: &str) -> Result<PathBuf, VolumeError> {
        let volume = self.get(name)?;
        self.make_available(&volume)
            .map_err(|source| VolumeError::Mount { name: name.to_owned(), source })?;
        Ok(volume.mountpoint.clone())
    }

    /// What is remembered of a mount may be from before the machine was started: what is there counts.
    fn make_available(&self, volume: &Volume) -> io::Result<()> {
        if !volume.needs_mount() || mount::is_mount_point(&volume.mountpoint)? {
            return Ok(());
        }
        driver_options::mount(&volume.options, &volume.mountpoint)
    }

    /// Notes that a container that has survived the daemon has the volume mounted. Does not block.
    pub fn adopt(&self, name: &str, user: &ContainerId) {
        self.index.mounted(name, user.clone());
    }

    /// Releases what [`mount`](Self::mount) has prepared. Nothing happens if the container has nothing mounted.
    pub fn unmount(&self, name: &str, user: &ContainerId) -> Result<(), VolumeError> {
        let _name = self.names.lock(name);
        let Ok(volume) = self.get(name) else { return Ok(()) };
        if !self.index.unmounted(name, user) {
            return Ok(());
        }
        if volume.needs_mount() && self.index.mounts(name) == Mounts::None {
            mount::unmount_if_mounted(&volume.mountpoint, Unmount::Plain)
                .map_err(|source| VolumeError::Unmount { name: name.to_owned(), source })?;
        }
        self.tell("unmount", name, |event| event.with("container", user.as_str()));
        Ok(())
    }

    /// Whether [`copy_up`](Self::copy_up) could have anything to do: mounting the image for nothing costs a
    /// millisecond.
    pub fn may_be_filled(&self, name: &str) -> bool {
        let is_empty = |volume: Arc<Volume>| copy::is_empty(&volume.mountpoint).unwrap_or(false);
        self.index.find(name).is_some_and(is_empty)
    }

    /// Fills an empty volume with what the image has at `path`, owner, modes and all. `rootfs` is the container's
    /// root, in which `path` is resolved; nothing runs in it yet. Nothing happens if there is no such directory.
    pub fn copy_up(&self, name: &str, rootfs: &Path, path: &Path) -> Result<(), VolumeError> {
        let _name = self.names.lock(name);
        let volume = self.get(name)?;
        let failed = |source| VolumeError::CopyUp { name: name.to_owned(), path: path.to_owned(), source };
        let Some(source) = copy::open_source(rootfs, path).map_err(failed)? else { return Ok(()) };
        let data = &volume.mountpoint;
        match (self.index.mounts(name), volume.needs_mount()) {
            // Whoever has the directory mounted would go on with the old one if it were replaced.
            (Mounts::Some, _) => copy::fill_in_place(&source, data).map_err(failed),
            (Mounts::None, false) => copy::fill(&source, data).map_err(failed),
            (Mounts::None, true) => {
                driver_options::mount(&volume.options, data).map_err(failed)?;
                let copied = copy::fill_in_place(&source, data);
                mount::unmount_if_mounted(data, Unmount::Plain).map_err(failed)?;
                copied.map_err(failed)
            }
        }
    }

    /// Removes a volume that nobody uses, with all it holds.
    pub fn remove(&self, name: &str, missing: Missing) -> Result<(), VolumeError> {
        let _name = self.names.lock(name);
        let volume = match (self.get(name), missing) {
            (Err(VolumeError::NotFound(_)), Missing::Fine) => return Ok(()),
            (found, _) => found?,
        };
        let users = self.index.remove_unused(name);
        if !users.is_empty() {
            return Err(VolumeError::InUse { name: name.to_owned(), users });
        }
        let removed = self.tear_down(&volume);
        if let Err(source) = removed {
            let dir = self.root.join(name);
            if dir.exists() {
                self.index.insert((*volume).clone());
            }
            return Err(VolumeError::Io { path: dir, source });
        }
        self.tell("destroy", name, |event| event);
        Ok(())
    }

    fn tear_down(&self, volume: &Volume) -> io::Result<()> {
        if volume.needs_mount() {
            mount::unmount_if_mounted(&volume.mountpoint, Unmount::Plain)?;
        }
        let dir = self.root.join(&volume.name);
        let left = dir.with_file_name(format!("{}{}", durable::GONE, volume.name));
        if left.exists() {
            remove_tree(&left)?;
        }
        match durable::retire_dir(&dir) {
            Ok(gone) => {
                crash_point!("volume.remove.retired");
                remove_tree(&gone)
            }
            // Somebody has deleted it by hand; then it is gone.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Removes all unused volumes without options that `wanted` accepts, and reports it.
    pub fn prune(&self, wanted: impl Fn(&Volume) -> bool) -> Result<Pruned, VolumeError> {
        let _running = self.names.try_prune().ok_or(VolumeError::PruneRunning)?;
        let mut pruned = Pruned::default();
        for volume in self.list() {
            if !volume.options.is_empty() || !self.users(&volume.name).is_empty() || !wanted(&volume) {
                continue;
            }
            let size = self.size(&volume);
            match self.remove(&volume.name, Missing::Fine) {
                Ok(()) => {
                    pruned.reclaimed += size;
                    pruned.names.push(volume.name.clone());
                }
                Err(error) => tracing::warn!(volume = volume.name, %error, "not pruned"),
            }
        }
        let event = Event::now(Subject::Volume, "prune", "");
        self.events.publish(event.with("reclaimed", pruned.reclaimed.to_string()));
        Ok(pruned)
    }

    /// Bytes that a volume's content takes on disk.
    pub fn size(&self, volume: &Volume) -> u64 {
        measure::tree(&volume.mountpoint)
    }

    fn tell(&self, action: &str, name: &str, more: impl FnOnce(Event) -> Event) {
        self.events.publish(more(Event::now(Subject::Volume, action, name).with("driver", DRIVER)));
    }
}

#[cfg(test)]
mod tests;
