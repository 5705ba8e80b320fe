//! The end of a process, of the container and of the shim.

use std::fs;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launch::binary_of;
use super::poll::{INIT, Key};
use super::process::{DRAIN, End, State, TELL};
use super::report::complain;
use super::streams::Reading;
use super::{KEPT_EXITS, Shim, cgroup, creator, hooks};
use crate::base::durable;
use crate::base::sys::cgroup::Cgroup;
use crate::base::sys::memory;
use crate::crash_point;
use crate::logs::Stream;
use crate::runtime::protocol::{
    EXIT_FILE, Event, ExecExit, ExecStatus, ExitRecord, Failure, Message, Reply, SOCKET,
};

impl Shim {
    /// A process has ended: what it wrote last is read now, and waited for if something else may still write.
    pub(super) fn process_ended(&mut self, key: Key, end: End) {
        let outlived = key == INIT && self.launch.as_ref().is_some_and(|launch| !launch.own_pid_namespace);
        if outlived {
            // Without a PID namespace of its own the kernel does not end the rest of the container.
            if let Err(error) = self.cgroup.kill() {
                complain(&format!("shim: killing what is left of the container: {error}"));
            }
        }
        if key == INIT {
            // Before anything else: the group may be gone in a moment.
            self.check_oom(Some(end));
        }
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.state = State::Draining { end, deadline: Instant::now() + DRAIN };
        process.streams.let_go_of_terminal();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let log = if key == INIT { self.log.as_mut() } else { None };
            process.streams.read_output(stream, log, Reading::ToTheEnd, &self.poller);
        }
    }

    /// Does what is due: ends of output, of clients' patience.
    pub(super) fn settle(&mut self) {
        if self.trim_at.is_some_and(|at| Instant::now() >= at) {
            self.trim_at = None;
            memory::trim();
        }
        if self.over && self.exit.is_some() && self.listener.is_some() && self.checkpoint.is_none() {
            self.clean_up();
        }
        let keys: Vec<_> = self.processes.keys().copied().collect();
        for key in keys {
            let Some(process) = self.processes.get_mut(&key) else { continue };
            match process.state {
                State::Draining { end, deadline }
                    if (process.streams.outputs_ended() || Instant::now() >= deadline) =>
                {
                    self.drained(key, end);
                }
                State::Telling { deadline, .. }
                    if (self.connections.is_empty() || Instant::now() >= deadline) =>
                {
                    self.leave_untold(key);
                }
                State::Ended(_) => {
                    process.streams.give_up_stuck_clients(&self.poller);
                    if key != INIT && process.streams.clients_gone() {
                        self.processes.remove(&key);
                    }
                }
                _ => {}
            }
        }
    }

    fn drained(&mut self, key: Key, end: End) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let log = if key == INIT { self.log.as_mut() } else { None };
            process.streams.close_output(stream, log, &self.poller);
        }
        process.state = State::Telling { end, deadline: Instant::now() + TELL };
        match process.exec.clone() {
            None => {
                process.let_clients_go(&self.poller);
                self.container_ended(end);
            }
            Some(id) => {
                let exit = ExecExit { code: end.code, at: end.at };
                let kept = process.streams.take_kept();
                if kept.is_some() {
                    // It has no clients to be held, and no daemon but the one that asked for it wants to know.
                    self.processes.remove(&key);
                }
                self.tell(&Message::Event(Event::ExecExited { id, exit, kept }));
            }
        }
    }

    /// No daemon acknowledges an exec's exit: its clients are let go, and the next daemon is told.
    fn leave_untold(&mut self, key: Key) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if let (Some(id), Some(end)) = (process.exec.clone(), process.end()) {
            let exit = Some(ExecExit { code: end.code, at: end.at });
            self.untold.push(ExecStatus { id, pid: process.pid.unwrap_or_default(), exit });
            let surplus = self.untold.len().saturating_sub(KEPT_EXITS);
            self.untold.drain(..surplus);
        }
        process.let_clients_go(&self.poller);
    }

    fn container_ended(&mut self, end: End) {
        self.log = None;
        let oom_killed = self.oom.kills > 0;
        let record = ExitRecord { code: end.code, signal: end.signal, oom_killed, at: end.at };
        crash_point!("shim-before-exit-record");
        let json = serde_json::to_vec(&record).unwrap_or_default();
        if let Err(error) = durable::write_state(&self.dir.join(EXIT_FILE), &json) {
            // The daemon is told all the same; only one that comes later than this process's end would miss it.
            complain(&format!("shim: writing the exit record: {error}"));
        }
        crash_point!("shim-after-exit-record");
        self.exit = Some(record.clone());
        self.tell(&Message::Event(Event::Exited(record)));
        self.held.clear();
        self.relays.close(&self.poller);
        // A daemon that listens acknowledges at once, and has better things to wait for than this.
        if self.connections.is_empty() {
            self.remove_cgroup();
        }
    }

    /// The daemon has recorded the exit: nothing needs this shim any more but clients that still read.
    pub(super) fn acknowledged(&mut self) -> Result<Reply, Failure> {
        if self.exit.is_none() {
            return Err(Failure::System("the container has not exited".to_owned()));
        }
        // The daemon may remove the directory as soon as it is answered.
        self.farewell = self.farewell.take().or_else(|| hooks::claim(&self.dir));
        self.over = true;
        Ok(Reply::Done)
    }

    /// Removes what there is of a container that is over, and ends the connections, for which its next start waits. This
    /// process may wait for clients and hooks then.
    fn clean_up(&mut self) {
        self.listener = None;
        if let Some(program) = self.launch.as_ref().and_then(|launch| binary_of(launch, &self.dir))
            && let Err(error) = program.delete()
        {
            complain(&format!("shim: {error}"));
        }
        self.remove_cgroup();
        self.tell_end();
        self.remove_dir();
        for connection in std::mem::take(&mut self.connections).into_values() {
            connection.close(&self.poller);
        }
    }

    /// Nobody knows of this container and nobody shall: whatever there is of it goes.
    pub(super) fn abandon(&mut self) {
        if let Some(State::Starting { helper, .. }) = self.processes.get(&INIT).map(|process| &process.state)
        {
            let _ = kill(Pid::from_raw(*helper), Signal::SIGKILL);
        }
        self.processes.clear();
        self.tear_down();
        self.remove_dir();
        self.over = true;
    }

    /// Kills and removes what a start that failed may have left.
    pub(super) fn tear_down(&mut self) {
        let path = self.launch.as_ref().and_then(|launch| launch.cgroups_path.clone());
        if let Some(cgroup) = path.and_then(|path| Cgroup::of_container(&path).ok()) {
            self.cgroup = cgroup;
            if let Err(error) = self.cgroup.kill() {
                complain(&format!("shim: killing a container that did not start: {error}"));
            }
            self.reap();
            self.remove_cgroup();
        }
        creator::forget(&self.dir);
        self.tell_end();
    }

    /// The container is no more: its hooks may clean up after it.
    fn tell_end(&mut self) {
        let farewell = self.farewell.take().or_else(|| hooks::claim(&self.dir));
        self.telling_end = farewell.and_then(|claim| hooks::over(&claim));
    }

    fn remove_cgroup(&mut self) {
        if let Some(Err(error)) = self.scope().map(|scope| cgroup::end_scope(&scope)) {
            complain(&format!("shim: {error}"));
        }
        if let Err(error) = self.cgroup.remove() {
            complain(&format!("shim: removing the container's cgroup: {error}"));
        }
        self.cgroup = Cgroup::default();
    }

    /// Removes the directory, the socket first: whoever finds it connects.
    fn remove_dir(&self) {
        let _ = fs::remove_file(self.dir.join(SOCKET));
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            complain(&format!("shim: removing {}: {error}", self.dir.display()));
        }
    }
}
