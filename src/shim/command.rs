//! What daemons ask of the shim.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use super::poll::{INIT, Key};
use super::{Shim, cgroup};
use crate::base::errno::in_gos_words;
use crate::base::id::ExecId;
use crate::base::sys::cgroup::from_specification;
use crate::runtime::protocol::{
    Command, Failure, Message, Reply, Request, Scope, Size, StdinMode, Streams, UnknownRequest,
};

type Answer = Result<Reply, Failure>;

impl Shim {
    pub(super) fn connection_ready(&mut self, id: u32, flags: EpollFlags) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if flags.contains(EpollFlags::EPOLLOUT) && connection.flush(&self.poller).is_err() {
            return self.disconnect(id);
        }
        if !flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return;
        }
        match connection.receive() {
            Ok(frames) => {
                for (json, fds) in frames {
                    self.request(id, &json, fds);
                }
            }
            Err(_) => self.disconnect(id),
        }
    }

    fn request(&mut self, connection: u32, json: &[u8], fds: Vec<OwnedFd>) {
        let Request { id, command } = match serde_json::from_slice(json) {
            Ok(request) => request,
            Err(_) => {
                let Ok(UnknownRequest { id }) = serde_json::from_slice(json) else {
                    return self.disconnect(connection);
                };
                return self.reply((connection, id), Err(Failure::Unsupported));
            }
        };
        let asked = (connection, id);
        if let Some(answer) = self.carry_out(asked, command, fds) {
            self.reply(asked, answer);
        }
    }

    pub(super) fn reply(&mut self, (connection, id): (u32, u64), outcome: Answer) {
        self.send(connection, &Message::Reply { id, outcome });
    }

    /// Does what is asked; `None` if the answer comes later.
    fn carry_out(&mut self, asked: (u32, u64), command: Command, fds: Vec<OwnedFd>) -> Option<Answer> {
        match command {
            Command::Launch(launch) => self.launch(asked, *launch, fds),
            Command::Hold => {
                self.held.extend(fds);
                Some(Ok(Reply::Done))
            }
            Command::Attach(streams) => Some(self.attach(streams, fds)),
            Command::Signal { signal, scope } => Some(self.signal(signal, scope)),
            Command::Resize { exec, size } => Some(self.resize(exec.as_ref(), size)),
            Command::CloseStdin { exec } => Some(self.close_stdin(exec.as_ref())),
            Command::Exec(exec) => self.exec(asked, *exec, fds),
            Command::ExecSignal { exec, signal } => Some(self.signal_exec(&exec, signal)),
            Command::Update(resources) => Some(self.update(&resources)),
            Command::Checkpoint(checkpoint) => self.checkpoint(asked, &checkpoint),
            Command::AcknowledgeExec { exec } => Some(self.exec_acknowledged(&exec)),
            Command::AcknowledgeExit => Some(self.acknowledged()),
        }
    }

    fn attach(&mut self, streams: Streams, fds: Vec<OwnedFd>) -> Answer {
        let client = fds.into_iter().next().ok_or_else(|| system("an attachment without its client"))?;
        let process =
            self.processes.get_mut(&INIT).filter(|p| p.end().is_none()).ok_or(Failure::NotRunning)?;
        process.streams.attach(client, streams, &self.poller).map_err(system)?;
        Ok(Reply::Done)
    }

    fn signal(&mut self, signal: i32, scope: Scope) -> Answer {
        let pid =
            self.processes.get(&INIT).and_then(|process| process.living()).ok_or(Failure::NotRunning)?;
        self.oom.is_killed |= signal == libc::SIGKILL;
        match scope {
            Scope::Init => send_signal(pid, signal)?,
            Scope::All => {
                let rest = self.cgroup.signal_all(signal);
                // A privileged program may have left its group.
                send_signal(pid, signal)?;
                rest.map_err(system)?;
            }
        }
        Ok(Reply::Done)
    }

    fn signal_exec(&mut self, exec: &ExecId, signal: i32) -> Answer {
        let key = self.key_of(Some(exec))?;
        let pid = self.processes.get(&key).and_then(|process| process.living()).ok_or(Failure::NotRunning)?;
        send_signal(pid, signal)?;
        Ok(Reply::Done)
    }

    fn resize(&mut self, exec: Option<&ExecId>, size: Size) -> Answer {
        let key = self.key_of(exec)?;
        if let Some(process) = self.processes.get_mut(&key) {
            process.size = Some(size);
            process.streams.resize(size).map_err(system)?;
        }
        Ok(Reply::Done)
    }

    fn close_stdin(&mut self, exec: Option<&ExecId>) -> Answer {
        let key = self.key_of(exec)?;
        if let Some(process) = self.processes.get_mut(&key) {
            process.streams.close_stdin(&self.poller);
        }
        Ok(Reply::Done)
    }

    fn update(&self, resources: &LinuxResources) -> Answer {
        if self.launch.is_none() || self.cgroup.is_empty() {
            return Err(Failure::NotRunning);
        }
        cgroup::update(&self.cgroup, self.scope().as_deref(), resources).map_err(system)?;
        Ok(Reply::Done)
    }

    /// The path of the container's group if systemd has made it.
    pub(super) fn scope(&self) -> Option<PathBuf> {
        let launch =
            self.launch.as_ref().filter(|launch| launch.systemd_cgroup && !self.cgroup.is_empty())?;
        launch.cgroups_path.as_deref().map(from_specification)
    }

    fn exec_acknowledged(&mut self, exec: &ExecId) -> Answer {
        let key = self.key_of(Some(exec))?;
        if let Some(process) = self.processes.get_mut(&key) {
            process.let_clients_go(&self.poller);
        }
        Ok(Reply::Done)
    }

    fn key_of(&self, exec: Option<&ExecId>) -> Result<Key, Failure> {
        match exec {
            None => Some(INIT).filter(|key| self.processes.contains_key(key)).ok_or(Failure::NotRunning),
            Some(exec) => {
                let mut all = self.processes.iter();
                all.find(|(_, p)| p.exec.as_ref() == Some(exec))
                    .map(|(key, _)| *key)
                    .ok_or(Failure::NoSuchExec)
            }
        }
    }
}

/// How standard input ends for an exec: with its client.
pub(super) fn exec_stdin(streams: Option<&Streams>) -> StdinMode {
    match streams {
        Some(streams) if streams.stdin => StdinMode::OpenOnce,
        _ => StdinMode::Closed,
    }
}

fn send_signal(pid: i32, signal: i32) -> Result<(), Failure> {
    match Signal::try_from(signal) {
        Ok(signal) => kill(Pid::from_raw(pid), signal).map_err(refused),
        // Real-time signals have no name there.
        Err(_) => {
            // SAFETY: kill takes two numbers; an impossible one is refused.
            let sent = unsafe { libc::kill(pid, signal) };
            Errno::result(sent).map(drop).map_err(refused)
        }
    }
}

fn refused(errno: Errno) -> Failure {
    system(in_gos_words(errno))
}

pub(super) fn system(error: impl std::fmt::Display) -> Failure {
    Failure::System(error.to_string())
}
