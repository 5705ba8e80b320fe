//! Start and end of the daemon: finds again what runs, finishes what a crash left half done, brings all to rest.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;

use super::Engine;
use crate::base::durable;
use crate::base::sys::mount::{self, Unmount};
use crate::container::state::EndRequest;
use crate::container::{self, Handle, StopOptions, links, storage, subpaths};
use crate::logs::losses::Losses;
use crate::network::LiveSandbox;
use crate::runtime::protocol::Farewell;

impl Engine {
    /// Finds again what runs, and finishes what a crash left half done.
    pub async fn recover(&self) {
        let parts = self.parts.clone();
        tokio::task::spawn_blocking(move || parts.warm_up());
        let paths = self.parts.paths.clone();
        match Losses::listen(&paths.exec_root) {
            Ok(losses) => drop(tokio::spawn(losses.log())),
            Err(error) => tracing::error!(%error, "losses of logs will not be heard of"),
        }
        let stored = tokio::task::spawn_blocking(move || {
            sweep(&paths.containers());
            load(&paths.containers())
        });
        let mut stored = stored.await.unwrap_or_default();
        let known: HashSet<_> = stored.iter().map(|stored| stored.record.id.clone()).collect();
        for stored in &mut stored {
            links::forget_removed(&mut stored.record, |container| known.contains(container));
        }
        let mut live = Vec::new();
        for stored in &stored {
            let name = stored.record.plain_name();
            if let Err(error) = self.containers.reserve_name(name, &stored.record.id) {
                tracing::error!(%error, "two containers have one name; the later one is reached by id");
            }
            if let Some(sandbox) = &stored.sandbox {
                let (container, name) = (stored.record.id.clone(), name.to_owned());
                live.push(LiveSandbox { container, name, sandbox: sandbox.clone() });
            }
        }
        if let Err(error) = self.networks.recover(live).await {
            tracing::error!(%error, "networks cannot be taken over");
        }
        stored.iter().for_each(|stored| container::hold_volumes(&self.parts, stored));
        container::recover(&self.parts, stored);
        self.listed.send_replace(true);
        let parts = self.parts.clone();
        // The first start would wait for it otherwise.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = parts.launcher.prepare() {
                tracing::error!(%error, "shims cannot be prepared");
            }
        });
        let volumes = self.volumes.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = volumes.sweep() {
                tracing::error!(%error, "leftovers of volumes cannot be removed");
            }
        });
        let (paths, containers) = (self.parts.paths.clone(), self.containers.clone());
        let known = move |name: &str| name.parse().is_ok_and(|id| containers.find(&id).is_some());
        if tokio::task::spawn_blocking(move || sweep_runs(&paths, known)).await.is_err() {
            tracing::error!("run-time files of removed containers were not looked through");
        }
    }

    /// Brings everything to rest: containers stop unless live restore is on.
    pub async fn shutdown(&self) {
        let live = self.config.live();
        let grace = live.shutdown_timeout;
        let mut stopping = JoinSet::new();
        for handle in self.containers.all() {
            let stop = handle.snapshot().is_running() && !live.live_restore;
            stopping.spawn(async move { rest(&handle, stop, grace).await });
        }
        while stopping.join_next().await.is_some() {}
        self.networks.settle().await;
    }
}

async fn rest(handle: &Handle, stop: bool, grace: i64) {
    let options = StopOptions { signal: None, grace: Some(grace), request: EndRequest::Shutdown };
    if stop && let Err(error) = handle.stop(options).await {
        tracing::warn!(container = %handle.id(), %error, "not stopped");
    }
    if let Err(error) = handle.release().await {
        tracing::debug!(container = %handle.id(), %error, "its owner has ended already");
    }
}

fn sweep(dir: &Path) {
    if let Err(error) = fs::create_dir_all(dir).and_then(|()| durable::sweep(dir, let_go)) {
        tracing::error!(path = %dir.display(), %error, "leftovers cannot be removed");
    }
}

/// Releases what is not a file of a container's leftovers.
fn let_go(dir: &Path) {
    container::lift_limit(dir);
    if let Err(error) = container::clear_scratch(dir) {
        tracing::error!(path = %dir.display(), %error, "leftovers are mounted still");
    }
}

fn load(dir: &Path) -> Vec<storage::Stored> {
    let Ok(entries) = fs::read_dir(dir) else { return vec![] };
    let dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    dirs.iter().filter_map(|dir| readable(dir, storage::load(dir))).collect()
}

fn readable(dir: &Path, stored: io::Result<storage::Stored>) -> Option<storage::Stored> {
    stored
        .inspect_err(|error| tracing::error!(path = %dir.display(), %error, "container cannot be read"))
        .ok()
}

/// Unmounts and deletes what containers that are gone left in the run-time directory.
fn sweep_runs(paths: &storage::Paths, known: impl Fn(&str) -> bool) {
    let left = |dir: PathBuf| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter(|entry| !known(&entry.file_name().to_string_lossy())).map(|entry| entry.path())
    };
    for mounted in left(paths.roots()).chain(left(paths.shms())) {
        let removed =
            mount::unmount_if_mounted(&mounted, Unmount::Lazy).and_then(|_| fs::remove_dir(&mounted));
        complain(&mounted, removed);
    }
    for parts in left(paths.all_subpaths()).chain(left(paths.all_image_mounts())) {
        complain(&parts, subpaths::release(&parts));
    }
    for run in left(paths.runs()) {
        complain(&run, fs::remove_dir_all(&run));
    }
    Farewell::sweep(&paths.runs());
}

fn complain(path: &Path, removed: io::Result<()>) {
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "a removed container's run-time files stay");
    }
}
