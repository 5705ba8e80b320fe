//! `HEALTHCHECK [--interval=…] … CMD …`

use std::num::IntErrorKind;

use super::InvalidChange;
use super::syntax::Arguments;
use crate::base::time::parse_duration;
use crate::image::config::Healthcheck;

const MILLISECOND: i64 = 1_000_000;

/// A probe of the flags and arguments.
pub(super) fn parse(flags: &[String], arguments: Arguments) -> Result<Healthcheck, InvalidChange> {
    let is_list = matches!(arguments, Arguments::Json(_));
    let mut words = arguments.some("HEALTHCHECK")?.into_iter();
    let kind = words.next().unwrap_or_default().to_uppercase();
    let command: Vec<String> = words.collect();
    let own = match (kind.as_str(), is_list) {
        ("NONE", _) if command.is_empty() => {
            return Ok(Healthcheck { test: vec![kind], ..Healthcheck::default() });
        }
        ("NONE", _) => return Err(InvalidChange::HealthNone),
        (_, true) => "CMD",
        (_, false) => "CMD-SHELL",
    };
    let mut health = settings(flags)?;
    if kind != "CMD" {
        return Err(InvalidChange::HealthType(kind));
    }
    if command.is_empty() {
        return Err(InvalidChange::HealthCommand);
    }
    health.test = std::iter::once(own.to_owned()).chain(command).collect();
    Ok(health)
}

fn settings(flags: &[String]) -> Result<Healthcheck, InvalidChange> {
    let mut health = Healthcheck::default();
    let mut seen: Vec<&str> = Vec::new();
    for flag in flags {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag.as_str(), None),
        };
        let value = || value.ok_or_else(|| InvalidChange::FlagValue(name.to_owned()));
        if seen.contains(&name) {
            return Err(InvalidChange::SecondFlag(name.to_owned()));
        }
        seen.push(name);
        match name {
            "--interval" => health.interval = duration("interval", value()?)?,
            "--timeout" => health.timeout = duration("timeout", value()?)?,
            "--start-period" => health.start_period = duration("start-period", value()?)?,
            "--start-interval" => health.start_interval = duration("start-interval", value()?)?,
            "--retries" => health.retries = retries(value()?)?,
            _ => return Err(InvalidChange::Flag(name.to_owned())),
        }
    }
    Ok(health)
}

/// A duration of Go, in nanoseconds: none, or a millisecond at least.
fn duration(name: &'static str, text: &str) -> Result<i64, InvalidChange> {
    if text.is_empty() {
        return Ok(0);
    }
    let positive = text.strip_prefix('-').unwrap_or(text);
    let read = parse_duration(positive).and_then(|duration| i64::try_from(duration.as_nanos()).ok());
    let nanos =
        read.ok_or_else(|| InvalidChange::Duration { problem: problem(positive), text: text.to_owned() })?;
    if nanos != 0 && (nanos < MILLISECOND || positive != text) {
        return Err(InvalidChange::ShortDuration(name));
    }
    Ok(nanos)
}

/// What Go says of a text that is no duration.
fn problem(text: &str) -> String {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let is_number = |letter: char| letter.is_ascii_digit() || letter == '.';
    let mut rest = text.trim_start_matches('+');
    while rest.starts_with(|letter: char| letter.is_ascii_digit()) {
        let after = rest.trim_start_matches(is_number);
        let unit = after.split(is_number).next().unwrap_or_default();
        match unit {
            "" => return "missing unit in duration".to_owned(),
            unit if !UNITS.contains(&unit) => return format!("unknown unit {unit:?} in duration"),
            unit => rest = &after[unit.len()..],
        }
    }
    "invalid duration".to_owned()
}

fn retries(text: &str) -> Result<i64, InvalidChange> {
    if text.is_empty() {
        return Ok(0);
    }
    let problem = |error: std::num::ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    let wrong = |error| InvalidChange::Retries { text: text.to_owned(), problem: problem(error) };
    let retries = text.parse::<i32>().map_err(wrong)?;
    if retries < 0 {
        return Err(InvalidChange::NegativeRetries(retries));
    }
    Ok(retries.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::changes::syntax::Line;

    fn probe(text: &str) -> Result<Healthcheck, InvalidChange> {
        let line = format!("HEALTHCHECK {text}");
        let line = Line::read(&line, '\\')?;
        parse(&line.flags, line.arguments)
    }

    #[test]
    fn probes_are_read_as_in_a_dockerfile() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(probe("--x none").unwrap().test, words(&["NONE"]));
        let health = probe(
            "--timeout=500ms --start-period='1h' --start-interval=0 --interval= --retries= cmd [\"a\", \"b\"]",
        );
        let health = health.unwrap();
        assert_eq!(health.test, words(&["CMD", "a", "b"]));
        assert_eq!((health.timeout, health.start_period), (500 * MILLISECOND, 3_600_000 * MILLISECOND));
        for (text, message) in [
            ("", "HEALTHCHECK requires at least one argument"),
            ("run x", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)"),
            ("NONE x", "HEALTHCHECK NONE takes no arguments"),
            ("CMD", "Missing command after HEALTHCHECK CMD"),
            ("CMD []", "Missing command after HEALTHCHECK CMD"),
            ("--x=1 CMD a", "unknown flag: --x"),
            ("--interval CMD a", "missing a value on flag: --interval"),
            ("--retries=1 --retries=1 CMD a", "duplicate flag specified: --retries"),
            ("--interval=1 CMD a", "time: missing unit in duration \"1\""),
            ("--interval=1x CMD a", "time: unknown unit \"x\" in duration \"1x\""),
            ("--interval=1h2 CMD a", "time: missing unit in duration \"1h2\""),
            ("--interval=x CMD a", "time: invalid duration \"x\""),
            ("--interval=1us CMD a", "Interval \"interval\" cannot be less than 1ms"),
            ("--timeout=-1s CMD a", "Interval \"timeout\" cannot be less than 1ms"),
            ("--retries=x CMD a", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("--retries=9999999999 CMD a", "strconv.ParseInt: parsing \"9999999999\": value out of range"),
            ("--retries=-1 CMD a", "--retries cannot be negative (-1)"),
        ] {
            assert_eq!(probe(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
