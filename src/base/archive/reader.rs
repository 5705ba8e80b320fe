//! Walks an archive block by block.

use std::io::{self, BufRead};

use tar::{EntryType, Header};

use super::header::{self, BLOCK, number, unsigned};
use super::pax::{Records, SparseMap};
use super::sparse::{self, Lines, MAX_SEGMENTS, Segment};
use super::{ArchiveError, Device, Entry, Kind, Mtime};

/// Of all extension headers before one entry. Linux allows 64 KiB for one attribute's value and as much for all
/// names; a map of `MAX_SEGMENTS` parts in PAX format 0.1 is larger than any real one.
const MAX_EXTENSIONS: u64 = 1 << 20;
/// The largest number in a ustar header's 11 octal digits.
const USTAR_MAX: u64 = 0o777_7777_7777;

/// Reads entries and their data from a source that lends its buffer, so that data is copied by nobody.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// Bytes of the current entry's data that have not been taken.
    data: u64,
    /// Bytes between the data's end and the next header.
    padding: u64,
}

/// What precedes an entry's own header.
#[derive(Default)]
struct Extensions {
    records: Records,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    total: u64,
}

impl<R: BufRead> Reader<R> {
    /// Starts at the first header.
    pub fn new(source: R) -> Self {
        Self { source, data: 0, padding: 0 }
    }

