//! From a record to a running process: mounts, network, specification, shim.
//!
//! Mounting and networking run side by side. Nothing here changes the record; whoever drops the future half-way or
//! gets an error calls [`super::teardown::release`], which undoes every step that was taken.

use std::io;
use std::sync::Arc;

use ::oci_spec::runtime::Spec;

use super::apparmor;
use super::device_requests;
use super::error::{ContainerError, StartFailure};
use super::handle::Beginning;
use super::mount_points;
use super::mounts;
use super::oci_spec;
use super::parts::Parts;
use super::published::Published;
use super::record::Record;
use super::request;
use super::storage;
use crate::base::sys::cgroup::{Cgroup, Frozen};
use crate::base::time::Timestamp;
use crate::crash_point;
use crate::logs::options::LogTarget;
use crate::network::Sandbox;
use crate::runtime::{
    self, Adopted, Attachment, ExitRecord, LaunchError, LaunchSpec, Running, Runtime, Size, StdinMode,
};

/// A container whose program runs.
pub(super) struct Launched {
    pub running: Running,
    pub sandbox: Sandbox,
}

/// Starts a container's process. `attachments` are the clients that wait for its output.
pub(super) async fn run(
    parts: Arc<Parts>,
    now: Published,
    attachments: Vec<Attachment>,
    beginning: Beginning,
) -> Result<Launched, ContainerError> {
    let record = now.record.clone();
    parts.launcher.anticipate();
    let (mounted, connected) = tokio::join!(mounts::prepare(&parts, &record), connect(&parts, &record));
    let mounted = mounted?;
    let mut sandbox = connected?;
    note(&parts, now, &sandbox);
    crash_point!("container-prepared");
    let log = request::log_target(&parts, &record).map_err(|error| failed(&error, StartFailure::System))?;
    let log = reachable(log).await?;
    let runtime = runtime_of(&parts, &record)?;
    let edits = device_requests::edits(&parts, &record).await?;
    let spec = oci_spec::build(&request::spec_input(&parts, &record, &sandbox, &mounted, edits)?)
        .map_err(|error| failed(&error, StartFailure::BadRequest))?;
    let spec = mount_points::settle(spec, mounted.rootfs, &parts.config.ids).await?;
    confinable(&spec).await?;
    let launch = LaunchSpec {
        id: record.id.clone(),
        dir: parts.paths.run(&record.id),
        spec,
        console_size: console_size(&record),
        stdin: stdin_mode(&record),
        log,
        losses: parts.paths.exec_root.clone(),
        log_mode: request::log_mode(&record),
        runtime,
        systemd_cgroup: parts.config.cgroup_driver == crate::config::CgroupDriver::Systemd,
        port_sockets: std::mem::take(&mut sandbox.port_sockets),
        relays: std::mem::take(&mut sandbox.relays),
        restore: match beginning {
            Beginning::Program => None,
            Beginning::Checkpoint(images) => Some(images),
        },
        attachments,
    };
    match parts.launcher.launch(launch).await {
        Ok(running) => Ok(Launched { running, sandbox }),
        Err(error) => {
            // A shim that was killed half-way has not cleaned up, and the container may run already.
            if matches!(error, LaunchError::Shim(_)) {
                end_remains(&parts, &record).await;
            }
            Err(launch_error(error))
        }
    }
}

/// Whether the kernel has the AppArmor profile, if it is the engine's own to load.
async fn confinable(spec: &Spec) -> Result<(), ContainerError> {
    let process = spec.process().as_ref();
    let ready = apparmor::ready(process.and_then(|process| process.apparmor_profile().as_deref())).await;
    ready.map_err(|error| ContainerError::system(&error))
}

/// A daemon that comes after this one's death must leave the network to a process that this one has just started.
fn note(parts: &Parts, now: Published, sandbox: &Sandbox) {
    let id = now.record.id.clone();
    let noted = Published { sandbox: Some(Arc::new(sandbox.clone())), ..now };
    if let Err(error) = storage::save_state(&parts.paths, &id, &noted) {
        tracing::error!(container = %id, %error, "cannot save the state");
    }
}

/// What became of a container whose shim this daemon has no connection to.
pub(super) async fn adopt(parts: &Parts, record: &Record) -> Adopted {
    match parts.launcher.adopt(&parts.paths.run(&record.id)).await {
        Ok(adopted) => adopted,
        Err(error) => {
            tracing::warn!(container = %record.id, %error, "the shim cannot be reached");
            Adopted::Gone
        }
    }
}

/// The exit of a container whose shim left none behind: it was killed, or the machine was.
pub(super) fn lost() -> ExitRecord {
    ExitRecord {
        code: 128 + libc::SIGKILL,
        signal: Some(libc::SIGKILL),
        oom_killed: false,
        at: Timestamp::now(),
    }
}

