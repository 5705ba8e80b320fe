//! Starting the write-out of file data early, so that a later sync has little left to wait for.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Asks the kernel to begin writing out a range of `file`; never waits and never fails: it is advice
/// (sync_file_range(2), `SYNC_FILE_RANGE_WRITE`).
pub fn start(file: &File, offset: u64, length: u64) {
    let (offset, length) = (offset as libc::off64_t, length as libc::off64_t);
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the call reads and writes no memory of ours.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}
