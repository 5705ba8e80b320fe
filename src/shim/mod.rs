//! The shim: one process per container, single-threaded, that outlives the daemon.
//!
//! It is the parent of the container (and of whatever is orphaned in it), the owner of its streams, the writer of its
//! log and the recorder of its exit. [`Shim::run`] is its loop; nothing in it waits for a client, a daemon or the
//! container. Order at the end: reap, drain the output, `exit.json` by rename, tell the daemon, wait for its
//! acknowledgement: disk before message.
//! It imports `base`, `logs` and the runtime's protocol only; there is no tokio here.

mod binary;
mod cgroup;
mod checkpoint;
mod client;
mod command;
mod confine;
mod connection;
mod creator;
mod criu;
mod detach;
mod devices;
mod enter;
mod exit;
mod fork;
pub mod hooks;
mod input;
mod launch;
mod log;
mod oom;
pub mod pid1;
mod poll;
mod process;
mod program;
mod relay;
mod report;
mod rlimit;
mod streams;
mod sysctl;
mod trace;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};

use crate::base::id::ContainerId;
use crate::base::sys::cgroup::Cgroup;
use crate::logs::Stream;
use crate::runtime::protocol::{Event, ExecStatus, ExitRecord, Launch, Message, Status, VERSION};
use connection::Connection;
use log::Log;
use poll::{INIT, Key, Poller, Token};
use process::{End, Process, State};
use streams::{ClientEvent, Reading};

/// The first argument that makes this program a shim.
pub const ROLE: &str = "shim";
/// The daemon's connection that the shim is started with, and its socket.
const FIRST_CONNECTION: i32 = 3;
const LISTENER: i32 = 4;
/// Exits of execs that are kept for a daemon to come back; older ones are forgotten.
const KEPT_EXITS: usize = 256;
/// How long after a start memory is given back: containers that end at once do not pay for it.
const TRIM_AFTER: Duration = Duration::from_millis(300);
/// Where one start comes within this time after another the memory will soon be needed again: it is kept until nothing
/// was started for as long.
const BUSY: Duration = Duration::from_secs(10);
/// How often clients that hold up the shim's end are looked at.
const LINGER: Duration = Duration::from_secs(1);

