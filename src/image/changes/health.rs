//! `HEALTHCHECK [--interval=…] … CMD …`

use super::{InvalidChange, json_list};
use crate::base::time::parse_duration;
use crate::image::config::Healthcheck;

const MILLISECOND: i64 = 1_000_000;

/// What follows the word.
pub(super) fn parse(text: &str) -> Result<Healthcheck, InvalidChange> {
    let mut health = Healthcheck::default();
    let mut rest = text.trim();
    while rest.starts_with("--") {
        let (flag, left) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        set(&mut health, flag)?;
        rest = left.trim();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => health.test = vec!["NONE".to_owned()],
        "NONE" => return Err(InvalidChange::HealthNone),
        "CMD" if command.is_empty() => return Err(InvalidChange::HealthCommand),
        "CMD" => {
            health.test = match json_list(command) {
                Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
                None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            };
        }
        _ => return Err(InvalidChange::HealthType(kind.to_owned())),
    }
    Ok(health)
}

fn set(health: &mut Healthcheck, flag: &str) -> Result<(), InvalidChange> {
    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
    match name {
        "--interval" => health.interval = duration(value)?,
        "--timeout" => health.timeout = duration(value)?,
        "--start-period" => health.start_period = duration(value)?,
        "--start-interval" => health.start_interval = duration(value)?,
        "--retries" => {
            let retries = value.parse::<i32>().map_err(|_| InvalidChange::Retries(value.to_owned()))?;
            if retries < 0 {
                return Err(InvalidChange::NegativeRetries(retries.into()));
            }
            health.retries = retries.into();
        }
        _ => return Err(InvalidChange::HealthFlag(flag.to_owned())),
    }
    Ok(())
}

/// A duration of Go, in nanoseconds: none, or a millisecond at least.
fn duration(text: &str) -> Result<i64, InvalidChange> {
    let read = parse_duration(text).and_then(|duration| i64::try_from(duration.as_nanos()).ok());
    let nanos = read.ok_or_else(|| InvalidChange::Duration(text.to_owned()))?;
    if nanos != 0 && nanos < MILLISECOND {
        return Err(InvalidChange::ShortDuration(text.to_owned()));
    }
    Ok(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_as_in_a_dockerfile() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(parse("NONE").unwrap().test, words(&["NONE"]));
        let health =
            parse("--timeout=500ms --start-period=1h --start-interval=0 cmd [\"a\", \"b\"]").unwrap();
        assert_eq!(health.test, words(&["CMD", "a", "b"]));
        assert_eq!((health.timeout, health.start_period), (500 * MILLISECOND, 3_600_000 * MILLISECOND));
        for (text, message) in [
            ("RUN x", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)"),
            ("NONE x", "HEALTHCHECK NONE takes no arguments"),
            ("CMD", "Missing command after HEALTHCHECK CMD"),
            ("--x=1 CMD a", "Unknown flag: --x=1"),
            ("--interval=1 CMD a", "time: invalid duration \"1\""),
            ("--interval=1us CMD a", "Interval \"1us\" cannot be less than 1ms"),
            ("--retries=x CMD a", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("--retries=-1 CMD a", "--retries cannot be negative: -1"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
