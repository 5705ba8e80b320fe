//! Named places at which a test may end the process as `kill -9` would.
//!
//! `SLIPWAY_CRASH_AT=name` in the environment arms one place. The check is a relaxed atomic load when nothing is
//! armed, so the places stay in release builds and the tests run the binary that ships.

use std::sync::OnceLock;

static ARMED: OnceLock<Option<String>> = OnceLock::new();

/// Ends the process with SIGKILL if `place` is the armed one. Call through [`crash_point!`](crate::crash_point).
pub fn reached(place: &str) {
    let armed = ARMED.get_or_init(|| std::env::var("SLIPWAY_CRASH_AT").ok());
    if armed.as_deref() == Some(place) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL);
    }
}

/// Marks a step between two effects: tests kill the daemon here, restart it and compare with the allowed outcomes.
#[macro_export]
macro_rules! crash_point {
    ($place:literal) => {
        $crate::base::crash::reached($place)
    };
}
