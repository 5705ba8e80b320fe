//! Processes added to a running container: what is known of each, and nothing of how it runs.
//!
//! An exec is forgotten [`KEPT`] after its end, or with its container, so that a million of them leave nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::id::{ContainerId, ExecId};

/// How long an ended exec can be inspected.
pub const KEPT: Duration = Duration::from_secs(300);

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
        Arc::new(Self { id: ExecId::random(), container, config, phase: Mutex::new(ExecPhase::Created) })
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
    }

    /// True when it may be forgotten.
    pub fn is_stale(&self) -> bool {
        matches!(self.phase(), ExecPhase::Ended { at, .. } if at.elapsed() >= KEPT)
    }

    fn lock(&self) -> MutexGuard<'_, ExecPhase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
