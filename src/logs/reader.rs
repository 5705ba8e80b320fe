//! Reads a log back: the last lines, from and until a time, across its files, and on while it grows.
//!
//! Blocking, in batches; waiting is [`super::follow`]'s. The writer is never asked and never waits: what it appends is
//! seen in the file, and a rotation is noticed by the current file's name leading to another file. A reader in the
//! middle of a rotated file finds its successor by identity, so that following survives any number of rotations.

mod tail;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::compress;
use super::json_file::{Compression, Decoder, Entry, Mark, Segment, segments};
use crate::base::time::Timestamp;

/// Which part of a log is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadOptions {
    /// Only the last so many entries of those there are; entries that come later are not counted.
    pub tail: Option<u64>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub mode: Mode,
}

/// Whether the log's end is the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    #[default]
    Once,
    Follow,
}

/// Why a batch ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It was long enough.
    More,
    /// There is no more for now.
    AtEnd,
    /// What comes is later than wanted.
    Done,
}

/// A file's bytes are read in pieces of this size.
const PIECE: usize = 64 * 1024;
/// A line longer than this is no entry: the writer splits at 16 KiB, which escapes can lengthen sixfold.
const LONGEST: usize = 4 << 20;

/// A place in a log.
pub struct Reader {
    path: PathBuf,
    options: ReadOptions,
    /// The file being read, then newer ones.
    sources: VecDeque<Source>,
    buffer: Vec<u8>,
    /// What of the buffer is not decoded yet.
    start: usize,
    /// Whether the beginning of the line in the buffer was thrown away.
    overlong: bool,
    decoder: Decoder,
    missed: Missed,
}

/// Counts a writer's entries that were rotated away unread.
#[derive(Default)]
struct Missed {
    /// How far the reader has come; absent if it does not count.
    place: Option<Mark>,
    count: u64,
}

impl Missed {
    /// An entry is given; `first` is what its file begins with, if it is the first of it.
    fn given(&mut self, first: Option<Mark>) {
        let Some(place) = &mut self.place else { return };
        if let Some(first) = first
            && first.writer == place.writer
            && first.entries > place.entries
        {
            self.count += first.entries - place.entries;
            place.entries = first.entries;
        }
        place.entries += 1;
    }
}

struct Source {
    input: Input,
    /// Entries to pass over first.
    skip: u64,
    /// What it begins with.
    first: Option<Mark>,
}

enum Input {
    Plain(File),
    Gzip(Box<dyn Read + Send>),
}

impl Source {
    fn new(segment: Segment) -> Self {
        let first = Mark::of(&segment.file);
        let input = match segment.form {
            Compression::Plain => Input::Plain(segment.file),
            Compression::Gzip => Input::Gzip(Box::new(compress::reader(segment.file))),
        };
        Self { input, skip: 0, first }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.input {
            Input::Plain(file) => file.read(buffer),
            Input::Gzip(reader) => reader.read(buffer),
        }
    }
}

impl Reader {
    /// Opens the log at `path`; one that does not exist is empty.
    pub fn open(path: &Path, options: ReadOptions) -> io::Result<Self> {
        let sources = match options.tail {
            None => segments(path)?.into_iter().rev().map(Source::new).collect(),
            Some(count) => tail::sources(segments(path)?, count)?,
        };
        Ok(Self {
            path: path.to_owned(),
            options,
            sources,
            buffer: Vec::new(),
            start: 0,
            overlong: false,
            decoder: Decoder::default(),
            missed: Missed::default(),
        })
    }

    /// Counts what is missed from `place` on: the reader's options choose the entries from there.
    pub fn counting_from(self, place: Mark) -> Self {
        Self { missed: Missed { place: Some(place), count: 0 }, ..self }
    }

