//! `Status` of a listed container, for people: `Up 5 minutes`, `Exited (0) 2 hours ago`.

use std::time::Duration;

use crate::base::time::Timestamp;
use crate::container::health::Status;
use crate::container::state::{Phase, State};

/// What became of a container and how long ago.
pub(super) fn sentence(state: &State, now: Timestamp) -> String {
    let up = || human(now.since(state.started_at));
    let ago = || human(now.since(state.finished_at));
    match state.shown() {
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

/// The first moment after `now` at which the sentence is another, as far as time alone changes it.
pub fn changes_at(state: &State, now: Timestamp) -> Option<Timestamp> {
    let since = match state.phase {
        Phase::Running | Phase::Paused => state.started_at,
        Phase::Restarting | Phase::Created | Phase::Starting | Phase::Exited => state.finished_at,
        Phase::Removing | Phase::Dead => return None,
    };
    if since.is_unset() {
        return None;
    }
    // Hours are rounded and years are cut, so from an hour on a text may change each half hour.
    let span = now.since(since).as_secs();
    let grain = match span {
        0..60 => 1,
        60..3600 => 60,
        _ => 1800,
    };
    let next = (span / grain + 1).saturating_mul(grain).saturating_mul(1_000_000_000);
    Some(Timestamp::from_nanos(since.nanos().saturating_add_unsigned(next)))
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
    let hours = (seconds + 1800) / 3600;
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
    fn no_sentence_changes_before_the_moment_that_is_told() {
        let started_at = Timestamp::from_nanos(123_456_789);
        let state = State { phase: Phase::Running, started_at, ..State::default() };
        let after = |millis: u64| Timestamp::from_nanos(started_at.nanos() + millis as i64 * 1_000_000);
        let days = 3 * 366 * 24 * 3600;
        for second in (0..10_000).chain((10_000..days).step_by(613)) {
            let now = after(second * 1000 + second % 1000);
            let until = changes_at(&state, now).unwrap();
            assert!(until > now && until <= after((second + 1801) * 1000), "{second}");
            let last = Timestamp::from_nanos(until.nanos() - 1);
            assert_eq!(sentence(&state, now), sentence(&state, last), "{second}");
            let middle = Timestamp::from_nanos(now.nanos().midpoint(last.nanos()));
            assert_eq!(sentence(&state, now), sentence(&state, middle), "{second}");
        }
        for state in [
            State::default(),
            State { phase: Phase::Dead, finished_at: started_at, ..State::default() },
            State { phase: Phase::Exited, ..State::default() },
        ] {
            assert_eq!(changes_at(&state, started_at), None);
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
