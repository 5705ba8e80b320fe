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

/// The number of an error; one without counts as the kernel's for what went wrong in ways that have no number.
pub fn number(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// `message` with system errors in the words of Go, by which clients know them: `no such file or directory` for
/// `No such file or directory (os error 2)`.
pub fn told_in_gos_words(mut message: String) -> String {
    const MARK: &str = " (os error ";
    let mut from = 0;
    while let Some(at) = message[from..].find(MARK).map(|at| from + at) {
        from = at + MARK.len();
        let digits = message[from..].split(')').next().unwrap_or_default();
        let shown = digits.parse().map(|number| io::Error::from_raw_os_error(number).to_string());
        let Some((words, number)) = shown.as_deref().ok().and_then(|shown| shown.split_once(MARK)) else {
            continue;
        };
        let Some(start) = at
            .checked_sub(words.len())
            .filter(|start| message.get(*start..).is_some_and(|rest| rest.starts_with(words)))
        else {
            continue;
        };
        let mut go = words.to_owned();
        go[..1].make_ascii_lowercase();
        message.replace_range(start..from + number.len(), &go);
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
            ("é (os error 2) (os error x) (os error ", "é (os error 2) (os error x) (os error "),
        ] {
            assert_eq!(told_in_gos_words(rust.to_owned()), go);
        }
    }
}
