//! Which containers there are: by id, by name, by unique id prefix.
//!
//! Owns the two indexes and the reservation of names, nothing of a container's life. Readers hold the lock for a
//! map look-up only; no slow work and no await happens under it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::error::{LookupError, NameError};
use super::exec::Exec;
use super::handle::Handle;
use crate::base::id::ContainerId;

/// How many execs of removed containers are remembered.
const DEPARTED: usize = 64;

/// All containers of this daemon.
#[derive(Default)]
pub struct Containers {
    index: RwLock<Index>,
    generation: AtomicU64,
    /// Execs of containers that were removed: a client that ended its container by an exec asks for its exit code
    /// afterwards. The newest are last.
    departed: Mutex<VecDeque<Arc<Exec>>>,
}

#[derive(Default)]
struct Index {
    by_id: BTreeMap<ContainerId, Handle>,
    /// Reserved before the container exists, so that two creates cannot both have it. Without the leading slash.
    names: HashMap<String, ContainerId>,
}

impl Containers {
    /// Counts every visible change of any container: a response built at one generation holds while it lasts.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Tells that a container published something new.
    pub(super) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Finds a container by full id, exact name (with or without `/`), the name `PARENT/ALIAS` of a link to it, or
    /// unique id prefix, in this order.
    pub fn resolve(&self, term: &str) -> Result<Handle, LookupError> {
        if term.is_empty() {
            return Err(LookupError::Empty);
        }
        let index = self.read();
        if let Some(handle) = term.parse().ok().and_then(|id: ContainerId| index.by_id.get(&id)) {
            return Ok(handle.clone());
        }
        let name = term.strip_prefix('/').unwrap_or(term);
        match index.by_name(name) {
            Some(handle) => Ok(handle.clone()),
            None => index.by_prefix(term),
        }
    }

    /// Finds a container by its full id.
    pub fn find(&self, id: &ContainerId) -> Option<Handle> {
        self.read().by_id.get(id).cloned()
    }

    /// All containers, in no promised order.
    pub fn all(&self) -> Vec<Handle> {
        self.read().by_id.values().cloned().collect()
    }

    /// Reserves `name` (without slash) for `id`. Taking what one holds already succeeds.
    pub fn reserve_name(&self, name: &str, id: &ContainerId) -> Result<(), NameError> {
        let mut index = self.write();
        match index.names.get(name) {
            Some(holder) if holder != id => {
                Err(NameError::InUse { name: format!("/{name}"), holder: holder.clone() })
            }
            _ => {
                index.names.insert(name.to_owned(), id.clone());
                Ok(())
            }
        }
    }

    /// Gives `name` back if `id` holds it.
    pub fn release_name(&self, name: &str, id: &ContainerId) {
        let mut index = self.write();
        if index.names.get(name) == Some(id) {
            index.names.remove(name);
        }
    }

    /// Makes a container visible. Its name is reserved already.
    pub fn insert(&self, handle: Handle) {
        self.write().by_id.insert(handle.id().clone(), handle);
        self.changed();
    }

    /// Takes a container and its name out of sight.
    pub fn remove(&self, id: &ContainerId) {
        let mut index = self.write();
        let removed = index.by_id.remove(id);
        index.names.retain(|_, holder| holder != id);
        drop(index);
        let mut departed = self.departed();
        departed.extend(removed.iter().flat_map(Handle::ended_execs));
        let surplus = departed.len().saturating_sub(DEPARTED);
        departed.drain(..surplus);
        drop(departed);
        self.changed();
    }

    /// Execs that ended in containers which are no more.
    pub(super) fn departed(&self) -> MutexGuard<'_, VecDeque<Arc<Exec>>> {
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// By its own name, which has no slash, or by that of a link.
    fn by_name(&self, name: &str) -> Option<&Handle> {
        let (own, alias) = name.split_once('/').map_or((name, None), |(own, alias)| (own, Some(alias)));
        let named = self.by_id.get(self.names.get(own)?)?;
        let Some(alias) = alias else { return Some(named) };
        let parent = named.snapshot();
        let link = parent.record.links.iter().find(|link| link.alias == alias)?;
        self.by_id.get(&link.container)
    }

    fn by_prefix(&self, prefix: &str) -> Result<Handle, LookupError> {
        let mut matches = self
            .by_id
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(id, _)| id.as_str().starts_with(prefix));
        match (matches.next(), matches.next()) {
            (None, _) => Err(LookupError::NotFound(prefix.to_owned())),
            (Some((_, handle)), None) => Ok(handle.clone()),
            (Some(_), Some(_)) => Err(LookupError::Ambiguous(prefix.to_owned())),
        }
    }
}
