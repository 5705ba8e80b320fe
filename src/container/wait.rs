//! Waiting for a container to stop, to stop once more, or to be gone.
//!
//! A [`Waiter`] is registered when it is made: an exit that happens before it is awaited is not missed.

use tokio::sync::watch;

use super::published::{Published, Removal};
use super::state::Phase;
use std::sync::Arc;

/// What to wait for (`condition` of ContainerWait).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitCondition {
    /// Not running now, or the end of the present run.
    NotRunning,
    /// The next end of its process, even if it is not running yet.
    NextExit,
    /// The end of its removal.
    Removed,
}

/// What a wait ends with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitResult {
    pub exit_code: i32,
    /// Why the removal failed, or the last start of a container that is not running.
    pub error: Option<String>,
}

/// A registered wait.
pub struct Waiter {
    published: watch::Receiver<Arc<Published>>,
    condition: WaitCondition,
    exits_before: u64,
}

impl Waiter {
    pub(super) fn new(published: watch::Receiver<Arc<Published>>, condition: WaitCondition) -> Self {
        let exits_before = published.borrow().exits;
        Self { published, condition, exits_before }
    }

    /// Ends when the condition holds. A container whose owner is gone counts as removed.
    pub async fn wait(mut self) -> WaitResult {
        loop {
            let now = self.published.borrow_and_update().clone();
            if let Some(result) = self.check(&now) {
                return result;
            }
            if self.published.changed().await.is_err() {
                return ended(&now, None);
            }
        }
    }

    fn check(&self, now: &Published) -> Option<WaitResult> {
        match &now.removal {
            Some(Removal::Done) => return Some(ended(now, None)),
            Some(Removal::Failed(error)) if self.condition == WaitCondition::Removed => {
                return Some(ended(now, Some(error.clone())));
            }
            _ => {}
        }
        let done = match self.condition {
            WaitCondition::Removed => false,
            WaitCondition::NextExit => now.exits > self.exits_before,
            WaitCondition::NotRunning => {
                now.exits > self.exits_before
                    || matches!(now.state.phase, Phase::Created | Phase::Exited | Phase::Dead)
            }
        };
        // Whoever waits for an end or a removal to come learns of a failed start from the start.
        let failed_start = (self.condition == WaitCondition::NotRunning).then(|| now.state.error.clone());
        done.then(|| ended(now, failed_start.filter(|error| !error.is_empty())))
    }
}

fn ended(now: &Published, error: Option<String>) -> WaitResult {
    let exit_code = now.last_exit.map_or(now.state.exit_code, |last| last.exit_code);
    WaitResult { exit_code, error }
}
