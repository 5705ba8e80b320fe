//! Signals, as dockerd takes them: SIGTERM, SIGINT and SIGQUIT end, SIGHUP reloads, SIGUSR1 is for diagnosis.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the daemon waits for.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Returns when the daemon is to end.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }

    /// `Some` when the configuration is to be read again, `None` when the daemon is to end.
    pub async fn reload_or_stop(&mut self) -> Option<()> {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return None,
                _ = self.interrupt.recv() => return None,
                _ = self.quit.recv() => return None,
                _ = self.hangup.recv() => return Some(()),
                _ = self.user.recv() => {
                    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
                    tracing::info!(tasks, "alive");
                }
            }
        }
    }
}