/// Ends the processes of a container whose shim was killed, removes their cgroup and has its hooks called: nobody else
/// will.
pub(super) async fn end_remains(parts: &Parts, record: &Record) {
    end_processes(parts, record).await;
    if let Err(error) = parts.launcher.say_farewell(&parts.paths.run(&record.id)) {
        tracing::warn!(container = %record.id, %error, "no poststop hook is run");
    }
}

async fn end_processes(parts: &Parts, record: &Record) {
    let path = request::cgroup_path(parts, record);
    // Without a path there is no group, and an empty one would mean the host's.
    if path.as_os_str().is_empty() {
        return;
    }
    let ended = tokio::task::spawn_blocking(move || {
        let cgroup = Cgroup::of_container(&path)?;
        cgroup.kill().and_then(|()| cgroup.remove())
    });
    if let Ok(Err(error)) = ended.await {
        tracing::error!(container = %record.id, %error, "what a killed shim left behind stays");
    }
}

/// Freezes or thaws every process of a container.
pub(super) async fn set_frozen(parts: &Parts, record: &Record, frozen: bool) -> io::Result<()> {
    let path = request::cgroup_path(parts, record);
    let state = if frozen { Frozen::Yes } else { Frozen::No };
    tokio::task::spawn_blocking(move || Cgroup::of_container(&path)?.set_frozen(state)).await?
}

/// A log that goes elsewhere is refused at the start if nobody is there, as dockerd does.
async fn reachable(log: LogTarget) -> Result<LogTarget, ContainerError> {
    let LogTarget::Forwarded { forward, .. } = &log else { return Ok(log) };
    let forward = forward.clone();
    let checked = tokio::task::spawn_blocking(move || forward.check()).await;
    let error = match checked {
        Ok(Ok(())) => return Ok(log),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the check ended early".to_owned(),
    };
    let message =
        format!("failed to create task for container: failed to initialize logging driver: {error}");
    Err(ContainerError::StartFailed { message, kind: StartFailure::System })
}

async fn connect(parts: &Parts, record: &Record) -> Result<Sandbox, ContainerError> {
    if let Some(target) = record.host_config.network_mode.strip_prefix("container:") {
        parts.containers.resolve(target)?;
    }
    let request = request::sandbox(parts, record)?;
    parts.networks.connect(request).await.map_err(|error| {
        let message = format!("failed to set up container networking: {error}");
        ContainerError::StartFailed { message, kind: StartFailure::System }
    })
}

fn launch_error(error: LaunchError) -> ContainerError {
    let kind = match &error {
        LaunchError::Start { kind: runtime::StartFailure::NotFound, .. } => StartFailure::CommandNotFound,
        LaunchError::Start { kind: runtime::StartFailure::PermissionDenied, .. } => {
            StartFailure::CommandNotExecutable
        }
        LaunchError::Start { kind: runtime::StartFailure::Other, .. } => StartFailure::BadRequest,
        LaunchError::Bundle { .. } | LaunchError::Spec(_) | LaunchError::Spawn(_) | LaunchError::Shim(_) => {
            StartFailure::System
        }
    };
    failed(&error, kind)
}

fn failed(error: &dyn std::error::Error, kind: StartFailure) -> ContainerError {
    ContainerError::StartFailed { message: error.to_string(), kind }
}

fn runtime_of(parts: &Parts, record: &Record) -> Result<Runtime, ContainerError> {
    let name = record.host_config.runtime.as_str();
    let live = parts.config.live();
    let name = if name.is_empty() { live.default_runtime.as_str() } else { name };
    if matches!(name, "runc" | "slipway" | "io.containerd.runc.v2") && !live.runtimes.contains_key(name) {
        return Ok(Runtime::Embedded);
    }
    let Some(runtime) = live.runtimes.get(name) else {
        let message = format!("unknown or invalid runtime name: {name}");
        return Err(ContainerError::StartFailed { message, kind: StartFailure::BadRequest });
    };
    Ok(Runtime::Binary { path: runtime.path.clone(), args: runtime.args.clone() })
}

fn stdin_mode(record: &Record) -> StdinMode {
    match (record.config.open_stdin, record.config.stdin_once) {
        (false, _) => StdinMode::Closed,
        (true, false) => StdinMode::Open,
        (true, true) => StdinMode::OpenOnce,
    }
}

fn console_size(record: &Record) -> Option<Size> {
    let [rows, columns] = record.host_config.console_size;
    let size = Size { rows: u16::try_from(rows).ok()?, columns: u16::try_from(columns).ok()? };
    (size.rows > 0 && size.columns > 0).then_some(size)
}
