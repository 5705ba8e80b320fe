//! The container's log, written so that trouble with it never becomes the container's.

use std::io;

use crate::base::time::Timestamp;
use crate::logs::Stream;
use crate::logs::json_file::Writer;
use crate::logs::options::LogTarget;

/// The log, or none.
pub struct Log {
    writer: Option<Writer>,
    /// Said once, not per line: a full disk stays full for a while.
    complained: bool,
}

impl Log {
    /// Opens what `target` names.
    pub fn open(target: LogTarget) -> io::Result<Self> {
        let writer = match target {
            LogTarget::None => None,
            LogTarget::JsonFile { path, options } => Some(Writer::open(&path, options)?),
        };
        Ok(Self { writer, complained: false })
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

    fn check(&mut self, outcome: io::Result<()>) {
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
