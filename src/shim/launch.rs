//! Starting the container, and whatever else is to run in it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use super::command::{exec_stdin, system};
use super::log::Log;
use super::poll::{INIT, Key, Token};
use super::process::{Console, Process, State};
use super::report::{self, Outcome, start_failure};
use super::streams::{Ends, Streams};
use super::{BUSY, Shim, TRIM_AFTER, binary, checkpoint, creator, enter};
use crate::base::id_map::IdMap;
use crate::base::sys::cgroup::Cgroup;
use crate::base::sys::socket_at;
use crate::base::time::Timestamp;
use crate::crash_point;
use crate::runtime::protocol::{Exec, Failure, Launch, LogMode, Reply, Runtime, Size, StdinMode};

type Answer = Result<Reply, Failure>;

impl Shim {
    /// Begins to start the container; the answer comes when it runs.
    pub(super) fn launch(&mut self, asked: (u32, u64), launch: Launch, fds: Vec<OwnedFd>) -> Option<Answer> {
        if self.launch.is_some() {
            return Some(Err(system("the container has been launched before")));
        }
        match self.begin_launch(asked, launch, fds) {
            Ok(()) => None,
            Err(error) => {
                self.over = true;
                Some(Err(system(error)))
            }
        }
    }

    fn begin_launch(&mut self, asked: (u32, u64), launch: Launch, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut fds = fds.into_iter();
        let clients: Vec<_> = fds.by_ref().take(launch.attachments.len()).collect();
        self.held.extend(fds);
        self.relays.serve(&launch.relays, &mut self.held, &self.poller)?;
        self.log = Some(Log::open(launch.log.clone(), launch.losses.clone())?);
        let mut streams = Streams::new(INIT, launch.stdin, launch.log_mode);
        let (console, stdio) = if launch.terminal {
            (Console::Listener(socket_at::bind(&self.dir, creator::CONSOLE)?), None)
        } else {
            let (ours, theirs) = pipes(launch.stdin)?;
            streams.open_pipes(ours, &self.poller)?;
            (Console::None, Some(theirs))
        };
        give_streams(&stdio, launch.user);
        for (client, wanted) in clients.into_iter().zip(launch.attachments.iter().cloned()) {
            streams.attach(client, wanted, &self.poller)?;
        }
        let (report, writer) = report::pipe(Token::Report(INIT), &self.poller)?;
        let helper = match binary_of(&launch, &self.dir) {
            None => match (&launch.restore, stdio) {
                (Some(images), Some(stdio)) => {
                    checkpoint::restore(&self.dir, &launch, images, stdio, writer)?
                }
                (_, stdio) => creator::start(&self.dir, &launch, stdio, writer)?,
            },
            Some(program) => program.start(launch.restore.as_deref(), stdio, writer)?,
        };
        let process = Process {
            exec: None,
            pid: None,
            started: Timestamp::UNSET,
            state: State::Starting { report, helper },
            streams,
            asked: Some(asked),
            console,
            size: launch.console_size,
        };
        self.processes.insert(INIT, process);
        self.launch = Some(launch);
        Ok(())
    }

    /// Begins to start an exec; the answer comes when it runs.
    pub(super) fn exec(&mut self, asked: (u32, u64), exec: Exec, fds: Vec<OwnedFd>) -> Option<Answer> {
        let Some(init) = self.processes.get(&INIT).and_then(Process::living) else {
            return Some(Err(Failure::NotRunning));
        };
        match self.begin_exec(init, asked, exec, fds.into_iter().next()) {
            Ok(()) => None,
            Err(error) => Some(Err(system(error))),
        }
    }

