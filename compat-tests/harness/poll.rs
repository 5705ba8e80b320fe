//! Waiting for what comes about by itself: always a condition and a deadline, never a fixed sleep.

use std::time::{Duration, Instant};

/// How long anything may take. Generous: the machine may be busy compiling.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `holds`; fails the test naming `what` when the deadline passes.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_some(what, || holds().then_some(()))
}

/// Waits until `find` finds something and returns it.
pub fn eventually_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
