//! The names of resource limits in an OCI specification, and who may raise them.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use oci_spec::runtime::PosixRlimit;

/// Raises this process's hard limits to what is asked for: in a user namespace it no longer can. What cannot be raised
/// is for whoever sets the limits to complain about.
pub fn raise(limits: &[PosixRlimit]) {
    for limit in limits {
        let Some(resource) = resource(&limit.typ().to_string()) else { continue };
        if let Ok((soft, hard)) = getrlimit(resource)
            && limit.hard() > hard
        {
            let _ = setrlimit(resource, soft, limit.hard());
        }
    }
}

/// The limit that `RLIMIT_…` names.
pub fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::RLIMIT_AS,
        "RLIMIT_CORE" => Resource::RLIMIT_CORE,
        "RLIMIT_CPU" => Resource::RLIMIT_CPU,
        "RLIMIT_DATA" => Resource::RLIMIT_DATA,
        "RLIMIT_FSIZE" => Resource::RLIMIT_FSIZE,
        "RLIMIT_LOCKS" => Resource::RLIMIT_LOCKS,
        "RLIMIT_MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => Resource::RLIMIT_NICE,
        "RLIMIT_NOFILE" => Resource::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => Resource::RLIMIT_NPROC,
        "RLIMIT_RSS" => Resource::RLIMIT_RSS,
        "RLIMIT_RTPRIO" => Resource::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => Resource::RLIMIT_RTTIME,
        "RLIMIT_SIGPENDING" => Resource::RLIMIT_SIGPENDING,
        "RLIMIT_STACK" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}
