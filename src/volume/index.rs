//! All volumes in memory, with their users and mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::Volume;
use crate::base::id::ContainerId;

/// Whether any container has a volume mounted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mounts {
    None,
    Some,
}

#[derive(Default)]
pub struct Index(Mutex<BTreeMap<String, Entry>>);

struct Entry {
    volume: Arc<Volume>,
    users: BTreeSet<ContainerId>,
    /// How often each container has it mounted: once for each of its places.
    mounts: BTreeMap<ContainerId, usize>,
}

impl Index {
    /// Reads all records. One that cannot be read is left alone and reported: its content may be precious.
    pub fn read(root: &Path) -> io::Result<Self> {
        let index = Self::default();
        for entry in std::fs::read_dir(root)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            match Volume::load(&entry.path(), name) {
                Ok(volume) => drop(index.insert(volume)),
                Err(error) => tracing::error!(volume = name, %error, "cannot read a volume's record"),
            }
        }
        Ok(index)
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn find(&self, name: &str) -> Option<Arc<Volume>> {
        self.entries().get(name).map(|entry| entry.volume.clone())
    }

    pub fn list(&self) -> Vec<Arc<Volume>> {
        self.entries().values().map(|entry| entry.volume.clone()).collect()
    }

    pub fn insert(&self, volume: Volume) -> Arc<Volume> {
        let volume = Arc::new(volume);
        let entry = Entry { volume: volume.clone(), users: BTreeSet::new(), mounts: BTreeMap::new() };
        self.entries().insert(volume.name.clone(), entry);
        volume
    }

    pub fn users(&self, name: &str) -> Vec<ContainerId> {
        self.entries().get(name).map(Entry::all_users).unwrap_or_default()
    }

    /// Takes a volume out unless somebody uses it; returns the users.
    pub fn remove_unused(&self, name: &str) -> Vec<ContainerId> {
        let mut entries = self.entries();
        let users = entries.get(name).map(Entry::all_users).unwrap_or_default();
        if users.is_empty() {
            entries.remove(name);
        }
        users
    }

    /// False if there is no such volume.
    pub fn retain(&self, name: &str, user: ContainerId) -> bool {
        self.entries().get_mut(name).map(|entry| entry.users.insert(user)).is_some()
    }

    pub fn release(&self, name: &str, user: &ContainerId) {
        if let Some(entry) = self.entries().get_mut(name) {
            entry.users.remove(user);
        }
    }

    pub fn mounts(&self, name: &str) -> Mounts {
        let mounted = self.entries().get(name).is_some_and(|entry| !entry.mounts.is_empty());
        if mounted { Mounts::Some } else { Mounts::None }
    }

    pub fn mounted(&self, name: &str, user: ContainerId) {
        if let Some(entry) = self.entries().get_mut(name) {
            *entry.mounts.entry(user).or_insert(0) += 1;
        }
    }

    /// False if the container had not mounted it.
    pub fn unmounted(&self, name: &str, user: &ContainerId) -> bool {
        let mut entries = self.entries();
        let Some(mounts) = entries.get_mut(name).map(|entry| &mut entry.mounts) else { return false };
        let Some(count) = mounts.get_mut(user) else { return false };
        *count -= 1;
        if *count == 0 {
            mounts.remove(user);
        }
        true
    }
}

impl Entry {
    /// Whoever has it mounted uses it, even if its record has gone.
    fn all_users(&self) -> Vec<ContainerId> {
        let all: BTreeSet<&ContainerId> = self.users.iter().chain(self.mounts.keys()).collect();
        all.into_iter().cloned().collect()
    }
}
