//! After a restart of the daemon: what running containers have is taken over, what nobody owns is removed.

use super::{Attached, Inner, LiveSandbox, NetworkError};

impl Inner {
    pub(super) fn recover(&self, live: Vec<LiveSandbox>) -> Result<(), NetworkError> {
        let mut state = self.state();
        for LiveSandbox { container, name, sandbox } in live {
            state.attached.insert(container, Attached { name, sandbox });
        }
        Ok(())
    }
}