    fn begin_exec(
        &mut self,
        init: i32,
        asked: (u32, u64),
        exec: Exec,
        client: Option<OwnedFd>,
    ) -> io::Result<()> {
        let key = self.next_key;
        self.next_key += 1;
        let stdin = exec_stdin(exec.streams.as_ref());
        let mut streams = Streams::new(key, stdin, LogMode::Blocking);
        let stdio = match (exec.process.terminal() == Some(true), &client) {
            (true, _) => None,
            (false, None) if exec.keeps.is_none() => Some(nowhere()?),
            (false, _) => {
                let (ours, theirs) = pipes(stdin)?;
                streams.open_pipes(ours, &self.poller)?;
                Some(theirs)
            }
        };
        if let Some(most) = exec.keeps {
            streams.keep(most);
        }
        if let (Some(client), Some(wanted)) = (client, exec.streams) {
            streams.attach(client, wanted, &self.poller)?;
        }
        let (report, writer) = report::pipe(Token::Report(key), &self.poller)?;
        let (console, helper) = self.enter(init, &exec.process, exec.console_size, stdio, writer)?;
        let process = Process {
            exec: Some(exec.id),
            pid: None,
            started: Timestamp::UNSET,
            state: State::Starting { report, helper },
            streams,
            asked: Some(asked),
            console,
            size: exec.console_size,
        };
        self.processes.insert(key, process);
        Ok(())
    }

    fn enter(
        &self,
        init: i32,
        process: &oci_spec::runtime::Process,
        size: Option<Size>,
        stdio: Option<[OwnedFd; 3]>,
        report: OwnedFd,
    ) -> io::Result<(Console, i32)> {
        give_streams(&stdio, self.host_uid(init, process.user().uid()));
        if let Some(program) = self.launch.as_ref().and_then(|launch| binary_of(launch, &self.dir)) {
            let name = format!("exec-{}", self.next_key);
            let socket = format!("{name}.sock");
            let (console, socket) = if stdio.is_none() {
                (Console::Listener(socket_at::bind(&self.dir, &socket)?), Some(socket.as_str()))
            } else {
                (Console::None, None)
            };
            return Ok((console, program.exec(&name, process, stdio, socket, report)?));
        }
        let (console, stdio) = match stdio {
            Some(fds) => (Console::None, enter::Stdio::Pipes(fds)),
            None => {
                let (ours, theirs) = UnixStream::pair()?;
                (Console::Socket(ours.into()), enter::Stdio::Terminal(theirs.into()))
            }
        };
        let entry = enter::Entry { dir: &self.dir, init, cgroup: &self.cgroup, process, size };
        Ok((console, enter::start(&entry, stdio, report)?))
    }

    /// The host's number for a user of the container.
    fn host_uid(&self, init: i32, uid: u32) -> u32 {
        if !self.launch.as_ref().is_some_and(|launch| launch.in_user_namespace) {
            return uid;
        }
        let text = fs::read_to_string(format!("/proc/{init}/uid_map")).ok();
        let map = text.and_then(|text| IdMap::parse(&text));
        // One that the namespace lacks is refused when it is set.
        map.and_then(|map| map.to_host(uid).ok()).unwrap_or(uid)
    }

