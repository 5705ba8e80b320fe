//! Maps of sparse files: GNU's old format (in the header and continuation blocks), and PAX 0.0, 0.1 and 1.0.
//! (GNU tar manual, "Storing Sparse Files".)

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::ArchiveError;
use super::header::unsigned;

/// More parts than this in one file are an attack: 2^20 parts of one block each.
pub(super) const MAX_SEGMENTS: usize = 1 << 20;

/// A part of a sparse file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Checks that segments are in order, apart, inside the file, and together as long as the stored data. Empty ones
/// only mark the file's end and are dropped.
pub(super) fn validate(segments: Vec<Segment>, stored: u64, size: u64) -> Result<Vec<Segment>, ArchiveError> {
    let (mut end, mut total) = (0u64, 0u64);
    for segment in &segments {
        if segment.offset < end {
            return Err(ArchiveError::Sparse("parts overlap or are out of order"));
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .ok_or(ArchiveError::Sparse("a part ends beyond 2^64"))?;
        total += segment.length;
    }
    if end > size || i64::try_from(size).is_err() {
        return Err(ArchiveError::Sparse("a part ends beyond the file"));
    }
    if total != stored {
        return Err(ArchiveError::Sparse("the parts are not as long as the stored data"));
    }
    Ok(segments.into_iter().filter(|segment| segment.length > 0).collect())
}

/// The parts named in the header of an old GNU sparse entry, and whether continuation blocks follow.
pub(super) fn from_header(header: &Header) -> Result<(Vec<Segment>, u64, bool), ArchiveError> {
    let gnu = header.as_gnu().ok_or(ArchiveError::Sparse("not a GNU header"))?;
    let mut segments = Vec::new();
    push(&mut segments, &gnu.sparse)?;
    Ok((segments, unsigned("realsize", &gnu.realsize)?, gnu.is_extended()))
}

/// The parts of a continuation block; returns whether another one follows.
pub(super) fn from_continuation(block: &[u8], segments: &mut Vec<Segment>) -> Result<bool, ArchiveError> {
    let mut extension = GnuExtSparseHeader::new();
    extension.as_mut_bytes().copy_from_slice(block);
    push(segments, extension.sparse())?;
    if segments.len() > MAX_SEGMENTS {
        return Err(ArchiveError::Sparse("too many parts"));
    }
    Ok(extension.is_extended())
}

fn push(segments: &mut Vec<Segment>, parts: &[GnuSparseHeader]) -> Result<(), ArchiveError> {
    for part in parts.iter().take_while(|part| part.offset[0] != 0 && part.numbytes[0] != 0) {
        let (offset, length) = (unsigned("sparse", &part.offset)?, unsigned("sparse", &part.numbytes)?);
        segments.push(Segment { offset, length });
    }
    Ok(())
}

/// The map of PAX format 0.1: offsets and lengths in turn, separated by commas. Format 0.0 is brought to this form.
pub(super) fn from_list(numbers: &[u8]) -> Result<Vec<Segment>, ArchiveError> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments = Vec::new();
    let mut fields = numbers.split(|b| *b == b',');
    while let Some(offset) = fields.next() {
        let length = fields.next().ok_or(ArchiveError::Sparse("an odd count of numbers"))?;
        segments.push(Segment { offset: decimal(offset)?, length: decimal(length)? });
        if segments.len() > MAX_SEGMENTS {
            return Err(ArchiveError::Sparse("too many parts"));
        }
    }
    Ok(segments)
}

/// Collects the map of PAX format 1.0, which precedes the data: a count, then offsets and lengths, a number a line.
#[derive(Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    numbers: Vec<u64>,
}

impl Lines {
    /// Takes a block of the map; returns the parts when this was its last.
    pub(super) fn take(&mut self, block: &[u8]) -> Result<Option<Vec<Segment>>, ArchiveError> {
        for byte in block {
            if *byte != b'\n' {
                self.partial.push(*byte);
                if self.partial.len() > 20 {
                    return Err(ArchiveError::Sparse("a number is too long"));
                }
                continue;
            }
            self.numbers.push(decimal(&self.partial)?);
            self.partial.clear();
            let expected = usize::try_from(self.numbers[0]).ok().filter(|count| *count <= MAX_SEGMENTS);
            let expected = expected.ok_or(ArchiveError::Sparse("too many parts"))?;
            if self.numbers.len() == 1 + 2 * expected {
                let pairs = self.numbers[1..].chunks_exact(2);
                return Ok(Some(pairs.map(|pair| Segment { offset: pair[0], length: pair[1] }).collect()));
            }
        }
        Ok(None)
    }
}

pub(super) fn decimal(digits: &[u8]) -> Result<u64, ArchiveError> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or(ArchiveError::Sparse("not a decimal number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_do_not_fit_their_file_are_refused() {
        let parts =
            |list: &[(u64, u64)]| list.iter().map(|&(offset, length)| Segment { offset, length }).collect();
        let table: [(Vec<Segment>, u64, u64, bool); 7] = [
            (parts(&[(0, 5), (10, 5)]), 10, 20, true),
            (parts(&[(0, 5), (20, 0)]), 5, 20, true),
            (parts(&[(0, 5), (4, 5)]), 10, 20, false),
            (parts(&[(10, 5), (0, 5)]), 10, 20, false),
            (parts(&[(16, 5)]), 5, 20, false),
            (parts(&[(0, 5)]), 6, 20, false),
            (parts(&[(u64::MAX, 5)]), 5, 20, false),
        ];
        for (segments, stored, size, fine) in table {
            assert_eq!(validate(segments.clone(), stored, size).is_ok(), fine, "{segments:?}");
        }
    }

    #[test]
    fn a_map_before_the_data_may_span_blocks() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"2\n0\n51").unwrap(), None);
        let parts = lines.take(b"2\n4096\n7\n\0\0\0").unwrap().unwrap();
        assert_eq!(parts, [Segment { offset: 0, length: 512 }, Segment { offset: 4096, length: 7 }]);
        assert!(Lines::default().take(b"99999999999\n").is_err());
        assert!(Lines::default().take(&[b'1'; 30]).is_err());
    }
}
