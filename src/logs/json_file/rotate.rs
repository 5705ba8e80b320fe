//! Rotation by rename: `L` becomes `L.1`, `L.1` becomes `L.2`, and so on; a compressed one keeps its `.gz`.
//!
//! A file's content never moves to another inode except by compression, which notes what it replaces: so a reader in
//! the middle of a file always finds which file comes next ([`segments`]).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Compression::{self, Gzip, Plain};
use super::WriterOptions;
use crate::base::missing::missing_is_fine;
use crate::logs::compress::{self, Identity};

/// Makes room for a new current file at `path`, keeping `max_file` − 1 older ones. The current file is gone from
/// `path` afterwards, but whoever has it open reads on.
pub fn rotate(path: &Path, max_file: u32) -> io::Result<()> {
    let keep = max_file.max(1) - 1;
    if keep == 0 {
        return missing_is_fine(fs::remove_file(path));
    }
    for number in (1..keep).rev() {
        if rename(&rotated(path, number, Plain), &rotated(path, number + 1, Plain))? {
            // What is left of a compressor killed before it had deleted the plain file, and what was overwritten.
            missing_is_fine(fs::remove_file(rotated(path, number, Gzip)))?;
            missing_is_fine(fs::remove_file(rotated(path, number + 1, Gzip)))?;
        } else if rename(&rotated(path, number, Gzip), &rotated(path, number + 1, Gzip))? {
            missing_is_fine(fs::remove_file(rotated(path, number + 1, Plain)))?;
        }
    }
    missing_is_fine(fs::remove_file(rotated(path, 1, Gzip)))?;
    rename(path, &rotated(path, 1, Plain)).map(|_| ())
}

/// Whether there was something to rename.
fn rename(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// One file of a log.
pub struct Segment {
    pub file: File,
    pub form: Compression,
}

impl Segment {
    /// That of the content as it was written; final once the file has been rotated.
    pub fn identity(&self) -> io::Result<Identity> {
        match self.form {
            Plain => Identity::of(&self.file),
            Gzip => compress::original(&self.file),
        }
    }
}

/// Opens all files of the log at `path`, newest first: the current one, then the rotated ones. Repeats itself if a
/// rotation happens meanwhile, so that none is missed or opened twice.
pub fn segments(path: &Path) -> io::Result<Vec<Segment>> {
    const ATTEMPTS: usize = 10;
    for _ in 0..ATTEMPTS {
        let mut found: Vec<Segment> = Vec::new();
        let mut moved = false;
        let candidates = std::iter::once((path.to_owned(), Plain)).chain(
            (1..=highest(path)?.saturating_add(1))
                .flat_map(|number| [Plain, Gzip].map(|form| (rotated(path, number, form), form))),
        );
        for (name, form) in candidates {
            let Some(file) = open_if_there(&name)? else { continue };
            let segment = Segment { file, form };
            let identity = segment.identity()?;
            match found.last() {
                // The compressed copy of the plain file just seen, which is about to be deleted.
                Some(last) if form == Gzip && last.identity()? == identity => continue,
                _ => {}
            }
            for earlier in &found {
                moved |= earlier.identity()? == identity;
            }
            found.push(segment);
        }
        if !moved {
            return Ok(found);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the log is rotated faster than it can be read"))
}

fn open_if_there(name: &Path) -> io::Result<Option<File>> {
    match File::open(name) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The highest number of a rotated file of the log at `path`.
fn highest(path: &Path) -> io::Result<u32> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(0) };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let name = format!("{}.", name.to_string_lossy());
    let mut highest = 0;
    for entry in entries {
        let entry = entry?.file_name();
        let number =
            entry.to_str().and_then(|entry| entry.strip_prefix(&name)).map(|end| end.trim_end_matches(".gz"));
        highest = number.and_then(|number| number.parse().ok()).unwrap_or(0).max(highest);
    }
    Ok(highest)
}

fn rotated(path: &Path, number: u32, form: Compression) -> PathBuf {
    let end = match form {
        Plain => "",
        Gzip => ".gz",
    };
    let mut name = OsString::from(path);
    name.push(format!(".{number}{end}"));
    name.into()
}

/// Runs `slipwayd compress-log` for the file rotated last, one at a time.
#[derive(Default)]
pub struct Compressor {
    running: Option<Child>,
}

impl Compressor {
    /// Waits until the last file is compressed: it must not be renamed meanwhile.
    pub fn wait(&mut self) {
        if let Some(mut child) = self.running.take() {
            // The shim may have reaped it with the container's processes; gone is gone.
            let _ = child.wait();
        }
    }

    /// Starts to compress the file that the log at `path` was just rotated to.
    pub fn start(&mut self, path: &Path, options: &WriterOptions) -> io::Result<()> {
        if options.compress == Plain || options.max_file < 2 {
            return Ok(());
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg(compress::ROLE).arg(rotated(path, 1, Plain));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running = Some(command.spawn()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
    }

    #[test]
    fn rotation_keeps_plain_and_compressed_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        touch(&path, "new");
        touch(&rotated(&path, 1, Gzip), "b");
        touch(&rotated(&path, 2, Plain), "a");
        rotate(&path, 4).unwrap();
        rotate(&path, 4).unwrap();
        let read = |number, form| fs::read_to_string(rotated(&path, number, form)).ok();
        assert!(!path.exists());
        assert_eq!(read(1, Plain), None);
        assert_eq!(read(2, Plain).as_deref(), Some("new"));
        assert_eq!(read(3, Gzip).as_deref(), Some("b"));
        assert_eq!(read(3, Plain), None);
    }

    #[test]
    fn one_file_only_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        touch(&path, "old");
        rotate(&path, 1).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn segments_are_found_newest_first_across_gaps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        touch(&path, "c");
        touch(&rotated(&path, 3, Plain), "a");
        compress::compress(&rotated(&path, 3, Plain)).unwrap();
        touch(&rotated(&path, 2, Plain), "b");
        let found = segments(&path).unwrap();
        let forms: Vec<_> = found.iter().map(|segment| segment.form).collect();
        assert_eq!(forms, [Plain, Plain, Gzip]);
    }
}
