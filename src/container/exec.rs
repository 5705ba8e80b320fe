//! Processes added to a running container: what is known of each, and nothing of how it runs.
//!
//! An exec is forgotten [`KEPT`] after its end, when [`MOST`] others ended since, or with its container, so that a
//! million of them leave nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::base::id::{ContainerId, ExecId};
use crate::runtime::Kept;

/// How long an ended exec can be inspected.
pub const KEPT: Duration = Duration::from_secs(300);

/// How many execs of one container are known before ended ones are forgotten early: some seconds' worth of as many as
/// can be run, and whoever wants an exit code asks for it at once.
pub const MOST: usize = 2048;

/// What a client asked for (`ExecConfig` of the Engine API).
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecConfig {
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub attach_stdin: bool,
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub attach_stdout: bool,
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub attach_stderr: bool,
    pub console_size: Option<[u16; 2]>,
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub detach_keys: String,
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub tty: bool,
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub privileged: bool,
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub user: String,
    #[serde(deserialize_with = "super::lenient::or_default")]
    pub working_dir: String,
}

/// Where an exec is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExecPhase {
    Created,
    Starting,
    Running { pid: i32 },
    Ended { code: i32, pid: i32, at: Instant },
}

/// A process that is or was to be added to a container.
pub struct Exec {
    pub id: ExecId,
    pub container: ContainerId,
    pub config: ExecConfig,
    phase: Mutex<ExecPhase>,
    kept: Mutex<Option<Kept>>,
    over: Notify,
}

/// Why an exec cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    #[error("No such exec instance: {0}")]
    NotFound(String),
    #[error("exec command {0} has already run")]
    AlreadyRun(ExecId),
    #[error("exec command {0} is already running")]
    AlreadyRunning(ExecId),
    #[error("No exec command specified")]
    NoCommand,
    #[error("Container {0} is paused, unpause the container before exec")]
    Paused(ContainerId),
    #[error("Container {0} is restarting, wait until the container is running")]
    Restarting(ContainerId),
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
}

impl Exec {
    /// An exec that has not been started.
    pub fn new(container: ContainerId, config: ExecConfig) -> Arc<Self> {
        Arc::new(Self {
            id: ExecId::random(),
            container,
            config,
            phase: Mutex::new(ExecPhase::Created),
            kept: Mutex::default(),
            over: Notify::new(),
        })
    }

    /// Where it is in its life.
    pub fn phase(&self) -> ExecPhase {
        *self.lock()
    }

    /// Takes it for starting; nobody else can.
    pub fn claim(&self) -> Result<(), ExecError> {
        let mut phase = self.lock();
        match *phase {
            ExecPhase::Created => {
                *phase = ExecPhase::Starting;
                Ok(())
            }
            ExecPhase::Starting | ExecPhase::Running { .. } => {
                Err(ExecError::AlreadyRunning(self.id.clone()))
            }
            ExecPhase::Ended { .. } => Err(ExecError::AlreadyRun(self.id.clone())),
        }
    }

    /// Its process runs, unless the word of its end came first.
    pub fn started(&self, pid: i32) {
        let mut phase = self.lock();
        if *phase == ExecPhase::Starting {
            *phase = ExecPhase::Running { pid };
        }
    }

    /// Its process has ended, or could not be started.
    pub fn ended(&self, code: i32) {
        let mut phase = self.lock();
        let pid = match *phase {
            ExecPhase::Created | ExecPhase::Ended { .. } => return,
            ExecPhase::Starting => 0,
            ExecPhase::Running { pid } => pid,
        };
        *phase = ExecPhase::Ended { code, pid, at: Instant::now() };
        drop(phase);
        self.over.notify_one();
    }

    /// As [`Self::ended`], with what it has written.
    pub fn ended_with(&self, code: i32, kept: Kept) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        self.ended(code);
    }

    /// Waits for its end: its exit code, and what was kept of its output. For one caller, who takes the output.
    pub async fn end(&self) -> (i32, Kept) {
        loop {
            if let ExecPhase::Ended { code, .. } = self.phase() {
                let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
                return (code, kept.unwrap_or_default());
            }
            self.over.notified().await;
        }
    }

    /// True when it may be forgotten.
    pub fn is_stale(&self) -> bool {
        matches!(self.phase(), ExecPhase::Ended { at, .. } if at.elapsed() >= KEPT)
    }

    fn lock(&self) -> MutexGuard<'_, ExecPhase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The execs of one container.
#[derive(Default)]
pub struct Execs {
    by_id: BTreeMap<ExecId, Arc<Exec>>,
    /// In the order in which they are looked at, to be forgotten; those that run come again at the end.
    order: VecDeque<ExecId>,
}

impl Execs {
    /// Adds one, and looks at two: so each has its turn, and the work does not grow with their number.
    pub fn add(&mut self, exec: Arc<Exec>) {
        for _ in 0..2 {
            self.look_at_next();
        }
        self.order.push_back(exec.id.clone());
        self.by_id.insert(exec.id.clone(), exec);
    }

    /// The exec of this number, if it is known.
    pub fn get(&self, id: &ExecId) -> Option<&Arc<Exec>> {
        self.by_id.get(id)
    }

    /// Forgets one.
    pub fn remove(&mut self, id: &ExecId) {
        self.by_id.remove(id);
    }

    /// All that are known.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Exec>> {
        self.by_id.values()
    }

    fn look_at_next(&mut self) {
        let Some(id) = self.order.pop_front() else { return };
        let Some(exec) = self.by_id.get(&id) else { return };
        match exec.phase() {
            ExecPhase::Ended { .. } if exec.is_stale() || self.by_id.len() >= MOST => {
                self.by_id.remove(&id);
            }
            // Those behind it are younger.
            ExecPhase::Ended { .. } => self.order.push_front(id),
            ExecPhase::Created | ExecPhase::Starting | ExecPhase::Running { .. } => self.order.push_back(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec() -> Arc<Exec> {
        Exec::new(ContainerId::random(), ExecConfig::default())
    }

    // Fails when nothing is looked at: all 100,000 are kept.
    #[test]
    fn ended_execs_are_forgotten_and_running_ones_are_not() {
        let mut execs = Execs::default();
        let running: Vec<_> = (0..10).map(|_| exec()).collect();
        running.iter().for_each(|exec| execs.add(exec.clone()));
        for number in 0..100_000 {
            let exec = exec();
            execs.add(exec.clone());
            if number % 3 == 0 {
                execs.remove(&exec.id);
            }
            exec.claim().unwrap();
            exec.ended(0);
            let newest = number % 3 == 0 || execs.get(&exec.id).is_some();
            assert!(newest && execs.by_id.len() <= MOST + running.len() && execs.order.len() <= 2 * MOST);
        }
        assert!(running.iter().all(|exec| execs.get(&exec.id).is_some()));
        assert!(execs.iter().count() >= MOST - 1);
    }
}
