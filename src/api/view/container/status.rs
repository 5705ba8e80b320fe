//! `Status` of a listed container, for people: `Up 5 minutes`, `Exited (0) 2 hours ago`.

use std::time::Duration;

use crate::base::time::Timestamp;
use crate::container::health::Status;
use crate::container::state::{Phase, State};

/// What became of a container and how long ago.
pub(super) fn sentence(state: &State, now: Timestamp) -> String {
    let up = || human(now.since(state.started_at));
    let ago = || human(now.since(state.finished_at));
    match state.phase {
        Phase::Running => format!("Up {}{}", up(), health(state)),
        Phase::Paused => format!("Up {} (Paused)", up()),
        Phase::Restarting => format!("Restarting ({}) {} ago", state.exit_code, ago()),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
        Phase::Created | Phase::Starting | Phase::Exited if state.started_at.is_unset() => {
            "Created".to_owned()
        }
        Phase::Created | Phase::Starting | Phase::Exited if state.finished_at.is_unset() => String::new(),
        Phase::Created | Phase::Starting | Phase::Exited => {
            format!("Exited ({}) {} ago", state.exit_code, ago())
        }
    }
}

/// What its probes say, in the words of `docker ps`.
fn health(state: &State) -> String {
    match state.health.as_ref().map(|health| health.status) {
        None => String::new(),
        Some(Status::Starting) => " (health: starting)".to_owned(),
        Some(status) => format!(" ({})", status.as_str()),
    }
}

/// The same for programs: `none` without a probe.
pub(super) fn health_word(state: &State) -> &'static str {
    state.health.as_ref().map_or("none", |health| health.status.as_str())
}

/// A time span in the one unit that tells most, with the limits of go-units' `HumanDuration`: tools parse these.
fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded, not cut.
    let hours = (span.as_secs_f64() / 3600.0).round() as u64;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::health::Health;

    #[test]
    fn spans_are_told_in_go_units_words() {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (2 * MINUTE, "2 minutes"),
            (59 * MINUTE + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 29 * MINUTE, "About an hour"),
            (HOUR + 30 * MINUTE, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn each_phase_has_its_sentence() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let ran =
            |phase| State { phase, started_at: at(0), finished_at: at(50), exit_code: 3, ..State::default() };
        for (state, text) in [
            (State::default(), "Created"),
            (ran(Phase::Running), "Up 53 seconds"),
            (
                State { health: Some(Health::starting(None)), ..ran(Phase::Running) },
                "Up 53 seconds (health: starting)",
            ),
            (
                State { health: Some(Health::starting(None).unwatched()), ..ran(Phase::Running) },
                "Up 53 seconds (unhealthy)",
            ),
            (ran(Phase::Paused), "Up 53 seconds (Paused)"),
            (ran(Phase::Restarting), "Restarting (3) 3 seconds ago"),
            (ran(Phase::Exited), "Exited (3) 3 seconds ago"),
            (ran(Phase::Starting), "Exited (3) 3 seconds ago"),
            (ran(Phase::Removing), "Removal In Progress"),
            (ran(Phase::Dead), "Dead"),
        ] {
            assert_eq!(sentence(&state, at(53)), text, "{:?}", state.phase);
        }
    }
}
