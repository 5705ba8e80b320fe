//! Makes owners: for a new container, and for each one found on disk when the daemon starts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use super::handle::{Handle, Shared, Streams};
use super::health::Monitor;
use super::launch;
use super::owner::Owner;
use super::parts::Parts;
use super::published::Published;
use super::record::Record;
use super::report::Reporter;
use super::state::{Phase, State};
use super::storage::{self, Stored};
use crate::base::durable;
use crate::crash_point;
use crate::runtime::Adopted;

/// Commands that may wait for a busy owner before a client waits too.
const QUEUE: usize = 32;

/// Makes a new container: durable first, then visible, then reported. Its name is reserved already.
pub async fn create(parts: &Arc<Parts>, record: Record) -> io::Result<Handle> {
    let dir = parts.paths.container(&record.id);
    let written = record.clone();
    tokio::task::spawn_blocking(move || write(&dir, &written)).await??;
    crash_point!("container-created");
    let record = Arc::new(record);
    let handle = spawn(parts, Published::at_rest(record.clone(), State::default()), Start::Fresh);
    parts.containers.insert(handle.clone());
    Reporter { events: &parts.events, record: &record }.plain("create");
    Ok(handle)
}

fn write(dir: &Path, record: &Record) -> io::Result<()> {
    let building = durable::building(dir)?;
    fs::create_dir(&building)?;
    set_mode(&building)?;
    storage::write_record(&building, record)?;
    crash_point!("container-written");
    durable::publish_dir(dir)?;
    match dir.parent() {
        Some(parent) => durable::sync_dir(parent),
        None => Ok(()),
    }
}

/// Nobody but root may look into containers (CVE-2021-41091).
fn set_mode(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o710))
}

/// A container found on disk: visible at once, with an owner that finds out what became of its process.
pub fn recover(parts: &Arc<Parts>, stored: Stored) -> Handle {
    let Stored { record, state, sandbox } = stored;
    let record = Arc::new(record);
    let now = Published { sandbox: sandbox.map(Arc::new), ..Published::at_rest(record, state) };
    let handle = spawn(parts, now, Start::Recovered);
    parts.containers.insert(handle.clone());
    handle
}

enum Start {
    Fresh,
    Recovered,
}

fn spawn(parts: &Arc<Parts>, now: Published, start: Start) -> Handle {
    let (commands_in, commands) = mpsc::channel(QUEUE);
    let (urgent_in, urgent) = mpsc::channel(QUEUE);
    let shared = Arc::new(Shared {
        id: now.record.id.clone(),
        published: watch::channel(Arc::new(now.clone())).0,
        commands: commands_in,
        urgent: urgent_in,
        streams: Mutex::new(Streams::Waiting(vec![])),
        attaching: tokio::sync::RwLock::default(),
        execs: Mutex::new(BTreeMap::new()),
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
    tokio::spawn(async move {
        match start {
            Start::Fresh => owner.run().await,
            Start::Recovered => owner.recover().await,
        }
    });
    Handle { shared }
}

impl Owner {
    /// What the record says is compared with what is there: the shim's word counts, then its exit record; without
    /// either the process is gone.
    async fn recover(mut self) {
        let run = self.parts.paths.run(&self.shared.id);
        let had_process = self.now.state.phase.has_process() || run.exists();
        if had_process {
            self.find_process().await;
        } else if matches!(self.now.state.phase, Phase::Removing | Phase::Starting) {
            self.release().await;
            self.rest();
        }
        if self.now.state.phase == Phase::Restarting {
            self.restart_at = Some(tokio::time::Instant::now());
        }
        self.run().await;
    }

    async fn find_process(&mut self) {
        match launch::adopt(&self.parts, &self.now.record).await {
            Adopted::Running(running) => {
                // The daemon may have died between the launch and its record.
                self.now.state.phase = match self.now.state.phase {
                    Phase::Paused => Phase::Paused,
                    _ => Phase::Running,
                };
                self.now.state.pid = Some(running.pid);
                self.now.state.started_at = running.started;
                self.go_live(*running).await;
                self.watch_health();
                self.persist();
                self.publish();
            }
            Adopted::Exited(exited) => {
                self.exited(exited.record.clone()).await;
                if let Err(error) = exited.acknowledge().await {
                    tracing::debug!(container = %self.shared.id, %error, "exit record not removed");
                }
            }
            Adopted::Gone if self.now.state.phase.has_process() => self.exited(launch::lost()).await,
            Adopted::Gone => {
                self.release().await;
                self.rest();
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
