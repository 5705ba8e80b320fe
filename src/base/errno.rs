//! Error numbers in words.

use std::io;

use nix::errno::Errno;

/// How the standard library ends the words of an error with a number.
const MARK: &str = " (os error ";

/// The kernel's own words as Go has them, whose readers look for them: those of the C library, but beginning in lower
/// case unless they begin with an abbreviation (Go's `mkerrors.sh`).
pub fn in_gos_words(errno: Errno) -> String {
    words_of(errno as i32)
}

fn words_of(number: i32) -> String {
    // Not nix's, which are others: "try again" where the C library says "resource temporarily unavailable".
    let mut words = io::Error::from_raw_os_error(number).to_string();
    words.truncate(words.rfind(MARK).unwrap_or(words.len()));
    let abbreviated = words.chars().nth(1).is_some_and(char::is_uppercase);
    if let Some(first) = words.get_mut(..1).filter(|_| !abbreviated) {
        first.make_ascii_lowercase();
    }
    words
}

/// The same of an error that may have no number and then says what it is itself.
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => words_of(number),
        None => error.to_string(),
    }
}

/// The number of an error; one without counts as the kernel's for what went wrong in ways that have no number.
pub fn number(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// `message` with system errors in the words of Go, by which clients know them: `no such file or directory` for
/// `No such file or directory (os error 2)`.
pub fn told_in_gos_words(mut message: String) -> String {
    let mut from = 0;
    while let Some(at) = message[from..].find(MARK).map(|at| from + at) {
        from = at + MARK.len();
        let digits = message[from..].split(')').next().unwrap_or_default();
        let Ok(number) = digits.parse::<i32>() else { continue };
        let shown = io::Error::from_raw_os_error(number).to_string();
        let end = from + digits.len() + 1;
        let start = end.checked_sub(shown.len());
        let Some(start) = start.filter(|start| message.get(*start..end) == Some(&shown)) else { continue };
        let go = words_of(number);
        message.replace_range(start..end, &go);
        from = start + go.len();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_are_told_in_gos_words() {
        for (rust, go) in [
            ("a: No such file or directory (os error 2): b", "a: no such file or directory: b"),
            (
                "Permission denied (os error 13), Is a directory (os error 21)",
                "permission denied, is a directory",
            ),
            ("something else (os error 2)", "something else (os error 2)"),
            ("RFS specific error (os error 73)", "RFS specific error"),
            ("Unknown error 999 (os error 999)", "unknown error 999"),
            ("No such file or directory (os error 2", "No such file or directory (os error 2"),
            ("No such file or directory (os error +2)", "No such file or directory (os error +2)"),
            ("é (os error 2) (os error x) (os error ", "é (os error 2) (os error x) (os error "),
        ] {
            assert_eq!(told_in_gos_words(rust.to_owned()), go);
        }
    }

    #[test]
    fn an_error_is_told_as_go_has_it_or_in_its_own_words() {
        for (number, words) in [
            (libc::EIO, "input/output error"),
            (libc::ENOENT, "no such file or directory"),
            (libc::EAGAIN, "resource temporarily unavailable"),
            (libc::ENOCSI, "no CSI structure available"),
            (libc::EREMCHG, "remote address changed"),
            (libc::EDOTDOT, "RFS specific error"),
            (libc::EDQUOT, "disk quota exceeded"),
        ] {
            assert_eq!(reason(&io::Error::from_raw_os_error(number)), words);
        }
        assert_eq!(reason(&io::Error::other("Neither number nor Go")), "Neither number nor Go");
    }
}
