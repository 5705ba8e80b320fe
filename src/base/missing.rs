//! What is not there need not be removed.

use std::io;

/// The outcome of removing or changing something that may be gone: that it is not there is no error.
pub fn missing_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
