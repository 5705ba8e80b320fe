//! `container:NAME` in the modes of namespaces: whose they are is settled when a container is created, so that it
//! finds its partner again under another name and nobody else under this one.

use super::error::{ContainerError, LookupError};
use super::host_config::HostConfig;
use super::registry::Containers;

const PREFIX: &str = "container:";

/// Puts ids for the names of other containers. One that is not there is an error, but for networks, whose modes are
/// looked at when the container starts, as under dockerd.
pub fn settle(containers: &Containers, host_config: Option<&mut HostConfig>) -> Result<(), ContainerError> {
    let Some(host_config) = host_config else { return Ok(()) };
    for mode in [&mut host_config.pid_mode, &mut host_config.ipc_mode] {
        // No 404: that would be about the image, which docker(1) would go and pull.
        settle_one(containers, mode).map_err(|error| ContainerError::bad_request(&error))?;
    }
    // What cannot be found now is looked for again by the start.
    let _ = settle_one(containers, &mut host_config.network_mode);
    Ok(())
}

fn settle_one(containers: &Containers, mode: &mut String) -> Result<(), LookupError> {
    // What names nobody is no mode, and refused as one.
    let Some(name) = mode.strip_prefix(PREFIX).filter(|name| !name.is_empty()) else { return Ok(()) };
    *mode = format!("{PREFIX}{}", containers.resolve(name)?.id());
    Ok(())
}
