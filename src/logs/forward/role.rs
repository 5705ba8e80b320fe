//! The process that forwards a container's log, `slipwayd forward-log JOB`, and how it is started.
//!
//! Its standard input is a pipe that the shim holds: the end of it is the end of the container. It then sends what is
//! left, for a while, and ends.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::{Deserialize, Serialize};

use super::Forward;
use super::sink::Sink;
use crate::base::time::Timestamp;
use crate::logs::json_file::Entry;
use crate::logs::reader::{Mode, Progress, ReadOptions, Reader};

/// The role's name on the command line.
pub const ROLE: &str = "forward-log";
/// Bytes of a log that are read at once.
const BATCH: usize = 64 * 1024;
/// How long a sink that is gone is waited for after the container's end.
const FAREWELL: Duration = Duration::from_secs(10);
/// The log is looked at at least so often.
const GLANCE: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Job {
    /// The log's current file.
    path: PathBuf,
    /// What was logged before is not sent: it was, by an earlier run.
    since: Timestamp,
    forward: Forward,
}

/// A running process that forwards a log; dropping it tells it that the container is over.
pub struct Forwarder {
    child: Child,
    _end: Option<ChildStdin>,
}

impl Forwarder {
    /// Starts to forward what is logged at `path` from now on.
    pub fn start(path: &Path, forward: &Forward) -> io::Result<Self> {
        let job = Job { path: path.to_owned(), since: Timestamp::now(), forward: forward.clone() };
        let mut command = Command::new("/proc/self/exe");
        command.arg(ROLE).arg(serde_json::to_string(&job)?);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let end = child.stdin.take();
        Ok(Self { child, _end: end })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Forwards the log that the first argument describes.
pub fn main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let job = args.next().and_then(|job| serde_json::from_str::<Job>(&job).ok());
    match job.map(run) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(_)) | None => ExitCode::FAILURE,
    }
}

fn run(job: Job) -> io::Result<()> {
    let options = ReadOptions { tail: None, since: Some(job.since), until: None, mode: Mode::Follow };
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let dir = job.path.parent().unwrap_or(Path::new("/"));
    changes
        .add_watch(dir, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
    let mut reader = Reader::open(&job.path, options)?;
    let mut sending = Sending {
        sink: Sink::new(job.forward.to.clone(), job.forward.tls.clone()),
        forward: job.forward,
        over: None,
        lost: false,
    };
    loop {
        let progress = reader.read(BATCH, &mut |entry| sending.entry(entry))?;
        if sending.lost {
            return Ok(());
        }
        match (progress, sending.over) {
            (Progress::More, _) => {}
            (Progress::AtEnd | Progress::Done, Some(_)) => return Ok(()),
            (Progress::AtEnd | Progress::Done, None) => {
                wait(&changes)?;
                sending.look_for_the_end();
            }
        }
    }
}

struct Sending {
    forward: Forward,
    sink: Sink,
    /// When the container ended.
    over: Option<Instant>,
    /// The sink was given up.
    lost: bool,
}

impl Sending {
    fn entry(&mut self, entry: &Entry<'_>) {
        for message in self.forward.encode(entry) {
            if self.lost {
                return;
            }
            let over = &mut self.over;
            let mut deadline = || {
                look(over);
                over.map(|at| at + FAREWELL)
            };
            self.lost = !self.sink.send(&message, &mut deadline);
        }
    }

    fn look_for_the_end(&mut self) {
        look(&mut self.over);
    }
}

fn look(over: &mut Option<Instant>) {
    let stdin = io::stdin();
    let mut end = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    if over.is_none() && poll(&mut end, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
        *over = Some(Instant::now());
    }
}

/// Waits until there may be more to read, or the container is over.
fn wait(changes: &Inotify) -> io::Result<()> {
    let stdin = io::stdin();
    let mut ready =
        [PollFd::new(changes.as_fd(), PollFlags::POLLIN), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::MAX);
    match poll(&mut ready, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    // Only that something happened counts.
    while changes.read_events().is_ok_and(|events| !events.is_empty()) {}
    Ok(())
}
