//! Appends a container's output to its log file.
//!
//! Invariants: one write(2) per drained buffer, always of whole lines, at the end of the file; whatever instant the
//! writer is killed at, all but the last line of a file are whole, and the next writer cuts a torn last one off.
//! A failed write (disk full) drops the lines it was to write and never blocks the container.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Mark, WriterOptions, encode, rotate};
use crate::base::time::Timestamp;
use crate::logs::{MAX_LINE, Stream};

/// Encoded bytes after which a large buffer is written in parts, to bound the writer's memory.
const FLUSH_AT: usize = 256 * 1024;

/// The writer of one container's log.
pub struct Writer {
    path: PathBuf,
    file: File,
    size: u64,
    options: WriterOptions,
    compressor: rotate::Compressor,
    /// The beginning of a line whose end has not been seen yet, of each stream.
    pending: [Vec<u8>; 2],
    out: Vec<u8>,
    /// Entries in `out`.
    waiting: u64,
    /// What comes after the last entry written.
    end: Mark,
    /// Entries that could not be written, until somebody asks.
    failed: u64,
}

impl Writer {
    /// Opens or creates the log at `path`, mode 0640, to append to it.
    pub fn open(path: &Path, options: WriterOptions) -> io::Result<Self> {
        let mut file = open_append(path)?;
        let size = cut_torn_line(&mut file)?;
        let compressor = rotate::Compressor::default();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            options,
            compressor,
            pending: Default::default(),
            out: Vec::new(),
            waiting: 0,
            end: Mark { writer: Timestamp::now(), entries: 0 },
            failed: 0,
        })
    }

    /// Where the next entry will be.
    pub fn end(&self) -> Mark {
        self.end
    }

    /// How many entries could not be written since this was asked last.
    pub fn take_failed(&mut self) -> u64 {
        std::mem::take(&mut self.failed)
    }

    /// Logs what was read from `stream` at `time`. The beginning of a line is kept until its end comes, [`MAX_LINE`]
    /// bytes are together or [`finish`](Self::finish) is called. After an error the lines concerned are lost and the
    /// writer can be used on.
    pub fn write(&mut self, stream: Stream, time: Timestamp, bytes: &[u8]) -> io::Result<()> {
        let suffix = suffix(stream, time, self.options.attrs.as_deref());
        let mut outcome = Ok(());
        let mut rest = bytes;
        while !rest.is_empty() {
            let pending = self.pending[stream as usize].len();
            let room = MAX_LINE - pending;
            let window = &rest[..rest.len().min(room)];
            match memchr::memchr(b'\n', window) {
                Some(end) => {
                    outcome = outcome.and(self.entry(stream, &rest[..=end], &suffix));
                    rest = &rest[end + 1..];
                }
                None if window.len() == room => {
                    rest = &rest[self.split(stream, window, &suffix, &mut outcome)..];
                }
                None => {
                    self.pending[stream as usize].extend_from_slice(rest);
                    break;
                }
            }
        }
        outcome.and(self.flush())
    }

    /// Logs the beginning of a line that will get no end: the stream was closed.
    pub fn finish(&mut self, stream: Stream, time: Timestamp) -> io::Result<()> {
        if self.pending[stream as usize].is_empty() {
            return Ok(());
        }
        let suffix = suffix(stream, time, self.options.attrs.as_deref());
        self.entry(stream, b"", &suffix).and(self.flush())
    }

    /// Logs pending bytes and as much of `window` as makes a full entry; returns how much of `window` was used.
    fn split(&mut self, stream: Stream, window: &[u8], suffix: &[u8], outcome: &mut io::Result<()>) -> usize {
        let pending = &mut self.pending[stream as usize];
        let before = pending.len();
        pending.extend_from_slice(window);
        let end = encode::cut(pending, pending.len());
        let torn = pending.split_off(end);
        let logged = self.entry(stream, b"", suffix);
        if outcome.is_ok() {
            *outcome = logged;
        }
        // A character torn across the cut may have begun in bytes of an earlier buffer: those go back.
        if end < before {
            self.pending[stream as usize] = torn;
            return window.len();
        }
        end - before
    }

    /// Encodes one entry: what is pending of the stream, then `end`.
    fn entry(&mut self, stream: Stream, end: &[u8], suffix: &[u8]) -> io::Result<()> {
        let outcome = self.make_room();
        self.out.extend_from_slice(b"{\"log\":\"");
        let pending = &mut self.pending[stream as usize];
        if pending.is_empty() {
            encode::escape(&mut self.out, end);
        } else {
            pending.extend_from_slice(end);
            encode::escape(&mut self.out, pending);
            pending.clear();
        }
        self.out.extend_from_slice(suffix);
        self.waiting += 1;
        outcome
    }

    /// Rotates where dockerd does: before the first entry that finds the file at its size or beyond.
    fn make_room(&mut self) -> io::Result<()> {
        let full = self.options.max_size.is_some_and(|max| self.size + self.out.len() as u64 >= max);
        if !full {
            return if self.out.len() >= FLUSH_AT { self.flush() } else { Ok(()) };
        }
        self.flush()?;
        self.compressor.wait();
        rotate::rotate(&self.path, self.options.max_file)?;
        self.file = open_append(&self.path)?;
        self.size = 0;
        // Without it nothing is lost but the count of what a reader misses.
        let _ = self.end.set(&self.file);
        self.compressor.start(&self.path, &self.options)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.waiting);
        let mut written = self.file.write_all(&self.out);
        if written.is_ok() {
            self.size += self.out.len() as u64;
            self.end.entries += entries;
        } else {
            self.failed += entries;
            // Part of it may be on disk; what follows must begin on a line of its own.
            written = written.and(self.file.set_len(self.size));
        }
        self.out.clear();
        self.out.shrink_to(FLUSH_AT);
        written
    }
}

