//! Compresses a rotated log file: the work of `slipwayd compress-log FILE`.
//!
//! `FILE.gz` appears whole by rename, then `FILE` goes. The gzip header's extra field keeps the identity of `FILE`, by
//! which a reader recognises the content it was reading (RFC 1952, section 2.3.1.1, subfield `SW`).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::json_file::Mark;

/// The role's name on the command line.
pub const ROLE: &str = "compress-log";

const SUBFIELD: [u8; 4] = [b'S', b'W', 16, 0];

/// What tells the files of a log apart once they are no longer written to. File systems give the inode of a deleted
/// file to the next one, so it takes the time of the last change too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub inode: u64,
    /// Nanoseconds since the epoch.
    pub modified: i64,
}

impl Identity {
    /// That of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let modified = meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec());
        Ok(Self { inode: meta.ino(), modified })
    }
}

/// Compresses the file named by the first argument.
pub fn main(mut args: impl Iterator<Item = String>) -> ExitCode {
    match args.next().map(|path| compress(Path::new(&path))) {
        Some(Ok(())) => ExitCode::SUCCESS,
        // The plain file stays, which readers take as well.
        Some(Err(_)) | None => ExitCode::FAILURE,
    }
}

/// Replaces `path` by `path.gz`.
pub fn compress(path: &Path) -> io::Result<()> {
    let mut plain = File::open(path)?;
    let identity = Identity::of(&plain)?;
    let unfinished = with_suffix(path, ".gz.new");
    let target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&unfinished)?;
    let mut extra = SUBFIELD.to_vec();
    extra.extend_from_slice(&identity.inode.to_le_bytes());
    extra.extend_from_slice(&identity.modified.to_le_bytes());
    let mut gz = flate2::GzBuilder::new().extra(extra).write(target, flate2::Compression::fast());
    io::copy(&mut plain, &mut gz)?;
    let packed = gz.finish()?;
    if let Some(mark) = Mark::of(&plain) {
        mark.set(&packed)?;
    }
    fs::rename(&unfinished, with_suffix(path, ".gz"))?;
    fs::remove_file(path)
}

/// That of the file whose content a compressed file has; its own where another program compressed it.
pub fn original(file: &File) -> io::Result<Identity> {
    // Fixed header of 10 bytes, length of the extra field, then our subfield first.
    let mut head = [0; 32];
    let noted = file.read_exact_at(&mut head, 0).is_ok() && head[3] & 4 != 0 && head[12..16] == SUBFIELD;
    if !noted {
        return Identity::of(file);
    }
    let (inode, modified) = (head[16..].first_chunk(), head[24..].first_chunk());
    let inode = u64::from_le_bytes(*inode.expect("8 of 32 bytes"));
    Ok(Identity { inode, modified: i64::from_le_bytes(*modified.expect("8 of 32 bytes")) })
}

/// Reads the content of a compressed file.
pub fn reader(file: File) -> impl Read {
    flate2::read::MultiGzDecoder::new(file)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_file_replaces_the_plain_one_and_remembers_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.1");
        fs::write(&path, "content\n".repeat(1000)).unwrap();
        let identity = Identity::of(&File::open(&path).unwrap()).unwrap();
        compress(&path).unwrap();
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["l.1.gz"]);
        let file = File::open(dir.path().join("l.1.gz")).unwrap();
        assert_eq!(original(&file).unwrap(), identity);
        let mut text = String::new();
        reader(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "content\n".repeat(1000));
    }
}
