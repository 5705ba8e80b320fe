//! The pipe on which a process that is being started tells how far it came.
//!
//! Its writing end is open until the program runs: the end of the pipe without a failure on it means that it does.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use serde::{Deserialize, Serialize};

use super::client::set_nonblocking;
use super::poll::{Poller, Token};
use super::words;
use crate::base::errno::in_gos_words;
use crate::runtime::protocol::{Failure, StartFailure};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The process exists; `cgroup` is the text of its `/proc/PID/cgroup`.
    Process {
        pid: i32,
        cgroup: String,
    },
    Failure(Failure),
    /// Something that went wrong on the way to a failure.
    Hint(String),
}

/// The writing end, in the processes that start the program.
#[derive(Clone, Copy, Debug)]
pub struct Reporter(RawFd);

impl Reporter {
    /// Writes to `fd`, which stays open without its owner's help in a forked process.
    pub fn new(fd: &OwnedFd) -> Self {
        Self(fd.as_raw_fd())
    }

    /// The descriptor, to be kept open.
    pub fn fd(self) -> RawFd {
        self.0
    }

    /// Tells that the process exists.
    pub fn process(self, pid: i32, cgroup: String) {
        self.write(&Line::Process { pid, cgroup });
    }

    /// Tells why there will be no program. The first failure counts: later ones are its consequences.
    pub fn failure(self, failure: Failure) {
        self.write(&Line::Failure(failure));
    }

    /// Tells what a failure that may follow came from: the cause comes before its consequences.
    pub fn hint(self, hint: String) {
        self.write(&Line::Hint(hint));
    }

    fn write(self, line: &Line) {
        let mut text = serde_json::to_string(line).unwrap_or_default();
        text.push('\n');
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // SAFETY: the bytes are ours and the kernel only reads them.
            let count = unsafe { libc::write(self.0, rest.as_ptr().cast(), rest.len()) };
            match Errno::result(count) {
                Ok(count) => rest = &rest[count as usize..],
                Err(Errno::EINTR) => {}
                // The shim is gone; there is nobody to tell.
                Err(_) => return,
            }
        }
    }
}

/// The reading end, in the shim.
pub struct Report {
    fd: OwnedFd,
    bytes: Vec<u8>,
}

/// What a whole report says.
#[derive(Debug)]
pub struct Outcome {
    pub process: Option<(i32, String)>,
    pub failure: Option<Failure>,
}

/// Makes the pipe and watches its end.
pub fn pipe(token: Token, poller: &Poller) -> io::Result<(Report, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    set_nonblocking(&reader)?;
    poller.add(&reader, token, EpollFlags::EPOLLIN)?;
    Ok((Report { fd: reader, bytes: Vec::new() }, writer))
}

impl Report {
    /// Reads what is there; the outcome once the pipe has ended.
    pub fn read(&mut self) -> Option<Outcome> {
        let mut buffer = [0; 4096];
        loop {
            match nix::unistd::read(&self.fd, &mut buffer) {
                Ok(0) => return Some(self.outcome()),
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(Errno::EAGAIN) => return None,
                Err(Errno::EINTR) => {}
                Err(_) => return Some(self.outcome()),
            }
        }
    }

    fn outcome(&self) -> Outcome {
        let mut outcome = Outcome { process: None, failure: None };
        let mut hints = Vec::new();
        for line in self.bytes.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Line::Process { pid, cgroup }) => outcome.process = Some((pid, cgroup)),
                // What the library says after a failure is that there was one.
                Ok(Line::Failure(failure)) => {
                    outcome.failure = outcome.failure.or_else(|| Some(explain(failure, &hints)));
                }
                Ok(Line::Hint(text)) => hints.push(text),
                Err(_) => {}
            }
        }
        if outcome.process.is_none() && outcome.failure.is_none() {
            outcome.failure = Some(Failure::Start {
                kind: StartFailure::Other,
                message: "the runtime ended without a word: unknown".to_owned(),
            });
        }
        outcome
    }

    /// Stops watching the pipe.
    pub fn close(self, poller: &Poller) {
        poller.remove(&self.fd);
    }
}

/// A failure whose text says nothing of the cause, with the cause.
fn explain(failure: Failure, hints: &[String]) -> Failure {
    match (failure, hints.first()) {
        (Failure::Start { message, kind: StartFailure::Other }, Some(hint)) => {
            let text = message.strip_suffix(": unknown").unwrap_or(&message);
            let with_hint = || format!("{text}: {}: unknown", errno_words(hint));
            start_failure(words::of_hints(hints).unwrap_or_else(with_hint))
        }
        (failure, _) => failure,
    }
}

/// Replaces the names of common error numbers, as Rust's debug format has them, by what clients look for.
fn errno_words(text: &str) -> String {
    [Errno::ENOENT, Errno::EACCES, Errno::ENOTDIR]
        .into_iter()
        .fold(text.to_owned(), |text, errno| text.replace(&format!("{errno:?}"), &in_gos_words(errno)))
        .replace("No such file or directory", "no such file or directory")
}

/// A failure to start, of the kind that its text stands for: what clients read out of dockerd's messages.
pub fn start_failure(message: String) -> Failure {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let kind = if says(&["executable file not found", "no such file or directory", "not a directory"]) {
        StartFailure::NotFound
    } else if says(&["permission denied", "is a directory"]) {
        StartFailure::PermissionDenied
    } else {
        StartFailure::Other
    };
    Failure::Start { kind, message }
}

/// Writes to standard error what a program's start is past reporting.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
