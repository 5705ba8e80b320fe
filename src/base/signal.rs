//! Signals as users write them: `9`, `KILL`, `SIGKILL`, `RTMIN+3` (any case).

use nix::sys::signal::Signal;

/// The number of a signal; `None` for what is none. 0 is none.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return realtime(rest, '+').map(|offset| libc::SIGRTMIN() + offset);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return realtime(rest, '-').map(|offset| libc::SIGRTMAX() - offset);
    }
    let name = match name {
        "CLD" => "CHLD",
        "POLL" => "IO",
        "IOT" => "ABRT",
        other => other,
    };
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

fn realtime(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let offset = rest.strip_prefix(sign)?.parse::<i32>().ok()?;
    (0..=libc::SIGRTMAX() - libc::SIGRTMIN()).contains(&offset).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_dockerd_reads_them() {
        for (text, number) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("sigterm", Some(15)),
            ("SIGHUP", Some(1)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("CLD", Some(17)),
            ("0", None),
            ("65", None),
            ("", None),
            ("FOO", None),
            ("RTMIN+99", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_signal_is_one_that_the_kernel_has(
            text in "(SIG|sig)?(RTMIN|rtmax|KILL|Io|[a-zé]{0,4})?[+-]?[0-9]{0,11}",
        ) {
            if let Some(number) = parse(&text) {
                prop_assert!((1..=libc::SIGRTMAX()).contains(&number), "{}", text);
                prop_assert_eq!(parse(&number.to_string()), Some(number));
                prop_assert_eq!(parse(&text.to_ascii_lowercase()), Some(number));
            }
        }
    }
}
