//! The daemon's end of the connection to one shim.
//!
//! A task owns the connection; handles ([`Shim`]) send it requests. It ends when the shim goes away or when the last
//! handle is dropped, which the shim survives. Requests that have no answer by then fail with [`ShimError::Gone`].

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;

use oci_spec::runtime::LinuxResources;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::error::ShimError;
use super::protocol::{
    self, Checkpoint, Command, Event, Exec, ExecExit, ExitRecord, Frames, Kept, Message, Reply, Request,
    Scope, Size, Status,
};
use super::spec::{Attachment, ExecOutput, ExecSpec};
use crate::base::id::ExecId;
use crate::base::sys::fdpass;
use crate::base::sys::pidfd::PidFd;
use crate::base::time::Timestamp;

/// A container that runs, as the daemon sees it.
#[derive(Debug)]
pub struct Running {
    pub shim: Shim,
    /// The container's first process as the host numbers it.
    pub pid: i32,
    pub started: Timestamp,
    /// What happens from now on.
    pub events: mpsc::UnboundedReceiver<ShimEvent>,
    /// What the shim told when it was connected to: execs that run or ended meanwhile.
    pub status: Status,
}

/// What a shim reports.
#[derive(Debug)]
pub enum ShimEvent {
    /// The container is over: its output is flushed and its clients' connections are closed. The shim waits for
    /// [`Shim::acknowledge_exit`].
    Exited(ExitRecord),
    /// The kernel killed a process of the container for want of memory.
    Oom,
    ExecExited {
        id: ExecId,
        exit: ExecExit,
        /// What it has written, if that was wanted ([`ExecOutput::Kept`]); else [`Shim::acknowledge_exec`] is waited for.
        kept: Option<Kept>,
    },
    /// A client typed the detach keys.
    Detached { exec: Option<ExecId> },
    /// The connection is gone; [`super::Launcher::adopt`] tells what became of the container.
    Disconnected,
}

/// A handle on a shim. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Shim {
    requests: mpsc::UnboundedSender<Outgoing>,
}

#[derive(Debug)]
struct Outgoing {
    command: Command,
    fds: Vec<OwnedFd>,
    reply: oneshot::Sender<Result<Reply, ShimError>>,
}

/// A process added to a container.
#[derive(Clone, Copy, Debug)]
pub struct ExecProcess {
    pub pid: i32,
    pub started: Timestamp,
}

impl Shim {
    /// Connects a client to the container's streams.
    pub async fn attach(&self, attachment: Attachment) -> Result<(), ShimError> {
        self.ask(Command::Attach(attachment.streams), vec![attachment.client]).await.map(drop)
    }

    /// Signals the container's first process or all of them.
    pub async fn signal(&self, signal: i32, scope: Scope) -> Result<(), ShimError> {
        self.ask(Command::Signal { signal, scope }, Vec::new()).await.map(drop)
    }

    /// Sets limits anew; what is not given stays as it is.
    pub async fn update(&self, resources: LinuxResources) -> Result<(), ShimError> {
        self.ask(Command::Update(Box::new(resources)), Vec::new()).await.map(drop)
    }

    /// Tells the container's terminal its size.
    pub async fn resize(&self, size: Size) -> Result<(), ShimError> {
        self.ask(Command::Resize { exec: None, size }, Vec::new()).await.map(drop)
    }

    /// Closes the container's standard input.
    pub async fn close_stdin(&self) -> Result<(), ShimError> {
        self.ask(Command::CloseStdin { exec: None }, Vec::new()).await.map(drop)
    }

    /// Runs a further process in the container; returns once it runs its program.
    pub async fn exec(&self, spec: ExecSpec) -> Result<ExecProcess, ShimError> {
        let (streams, keeps, fds) = match spec.output {
            ExecOutput::Client(attachment) => (Some(attachment.streams), None, vec![attachment.client]),
            ExecOutput::Kept(bytes) => (None, Some(bytes), Vec::new()),
            ExecOutput::Nowhere => (None, None, Vec::new()),
        };
        let (process, console_size) = (spec.process, spec.console_size);
        let exec = Exec { id: spec.id, process, console_size, streams, keeps };
        match self.ask(Command::Exec(Box::new(exec)), fds).await? {
            Reply::Started { pid, at } => Ok(ExecProcess { pid, started: at }),
            Reply::Done => Err(ShimError::Mismatch),
        }
    }

    /// Writes the container's processes to files; returns once those are published.
    pub async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), ShimError> {
        self.ask(Command::Checkpoint(checkpoint), Vec::new()).await.map(drop)
    }

    /// Tells an exec's terminal its size.
    pub async fn exec_resize(&self, exec: ExecId, size: Size) -> Result<(), ShimError> {
        self.ask(Command::Resize { exec: Some(exec), size }, Vec::new()).await.map(drop)
    }

    /// Signals an exec's process.
    pub async fn exec_signal(&self, exec: ExecId, signal: i32) -> Result<(), ShimError> {
        self.ask(Command::ExecSignal { exec, signal }, Vec::new()).await.map(drop)
    }

    /// Tells the shim that an exec's exit is known: its clients may see the end of their streams. Waits for nothing.
    pub fn acknowledge_exec(&self, exec: ExecId) {
        let (reply, _) = oneshot::channel();
        // A shim that is gone holds no clients.
        let _ = self.requests.send(Outgoing {
            command: Command::AcknowledgeExec { exec },
            fds: Vec::new(),
            reply,
        });
    }

    /// Tells the shim that the exit is recorded: it removes the cgroup and its directory, and ends. Does not wait for
    /// that; the next launch of the container does.
    pub async fn acknowledge_exit(&self) -> Result<(), ShimError> {
        match self.ask(Command::AcknowledgeExit, Vec::new()).await {
            Ok(_) | Err(ShimError::Gone) => Ok(()),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn ask(&self, command: Command, fds: Vec<OwnedFd>) -> Result<Reply, ShimError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Outgoing { command, fds, reply }).map_err(|_| ShimError::Gone)?;
        answer.await.map_err(|_| ShimError::Gone)?
    }
}

