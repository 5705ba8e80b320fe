//! Keeps the kernel ready for moves of processes into control groups while containers are about to start.
//!
//! The first such move waits some 10 ms for an RCU grace period, and so does the next one 20 ms later; a container is
//! moved into as many groups as there are hierarchies, at a moment nobody can foretell on a busy machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::sys::cgroup::OwnGroup;

/// How long a start stays likely.
const SPAN: Duration = Duration::from_millis(100);
/// Shorter than the kernel takes to go back to where it waits.
const PAUSE: Duration = Duration::from_millis(8);

/// Until when to keep ready; none while nobody does. One thread does it for all.
#[derive(Debug, Default)]
pub(super) struct Anticipation(Arc<Mutex<Option<Instant>>>);

impl Anticipation {
    /// A move is likely from now on, for a while. Never waits.
    pub fn extend(&self) {
        let before = lock(&self.0).replace(Instant::now() + SPAN);
        if before.is_some() {
            return;
        }
        let until = self.0.clone();
        let named = thread::Builder::new().name("anticipate".to_owned()).stack_size(64 * 1024);
        // Only speed is lost without it.
        if named.spawn(move || keep_ready(&until)).is_err() {
            *lock(&self.0) = None;
        }
    }
}

fn keep_ready(until: &Mutex<Option<Instant>>) {
    let group = OwnGroup::open();
    loop {
        let moved = group.as_ref().is_ok_and(|group| group.move_here().is_ok());
        if moved {
            thread::sleep(PAUSE);
        }
        let mut until = lock(until);
        if !moved || until.is_none_or(|at| at <= Instant::now()) {
            *until = None;
            return;
        }
    }
}

fn lock(until: &Mutex<Option<Instant>>) -> std::sync::MutexGuard<'_, Option<Instant>> {
    until.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_ready_when_no_start_is_likely_any_more() {
        let anticipation = Anticipation::default();
        anticipation.extend();
        anticipation.extend();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&anticipation.0) > 1 && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        assert_eq!(*lock(&anticipation.0), None);
    }
}
