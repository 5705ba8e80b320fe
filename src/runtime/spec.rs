//! What the daemon gives to start a container or a process in it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use super::protocol::{LogMode, Relay, Runtime, Size, StdinMode, Streams};
use crate::base::id::{ContainerId, ExecId};
use crate::logs::options::LogTarget;

/// A container to start.
#[derive(Debug)]
pub struct LaunchSpec {
    pub id: ContainerId,
    /// The OCI bundle: made if missing; holds `config.json`, the socket and the exit record, all written here. The
    /// root file system is where `spec` says, absolute or relative to this.
    pub dir: PathBuf,
    pub spec: Spec,
    pub console_size: Option<Size>,
    pub stdin: StdinMode,
    pub log: LogTarget,
    pub log_mode: LogMode,
    /// The directory in which the daemon hears of output that was lost.
    pub losses: PathBuf,
    pub runtime: Runtime,
    /// Whether `spec.linux.cgroupsPath` is `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// Sockets that hold the container's published ports; open as long as it lives.
    pub port_sockets: Vec<OwnedFd>,
    /// Which of them the shim serves.
    pub relays: Vec<Relay>,
    /// The files of a checkpoint to go on from.
    pub restore: Option<PathBuf>,
    /// Clients that attached before the start.
    pub attachments: Vec<Attachment>,
}

/// A client's connection to a container's streams.
#[derive(Debug)]
pub struct Attachment {
    pub streams: Streams,
    /// The client's own socket, after the response's headers; or one end of a socket pair whose other end somebody
    /// copies (TLS, WebSocket).
    pub client: OwnedFd,
}

/// A process to add to a running container.
#[derive(Debug)]
pub struct ExecSpec {
    pub id: ExecId,
    /// Complete: user, capabilities, environment with the container's, working directory, terminal.
    pub process: Process,
    pub console_size: Option<Size>,
    pub output: ExecOutput,
}

/// Where the output of a process goes that was added to a container.
#[derive(Debug)]
pub enum ExecOutput {
    /// The exec is detached.
    Nowhere,
    Client(Attachment),
    /// So many bytes of it are kept, and told with its exit.
    Kept(usize),
}