    /// The next entry; what is left of the current one's data is skipped. `None` after the end mark or at the
    /// stream's end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip(self.data.saturating_add(self.padding))?;
            (self.data, self.padding) = (0, 0);
            let Some(block) = self.header_block()? else { return Ok(None) };
            let header = Header::from_byte_slice(&block);
            match header.entry_type() {
                EntryType::XGlobalHeader => self.set_data(unsigned("size", &header.as_old().size)?)?,
                EntryType::XHeader => {
                    let records = self.extension(header, &mut extensions)?;
                    extensions.records.add(&records)?;
                }
                EntryType::GNULongName => {
                    extensions.path = Some(until_nul(self.extension(header, &mut extensions)?));
                }
                EntryType::GNULongLink => {
                    extensions.link = Some(until_nul(self.extension(header, &mut extensions)?));
                }
                _ => return self.entry(header, extensions).map(Some),
            }
        }
    }

    /// The next piece of the current entry's stored data, empty at its end. [`consume`](Self::consume) takes it. For
    /// sparse files use [`read_data`](Self::read_data).
    pub fn fill(&mut self) -> Result<&[u8], ArchiveError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let buffer = fill(&mut self.source)?;
        if buffer.is_empty() {
            return Err(ArchiveError::Truncated("an entry's data"));
        }
        let length = usize::try_from(self.data).map_or(buffer.len(), |left| left.min(buffer.len()));
        Ok(&buffer[..length])
    }

    /// Takes `length` bytes of what [`fill`](Self::fill) gave.
    pub fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.data = self.data.saturating_sub(length as u64);
    }

    /// Gives all data of the current entry to `write`, with the place in the file that each piece belongs to. Holes
    /// are left out.
    pub fn read_data<E: From<ArchiveError>>(
        &mut self,
        entry: &Entry,
        mut write: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let whole = [Segment { offset: 0, length: entry.size }];
        for segment in entry.sparse.as_deref().unwrap_or(&whole) {
            let (mut offset, end) = (segment.offset, segment.offset + segment.length);
            while offset < end {
                let piece = self.fill()?;
                let length = usize::try_from(end - offset).map_or(piece.len(), |left| left.min(piece.len()));
                if length == 0 {
                    return Err(ArchiveError::Truncated("a sparse file's data").into());
                }
                write(offset, &piece[..length])?;
                self.consume(length);
                offset += length as u64;
            }
        }
        Ok(())
    }

    /// The source, to read what follows the end mark.
    pub fn into_source(self) -> R {
        self.source
    }

    /// The next block that is not zero. Two blocks of zeroes end an archive; a single one is taken for the end too
    /// when nothing follows (both as Go's reader does).
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            if !self.block(&mut block)? || block == [0; BLOCK] {
                return Ok(None);
            }
            return Err(ArchiveError::Checksum);
        }
        if header::is_corrupt(&block) { Err(ArchiveError::Checksum) } else { Ok(Some(block)) }
    }

    /// Reads a whole block; false at the stream's end.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, ArchiveError> {
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = fill(&mut self.source)?;
            if buffer.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(ArchiveError::Truncated("a header")) };
            }
            let length = buffer.len().min(BLOCK - filled);
            block[filled..filled + length].copy_from_slice(&buffer[..length]);
            self.source.consume(length);
            filled += length;
        }
        Ok(true)
    }

    fn skip(&mut self, mut length: u64) -> Result<(), ArchiveError> {
        while length > 0 {
            let buffer = fill(&mut self.source)?;
            if buffer.is_empty() {
                return Err(ArchiveError::Truncated("an entry's data"));
            }
            let taken = usize::try_from(length).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.source.consume(taken);
            length -= taken as u64;
        }
        Ok(())
    }

    fn set_data(&mut self, size: u64) -> Result<(), ArchiveError> {
        if size > i64::MAX as u64 {
            return Err(ArchiveError::Field { field: "size" });
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// The data of an extension header.
    fn extension(&mut self, header: &Header, extensions: &mut Extensions) -> Result<Vec<u8>, ArchiveError> {
        let size = unsigned("size", &header.as_old().size)?;
        extensions.total = extensions.total.saturating_add(size).saturating_add(BLOCK as u64);
        if extensions.total > MAX_EXTENSIONS {
            return Err(ArchiveError::ExtensionsTooLarge { limit: MAX_EXTENSIONS });
        }
        self.set_data(size)?;
        let mut content = Vec::with_capacity(size as usize);
        while self.data > 0 {
            let piece = self.fill()?;
            content.extend_from_slice(piece);
            let length = piece.len();
            self.consume(length);
        }
        Ok(content)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, ArchiveError> {
        let Extensions { records, path, link, .. } = extensions;
        let old = header.as_old();
        let stored = stored_size(header, &records)?;
        let sparse_records = records.sparse.map()?;
        let (uid, gid) = records.owner();
        let mut entry = Entry {
            path: header::path(header),
            link: header::link(header),
            kind: Kind::Regular,
            mode: (number("mode", &old.mode)? & 0o7777) as u32,
            uid: 0,
            gid: 0,
            mtime: Mtime { seconds: number("mtime", &old.mtime)?, nanos: 0 },
            size: 0,
            device: Device::default(),
            xattrs: Vec::new(),
            sparse: None,
        };
        records.apply(&mut entry);
        entry.path = path.unwrap_or(entry.path);
        entry.link = link.unwrap_or(entry.link);
        entry.uid = id("uid", uid.map_or_else(|| number("uid", &old.uid), Ok)?, &entry)?;
        entry.gid = id("gid", gid.map_or_else(|| number("gid", &old.gid), Ok)?, &entry)?;
        entry.kind = kind(header, &entry)?;
        match entry.kind {
            Kind::Regular => self.start_data(header, &mut entry, stored, sparse_records)?,
            Kind::CharDevice | Kind::BlockDevice => entry.device = device(header, &entry)?,
            // Such an entry has no data whatever its size says (Go's and GNU's readers agree for links).
            Kind::HardLink | Kind::Symlink | Kind::Directory | Kind::Fifo => {}
        }
        if !matches!(entry.kind, Kind::HardLink | Kind::Symlink) {
            entry.link.clear();
        }
        Ok(entry)
    }

    fn start_data(
        &mut self,
        header: &Header,
        entry: &mut Entry,
        stored: u64,
        sparse_records: Option<(SparseMap, u64)>,
    ) -> Result<(), ArchiveError> {
        self.set_data(stored)?;
        entry.size = stored;
        if header.entry_type() == EntryType::GNUSparse {
            let (mut segments, size, mut more) = sparse::from_header(header)?;
            while more {
                let mut block = [0; BLOCK];
                if !self.block(&mut block)? {
                    return Err(ArchiveError::Truncated("a sparse map"));
                }
                more = sparse::from_continuation(&block, &mut segments)?;
            }
            entry.size = size;
            entry.sparse = Some(sparse::validate(segments, stored, size)?);
        } else if let Some((map, size)) = sparse_records {
            let segments = match map {
                SparseMap::Known(segments) => segments,
                SparseMap::BeforeData => self.map_before_data()?,
            };
            entry.size = size;
            entry.sparse = Some(sparse::validate(segments, self.data, size)?);
        }
        Ok(())
    }

    /// The map of PAX format 1.0, in whole blocks at the start of the data.
    fn map_before_data(&mut self) -> Result<Vec<Segment>, ArchiveError> {
        let mut lines = Lines::default();
        // A pair of numbers takes 42 bytes at most.
        for _ in 0..=(MAX_SEGMENTS * 42 / BLOCK) {
            let mut block = [0; BLOCK];
            if self.data < BLOCK as u64 || !self.block(&mut block)? {
                return Err(ArchiveError::Truncated("a sparse map"));
            }
            self.data -= BLOCK as u64;
            if let Some(segments) = lines.take(&block)? {
                return Ok(segments);
            }
        }
        Err(ArchiveError::Sparse("too many parts"))
    }
}

/// The size of the stored data. Both sizes must agree where the header can hold it: a reader that believes the header
/// would else find other entries than one that believes the records.
fn stored_size(header: &Header, records: &Records) -> Result<u64, ArchiveError> {
    let stated = unsigned("size", &header.as_old().size)?;
    match records.size {
        Some(pax) if pax != stated && pax <= USTAR_MAX => {
            let path = String::from_utf8_lossy(&header::path(header)).into_owned();
            Err(ArchiveError::SizeMismatch { path, header: stated, pax })
        }
        Some(pax) => Ok(pax),
        None => Ok(stated),
    }
}

fn kind(header: &Header, entry: &Entry) -> Result<Kind, ArchiveError> {
    Ok(match header.entry_type() {
        // Before ustar a directory was a file whose name ends in a slash.
        EntryType::Regular if entry.path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::Regular,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Char => Kind::CharDevice,
        EntryType::Block => Kind::BlockDevice,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        other => {
            return Err(ArchiveError::UnknownType {
                path: entry.display(),
                flag: char::from(other.as_byte()),
            });
        }
    })
}

fn id(field: &'static str, value: i64, entry: &Entry) -> Result<u32, ArchiveError> {
    let id = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| ArchiveError::Range { field, value, path: entry.display() })
}

fn device(header: &Header, entry: &Entry) -> Result<Device, ArchiveError> {
    let (major, minor) = header::device(header)?;
    let range = |field, value| ArchiveError::Range { field, value, path: entry.display() };
    // The kernel's device numbers have 12 and 20 bits (linux/kdev_t.h).
    let checked = |field, value: i64, bits: u32| match u32::try_from(value) {
        Ok(number) if number < 1 << bits => Ok(number),
        _ => Err(range(field, value)),
    };
    Ok(Device { major: checked("devmajor", major, 12)?, minor: checked("devminor", minor, 20)? })
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

fn fill(source: &mut impl BufRead) -> Result<&[u8], ArchiveError> {
    // Twice, because a loop that returns the borrow is not yet accepted by the compiler.
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(source.fill_buf()?)
}
