//! One process of the container: its first or an exec, from the start to the end of its output.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;

use super::poll::Poller;
use super::report::Report;
use super::streams::Streams;
use crate::base::id::ExecId;
use crate::base::time::Timestamp;
use crate::runtime::protocol::Size;

/// How long output is waited for after the process has ended, if something else keeps it open (dockerd waits as long).
pub const DRAIN: Duration = Duration::from_secs(2);
/// How long a daemon may take to acknowledge an exec's exit before the exec's clients are let go all the same.
pub const TELL: Duration = Duration::from_secs(1);

/// The process.
pub struct Process {
    /// Absent for the container's first process.
    pub exec: Option<ExecId>,
    pub pid: Option<i32>,
    pub started: Timestamp,
    pub state: State,
    pub streams: Streams,
    /// Who asked for it: connection and number of the request.
    pub asked: Option<(u32, u64)>,
    pub console: Console,
    pub size: Option<Size>,
}

/// How far the process is.
pub enum State {
    Starting {
        report: Report,
        /// The helper that starts it.
        helper: i32,
    },
    Running,
    /// It has ended; its output has not.
    Draining {
        end: End,
        deadline: Instant,
    },
    /// All is read; its clients are held until the daemon knows of the exit, which they may ask it for as soon as
    /// their streams have ended.
    Telling {
        end: End,
        deadline: Instant,
    },
    Ended(End),
}

/// Where the terminal comes from, if there is one.
pub enum Console {
    None,
    /// A connection to this socket brings it.
    Listener(UnixListener),
    /// It comes over this socket.
    Socket(OwnedFd),
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// As a shell counts.
    pub code: i32,
    pub signal: Option<i32>,
    pub at: Timestamp,
}

impl End {
    /// The end that `status` tells, with the process; `None` if it has not ended.
    pub fn of(status: WaitStatus) -> Option<(i32, Self)> {
        let at = Timestamp::now();
        match status {
            WaitStatus::Exited(pid, code) => Some((pid.as_raw(), Self { code, signal: None, at })),
            WaitStatus::Signaled(pid, signal, _) => {
                let signal = signal as i32;
                Some((pid.as_raw(), Self { code: 128 + signal, signal: Some(signal), at }))
            }
            _ => None,
        }
    }
}

impl Console {
    /// The terminal's master. The runtime has sent it before the program ran.
    pub fn receive(&mut self) -> io::Result<OwnedFd> {
        use std::os::fd::AsFd;
        let socket = match std::mem::replace(self, Self::None) {
            Self::None => return Err(io::ErrorKind::NotFound.into()),
            Self::Listener(listener) => {
                listener.set_nonblocking(true)?;
                OwnedFd::from(listener.accept()?.0)
            }
            Self::Socket(socket) => socket,
        };
        super::client::set_nonblocking(&socket)?;
        let mut fds = std::collections::VecDeque::new();
        // The message is the terminal's name or anything else; only the descriptor counts.
        crate::base::sys::fdpass::receive(socket.as_fd(), &mut [0; 4096], &mut fds)?;
        fds.pop_front().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Process {
    /// Its process id while it can be signalled.
    pub fn living(&self) -> Option<i32> {
        match self.state {
            State::Running => self.pid,
            _ => None,
        }
    }

    /// How it ended, once it has.
    pub fn end(&self) -> Option<End> {
        match self.state {
            State::Draining { end, .. } | State::Telling { end, .. } | State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Lets clients see the end of the streams.
    pub fn let_clients_go(&mut self, poller: &Poller) {
        if let State::Telling { end, .. } = self.state {
            self.state = State::Ended(end);
            self.streams.end_clients(poller);
        }
    }
}
