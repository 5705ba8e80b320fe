//! Reading and writing tar archives: the one reader for layers, `docker cp`, build contexts and image archives.
//!
//! It turns blocks into [`Entry`] values and gives out their data, or back; it never touches a file system. Understood:
//! v7, ustar, GNU (long names, sparse) and PAX (POSIX.1-2001; `SCHILY.xattr`, `GNU.sparse` 0.0, 0.1 and 1.0).
//! Where readers of the world disagree it takes the side of Go's archive/tar, which wrote and reads most images, and
//! refuses what would let two readers see different entries (a PAX size that contradicts the header's).
//! Global PAX headers are skipped, as dockerd does.

mod entry;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use entry::{Device, Entry, Kind, Mtime};
pub use reader::Reader;
pub use sparse::Segment;
pub use writer::Writer;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream could not be read.
    #[error("reading the archive: {0}")]
    Io(#[from] std::io::Error),
    /// The stream ends inside a header or inside an entry's data.
    #[error("archive/tar: the archive ends inside {0}")]
    Truncated(&'static str),
    /// A header's checksum is wrong: this is not a tar archive, or a broken one.
    #[error("archive/tar: invalid tar header")]
    Checksum,
    /// A field of a header cannot be read.
    #[error("archive/tar: invalid {field} in a tar header")]
    Field {
        /// Which field.
        field: &'static str,
    },
    /// A value is outside of what Linux has.
    #[error("archive/tar: {field} {value} of {path:?} is out of range")]
    Range {
        /// Which field.
        field: &'static str,
        /// The value as written.
        value: i64,
        /// The entry.
        path: String,
    },
    /// An extension header or its records are malformed.
    #[error("archive/tar: invalid PAX records: {0}")]
    Pax(&'static str),
    /// A PAX record and the header give different sizes.
    #[error("archive/tar: {path:?} has size {header} in its header and {pax} in its PAX records")]
    SizeMismatch {
        /// The entry.
        path: String,
        /// The header's size in bytes.
        header: u64,
        /// The PAX record's size in bytes.
        pax: u64,
    },
    /// The map of a sparse file is malformed.
    #[error("archive/tar: invalid sparse map: {0}")]
    Sparse(&'static str),
    /// Extension headers larger than any honest archive has.
    #[error("archive/tar: extension headers of more than {limit} bytes before one entry")]
    ExtensionsTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// An entry of a kind that has no place in a file system.
    #[error("archive/tar: {path:?} is of unknown type {flag:?}")]
    UnknownType {
        /// The entry.
        path: String,
        /// The header's type flag.
        flag: char,
    },
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