/// A connection that was just made.
pub(super) struct Connected {
    pub shim: Shim,
    pub events: mpsc::UnboundedReceiver<ShimEvent>,
    /// The shim's first message.
    pub status: oneshot::Receiver<Status>,
    /// Closed when the shim is gone, or nobody follows it any more.
    pub end: watch::Receiver<()>,
}

/// Takes over the connection `socket`. `child` is the shim's process if this process is its parent and must reap it.
pub(super) fn connect(socket: StdStream, child: Option<i32>) -> io::Result<Connected> {
    socket.set_nonblocking(true)?;
    let socket = UnixStream::from_std(socket)?;
    let (requests, incoming) = mpsc::unbounded_channel();
    let (events, receiver) = mpsc::unbounded_channel();
    let (tell_status, status) = oneshot::channel();
    let (alive, end) = watch::channel(());
    let connection = Connection {
        socket,
        frames: Frames::default(),
        waiting: HashMap::new(),
        next: 1,
        status: Some(tell_status),
        acknowledged: false,
        events,
    };
    tokio::spawn(async move {
        if let Err(error) = connection.run(incoming).await {
            tracing::warn!(%error, "the connection to a shim broke");
        }
        drop(alive);
        if let Some(pid) = child {
            reap(pid).await;
        }
    });
    Ok(Connected { shim: Shim { requests }, events: receiver, status, end })
}

/// Waits for the end of a shim that this process started, so that no zombie stays.
async fn reap(pid: i32) {
    let ended = match PidFd::open(pid) {
        Ok(process) => process.ended().await,
        Err(e) => Err(e),
    };
    if let Err(error) = ended {
        tracing::warn!(%error, pid, "waiting for a shim's end");
    }
    let _ =
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::WNOHANG));
}

struct Connection {
    socket: UnixStream,
    frames: Frames,
    waiting: HashMap<u64, oneshot::Sender<Result<Reply, ShimError>>>,
    next: u64,
    status: Option<oneshot::Sender<Status>>,
    /// True once the shim was told that it may end, which is then waited for.
    acknowledged: bool,
    events: mpsc::UnboundedSender<ShimEvent>,
}

impl Connection {
    async fn run(mut self, mut incoming: mpsc::UnboundedReceiver<Outgoing>) -> Result<(), ShimError> {
        let outcome = loop {
            tokio::select! {
                request = incoming.recv(), if !incoming.is_closed() || !incoming.is_empty() => match request {
                    None if self.acknowledged => {}
                    None => return Ok(()),
                    Some(request) => if let Err(e) = self.send(request).await { break Err(e) },
                },
                ready = self.socket.readable() => {
                    match ready.map_err(ShimError::from).and_then(|()| self.receive()) {
                        Ok(Continue::Yes) => {}
                        Ok(Continue::No) => break Ok(()),
                        Err(e) => break Err(e),
                    }
                }
            }
        };
        let _ = self.events.send(ShimEvent::Disconnected);
        outcome
    }

    async fn send(&mut self, outgoing: Outgoing) -> Result<(), ShimError> {
        let id = self.next;
        self.next += 1;
        self.acknowledged |= matches!(outgoing.command, Command::AcknowledgeExit);
        let bytes = protocol::encode(&Request { id, command: outgoing.command }, outgoing.fds.len());
        self.waiting.insert(id, outgoing.reply);
        let fds: Vec<_> = outgoing.fds.iter().map(AsFd::as_fd).collect();
        let mut sent = 0;
        while sent < bytes.len() {
            let fds = if sent == 0 { fds.as_slice() } else { &[] };
            let rest = &bytes[sent..];
            sent += self
                .socket
                .async_io(Interest::WRITABLE, || fdpass::send(self.socket.as_fd(), rest, fds))
                .await?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Continue, ShimError> {
        let mut buffer = [0; 4096];
        match self.socket.try_read(&mut buffer) {
            Ok(0) => return Ok(Continue::No),
            Ok(n) => self.frames.push(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Continue::Yes),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(Continue::No),
            Err(e) => return Err(e.into()),
        }
        while let Some((json, _)) = self.frames.pop()? {
            // A message that only a later release knows is not for us.
            if let Ok(message) = serde_json::from_slice(&json) {
                self.handle(message);
            }
        }
        Ok(Continue::Yes)
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Status(status) => {
                if let Some(waiting) = self.status.take() {
                    let _ = waiting.send(status);
                }
            }
            Message::Reply { id, outcome } => {
                if let Some(waiting) = self.waiting.remove(&id) {
                    let _ = waiting.send(outcome.map_err(ShimError::from));
                }
            }
            Message::Event(event) => {
                let _ = self.events.send(match event {
                    Event::Exited(record) => ShimEvent::Exited(record),
                    Event::Oom => ShimEvent::Oom,
                    Event::ExecExited { id, exit, kept } => ShimEvent::ExecExited { id, exit, kept },
                    Event::Detached { exec } => ShimEvent::Detached { exec },
                });
            }
        }
    }
}

enum Continue {
    Yes,
    No,
}
