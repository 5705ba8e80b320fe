//! Calls the hooks that the embedded runtime leaves to us: when the program has started, and when the container is
//! over (runtime.md of the OCI runtime specification, "Lifecycle"). They run on the host, with the container's state
//! as their input.

use std::path::Path;

use libcontainer::container::{ContainerStatus, State};
use libcontainer::hooks::{HookError, run_hooks};
use oci_spec::runtime::Hook;

use super::fork::fork;
use super::report::complain;
use crate::runtime::protocol::Launch;

/// Tells of the start; the first failure ends the container, as under runc. Returns what went wrong.
pub fn started(dir: &Path, launch: &Launch, pid: i32) -> Result<(), String> {
    let state = state(dir, launch, ContainerStatus::Running, Some(pid));
    for (number, hook) in launch.hooks.poststart.iter().enumerate() {
        call(hook, &state).map_err(|error| format!("error running poststart hook #{number}: {error}"))?;
    }
    Ok(())
}

/// Begins to tell of the end, if anybody is to be told; one that fails keeps no other from it. Returns the helper's
/// process id.
pub fn over(dir: &Path, launch: &Launch) -> Option<i32> {
    if launch.hooks.poststop.is_empty() {
        return None;
    }
    let told = fork(&[], || {
        let state = state(dir, launch, ContainerStatus::Stopped, None);
        for (number, hook) in launch.hooks.poststop.iter().enumerate() {
            if let Err(error) = call(hook, &state) {
                complain(&format!("shim: running poststop hook #{number}: {error}"));
            }
        }
    });
    told.inspect_err(|error| complain(&format!("shim: no process for poststop hooks: {error}"))).ok()
}

fn call(hook: &Hook, state: &State) -> Result<(), HookError> {
    run_hooks(Some(&vec![hook.clone()]), Some(state), None, None, None)
}

fn state(dir: &Path, launch: &Launch, status: ContainerStatus, pid: Option<i32>) -> State {
    let mut state = State::new(launch.id.as_str(), status, pid, dir.to_owned());
    state.annotations = Some(launch.hooks.annotations.clone());
    state
}