/// The role `slipwayd shim ID DIR`: descriptor 3 is the daemon's connection, 4 the socket to listen on.
pub fn run(args: &[String]) -> ExitCode {
    let [id, dir] = args else {
        report::complain("usage: slipwayd shim ID DIRECTORY");
        return ExitCode::from(2);
    };
    // The container's number is for people who look at the process list.
    let outcome = id
        .parse::<ContainerId>()
        .map_err(io::Error::other)
        .and_then(|_| Shim::new(PathBuf::from(dir))?.run());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("shim: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// All a shim knows.
struct Shim {
    dir: PathBuf,
    poller: Poller,
    signals: SignalFd,
    /// Gone once everything is cleaned up.
    listener: Option<UnixListener>,
    connections: BTreeMap<u32, Connection>,
    next_connection: u32,
    /// What the container was launched with.
    launch: Option<Launch>,
    /// Descriptors that live as long as the container: its published ports.
    held: Vec<OwnedFd>,
    relays: relay::Relays,
    processes: BTreeMap<Key, Process>,
    checkpoint: Option<checkpoint::Writing>,
    next_key: Key,
    /// Ends of processes that nobody knew yet: an exec may end before its start has been read.
    unclaimed: Vec<(i32, End)>,
    log: Option<Log>,
    cgroup: Cgroup,
    oom: oom::Oom,
    exit: Option<ExitRecord>,
    /// Exits of execs that no daemon was told.
    untold: Vec<ExecStatus>,
    /// What others are to be told of the container's end.
    farewell: Option<hooks::Claim>,
    /// The helper that tells others of the container's end.
    telling_end: Option<i32>,
    /// When to give back the memory that starting processes took, and when the last one was started.
    trim_at: Option<Instant>,
    last_start: Option<Instant>,
    /// True once the daemon has recorded the exit, or there is nothing to record.
    over: bool,
}

impl Shim {
    fn new(dir: PathBuf) -> io::Result<Self> {
        // SAFETY: the launcher gives these two descriptors to nobody else in this process.
        let (first, listener) =
            unsafe { (OwnedFd::from_raw_fd(FIRST_CONNECTION), OwnedFd::from_raw_fd(LISTENER)) };
        for fd in [&first, &listener] {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        }
        let _ = nix::sys::prctl::set_name(c"slipway-shim");
        nix::sys::prctl::set_child_subreaper(true)?;
        let mut mask = SigSet::empty();
        // A session of its own gets no terminal's signals; TERM and INT are for whoever stops a machine, and the
        // shim must outlive its container.
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let poller = Poller::new()?;
        poller.add(&signals, Token::Signals, EpollFlags::EPOLLIN)?;
        client::set_nonblocking(&listener)?;
        poller.add(&listener, Token::Listener, EpollFlags::EPOLLIN)?;
        let mut shim = Self {
            dir,
            poller,
            signals,
            listener: Some(listener.into()),
            connections: BTreeMap::new(),
            next_connection: 0,
            launch: None,
            held: Vec::new(),
            relays: relay::Relays::default(),
            processes: BTreeMap::new(),
            checkpoint: None,
            next_key: INIT + 1,
            unclaimed: Vec::new(),
            log: None,
            cgroup: Cgroup::default(),
            oom: oom::Oom::default(),
            exit: None,
            untold: Vec::new(),
            farewell: None,
            telling_end: None,
            trim_at: None,
            last_start: None,
            over: false,
        };
        shim.connect(first)?;
        Ok(shim)
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        while !self.over || self.lingers() {
            self.poller.wait(self.timeout(), &mut events)?;
            for (token, flags) in events.drain(..) {
                self.handle(token, flags);
            }
            self.settle();
        }
        Ok(())
    }

    /// True while clients still take output of a container that is over, or wait for its checkpoint, or hooks run.
    fn lingers(&self) -> bool {
        self.checkpoint.is_some()
            || self.telling_end.is_some()
            || self.processes.values().any(|process| !process.streams.clients_gone())
    }

    fn timeout(&self) -> Option<Duration> {
        let drains = self.processes.values().filter_map(|process| match &process.state {
            State::Draining { deadline, .. } | State::Telling { deadline, .. } => {
                Some(deadline.saturating_duration_since(Instant::now()))
            }
            State::Ended(_) if !process.streams.clients_gone() => Some(LINGER),
            _ => None,
        });
        drains.chain(self.trim_at.map(|at| at.saturating_duration_since(Instant::now()))).min()
    }

    fn handle(&mut self, token: Token, flags: EpollFlags) {
        match token {
            Token::Signals => self.reap(),
            Token::Listener => self.accept(),
            Token::Oom => self.oom_ready(),
            Token::Connection(id) => self.connection_ready(id, flags),
            Token::Report(key) => self.report_ready(key),
            Token::Checkpoint => self.checkpoint_ready(),
            Token::Output(key, stream) => self.output_ready(key, stream),
            Token::Input(key) => {
                if let Some(process) = self.processes.get_mut(&key) {
                    process.streams.input_ready(&self.poller);
                }
            }
            Token::Client(key, client) => self.client_ready(key, client, flags),
            Token::Relay(id, which) => self.relays.ready(id, which, flags, &self.poller),
        }
    }

    fn output_ready(&mut self, key: Key, stream: Stream) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let reading = if process.end().is_some() { Reading::ToTheEnd } else { Reading::AtPace };
        let log = if key == INIT { self.log.as_mut() } else { None };
        process.streams.read_output(stream, log, reading, &self.poller);
    }

    fn client_ready(&mut self, key: Key, client: u16, flags: EpollFlags) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if process.streams.client_ready(client, flags, &self.poller) == Some(ClientEvent::Detached) {
            let exec = process.exec.clone();
            self.tell(&Message::Event(Event::Detached { exec }));
        }
    }

    /// Collects every child that has ended.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match End::of(status) {
                Some((pid, end)) => self.ended(pid, end),
                None => break,
            }
        }
    }

    fn ended(&mut self, pid: i32, end: End) {
        if self.telling_end == Some(pid) {
            self.telling_end = None;
            return;
        }
        let known =
            self.processes.iter().find(|(_, process)| process.living() == Some(pid)).map(|(key, _)| *key);
        match known {
            Some(key) => self.process_ended(key, end),
            // Starting processes tell their numbers only when they have started.
            None if self.processes.values().any(|p| matches!(p.state, State::Starting { .. })) => {
                self.unclaimed.push((pid, end));
            }
            None => {
                if let Some(log) = &mut self.log {
                    log.child_ended(pid);
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((socket, _))) = self.listener.as_ref().map(UnixListener::accept) {
            if let Err(error) = self.connect(socket.into()) {
                report::complain(&format!("shim: a connection failed: {error}"));
            }
        }
    }

    fn connect(&mut self, socket: OwnedFd) -> io::Result<()> {
        let id = self.next_connection;
        self.next_connection += 1;
        let connection = Connection::new(socket, Token::Connection(id), &self.poller)?;
        self.connections.insert(id, connection);
        // While the container is being started its status says nothing that lasts.
        if !matches!(self.processes.get(&INIT), Some(Process { state: State::Starting { .. }, .. })) {
            self.greet(id);
        }
        Ok(())
    }

    /// Tells a daemon everything.
    fn greet(&mut self, id: u32) {
        let status = Message::Status(self.status());
        self.send(id, &status);
    }

    fn status(&mut self) -> Status {
        let unfinished = self.processes.values().filter(|process| !matches!(process.state, State::Ended(_)));
        let running = unfinished.filter_map(|process| {
            Some(ExecStatus { id: process.exec.clone()?, pid: process.pid?, exit: None })
        });
        let mut execs: Vec<_> = running.collect();
        execs.append(&mut self.untold);
        let init = self.processes.get(&INIT);
        Status {
            version: VERSION,
            pid: init.and_then(|process| process.pid),
            started: init.map_or(crate::base::time::Timestamp::UNSET, |process| process.started),
            exit: self.exit.clone(),
            oom_kills: self.oom.kills,
            execs,
            dropped: init.map_or(0, |process| process.streams.dropped),
        }
    }

    fn send(&mut self, id: u32, message: &Message) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.send(message, &self.poller).is_err() {
            self.disconnect(id);
        }
    }

    /// Sends a message to every daemon that is connected (there is one, but for the moment when one takes over).
    fn tell(&mut self, message: &Message) {
        let all: Vec<_> = self.connections.keys().copied().collect();
        all.into_iter().for_each(|id| self.send(id, message));
    }

    fn disconnect(&mut self, id: u32) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.close(&self.poller);
        }
        // Whoever asked for the container is gone before it ran: nobody knows of it, so it must not run. Without a
        // launch there is nothing to wait for either.
        let init = self.processes.get(&INIT);
        let starting = init.is_some_and(|p| matches!(p.state, State::Starting { .. }));
        let asked = init.and_then(|process| process.asked);
        if self.launch.is_none() || (starting && asked.is_some_and(|(connection, _)| connection == id)) {
            self.abandon();
        }
    }
}
