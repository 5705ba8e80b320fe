//! Calls the hooks that the embedded runtime leaves to us: when the program has started, and when the container is
//! over (runtime.md of the OCI runtime specification, "Lifecycle"). They run on the host, with the container's state
//! as their input.
//!
//! Those for the end lie in a file from the start on, because a shim may be killed: whoever takes the file away calls
//! them, the shim or (`slipwayd call-hooks`) the daemon that finds it. So they are called once, or, where the caller is
//! killed too, begun once.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;

use libcontainer::container::{ContainerStatus, State};
use libcontainer::hooks::{HookError, run_hooks};
use oci_spec::runtime::Hook;

use super::fork::fork;
use super::report::complain;
use crate::runtime::protocol::{Farewell, Launch};

/// The role's name on the command line; what to call comes on standard input.
pub const ROLE: &str = Farewell::ROLE;

/// Tells of the start; the first failure ends the container, as under runc. Returns what went wrong.
pub fn started(dir: &Path, launch: &Launch, pid: i32) -> Result<(), String> {
    let mut state = State::new(launch.id.as_str(), ContainerStatus::Running, Some(pid), dir.to_owned());
    state.annotations = Some(launch.hooks.annotations.clone());
    for (number, hook) in launch.hooks.poststart.iter().enumerate() {
        call(hook, &state).map_err(|error| format!("error running poststart hook #{number}: {error}"))?;
    }
    Ok(())
}

/// What is to be told of the end; the next start waits until this and its copies in helpers are gone.
pub struct Claim {
    farewell: Farewell,
    held: File,
}

/// What to tell of the end, if anybody is to be told and nobody else does.
pub fn claim(dir: &Path) -> Option<Claim> {
    let held = Farewell::claim(dir)
        .inspect_err(|error| complain(&format!("shim: no poststop hook is run: {error}")))
        .ok()??;
    Some(Claim { farewell: read(&held)?, held })
}

/// Begins to tell of the end. Returns the helper's process id.
pub fn over(claim: &Claim) -> Option<i32> {
    fork(&[claim.held.as_raw_fd()], || tell(&claim.farewell))
        .inspect_err(|error| complain(&format!("shim: no process for poststop hooks: {error}")))
        .ok()
}

/// Tells of the end of a container whose shim was killed.
pub fn main() -> ExitCode {
    match read(io::stdin()) {
        Some(farewell) => {
            tell(&farewell);
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}

fn read(mut from: impl Read) -> Option<Farewell> {
    let mut json = Vec::new();
    from.read_to_end(&mut json)
        .and_then(|_| Ok(serde_json::from_slice(&json)?))
        .inspect_err(|error| complain(&format!("no poststop hook is run: {error}")))
        .ok()
}

/// Calls all; one that fails keeps no other from it.
fn tell(farewell: &Farewell) {
    let Farewell { id, dir, hooks, annotations } = farewell;
    let mut state = State::new(id.as_str(), ContainerStatus::Stopped, None, dir.clone());
    state.annotations = Some(annotations.clone());
    for (number, hook) in hooks.iter().enumerate() {
        let mut limited = hook.clone();
        limited.set_timeout(Some(Farewell::limit(hook).as_secs().cast_signed()));
        if let Err(error) = call(&limited, &state) {
            complain(&format!("container {id}: running poststop hook #{number}: {error}"));
        }
    }
    if let Err(error) = farewell.end() {
        complain(&format!("container {id}: the file of its poststop hooks stays: {error}"));
    }
}

fn call(hook: &Hook, state: &State) -> Result<(), HookError> {
    run_hooks(Some(&vec![hook.clone()]), Some(state), None, None, None)
}
