//! How and how often a container is probed: its `Healthcheck` with dockerd's defaults.

use std::time::Duration;

use crate::container::config::ContainerConfig;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// What a probe in one string is handed to, unless the container has a shell of its own.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The probe and its arguments.
    pub command: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    /// How long after its start a container may fail probes.
    pub start_period: Duration,
    /// The interval in that time.
    pub start_interval: Duration,
    /// After so many failures in a row it is unhealthy; at least 1.
    pub retries: u32,
}

impl Plan {
    /// The plan of a container; `None` if it is not probed.
    pub fn of(config: &ContainerConfig) -> Option<Self> {
        let check = config.healthcheck.as_ref()?;
        let command = command(check.test.as_deref()?, config.shell.as_deref())?;
        let span = |nanos: i64, default| match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
            _ => default,
        };
        Some(Self {
            command,
            interval: span(check.interval, INTERVAL),
            timeout: span(check.timeout, TIMEOUT),
            start_period: span(check.start_period, Duration::ZERO),
            start_interval: span(check.start_interval, START_INTERVAL),
            retries: u32::try_from(check.retries).ok().filter(|retries| *retries > 0).unwrap_or(RETRIES),
        })
    }

    /// A plan with dockerd's defaults.
    #[cfg(test)]
    pub(super) fn with_command(command: Vec<String>) -> Self {
        Self {
            command,
            interval: INTERVAL,
            timeout: TIMEOUT,
            start_period: Duration::ZERO,
            start_interval: START_INTERVAL,
            retries: RETRIES,
        }
    }
}

/// `["NONE"]` and kinds that nobody knows mean no probe.
fn command(test: &[String], shell: Option<&[String]>) -> Option<Vec<String>> {
    let (kind, words) = test.split_first()?;
    match kind.as_str() {
        "CMD" => Some(words.to_vec()),
        "CMD-SHELL" => {
            let shell = match shell {
                Some(shell) if !shell.is_empty() => shell.to_vec(),
                _ => SHELL.map(str::to_owned).to_vec(),
            };
            Some(shell.into_iter().chain(words.iter().cloned()).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Option<Plan> {
        Plan::of(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_command_is_run_as_it_is_or_by_the_shell() {
        for (config, command) in [
            (r#"{"Healthcheck":{"Test":["CMD","a","b c"]}}"#, Some(&["a", "b c"][..])),
            (r#"{"Healthcheck":{"Test":["CMD-SHELL","a b"]}}"#, Some(&["/bin/sh", "-c", "a b"])),
            (
                r#"{"Healthcheck":{"Test":["CMD-SHELL","a b"]},"Shell":["ash","-ec"]}"#,
                Some(&["ash", "-ec", "a b"]),
            ),
            (r#"{"Healthcheck":{"Test":["NONE"]}}"#, None),
            (r#"{"Healthcheck":{"Test":["ELSE","a"]}}"#, None),
            (r#"{"Healthcheck":{"Test":[]}}"#, None),
            (r#"{"Healthcheck":{"Interval":1000000000}}"#, None),
            ("{}", None),
        ] {
            let found = plan(config).map(|plan| plan.command);
            let expected = command.map(|words| words.iter().map(ToString::to_string).collect());
            assert_eq!(found, expected, "{config}");
        }
    }

    #[test]
    fn zero_is_the_default() {
        let command = vec!["a".to_owned()];
        assert_eq!(
            plan(r#"{"Healthcheck":{"Test":["CMD","a"]}}"#),
            Some(Plan::with_command(command.clone()))
        );
        let own = plan(
            r#"{"Healthcheck":{"Test":["CMD","a"],"Interval":1000000000,"Timeout":2000000000,
                "StartPeriod":3000000000,"StartInterval":4000000000,"Retries":5}}"#,
        );
        let second = Duration::from_secs;
        let expected = Plan {
            command,
            interval: second(1),
            timeout: second(2),
            start_period: second(3),
            start_interval: second(4),
            retries: 5,
        };
        assert_eq!(own, Some(expected));
    }
}
