//! Health checks: what a container's own probe says of it.
//!
//! Pure: how probes are to be run ([`Plan`]), and what a result makes of what is known ([`Health`]). [`monitor`] is the
//! owner's clock, [`probe`] runs one probe; neither decides anything. Rules and defaults are dockerd's.

mod monitor;
mod plan;
mod probe;

pub(super) use monitor::Monitor;
pub use plan::Plan;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;

/// How many results are kept.
const KEPT: usize = 5;

/// What the probes so far have told: `Health` of the Engine API, as inspect shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    pub status: Status,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The latest results, oldest first.
    pub log: Vec<Outcome>,
}

/// `Health.Status` of the Engine API; a container without a probe has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No probe has succeeded yet, and it is too early to say more.
    Starting,
    Healthy,
    Unhealthy,
}

impl Status {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One probe that was run: `HealthcheckResult` of the Engine API.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Outcome {
    pub start: Timestamp,
    pub end: Timestamp,
    /// 0 is healthy; -1 is a probe that could not be run or took too long.
    pub exit_code: i32,
    pub output: String,
}

impl Health {
    /// At the start of a container's process. Results of earlier runs are kept.
    pub fn starting(before: Option<Self>) -> Self {
        let log = before.map(|health| health.log).unwrap_or_default();
        Self { status: Status::Starting, failing_streak: 0, log }
    }

    /// No probe watches it any more: its process has ended or is frozen.
    pub fn unwatched(self) -> Self {
        Self { status: Status::Unhealthy, ..self }
    }

    /// Takes a result in. `started` is the start of the container's process. Failures in the start period do not count
    /// as long as there was no success.
    pub fn take(&mut self, outcome: Outcome, plan: &Plan, started: Timestamp) {
        let early = self.status == Status::Starting && outcome.start.since(started) < plan.start_period;
        if outcome.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if !early {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= plan.retries {
                self.status = Status::Unhealthy;
            }
        }
        if self.log.len() >= KEPT {
            self.log.drain(..=self.log.len() - KEPT);
        }
        self.log.push(outcome);
    }

    /// How long to wait before the next probe, `age` after the start of the container's process.
    pub fn pause(&self, plan: &Plan, age: Duration) -> Duration {
        let starts = self.status == Status::Starting && age < plan.start_period;
        if starts { plan.start_interval } else { plan.interval }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_nanos(second * 1_000_000_000)
    }

    fn outcome(second: i64, exit_code: i32) -> Outcome {
        Outcome { start: at(second), end: at(second), exit_code, output: String::new() }
    }

    #[test]
    fn a_status_follows_from_results_as_under_dockerd() {
        use Status::*;
        // Retries and start period; then second, exit code, status and streak after each result.
        type Step = (i64, i32, Status, u32);
        let table: &[(u32, u64, &[Step])] = &[
            (3, 0, &[(1, 0, Healthy, 0), (2, 1, Healthy, 1), (3, 1, Healthy, 2), (4, 7, Unhealthy, 3)]),
            (3, 0, &[(1, 1, Starting, 1), (2, 1, Starting, 2), (3, 0, Healthy, 0)]),
            (1, 0, &[(1, -1, Unhealthy, 1), (2, 0, Healthy, 0)]),
            (1, 5, &[(1, 1, Starting, 0), (4, 1, Starting, 0), (5, 1, Unhealthy, 1)]),
            (2, 9, &[(1, 0, Healthy, 0), (2, 1, Healthy, 1), (3, 1, Unhealthy, 2)]),
        ];
        for (retries, start_period, steps) in table {
            let plan = Plan {
                retries: *retries,
                start_period: Duration::from_secs(*start_period),
                ..Plan::with_command(vec![])
            };
            let mut health = Health::starting(None);
            for (second, code, status, streak) in *steps {
                health.take(outcome(*second, *code), &plan, at(0));
                assert_eq!((health.status, health.failing_streak), (*status, *streak), "{second} {steps:?}");
            }
        }
    }

    #[test]
    fn the_last_five_results_are_kept_across_starts() {
        let plan = Plan::with_command(vec![]);
        let mut health = Health::starting(None);
        (0..9).for_each(|second| health.take(outcome(second, 0), &plan, at(0)));
        let health = Health::starting(Some(health.unwatched()));
        let starts: Vec<_> = health.log.iter().map(|outcome| outcome.start.seconds()).collect();
        assert_eq!((health.status, starts), (Status::Starting, vec![4, 5, 6, 7, 8]));
    }

    #[test]
    fn probes_come_faster_in_the_start_period_until_one_succeeds() {
        let start_period = Duration::from_secs(60);
        let plan = Plan { start_period, ..Plan::with_command(vec![]) };
        let mut health = Health::starting(None);
        let age = Duration::from_secs(59);
        assert_eq!(health.pause(&plan, age), plan.start_interval);
        assert_eq!(health.pause(&plan, start_period), plan.interval);
        health.status = Status::Healthy;
        assert_eq!(health.pause(&plan, age), plan.interval);
    }
}