/// What follows the text of every entry of one buffer.
fn suffix(stream: Stream, time: Timestamp, attrs: Option<&str>) -> Vec<u8> {
    let (before, attrs) = attrs.map_or(("", ""), |attrs| (",\"attrs\":", attrs));
    format!("\",\"stream\":\"{}\"{before}{attrs},\"time\":\"{time}\"}}\n", stream.as_str()).into_bytes()
}

fn open_append(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).read(true).create(true).mode(0o640).open(path);
    match (open(), path.parent()) {
        (Err(e), Some(dir)) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// Removes what follows the last line end: the line that a killed writer was at. Returns the file's size.
fn cut_torn_line(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 32 * 1024;
    let size = file.metadata()?.len();
    let mut end = size;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < size {
        file.set_len(end)?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_nanos(1_500_000_000);

    fn written(options: WriterOptions, pieces: &[&[u8]]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        let mut writer = Writer::open(&path, options).unwrap();
        for piece in pieces {
            writer.write(Stream::Stdout, NOON, piece).unwrap();
        }
        writer.finish(Stream::Stdout, NOON).unwrap();
        std::fs::read_to_string(&path).unwrap()
    }

    fn lengths(text: &str) -> Vec<usize> {
        text.lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["log"].as_str().unwrap().len()
            })
            .collect()
    }

    #[test]
    fn a_line_has_dockerds_fields_in_dockerds_order() {
        let attrs = Some(r#"{"tag":"x"}"#.to_owned());
        assert_eq!(
            written(WriterOptions { attrs, ..WriterOptions::default() }, &[b"a<b\n"]),
            "{\"log\":\"a\\u003cb\\n\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"x\"},\
             \"time\":\"1970-01-01T00:00:01.5Z\"}\n"
        );
    }

    #[test]
    fn a_line_in_pieces_is_one_entry_and_an_unfinished_one_has_no_line_end() {
        let text = written(WriterOptions::default(), &[b"a", b"b", b"c\n\nd", b"e"]);
        let logs: Vec<String> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["log"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(logs, ["abc\n", "\n", "de"]);
    }

    #[test]
    fn long_lines_are_split_at_16_kib_wherever_the_pieces_end() {
        let mut line = vec![b'x'; 2 * MAX_LINE + 5];
        line.push(b'\n');
        let whole: &[&[u8]] = &[&line];
        let pieces: Vec<&[u8]> = line.chunks(1000).collect();
        for pieces in [whole, &pieces] {
            assert_eq!(lengths(&written(WriterOptions::default(), pieces)), [MAX_LINE, MAX_LINE, 6]);
        }
        let exact = vec![b'x'; MAX_LINE];
        assert_eq!(lengths(&written(WriterOptions::default(), &[&exact, b"\n"])), [MAX_LINE, 1]);
    }

    #[test]
    fn a_split_line_keeps_its_characters() {
        let text = "é".repeat(MAX_LINE);
        for size in [1, 7, 1000, 1 << 20] {
            let shifted = format!("x{text}\n");
            let pieces: Vec<&[u8]> = shifted.as_bytes().chunks(size).collect();
            let log = written(WriterOptions::default(), &pieces);
            assert_eq!(lengths(&log), [MAX_LINE - 1, MAX_LINE, 3], "{size}");
            assert!(!log.contains("ufffd"));
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_by_the_next_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        std::fs::write(&path, format!("{{\"log\":\"a\\n\"}}\n{{\"log\":\"{}", "x".repeat(100_000))).unwrap();
        let mut writer = Writer::open(&path, WriterOptions::default()).unwrap();
        writer.write(Stream::Stderr, NOON, b"b\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().last().unwrap().contains("stderr"));
    }

    #[test]
    fn files_are_rotated_at_their_size_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        let options = WriterOptions { max_size: Some(200), max_file: 3, ..WriterOptions::default() };
        let mut writer = Writer::open(&path, options).unwrap();
        let lines: String = (0..40).map(|n| format!("line {n}\n")).collect();
        writer.write(Stream::Stdout, NOON, lines.as_bytes()).unwrap();
        let read = |suffix: &str| std::fs::read_to_string(format!("{}{suffix}", path.display())).unwrap();
        let all = [read(".2"), read(".1"), read("")].concat();
        assert!(!dir.path().join("c-json.log.3").exists());
        let numbers: Vec<usize> = (0..40).filter(|n| all.contains(&format!("line {n}\\n"))).collect();
        assert_eq!(numbers.last(), Some(&39));
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        assert!(read(".1").len() >= 200 && read(".1").len() < 300);
    }
}
