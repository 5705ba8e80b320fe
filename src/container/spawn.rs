//! Makes owners: for a new container, and for each one found on disk when the daemon starts.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use super::checkpoints;
use super::handle::{Handle, Shared, Streams};
use super::health::Monitor;
use super::launch;
use super::links;
use super::owner::{Flow, Owner};
use super::parts::Parts;
use super::published::Published;
use super::record::Record;
use super::report::Reporter;
use super::state::{self, Phase, State};
use super::storage::{self, Stored};
use crate::base::durable;
use crate::crash_point;
use crate::runtime::Adopted;

/// Commands that may wait for a busy owner before a client waits too.
const QUEUE: usize = 32;

/// Makes a new container: durable first, then visible, then reported. Its name is reserved already.
pub async fn create(parts: &Arc<Parts>, record: Record) -> io::Result<Handle> {
    let dir = parts.paths.container(&record.id);
    let (written, group) = (record.clone(), parts.config.ids.root().gid);
    tokio::task::spawn_blocking(move || write(&dir, &written, group)).await??;
    crash_point!("container-created");
    let record = Arc::new(record);
    let owner = list(parts, Published::at_rest(record.clone(), State::default()));
    let handle = Handle { shared: owner.shared.clone() };
    tokio::spawn(owner.run());
    Reporter { events: &parts.events, record: &record }.plain("create");
    Ok(handle)
}

fn write(dir: &Path, record: &Record, group: u32) -> io::Result<()> {
    let building = durable::building(dir)?;
    fs::create_dir(&building)?;
    set_mode(&building, group)?;
    storage::write_record(&building, record)?;
    crash_point!("container-written");
    durable::publish_dir(dir)?;
    match dir.parent() {
        Some(parent) => durable::sync_dir(parent),
        None => Ok(()),
    }
}

/// Nobody but root may look into containers (CVE-2021-41091); a container's own root, if it is another user, may look
/// up the files in it that are mounted in the container.
fn set_mode(dir: &Path, group: u32) -> io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown};
    chown(dir, None, Some(group))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o710))
}

/// The containers found on disk: visible at once, with owners that find out what became of their processes. They may
/// look for each other, so the first begins when the last is listed.
pub fn recover(parts: &Arc<Parts>, all: Vec<Stored>) {
    let list = |Stored { record, state, sandbox }| {
        let now = Published::at_rest(Arc::new(record), state);
        list(parts, Published { sandbox: sandbox.map(Arc::new), ..now })
    };
    let owners: Vec<Owner> = all.into_iter().map(list).collect();
    for owner in owners {
        tokio::spawn(owner.recover());
    }
}

/// Makes a container visible. Its owner is yet to begin, which may be to remove it.
fn list(parts: &Arc<Parts>, now: Published) -> Owner {
    let (commands_in, commands) = mpsc::channel(QUEUE);
    let (urgent_in, urgent) = mpsc::channel(QUEUE);
    let shared = Arc::new(Shared {
        id: now.record.id.clone(),
        published: watch::channel(Arc::new(now.clone())).0,
        commands: commands_in,
        urgent: urgent_in,
        streams: Mutex::new(Streams::Waiting(vec![])),
        attaching: tokio::sync::RwLock::default(),
        files: Arc::default(),
        execs: Mutex::default(),
    });
    let owner = Owner {
        shared: shared.clone(),
        parts: parts.clone(),
        now,
        shim: None,
        commands,
        urgent,
        ending: None,
        kills: vec![],
        removal: None,
        restart_at: None,
        monitor: Monitor::default(),
    };
    parts.containers.insert(Handle { shared });
    owner
}

impl Owner {
    /// What the record says is compared with what is there: the shim's word counts, then its exit record; without
    /// either the process is gone. Then what was begun is finished, and what shall run is started.
    async fn recover(mut self) {
        self.removal = self.now.state.removing.map(|volumes| (volumes, vec![]));
        if self.now.state.phase.has_process() || self.parts.paths.run(&self.shared.id).exists() {
            self.find_process().await;
        } else {
            self.forget_run().await;
        }
        if self.now.state.phase == Phase::Restarting {
            self.rest();
        }
        if !self.now.is_running() {
            checkpoints::sweep(&self.parts.paths.checkpoints(&self.shared.id));
            if state::starts_with_daemon(&self.now.state, self.rule()) {
                self.start_with_daemon().await;
            } else {
                self.remove_if_automatic().await;
            }
        }
        if self.after_step().await == Flow::On {
            self.run().await;
        }
    }

    async fn start_with_daemon(&mut self) {
        self.restart_at = None;
        links::await_others(&self.parts.containers, &self.now.record).await;
        if let Err(error) = self.start_anew().await {
            tracing::error!(container = %self.shared.id, %error, "failed to start container");
        }
    }

    /// Releases what a start that was cut off had taken: it leaves no record but the mounted root.
    async fn forget_run(&mut self) {
        let cut_off = self.now.state.phase == Phase::Starting || self.now.sandbox.is_some();
        if cut_off || self.parts.paths.rootfs(&self.shared.id).exists() {
            self.release().await;
        }
        if self.now.state.phase == Phase::Starting {
            self.rest();
        }
    }

    async fn find_process(&mut self) {
        match launch::adopt(&self.parts, &self.now.record).await {
            Adopted::Running(running) => {
                // The daemon may have died between the launch and its record.
                self.now.state.phase = match self.now.state.phase {
                    kept @ (Phase::Paused | Phase::Removing) => kept,
                    _ => Phase::Running,
                };
                self.now.state.pid = Some(running.pid);
                self.now.state.started_at = running.started;
                self.go_live(*running).await;
                self.watch_health();
                self.persist();
                self.publish();
                if self.removal.is_some() {
                    self.kill_for_removal().await;
                }
            }
            Adopted::Exited(exited) => self.adopt_exit(exited).await,
            Adopted::Gone if self.now.state.phase.has_process() => self.lost().await,
            Adopted::Gone => {
                launch::end_remains(&self.parts, &self.now.record).await;
                self.release().await;
                self.forget_run().await;
            }
        }
    }

    fn rest(&mut self) {
        let ran = !self.now.state.started_at.is_unset();
        self.now.state.phase = if ran { Phase::Exited } else { Phase::Created };
        self.persist();
        self.publish();
    }
}
