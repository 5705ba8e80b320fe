//! Removes what is not used, one run at a time.

use super::Engine;
use crate::container::state::Force;
use crate::container::{Published, RemoveOptions, Volumes, furnishing};
use crate::events::{Event, Subject};

/// What a run removed.
#[derive(Debug, Default)]
pub struct Pruned {
    pub removed: Vec<String>,
    /// Bytes.
    pub reclaimed: u64,
}

impl Engine {
    /// Removes every stopped container that `matches`.
    pub async fn prune_containers(&self, matches: impl Fn(&Published) -> bool) -> Pruned {
        let mut pruned = Pruned::default();
        for handle in self.containers.all() {
            let now = handle.snapshot();
            if now.is_running() || now.is_restarting() || !matches(&now) {
                continue;
            }
            let size = self.container_size(&now).await;
            let options = RemoveOptions { force: Force::OnlyStopped, volumes: Volumes::Keep };
            // One that was started or removed meanwhile is not ours to remove.
            if handle.remove(options).await.is_ok() {
                pruned.removed.push(handle.id().to_string());
                pruned.reclaimed += size;
            }
        }
        let event = Event::now(Subject::Container, "prune", "");
        self.events.publish(event.with("reclaimed", pruned.reclaimed.to_string()));
        pruned
    }

    /// Bytes that a container's own changes take: not what every container has.
    pub async fn container_size(&self, now: &Published) -> u64 {
        let upper = self.parts.paths.container(&now.record.id).join("upper");
        let size =
            tokio::task::spawn_blocking(move || tree_size(&upper).saturating_sub(furnishing::size(&upper)));
        size.await.unwrap_or(0)
    }
}

/// Bytes of all files below `dir`, hard links counted once each; what vanishes meanwhile counts nothing.
fn tree_size(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::HashSet::new();
    let mut waiting = vec![dir.to_owned()];
    let mut total = 0;
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                waiting.push(entry.path());
            } else if meta.nlink() == 1 || seen.insert(meta.ino()) {
                total += meta.len();
            }
        }
    }
    total
}
