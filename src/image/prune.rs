//! `docker image prune`: images that no container uses, those without a name or all.

use std::sync::atomic::{AtomicBool, Ordering};

use super::database::{Change, Record};
use super::error::ImageError;
use super::name::Name;
use super::remove::{Removed, Users};
use super::{Images, Target};
use crate::base::digest::Digest;
use crate::events::{Event, Subject};

/// Which images a prune takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneScope {
    /// Those without a name.
    Dangling,
    /// All that no container uses.
    Unused,
}

/// What a prune did.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    pub removed: Vec<Removed>,
    /// Bytes.
    pub freed: u64,
}

/// Set while a prune is under way.
#[derive(Debug, Default)]
pub(super) struct PruneFlag(AtomicBool);

struct Pruning<'a>(&'a AtomicBool);

impl Drop for Pruning<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl PruneFlag {
    fn raise(&self) -> Result<Pruning<'_>, ImageError> {
        match self.0.swap(true, Ordering::Acquire) {
            true => Err(ImageError::PruneRunning),
            false => Ok(Pruning(&self.0)),
        }
    }
}

impl Images {
    /// Removes the images in `scope` that `wanted` lets through and no container uses. Blocks.
    pub fn prune(
        &self,
        scope: PruneScope,
        wanted: &dyn Fn(&Record, &Target) -> bool,
        users: Users<'_>,
    ) -> Result<Pruned, ImageError> {
        let _pruning = self.pruning.raise()?;
        let before = self.state();
        let mut pruned = Pruned::default();
        let ids: Vec<Digest> = before.targets().map(|target| target.descriptor.digest).collect();
        for id in ids {
            let removed = self.change(None, |state| {
                let Some(target) = state.target(&id).filter(|_| users(&id).is_empty()) else {
                    return Ok((Vec::new(), Vec::new()));
                };
                let names: Vec<_> = state.names(&id).collect();
                let named = names.iter().any(|name| name.reference().is_some());
                let all =
                    names.iter().filter_map(|name| state.record(name)).all(|record| wanted(record, target));
                if !all || (named && scope == PruneScope::Dangling) {
                    return Ok((Vec::new(), Vec::new()));
                }
                let changes = names.iter().map(|name| Change::Remove((*name).clone())).collect();
                let untagged = names.iter().filter_map(|name| name.reference());
                let mut removed: Vec<_> = untagged.map(|r| Removed::Untagged(r.familiar())).collect();
                if !names.iter().all(|name| matches!(name, Name::Held(_))) {
                    removed.push(Removed::Deleted(id));
                }
                Ok((changes, removed))
            })?;
            for what in &removed {
                let id_text = id.to_string();
                match what {
                    Removed::Untagged(name) => self.report_of(&before, "untag", &id_text, name, &id),
                    Removed::Deleted(_) => self.report_of(&before, "delete", &id_text, &id_text, &id),
                }
            }
            pruned.removed.extend(removed);
        }
        pruned.freed = self.collect_garbage(users)?;
        let reclaimed = pruned.freed.to_string();
        self.events.publish(Event::now(Subject::Image, "prune", "").with("reclaimed", reclaimed));
        Ok(pruned)
    }
}
