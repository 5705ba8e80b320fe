//! What readers see of a container: an immutable snapshot, replaced whole at each transition.

use std::sync::Arc;

use super::record::Record;
use super::state::{Ended, Phase, State};
use crate::network::Sandbox;

/// A container as of its last transition. List, inspect and wait read this and never message the owner.
#[derive(Clone)]
pub struct Published {
    pub record: Arc<Record>,
    pub state: State,
    /// Present while it has a network sandbox of its own or a shared one.
    pub sandbox: Option<Arc<Sandbox>>,
    /// How often its process has ended since the daemon knows it, so that a waiter sees an exit it slept through.
    pub exits: u64,
    /// The latest end of its process.
    pub last_exit: Option<Ended>,
    /// Set once, when it is gone or its removal failed.
    pub removal: Option<Removal>,
}

/// How a removal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    Done,
    Failed(String),
}

impl Published {
    /// A container that has not run since the daemon started.
    pub fn at_rest(record: Arc<Record>, state: State) -> Self {
        Self { record, state, sandbox: None, exits: 0, last_exit: None, removal: None }
    }

    /// True while it has a process, frozen or not.
    pub fn is_running(&self) -> bool {
        self.state.phase.has_process()
    }

    /// True when its removal is complete.
    pub fn is_removed(&self) -> bool {
        self.removal == Some(Removal::Done)
    }

    /// True while a client may still expect a process to come: it waits for an automatic restart.
    pub fn is_restarting(&self) -> bool {
        self.state.phase == Phase::Restarting
    }
}
