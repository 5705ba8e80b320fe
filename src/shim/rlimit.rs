//! Resource limits of an OCI specification. They are raised while this is allowed and set at the end: some leave no room
//! for what makes the container.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use oci_spec::runtime::PosixRlimit;

use crate::base::errno::in_gos_words;

/// A limit that cannot be set; the text is runc's, which numbers them as the kernel does.
#[derive(Debug, thiserror::Error)]
pub enum RlimitError {
    #[error("invalid rlimit type: {0}")]
    Unknown(String),
    #[error("error setting rlimit type {}: {}", *.resource as u32, in_gos_words(*.errno))]
    Set { resource: Resource, errno: Errno },
}

/// Sets it for this process.
pub fn set(limit: &PosixRlimit) -> Result<(), RlimitError> {
    let kind = limit.typ().to_string();
    let resource = resource(&kind).ok_or(RlimitError::Unknown(kind))?;
    setrlimit(resource, limit.soft(), limit.hard()).map_err(|errno| RlimitError::Set { resource, errno })
}

/// Raises this process's hard limits to what is asked for: in a user namespace, or as another user, it no longer can.
/// What cannot be raised is for [`set`] to complain about.
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
fn resource(name: &str) -> Option<Resource> {
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
