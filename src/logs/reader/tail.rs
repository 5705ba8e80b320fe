//! Finds where the last so many entries of a log begin.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::{PIECE, Source};
use crate::logs::compress;
use crate::logs::json_file::{Compression, Segment};

/// The files, oldest first, that hold the last `count` entries, placed at the first of them. `segments` come newest
/// first.
pub fn sources(segments: Vec<Segment>, count: u64) -> io::Result<VecDeque<Source>> {
    let mut sources = VecDeque::new();
    let mut missing = count;
    for mut segment in segments {
        // The current file is followed even if nothing of it is wanted.
        if missing == 0 && !sources.is_empty() {
            break;
        }
        let skip = match segment.form {
            Compression::Plain => {
                let (start, found) = start_of_last(&segment.file, missing)?;
                segment.file.seek(SeekFrom::Start(start))?;
                missing -= found;
                0
            }
            Compression::Gzip => {
                let lines = count_lines(compress::reader(segment.file.try_clone()?))?;
                segment.file.rewind()?;
                let skip = lines.saturating_sub(missing);
                missing -= lines - skip;
                skip
            }
        };
        sources.push_front(Source { skip, ..Source::new(segment) });
    }
    Ok(sources)
}

/// Where the last `count` whole lines of a file begin, and how many there are.
fn start_of_last(file: &File, count: u64) -> io::Result<(u64, u64)> {
    let mut block = vec![0; PIECE];
    let mut end = file.metadata()?.len();
    // The line end before the lines wanted is the one after theirs, counted from the end.
    let mut ends = 0;
    while end > 0 {
        let start = end.saturating_sub(PIECE as u64);
        let block = &mut block[..(end - start) as usize];
        file.read_exact_at(block, start)?;
        for at in memchr::memrchr_iter(b'\n', block) {
            let after = start + at as u64 + 1;
            if ends == count {
                return Ok((after, count));
            }
            ends += 1;
        }
        end = start;
    }
    Ok((0, ends))
}

fn count_lines(mut reader: impl Read) -> io::Result<u64> {
    let mut piece = vec![0; PIECE];
    let mut lines = 0;
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(lines),
            read => lines += memchr::memchr_iter(b'\n', &piece[..read]).count() as u64,
        }
    }
}
