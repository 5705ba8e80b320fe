//! Writes entries so that every reader finds the same in them: ustar headers, and PAX records for what does not fit
//! (as Go's archive/tar in its PAX format, which dockerd uses).

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::header::BLOCK;
use super::{Entry, Kind};

/// What ustar's octal fields can hold.
const MAX_SIZE: u64 = 0o777_7777_7777;
const MAX_ID: u32 = 0o777_7777;

/// Writes an archive to `sink`.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    /// Bytes of the current entry's data that are still to come.
    data: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(sink: W) -> Self {
        Self { sink, data: 0, padding: 0 }
    }

    /// Writes an entry's headers. Exactly `entry.size` bytes of data must follow by [`data`](Self::data); a sparse
    /// file is written whole.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_entry()?;
        let records = records(entry);
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            put(&mut header.as_old_mut().name, &pax_name(&entry.path));
            header.set_mode(0o644);
            self.block(header, records.len() as u64)?;
            self.sink.write_all(&records)?;
            self.pad(records.len())?;
        }
        let size = if entry.kind == Kind::Regular { entry.size } else { 0 };
        self.block(header(entry), size)?;
        self.data = size;
        self.padding = (size.next_multiple_of(BLOCK as u64) - size) as usize;
        Ok(())
    }

    /// Adds to the current entry's data; more than was announced is an error.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.data.checked_sub(bytes.len() as u64);
        self.data = left.ok_or_else(|| io::Error::other("the file grew while it was archived"))?;
        self.sink.write_all(bytes)
    }

    /// Writes the end mark and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_entry()?;
        self.sink.write_all(&[0; 2 * BLOCK])?;
        Ok(self.sink)
    }

    /// A file that shrank while it was read is filled up with zeroes, as GNU tar does: the archive stays readable.
    fn end_entry(&mut self) -> io::Result<()> {
        io::copy(&mut io::Read::take(io::repeat(0), std::mem::take(&mut self.data)), &mut self.sink)?;
        let padding = std::mem::take(&mut self.padding);
        self.sink.write_all(&[0; BLOCK][..padding])
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.sink.write_all(&[0; BLOCK][..length.next_multiple_of(BLOCK) - length])
    }

    fn block(&mut self, mut header: Header, size: u64) -> io::Result<()> {
        // What does not fit is in the records, and 0 here, as Go writes it.
        header.set_size(if size > MAX_SIZE { 0 } else { size });
        header.set_cksum();
        self.sink.write_all(header.as_bytes())
    }
}

fn header(entry: &Entry) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(match entry.kind {
        Kind::Regular => EntryType::Regular,
        Kind::HardLink => EntryType::Link,
        Kind::Symlink => EntryType::Symlink,
        Kind::CharDevice => EntryType::Char,
        Kind::BlockDevice => EntryType::Block,
        Kind::Directory => EntryType::Directory,
        Kind::Fifo => EntryType::Fifo,
    });
    header.set_mode(entry.mode);
    header.set_uid(if entry.uid > MAX_ID { 0 } else { entry.uid.into() });
    header.set_gid(if entry.gid > MAX_ID { 0 } else { entry.gid.into() });
    let seconds = u64::try_from(entry.mtime.seconds).unwrap_or(0);
    header.set_mtime(if seconds > MAX_SIZE { 0 } else { seconds });
    let (name, link) = (entry.path.as_slice(), entry.link.as_slice());
    put(&mut header.as_old_mut().name, name);
    put(&mut header.as_old_mut().linkname, link);
    if let (Some(ustar), Kind::CharDevice | Kind::BlockDevice) = (header.as_ustar_mut(), entry.kind) {
        ustar.set_device_major(entry.device.major);
        ustar.set_device_minor(entry.device.minor);
    }
    header
}

/// As much of `text` as fits; the rest is in the records.
fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

fn pax_name(path: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|b| *b == b'/').find(|part| !part.is_empty()).unwrap_or(b"root");
    [b"PaxHeaders.0/", &name[..name.len().min(80)]].concat()
}

/// The PAX records for what an ustar header cannot say.
fn records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    // A field that is full has no NUL at its end, which some readers want; others than ASCII are of unknown encoding.
    let fits = |text: &[u8]| text.len() < 100 && text.is_ascii();
    if !fits(&entry.path) {
        record(&mut records, b"path", &entry.path);
    }
    if !fits(&entry.link) {
        record(&mut records, b"linkpath", &entry.link);
    }
    if entry.kind == Kind::Regular && entry.size > MAX_SIZE {
        record(&mut records, b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > MAX_ID {
            record(&mut records, key, id.to_string().as_bytes());
        }
    }
    let (seconds, nanos) = (entry.mtime.seconds, entry.mtime.nanos);
    if nanos != 0 || u64::try_from(seconds).map_or(true, |seconds| seconds > MAX_SIZE) {
        record(&mut records, b"mtime", time(seconds, nanos).as_bytes());
    }
    // The first `=` ends a record's key: an attribute whose name has one would come back as another. Go writes none.
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| !name.contains(&b'=')) {
        record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

fn time(seconds: i64, nanos: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `length key=value\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}
