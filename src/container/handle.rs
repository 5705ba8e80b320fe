//! The way to a container for everyone but its owner: read what is published, or send the owner a command.
//!
//! Streams (attach, exec, resize) bypass the owner: they change nothing that the record holds and go to the shim
//! directly, so that a container that is busy with something slow still takes input.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::error::ContainerError;
use super::exec::Execs;
use super::host_config::HostConfig;
use super::published::Published;
use super::state::{EndRequest, Force, Refusal, Volumes};
use super::wait::{WaitCondition, Waiter};
use crate::base::id::ContainerId;
use crate::runtime::{Attachment, Shim, Size};

/// The answer to a command.
pub(super) type Reply = oneshot::Sender<Result<(), ContainerError>>;

/// How to end a container's process.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopOptions {
    /// The first signal; the container's own stop signal if absent.
    pub signal: Option<i32>,
    /// Seconds until SIGKILL; negative waits for ever; the container's own timeout if absent.
    pub grace: Option<i64>,
    pub request: EndRequest,
}

/// What to do with a container's parts on removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoveOptions {
    pub force: Force,
    pub volumes: Volumes,
}

/// What a container's process begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Beginning {
    Program,
    /// The files of a checkpoint.
    Checkpoint(PathBuf),
}

pub(super) enum Command {
    Start(Beginning, Reply),
    Stop(StopOptions, Reply),
    Restart(StopOptions, Reply),
    Pause(Reply),
    Resume(Reply),
    Rename(String, Reply),
    /// By the link's alias.
    Unlink(String, Reply),
    Update(Box<HostConfig>, Reply),
    /// The daemon ends: leave the process to its shim and end the task.
    Release(Reply),
}

/// What may interrupt a slow start.
pub(super) enum Urgent {
    Kill(i32, Reply),
    Remove(RemoveOptions, Reply),
}

/// One container. Clones share it.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub id: ContainerId,
    pub published: watch::Sender<Arc<Published>>,
    pub commands: mpsc::Sender<Command>,
    pub urgent: mpsc::Sender<Urgent>,
    pub streams: Mutex<Streams>,
    /// Held for reading while a client is on its way to `streams`; a start waits for it.
    pub attaching: tokio::sync::RwLock<()>,
    /// Held for writing by whoever mounts the root, and for reading by who writes to it while it is mounted.
    pub files: Arc<tokio::sync::RwLock<()>>,
    pub execs: Mutex<Execs>,
}

/// Where an attaching client goes.
pub(super) enum Streams {
    /// No shim yet: the next start takes these along, so that no byte of output is missed.
    Waiting(Vec<Attachment>),
    Live(Shim),
}

impl Handle {
    /// The container's id.
    pub fn id(&self) -> &ContainerId {
        &self.shared.id
    }

    /// The container as of its last transition.
    pub fn snapshot(&self) -> Arc<Published> {
        self.shared.published.borrow().clone()
    }

    /// Follows the container's transitions.
    pub fn watch(&self) -> watch::Receiver<Arc<Published>> {
        self.shared.published.subscribe()
    }

    /// Registers a wait; see [`Waiter`].
    pub fn waiter(&self, condition: WaitCondition) -> Waiter {
        Waiter::new(self.watch(), condition)
    }

    /// Runs its process; returns when that has been executed.
    pub async fn start(&self) -> Result<(), ContainerError> {
        self.start_from(Beginning::Program).await
    }

    pub(super) async fn start_from(&self, beginning: Beginning) -> Result<(), ContainerError> {
        self.command(|reply| Command::Start(beginning, reply)).await
    }

    /// Ends its process; returns when that is done and its resources are released.
    pub async fn stop(&self, options: StopOptions) -> Result<(), ContainerError> {
        self.command(|reply| Command::Stop(options, reply)).await
    }

    /// Ends its process, if it has one, and runs it again.
    pub async fn restart(&self, options: StopOptions) -> Result<(), ContainerError> {
        self.command(|reply| Command::Restart(options, reply)).await
    }

    /// Freezes its processes.
    pub async fn pause(&self) -> Result<(), ContainerError> {
        self.command(Command::Pause).await
    }

    /// Thaws its processes.
    pub async fn resume(&self) -> Result<(), ContainerError> {
        self.command(Command::Resume).await
    }

    /// Gives it another name, which the caller has reserved.
    pub async fn rename(&self, name: String) -> Result<(), ContainerError> {
        self.command(|reply| Command::Rename(name, reply)).await
    }

    /// Takes away the link that it has under this alias.
    pub(super) async fn unlink(&self, alias: String) -> Result<(), ContainerError> {
        self.command(|reply| Command::Unlink(alias, reply)).await
    }

    /// Changes the limits and the restart policy that are given; see [`super::update::check`].
    pub async fn update(&self, wanted: HostConfig) -> Result<(), ContainerError> {
        self.command(|reply| Command::Update(Box::new(wanted), reply)).await
    }

    /// Sends a signal. SIGKILL returns when the process has ended, others at once.
    pub async fn kill(&self, signal: i32) -> Result<(), ContainerError> {
        self.urgent(|reply| Urgent::Kill(signal, reply)).await
    }

    /// Takes it apart; its name is free when this returns.
    pub async fn remove(&self, options: RemoveOptions) -> Result<(), ContainerError> {
        self.urgent(|reply| Urgent::Remove(options, reply)).await
    }

    /// Ends its owner without touching its process: the daemon is about to exit.
    pub async fn release(&self) -> Result<(), ContainerError> {
        self.command(Command::Release).await
    }

    /// Announces a client that will be attached: no start goes by while the guard is held. To be taken before the
    /// client is answered, since `docker run` asks for the start as soon as it has that answer.
    pub async fn attaching(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.shared.attaching.read().await
    }

    /// Connects a client to its streams: now if it runs, else from the next start on.
    pub async fn attach(&self, attachment: Attachment) -> Result<(), ContainerError> {
        let shim = match &mut *self.streams() {
            Streams::Live(shim) => shim.clone(),
            Streams::Waiting(waiting) => {
                waiting.retain(|earlier| !crate::base::sys::socket::is_hung_up(&earlier.client));
                waiting.push(attachment);
                return Ok(());
            }
        };
        shim.attach(attachment).await.map_err(|source| ContainerError::Shim { id: self.id().clone(), source })
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, size: Size) -> Result<(), ContainerError> {
        let shim = self.shim()?;
        shim.resize(size).await.map_err(|source| ContainerError::Shim { id: self.id().clone(), source })
    }

    /// The shim of its running process.
    pub(super) fn shim(&self) -> Result<Shim, ContainerError> {
        match &*self.streams() {
            Streams::Live(shim) => Ok(shim.clone()),
            Streams::Waiting(_) => {
                let message = format!("container {} is not running", self.id());
                Err(ContainerError::Refused(message, Refusal::NotRunning))
            }
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn command(&self, make: impl FnOnce(Reply) -> Command) -> Result<(), ContainerError> {
        let (reply, answer) = oneshot::channel();
        let gone = || ContainerError::Gone(self.id().clone());
        self.shared.commands.send(make(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn urgent(&self, make: impl FnOnce(Reply) -> Urgent) -> Result<(), ContainerError> {
        let (reply, answer) = oneshot::channel();
        let gone = || ContainerError::Gone(self.id().clone());
        self.shared.urgent.send(make(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
