//! When a container's next probe is due, and what the owner does with its result.
//!
//! One timer beside the owner's others and one task while a probe runs; nothing for containers without a probe. Probes
//! never overlap: the next one's delay begins when the last one has ended.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::probe::{self, Prepared};
use super::{Health, Outcome, Plan};
use crate::base::time::Timestamp;
use crate::container::handle::Handle;
use crate::container::owner::Owner;
use crate::container::state::Phase;

/// How long results that change nothing may be in memory only: writing each of them would cost more than the probe.
const UNSAVED: Duration = Duration::from_secs(30);

/// The clock of one container's probes.
#[derive(Default)]
pub(in crate::container) struct Monitor {
    plan: Option<Plan>,
    prepared: Prepared,
    due: Option<Instant>,
    running: Option<oneshot::Receiver<Outcome>>,
    /// Since when there are results in memory only.
    unsaved: Option<Instant>,
}

impl Monitor {
    /// When the owner has to call [`Owner::probe_if_due`].
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The result of the probe that runs, `None` if it broke off; never if none runs.
    pub async fn finished(&mut self) -> Option<Outcome> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let outcome = running.await.ok();
        self.running = None;
        outcome
    }
}

impl Owner {
    /// Its process has just been started: probes begin anew.
    pub(in crate::container) fn start_health(&mut self) {
        let before = self.now.state.health.take();
        if Plan::of(&self.now.record.config).is_some() {
            self.now.state.health = Some(Health::starting(before));
        }
        self.watch_health();
    }

    /// Probes from now on, if its process runs and is not frozen: after a thaw, or after the daemon was away. What was
    /// known before stays until a probe says otherwise.
    pub(in crate::container) fn watch_health(&mut self) {
        self.monitor = Monitor { plan: Plan::of(&self.now.record.config), ..Monitor::default() };
        if self.monitor.plan.is_some() && self.now.state.phase == Phase::Running {
            self.now.state.health.get_or_insert_with(|| Health::starting(None));
            self.schedule_probe();
        }
    }

    /// Its process has ended or is frozen. The result of a probe that still runs counts no more.
    pub(in crate::container) fn stop_health(&mut self) {
        self.monitor = Monitor::default();
        self.now.state.health = self.now.state.health.take().map(Health::unwatched);
    }

    /// Runs the probe when it is due; its result comes by [`Monitor::finished`].
    pub(in crate::container) fn probe_if_due(&mut self) {
        let Some(plan) = self.monitor.plan.clone() else { return };
        if self.monitor.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        let (result, running) = oneshot::channel();
        self.monitor.due = None;
        self.monitor.running = Some(running);
        let (handle, parts) = (Handle { shared: self.shared.clone() }, self.parts.clone());
        let prepared = self.monitor.prepared.clone();
        tokio::spawn(async move {
            // Whoever stopped watching does not want to know.
            let _ = result.send(probe::run(&handle, &parts, &plan, &prepared).await);
        });
    }

    /// Takes in the result of a probe.
    pub(in crate::container) fn probed(&mut self, outcome: Option<Outcome>) {
        let started = self.now.state.started_at;
        let known = (outcome, self.monitor.plan.as_ref(), self.now.state.health.as_mut());
        let (Some(outcome), Some(plan), Some(health)) = known else { return self.schedule_probe() };
        let before = (health.status, health.failing_streak);
        health.take(outcome, plan, started);
        let (after, streak) = (health.status, health.failing_streak);
        self.schedule_probe();
        let unsaved = *self.monitor.unsaved.get_or_insert_with(Instant::now);
        if before != (after, streak) || unsaved.elapsed() >= UNSAVED {
            self.save_health();
        }
        self.publish();
        if before.0 != after {
            self.report().plain(format!("health_status: {}", after.as_str()));
        }
    }

    /// Writes results that are in memory only.
    pub(in crate::container) fn save_health(&mut self) {
        if self.monitor.unsaved.take().is_some() {
            self.persist();
        }
    }

    fn schedule_probe(&mut self) {
        if let (Some(plan), Some(health)) = (&self.monitor.plan, &self.now.state.health) {
            let age = Timestamp::now().since(self.now.state.started_at);
            self.monitor.due = Some(Instant::now() + health.pause(plan, age));
        }
    }
}
