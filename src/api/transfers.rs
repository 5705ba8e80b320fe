//! Turns of the archives that clients send and receive. The thread that reads or writes one waits for its client,
//! which may keep it waiting for ever; so only some of the threads that may block are for that, and whatever else the
//! engine does finds one. A transfer beyond those begins when another ends.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Transfers at a time. Each may hold a thread, and some 1 MiB that was read ahead.
pub const MAX: usize = 128;

static TURNS: Semaphore = Semaphore::const_new(MAX);

/// The right to let a thread wait for a client; over when it is dropped.
pub struct Turn {
    _permit: SemaphorePermit<'static>,
}

impl Turn {
    /// Waits until there is one. To be had before anything else is held.
    pub async fn take() -> Self {
        Self { _permit: TURNS.acquire().await.expect("nobody closes it") }
    }
}
