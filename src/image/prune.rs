//! `docker image prune`: images that no container uses, those without a name or all.

use std::sync::atomic::{AtomicBool, Ordering};

use super::database::{Change, Record};
use super::error::ImageError;
use super::name::Name;
use super::remove::{ImageUser, Removed, Users};
use super::{Images, State, Target};
use crate::base::digest::Digest;
use crate::events::{Event, Subject};
use crate::registry::Reference;

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
    /// Removes the images in `scope` that `wanted` lets through and no container uses. An image in use keeps the names
    /// that its containers were created with, and all if none was. Blocks.
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
                let Some(target) = state.target(&id) else { return Ok((Vec::new(), Vec::new())) };
                let names: Vec<_> = state.names(&id).collect();
                let users = users(&id);
                if !users.is_empty() {
                    return Ok(match scope {
                        PruneScope::Dangling => (Vec::new(), Vec::new()),
                        PruneScope::Unused => {
                            unused_names(state, &names, &users, &|record| wanted(record, target))
                        }
                    });
                }
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

fn unused_names(
    state: &State,
    names: &[&Name],
    users: &[ImageUser],
    wanted: &dyn Fn(&Record) -> bool,
) -> (Vec<Change>, Vec<Removed>) {
    let used: Vec<Reference> = users
        .iter()
        .filter_map(|user| user.named.parse::<Reference>().ok())
        .map(Reference::or_latest)
        .collect();
    let (kept, others): (Vec<_>, Vec<_>) = names
        .iter()
        .filter_map(|name| Some((*name, name.reference()?)))
        .partition(|(_, reference)| used.contains(reference));
    if kept.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let others = others.into_iter().filter(|(name, _)| state.record(name).is_some_and(wanted));
    others.map(|(name, r)| (Change::Remove(name.clone()), Removed::Untagged(r.familiar()))).unzip()
}
