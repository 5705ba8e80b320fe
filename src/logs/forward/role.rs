//! The process that forwards a container's log, `slipwayd forward-log`, and how it is started.
//!
//! Its standard input is a pipe that the shim holds: the end of it is the end of the container. It then sends what is
//! left, for a while, and ends. The sink may take as long as it likes for anything: a thread of its own waits for it,
//! and this one keeps the time, reads the log and counts what is lost.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::{Deserialize, Serialize};

use super::Forward;
use super::sender::{Batch, Sender};
use crate::base::time::Timestamp;
use crate::logs::json_file::Mark;
use crate::logs::losses::{Kind, Place, Tally};
use crate::logs::reader::{Mode, Progress, ReadOptions, Reader};

/// The role's name on the command line.
pub const ROLE: &str = "forward-log";
/// Bytes of a log that are read at once.
const BATCH: usize = 64 * 1024;
/// How long a sink is waited for after the container's end, whatever it takes meanwhile.
const FAREWELL: Duration = Duration::from_secs(10);
/// The log is looked at at least so often.
const GLANCE: Duration = Duration::from_secs(1);

/// The variable that holds a process's [`Job`]: values of the container's variables may be in it, which are nobody
/// else's to read; arguments are everybody's.
const JOB: &str = "SLIPWAY_FORWARD";

#[derive(Serialize, Deserialize)]
struct Job {
    /// The log's current file.
    path: PathBuf,
    /// What was logged before is not sent: it was, by an earlier run.
    since: Timestamp,
    /// Where that is in what the shim writes.
    from: Mark,
    forward: Forward,
    /// Who hears of what is lost.
    losses: Option<Place>,
}

/// A running process that forwards a log; dropping it tells it that the container is over.
pub struct Forwarder {
    child: Child,
    _end: Option<ChildStdin>,
}

impl Forwarder {
    /// Starts to forward what is logged at `path` from now on: after `from` of what its writer writes.
    pub fn start(path: &Path, from: Mark, forward: &Forward, losses: Option<&Place>) -> io::Result<Self> {
        let job = Job {
            path: path.to_owned(),
            since: Timestamp::now(),
            from,
            forward: forward.clone(),
            losses: losses.cloned(),
        };
        let mut command = Command::new("/proc/self/exe");
        command.arg(ROLE).env(JOB, serde_json::to_string(&job)?);
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

/// Forwards the log that the environment describes.
pub fn main() -> ExitCode {
    let job = std::env::var(JOB).ok().and_then(|job| serde_json::from_str::<Job>(&job).ok());
    match job.map(|job| run(job, io::stdin().as_fd(), FAREWELL)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(_)) | None => ExitCode::FAILURE,
    }
}

/// Forwards a log until `farewell` after the end of the pipe `end`.
fn run(job: Job, end: BorrowedFd<'_>, farewell: Duration) -> io::Result<()> {
    let options = ReadOptions { tail: None, since: Some(job.since), until: None, mode: Mode::Follow };
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let dir = job.path.parent().unwrap_or(Path::new("/"));
    changes
        .add_watch(dir, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
    let mut forwarding = Forwarding {
        reader: Reader::open(&job.path, options)?.counting_from(job.from),
        sender: Sender::start(job.forward.to.clone(), job.forward.tls.clone())?,
        forward: job.forward,
        lost: Tally::new(job.losses, Kind::NotSent),
        life: Life { end, farewell, over: None },
    };
    loop {
        // What was written before the end is there after it.
        let last = forwarding.life.over.is_some();
        match forwarding.batch()? {
            Progress::More => {}
            Progress::AtEnd | Progress::Done if last => break,
            Progress::AtEnd | Progress::Done => {
                wait(&changes, end)?;
                forwarding.life.look();
            }
        }
    }
    forwarding.finish();
    Ok(())
}

struct Forwarding<'a> {
    reader: Reader,
    forward: Forward,
    sender: Sender,
    lost: Tally,
    life: Life<'a>,
}

impl Forwarding<'_> {
    /// Sends what can be read at once; when the time is over it is only counted.
    fn batch(&mut self) -> io::Result<Progress> {
        let mut batch = Batch::new();
        let progress = self.reader.read(BATCH, &mut |entry| batch.push(self.forward.encode(entry)))?;
        self.lost.add(self.reader.take_missed());
        let count = batch.len() as u64;
        if count > 0 {
            let sent = if self.life.is_expired() { 0 } else { self.send(batch) };
            self.lost.add(count - sent.min(count));
        }
        Ok(progress)
    }

    /// How many entries of the batch were sent in time.
    fn send(&mut self, batch: Batch) -> u64 {
        self.sender.begin(batch);
        while !self.sender.is_done_within(self.life.patience()) {
            self.life.look();
            if self.life.is_expired() {
                break;
            }
            self.lost.tell_if_due();
        }
        self.sender.take_sent()
    }

    /// Waits until what was sent has left.
    fn finish(self) {
        if !self.life.is_expired() {
            self.sender.end_within(self.life.patience());
        }
    }
}

/// How long there is something to do.
struct Life<'a> {
    /// A pipe that ends with the container.
    end: BorrowedFd<'a>,
    farewell: Duration,
    /// When the container ended.
    over: Option<Instant>,
}

impl Life<'_> {
    fn look(&mut self) {
        let mut end = [PollFd::new(self.end, PollFlags::POLLIN)];
        if self.over.is_none() && poll(&mut end, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
            self.over = Some(Instant::now());
        }
    }

    fn is_expired(&self) -> bool {
        self.over.is_some_and(|at| at.elapsed() >= self.farewell)
    }

    /// How long something may be waited for before this is looked at again.
    fn patience(&self) -> Duration {
        self.over.map_or(GLANCE, |at| self.farewell.saturating_sub(at.elapsed()))
    }
}

/// Waits until there may be more to read, or the container is over.
fn wait(changes: &Inotify, end: BorrowedFd<'_>) -> io::Result<()> {
    let mut ready = [PollFd::new(changes.as_fd(), PollFlags::POLLIN), PollFd::new(end, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::MAX);
    match poll(&mut ready, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    // Only that something happened counts.
    while changes.read_events().is_ok_and(|events| !events.is_empty()) {}
    Ok(())
}

#[cfg(test)]
mod tests;