    /// A process that is being started told something.
    pub(super) fn report_ready(&mut self, key: Key) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let State::Starting { report, .. } = &mut process.state else { return };
        let Some(outcome) = report.read() else { return };
        match std::mem::replace(&mut process.state, State::Running) {
            State::Starting { report, .. } => report.close(&self.poller),
            other => process.state = other,
        }
        match started(outcome) {
            Ok((pid, cgroup)) => self.process_started(key, pid, &cgroup),
            Err(failure) => self.process_failed(key, failure),
        }
    }

    fn process_started(&mut self, key: Key, pid: i32, cgroup: &str) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.pid = Some(pid);
        process.started = Timestamp::now();
        if !matches!(process.console, Console::None) {
            let size = process.size;
            let opened = process.console.receive();
            let opened = opened.and_then(|master| process.streams.open_terminal(master, size, &self.poller));
            if let Err(error) = opened {
                report::complain(&format!("shim: no terminal: {error}"));
            }
        }
        let (asked, at) = (process.asked.take(), process.started);
        crash_point!("shim-started");
        if key == INIT {
            self.cgroup = Cgroup::from_proc(cgroup).unwrap_or_default();
        }
        if let Some(asked) = asked {
            self.reply(asked, Ok(Reply::Started { pid, at }));
        }
        if key == INIT {
            let waiting: Vec<_> = self.connections.keys().copied().collect();
            waiting
                .into_iter()
                .filter(|id| Some(*id) != asked.map(|(id, _)| id))
                .for_each(|id| self.greet(id));
            self.watch_oom();
        }
        let now = Instant::now();
        let busy = self.last_start.replace(now).is_some_and(|before| now.duration_since(before) < BUSY);
        self.trim_at = Some(now + if busy { BUSY } else { TRIM_AFTER });
        self.claim(key, pid);
    }

    /// The process may have ended before its start was known.
    fn claim(&mut self, key: Key, pid: i32) {
        if let Some(at) = self.unclaimed.iter().position(|(ended, _)| *ended == pid) {
            let (_, end) = self.unclaimed.swap_remove(at);
            self.process_ended(key, end);
        }
        if !self.processes.values().any(|process| matches!(process.state, State::Starting { .. })) {
            self.unclaimed.clear();
        }
    }

    fn process_failed(&mut self, key: Key, failure: Failure) {
        let Some(mut process) = self.processes.remove(&key) else { return };
        process.streams.refuse(&failure, process.exec.as_ref(), &self.poller);
        if key == INIT {
            // First: once the failure is told the container may be started again.
            self.tear_down();
            self.over = true;
        }
        if let Some(asked) = process.asked.take() {
            self.reply(asked, Err(failure));
        }
    }
}

fn started(outcome: Outcome) -> Result<(i32, String), Failure> {
    match outcome {
        Outcome { failure: Some(failure), .. } => Err(failure),
        Outcome { process: Some(process), .. } => Ok(process),
        Outcome { process: None, failure: None } => Err(start_failure("no process: unknown".to_owned())),
    }
}

/// The runtime program that the container was launched with; none for the embedded one.
pub(super) fn binary_of<'a>(launch: &'a Launch, dir: &'a Path) -> Option<binary::Program<'a>> {
    match &launch.runtime {
        Runtime::Embedded => None,
        Runtime::Binary { path, args } => {
            let systemd_cgroup = launch.systemd_cgroup;
            Some(binary::Program { path, args, dir, id: &launch.id, systemd_cgroup })
        }
    }
}

/// Lets a process open its own streams through /dev/stdout and the like. /dev/null stays root's; where the owner cannot
/// be set, the streams can still be used. Done here, since who is in a user namespace can give away only what is in it.
fn give_streams(stdio: &Option<[OwnedFd; 3]>, uid: u32) {
    let is_pipe = |fd: &&OwnedFd| {
        nix::sys::stat::fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO)
    };
    for fd in stdio.iter().flatten().filter(|fd| uid != 0 && is_pipe(fd)) {
        let _ = nix::unistd::fchown(fd, Some(uid.into()), None);
    }
}

/// Pipes for a process without a terminal: the shim's ends and the process's.
pub(super) fn pipes(stdin: StdinMode) -> io::Result<(Ends, [OwnedFd; 3])> {
    let (their_stdin, stdin) = match stdin {
        StdinMode::Closed => (fs::File::open("/dev/null")?.into(), None),
        StdinMode::Open | StdinMode::OpenOnce => {
            let (reader, writer) = io::pipe()?;
            (OwnedFd::from(reader), Some(OwnedFd::from(writer)))
        }
    };
    let (stdout, their_stdout) = io::pipe()?;
    let (stderr, their_stderr) = io::pipe()?;
    let ours = Ends { stdin, stdout: Some(stdout.into()), stderr: Some(stderr.into()) };
    Ok((ours, [their_stdin, their_stdout.into(), their_stderr.into()]))
}

/// The streams of an exec that nobody is connected to.
fn nowhere() -> io::Result<[OwnedFd; 3]> {
    let open = || fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    Ok([open()?, open()?, open()?])
}
