//! Error numbers in words.

use nix::errno::Errno;

/// The kernel's own words as Go has them, whose readers look for them: those of C libraries, but in lower case.
pub fn in_gos_words(errno: Errno) -> String {
    let words = errno.desc();
    words.get(..1).map_or_else(String::new, str::to_lowercase) + words.get(1..).unwrap_or_default()
}
