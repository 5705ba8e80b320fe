//! gzip (RFC 1952): headers and members here, the deflate data by igzip.

use std::io::{self, Read};

use crate::base::sys::igzip::{Inflater, Step};

const INPUT: usize = 128 * 1024;

/// Flags of a member's header.
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// Inflates members until the source ends.
pub(super) struct Gzip<R> {
    source: R,
    input: Box<[u8]>,
    unread: std::ops::Range<usize>,
    inflater: Inflater,
    place: Place,
}

/// Where in the stream of members the reader is.
#[derive(PartialEq)]
enum Place {
    Start,
    Inside,
    BetweenMembers,
}

impl<R: Read> Gzip<R> {
    pub(super) fn new(source: R) -> Self {
        let input = vec![0; INPUT].into_boxed_slice();
        Self { source, input, unread: 0..0, inflater: Inflater::default(), place: Place::Start }
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

    fn byte(&mut self) -> io::Result<u8> {
        if !self.fill()? {
            return Err(cut());
        }
        self.unread.start += 1;
        Ok(self.input[self.unread.start - 1])
    }

    /// Reads a member's header (section 2.3). Its checksum is not verified, as Go's reader does not: what it covers is
    /// not used.
    fn header(&mut self) -> io::Result<()> {
        let mut fixed = [0; 10];
        for byte in &mut fixed {
            *byte = self.byte()?;
        }
        let [0x1f, 0x8b, 8, flags, ..] = fixed else { return Err(invalid("gzip: invalid header")) };
        if flags & RESERVED != 0 {
            return Err(invalid("gzip: invalid header"));
        }
        if flags & EXTRA != 0 {
            let length = u16::from_le_bytes([self.byte()?, self.byte()?]);
            self.skip(length)?;
        }
        for text in [NAME, COMMENT] {
            while flags & text != 0 && self.byte()? != 0 {}
        }
        self.skip(if flags & HEADER_CRC != 0 { 2 } else { 0 })
    }

    fn skip(&mut self, length: u16) -> io::Result<()> {
        (0..length).try_for_each(|_| self.byte().map(drop))
    }

    fn step(&mut self, output: &mut [u8]) -> io::Result<Step> {
        let input = &self.input[self.unread.clone()];
        let step = self.inflater.step(input, output);
        let step = step.map_err(|corrupt| io::Error::new(io::ErrorKind::InvalidData, corrupt))?;
        self.unread.start += step.consumed;
        Ok(step)
    }

    /// Reads the header of the next member; false where there is none.
    fn start_member(&mut self) -> io::Result<bool> {
        if self.place == Place::BetweenMembers && !self.fill()? {
            return Ok(false);
        }
        self.header()?;
        self.inflater.reset();
        self.place = Place::Inside;
        Ok(true)
    }
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        loop {
            if self.place != Place::Inside && !self.start_member()? {
                return Ok(0);
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
                return Err(invalid("gzip: no progress"));
            }
            if !self.fill()? {
                return Err(cut());
            }
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "gzip: the stream ends inside a member")
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
