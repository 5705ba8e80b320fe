//! Error numbers in words.

use std::io;

use nix::errno::Errno;

/// The kernel's own words as Go has them, whose readers look for them: those of C libraries, but in lower case.
pub fn in_gos_words(errno: Errno) -> String {
    errno.desc().to_ascii_lowercase()
}

/// The same of an error that may have no number and then says what it is itself.
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => in_gos_words(Errno::from_raw(number)),
        None => error.to_string(),
    }
}