    /// How many entries were rotated away unread since this was asked last, as far as files have been opened after.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed.count)
    }

    /// The file that is written to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was asked for.
    pub fn options(&self) -> &ReadOptions {
        &self.options
    }

    /// Gives entries to `sink` until about `limit` bytes of the log have been read.
    pub fn read(&mut self, limit: usize, sink: &mut dyn FnMut(&Entry<'_>)) -> io::Result<Progress> {
        let mut done = 0;
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.buffer[self.start..]) {
                let line = self.start..self.start + end;
                self.start = line.end + 1;
                done += end + 1;
                if self.give(line, sink) == Progress::Done {
                    return Ok(Progress::Done);
                }
                if done >= limit {
                    return Ok(Progress::More);
                }
            }
            if !self.fill()? {
                return Ok(Progress::AtEnd);
            }
        }
    }

    fn give(&mut self, line: std::ops::Range<usize>, sink: &mut dyn FnMut(&Entry<'_>)) -> Progress {
        if std::mem::take(&mut self.overlong) {
            return Progress::More;
        }
        if let Some(source) = self.sources.front_mut()
            && source.skip > 0
        {
            source.skip -= 1;
            return Progress::More;
        }
        let Some(entry) = self.decoder.decode(&self.buffer[line]) else { return Progress::More };
        let ReadOptions { since, until, .. } = self.options;
        if since.is_some() || until.is_some() {
            let time = entry.timestamp();
            if until.is_some_and(|until| time > until) {
                return Progress::Done;
            }
            if since.is_some_and(|since| time < since) {
                return Progress::More;
            }
        }
        let first = self.sources.front_mut().and_then(|source| source.first.take());
        self.missed.given(first);
        sink(&entry);
        Progress::More
    }

    /// Reads on; false at the end of what there is.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            let Some(source) = self.sources.front_mut() else {
                if !self.reopen()? {
                    return Ok(false);
                }
                continue;
            };
            if read_piece(source, &mut self.buffer, &mut self.start, &mut self.overlong)? {
                return Ok(true);
            }
            if self.sources.len() > 1 {
                self.next_source();
                continue;
            }
            if self.options.mode == Mode::Once || !self.find_successors()? {
                return Ok(false);
            }
        }
    }

    /// Leaves the file at hand. What it has after its last line end is a torn line.
    fn next_source(&mut self) {
        self.sources.pop_front();
        self.buffer.clear();
        self.start = 0;
        self.overlong = false;
    }

    /// Looks for the log where there was none.
    fn reopen(&mut self) -> io::Result<bool> {
        if self.options.mode == Mode::Follow {
            self.sources = segments(&self.path)?.into_iter().rev().map(Source::new).collect();
        }
        Ok(!self.sources.is_empty())
    }

    /// If the file at hand has been rotated away, queues those written after it. The caller reads the file at hand
    /// once more: the writer may have appended between that read's end and the rotation.
    fn find_successors(&mut self) -> io::Result<bool> {
        let Some(Source { input: Input::Plain(file), .. }) = self.sources.front() else { return Ok(false) };
        let own = compress::Identity::of(file)?;
        match self.path.metadata() {
            Ok(meta) if meta.ino() == own.inode => return Ok(false),
            // Between the two renames of a rotation; whoever waits is told when the new file appears.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let mut newer = Vec::new();
        for segment in segments(&self.path)? {
            // The open file keeps its inode from being used again; a compressed one goes by its time as well.
            let identity = segment.identity()?;
            let same = match segment.form {
                Compression::Plain => identity.inode == own.inode,
                Compression::Gzip => identity == compress::Identity::of(file)?,
            };
            if same {
                break;
            }
            newer.push(segment);
        }
        self.sources.extend(newer.into_iter().rev().map(Source::new));
        Ok(true)
    }
}

/// Appends a piece of the source to the buffer; false at its end.
fn read_piece(
    source: &mut Source,
    buffer: &mut Vec<u8>,
    start: &mut usize,
    overlong: &mut bool,
) -> io::Result<bool> {
    buffer.drain(..*start);
    *start = 0;
    if buffer.len() > LONGEST {
        buffer.clear();
        *overlong = true;
    }
    let filled = buffer.len();
    buffer.resize(filled + PIECE, 0);
    let read = source.read(&mut buffer[filled..]);
    buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
    Ok(read? > 0)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
