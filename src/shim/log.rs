//! The container's log, written so that trouble with it never becomes the container's.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::base::time::Timestamp;
use crate::logs::Stream;
use crate::logs::forward::{Forward, Forwarder};
use crate::logs::json_file::Writer;
use crate::logs::losses::{Kind, Place, Tally};
use crate::logs::options::LogTarget;

/// A process that follows the log, and what is needed to start it again.
struct Forwarding {
    path: PathBuf,
    forward: Forward,
    process: Forwarder,
    since: Instant,
}

/// A process that forwards and ends sooner than this would end as soon again.
const LEAST_LIFE: Duration = Duration::from_secs(1);

/// The log, or none.
pub struct Log {
    writer: Option<Writer>,
    /// Sends what is written elsewhere.
    forwarding: Option<Forwarding>,
    losses: Option<Place>,
    unwritten: Tally,
    unshown: Tally,
    /// Said once, not per line: a full disk stays full for a while.
    complained: bool,
}

impl Log {
    /// Opens what `target` names; what is lost is told to `losses`.
    pub fn open(target: LogTarget, losses: Option<Place>) -> io::Result<Self> {
        let (writer, forwarding) = match target {
            LogTarget::None => (None, None),
            LogTarget::JsonFile { path, options } => (Some(Writer::open(&path, options)?), None),
            LogTarget::Forwarded { path, options, forward } => {
                let writer = Writer::open(&path, options)?;
                let process = Forwarder::start(&path, writer.end(), &forward, losses.as_ref())?;
                (Some(writer), Some(Forwarding { path, forward, process, since: Instant::now() }))
            }
        };
        Ok(Self {
            writer,
            forwarding,
            unwritten: Tally::new(losses.clone(), Kind::NotWritten),
            unshown: Tally::new(losses.clone(), Kind::NotShown),
            losses,
            complained: false,
        })
    }

    /// A child of the shim has ended: if it was the one that forwards the log, another takes its place.
    pub fn child_ended(&mut self, pid: i32) {
        let (Some(forwarding), Some(writer)) = (&mut self.forwarding, &self.writer) else { return };
        if i64::from(forwarding.process.pid()) != i64::from(pid) {
            return;
        }
        if forwarding.since.elapsed() < LEAST_LIFE {
            eprintln!("forwarding the container's log failed at once: given up");
            self.forwarding = None;
            return;
        }
        forwarding.since = Instant::now();
        let (path, forward) = (&forwarding.path, &forwarding.forward);
        match Forwarder::start(path, writer.end(), forward, self.losses.as_ref()) {
            Ok(process) => forwarding.process = process,
            Err(error) => eprintln!("forwarding the container's log: {error}"),
        }
    }

    /// Logs output read at `time`.
    pub fn write(&mut self, stream: Stream, time: Timestamp, bytes: &[u8]) {
        if let Some(writer) = &mut self.writer {
            let outcome = writer.write(stream, time, bytes);
            self.check(outcome);
        }
    }

    /// Logs the beginning of a line that gets no end.
    pub fn finish(&mut self, stream: Stream, time: Timestamp) {
        if let Some(writer) = &mut self.writer {
            let outcome = writer.finish(stream, time);
            self.check(outcome);
        }
    }

    /// So many bytes were not sent to clients that were behind.
    pub fn not_shown(&mut self, bytes: u64) {
        self.unshown.add(bytes);
    }

    fn check(&mut self, outcome: io::Result<()>) {
        self.unwritten.add(self.writer.as_mut().map_or(0, Writer::take_failed));
        match outcome {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                eprintln!("writing the container's log: {error}");
                self.complained = true;
            }
            Err(_) => {}
        }
    }
}
