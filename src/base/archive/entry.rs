//! What one archive entry says, after all of its headers have been taken together.

use super::sparse::Segment;

/// What kind of file an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with data, sparse or not.
    Regular,
    /// Another name, `Entry::link`, for an earlier entry's file.
    HardLink,
    /// A symbolic link to `Entry::link`.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// The number of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// A time of modification since the Unix epoch; `nanos` counts forward from `seconds`, also before the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mtime {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// One entry. Names are bytes as in the archive: not cleaned, not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub path: Vec<u8>,
    /// The target of a hard link or symbolic link, else empty.
    pub link: Vec<u8>,
    /// The kind of file.
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner; never 2^32 − 1, which the kernel takes for "leave as it is".
    pub uid: u32,
    /// Group; never 2^32 − 1.
    pub gid: u32,
    /// Time of modification.
    pub mtime: Mtime,
    /// The file's length in bytes, holes of a sparse file included; 0 for all that have no data.
    pub size: u64,
    /// Of a device node.
    pub device: Device,
    /// Extended attributes in the archive's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The parts of a sparse file that have data; `None` if all of it has.
    pub sparse: Option<Vec<Segment>>,
}

impl Entry {
    /// The name for messages.
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}
