//! Locks by name: who changes a volume holds its name, so that one slow volume keeps no other waiting.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

#[derive(Default)]
pub struct Names {
    held: Mutex<BTreeSet<String>>,
    released: Condvar,
    prune: Mutex<()>,
}

/// A name that is held until this is dropped.
pub struct Held<'a> {
    names: &'a Names,
    name: String,
}

impl Names {
    /// Waits until nobody else holds the name.
    pub fn lock(&self, name: &str) -> Held<'_> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.released.wait_while(held, |held| held.contains(name));
        waited.unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Held { names: self, name: name.to_owned() }
    }

    /// `None` while another prune runs.
    pub fn try_prune(&self) -> Option<MutexGuard<'_, ()>> {
        match self.prune.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.names.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        self.names.released.notify_all();
    }
}
