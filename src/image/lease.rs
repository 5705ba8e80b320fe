//! Blobs and layers that something under way has found or made and nothing durable refers to yet. Whoever looks
//! whether a blob is there leases it first: what is removed is removed under the same lock, so that it is either
//! gone before it was looked for, or kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::digest::Digest;
use crate::snapshot::ChainId;

/// All leases. They end with the process: what they kept is then garbage like any other.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Mutex<Leased>>);

/// How often each thing is leased.
#[derive(Debug, Default)]
pub struct Leased {
    blobs: HashMap<Digest, usize>,
    layers: HashMap<ChainId, usize>,
}

/// Keeps what was added to it until it is dropped.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    blobs: Mutex<Vec<Digest>>,
    layers: Mutex<Vec<ChainId>>,
}

impl Leases {
    /// A lease of nothing yet.
    pub fn begin(&self) -> Lease {
        Lease { leases: self.clone(), blobs: Mutex::default(), layers: Mutex::default() }
    }

    /// Holds off new leases while the caller removes one thing.
    pub fn lock(&self) -> MutexGuard<'_, Leased> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leased {
    /// True if something under way needs the blob.
    pub fn blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// True if something under way needs the layer.
    pub fn layer(&self, chain: &ChainId) -> bool {
        self.layers.contains_key(chain)
    }
}

impl Lease {
    /// Keeps a blob, present or not.
    pub fn blob(&self, digest: &Digest) {
        *self.leases.lock().blobs.entry(*digest).or_default() += 1;
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).push(*digest);
    }

    /// Keeps a layer, present or not.
    pub fn layer(&self, chain: &ChainId) {
        *self.leases.lock().layers.entry(*chain).or_default() += 1;
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).push(*chain);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let blobs = std::mem::take(self.blobs.get_mut().unwrap_or_else(PoisonError::into_inner));
        let layers = std::mem::take(self.layers.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut leased = self.leases.lock();
        blobs.iter().for_each(|digest| release(&mut leased.blobs, digest));
        layers.iter().for_each(|chain| release(&mut leased.layers, chain));
    }
}

fn release<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_kept_until_its_last_lease_ends() {
        let leases = Leases::default();
        let digest = Digest::of(b"");
        let (first, second) = (leases.begin(), leases.begin());
        first.blob(&digest);
        second.blob(&digest);
        drop(first);
        assert!(leases.lock().blob(&digest));
        drop(second);
        assert!(!leases.lock().blob(&digest));
    }
}
