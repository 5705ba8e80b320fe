//! From a layer as it was transferred to its tar stream. Memory is bounded by constants, never by what the stream
//! says: igzip's window is 32 KiB, zstd's may be up to 128 MiB (`WINDOW_LOG_MAX`). A stream that ends early is an
//! error, never a short success.

use std::io::{self, Read};

use crate::base::sys::igzip::{Inflater, Step};

const INPUT: usize = 128 * 1024;
/// 2^27 bytes = 128 MiB: what the zstd tool decodes without being asked for more.
const WINDOW_LOG_MAX: u32 = 27;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A bare tar stream.
    None,
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878, one frame or several, skippable ones too.
    Zstd,
}

impl Compression {
    /// Tells by the first bytes (four are enough); what is not known counts as not compressed.
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The uncompressed bytes of `source`. Ask for large pieces (256 KiB): igzip then writes straight to the buffer.
pub fn reader<'a>(
    compression: Compression,
    source: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(Gzip::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(source)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

struct Gzip<R> {
    source: R,
    input: Box<[u8]>,
    unread: std::ops::Range<usize>,
    inflater: Inflater,
    place: Place,
}

/// Where in the stream of members the reader is.
#[derive(PartialEq)]
enum Place {
    Inside,
    BetweenMembers,
}

impl<R: Read> Gzip<R> {
    fn new(source: R) -> Self {
        let input = vec![0; INPUT].into_boxed_slice();
        Self { source, input, unread: 0..0, inflater: Inflater::default(), place: Place::Inside }
    }

    /// Reads more input if there is none; false at its end.
    fn fill(&mut self) -> io::Result<bool> {
        while self.unread.is_empty() {
            match self.source.read(&mut self.input) {
                Ok(0) => return Ok(false),
                Ok(n) => self.unread = 0..n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    fn step(&mut self, output: &mut [u8]) -> io::Result<Step> {
        let input = &self.input[self.unread.clone()];
        let step = self
            .inflater
            .step(input, output)
            .map_err(|corrupt| io::Error::new(io::ErrorKind::InvalidData, corrupt))?;
        self.unread.start += step.consumed;
        Ok(step)
    }
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        loop {
            if self.place == Place::BetweenMembers {
                if !self.fill()? {
                    return Ok(0);
                }
                self.inflater.reset();
                self.place = Place::Inside;
            }
            let had_input = !self.unread.is_empty();
            // Without input too: igzip may hold output for which there was no room.
            let step = self.step(output)?;
            if step.finished {
                self.place = Place::BetweenMembers;
            }
            if step.produced > 0 {
                return Ok(step.produced);
            }
            if step.finished {
                continue;
            }
            if had_input && step.consumed == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "gzip: no progress"));
            }
            if !self.fill()? {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "gzip: the stream ends inside a member",
                ));
            }
        }
    }
}
