//! Starts shims and finds them again.
//!
//! A container's directory is the rendezvous: while it holds a socket that answers, the container has a shim; while it
//! holds an exit record, the container is over and nobody has said yet that this is known.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use oci_spec::runtime::{
    Hook, LinuxCapabilities, LinuxNamespaceType, LinuxResources, LinuxSeccomp, Mount, PosixRlimit, Spec,
};
use tokio::sync::watch;

use super::anticipate::Anticipation;
use super::client::{self, Connected, Running, Shim};
use super::embedded::{self, Taken};
use super::error::{LaunchError, ShimError, StartFailure};
use super::filter::Filters;
use super::protocol::{
    Command, Devices, EXIT_FILE, ExitRecord, Farewell, Hooks, Launch, Reply, Runtime, SECCOMP_FILE, SOCKET,
    Status,
};
use super::spec::LaunchSpec;
use crate::base::durable;
use crate::base::id::ContainerId;
use crate::base::id_map::IdMap;
use crate::base::missing::missing_is_fine;
use crate::base::sys::sealed::SealedProgram;
use crate::base::sys::{fdpass, socket_at, spawn};
use crate::logs::losses::Place;

/// How long a shim that accepted a connection may take to say who it is.
const STATUS_DEADLINE: Duration = Duration::from_secs(10);

/// How long the shim of a container's last run may take to clean up before the next launch fails.
const END_DEADLINE: Duration = Duration::from_secs(15);

/// Starts shims from one sealed copy of this program.
#[derive(Debug, Default)]
pub struct Launcher {
    program: OnceLock<SealedProgram>,
    filters: Arc<Filters>,
    anticipation: Anticipation,
    /// The ends of the shims that this process is connected to, by their directories.
    shims: Mutex<HashMap<PathBuf, watch::Receiver<()>>>,
}

/// What became of a container that had a shim.
#[derive(Debug)]
pub enum Adopted {
    Running(Box<Running>),
    Exited(Exited),
    /// No shim and no record: the shim was killed, the machine restarted, or the launch never finished.
    Gone,
}

/// A container that is over, until somebody acknowledges it.
#[derive(Debug)]
pub struct Exited {
    pub record: ExitRecord,
    shim: Option<Shim>,
    dir: PathBuf,
}

impl Exited {
    /// True if its shim is gone too, which would have removed what the container left.
    pub fn is_orphaned(&self) -> bool {
        self.shim.is_none()
    }

    /// Removes what was kept for whoever asks: the record is safe elsewhere.
    pub async fn acknowledge(self) -> Result<(), ShimError> {
        match self.shim {
            Some(shim) => shim.acknowledge_exit().await,
            None => missing_is_fine(fs::remove_dir_all(&self.dir)).map_err(ShimError::Io),
        }
    }
}

impl Launcher {
    /// A launcher that copies the program when the first container starts, or in [`prepare`](Self::prepare).
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the sealed copy now. Blocks for some milliseconds.
    pub fn prepare(&self) -> io::Result<()> {
        self.program().map(drop)
    }

    /// A container will be started soon: lets the kernel get ready for it. To be called as early as a start is likely
    /// (when a container is created, when a start begins); costs a thread that mostly sleeps.
    pub fn anticipate(&self) {
        self.anticipation.extend();
    }

    /// Starts a container; returns once it runs its program. If the future is dropped before, or on an error, nothing
    /// of the container is left but its directory, which the caller made or will reuse.
    pub async fn launch(&self, mut spec: LaunchSpec) -> Result<Running, LaunchError> {
        self.anticipate();
        self.predecessor_gone(&spec.dir).await?;
        let confinement = self.confinement(&mut spec).await?;
        let (pid, socket) = self.spawn(&mut spec, &confinement)?;
        let Connected { shim, events, status, end } =
            client::connect(socket, Some(pid)).map_err(ShimError::Io)?;
        self.remember(&spec.dir, end);
        let (launch, clients) = describe(&mut spec, confinement);
        let mut fds = clients;
        let mut rest = spec.port_sockets;
        let room = fdpass::MAX_FDS.saturating_sub(fds.len()).min(rest.len());
        let later = rest.split_off(room);
        fds.extend(rest);
        hold(&shim, later).await?;
        let started = shim.ask(Command::Launch(Box::new(launch)), fds).await;
        let Reply::Started { pid, at } = started.map_err(LaunchError::from_reply)? else {
            return Err(ShimError::Mismatch.into());
        };
        let status = status.await.map_err(|_| ShimError::Gone)?;
        Ok(Running { shim, pid, started: at, events, status })
    }

    /// Finds out what became of the container whose directory is `dir`, and takes its shim over if there is one.
    pub async fn adopt(&self, dir: &Path) -> Result<Adopted, ShimError> {
        if let Ok(socket) = socket_at::connect(dir, SOCKET) {
            let Connected { shim, events, status, end } = client::connect(socket, None)?;
            self.remember(dir, end);
            match tokio::time::timeout(STATUS_DEADLINE, status).await {
                Ok(Ok(status)) => return Ok(adopted(shim, events, status, dir)),
                // It went away before it said a word: what it left is the answer.
                Ok(Err(_)) => {}
                Err(_) => return Err(ShimError::Io(io::ErrorKind::TimedOut.into())),
            }
        }
        match fs::read(dir.join(EXIT_FILE)) {
            Ok(json) => {
                let record = serde_json::from_slice(&json)?;
                Ok(Adopted::Exited(Exited { record, shim: None, dir: dir.to_owned() }))
            }
            Err(_) => Ok(Adopted::Gone),
        }
    }

    /// Compiles a profile that containers will have, so that the first of them need not wait for it. Blocks for some 50
    /// milliseconds.
    pub fn prepare_seccomp(&self, profile: &LinuxSeccomp) {
        if let Err(error) = self.filters.program(profile) {
            tracing::warn!(%error, "the default seccomp profile cannot be compiled");
        }
    }

    /// Takes out of the specification what the shim sees to in the embedded runtime's place.
    async fn confinement(&self, spec: &mut LaunchSpec) -> Result<Confinement, LaunchError> {
        if spec.runtime != Runtime::Embedded {
            return Ok(Confinement::default());
        }
        let Taken { seccomp, capabilities, rlimits, resources, hooks, poststop, devices } =
            embedded::adapt(&mut spec.spec);
        let confinement =
            Confinement { filter: None, capabilities, rlimits, resources, hooks, poststop, devices };
        let Some(profile) = seccomp else { return Ok(confinement) };
        let filters = self.filters.clone();
        let compiled = tokio::task::spawn_blocking(move || filters.program(&profile)).await;
        let failed = |message: String| LaunchError::Start {
            kind: StartFailure::Other,
            message: format!(
                "runc create failed: unable to start container process: unable to init seccomp: {message}"
            ),
        };
        let compiled = compiled.map_err(|error| failed(error.to_string()))?;
        let filter = compiled.map_err(|error| failed(error.to_string()))?;
        Ok(Confinement { filter: Some(filter), ..confinement })
    }

    /// Waits until the shim of the container's last run has cleaned up, which had the same directory and cgroup, and
    /// until the hooks for that run's end have been called.
    async fn predecessor_gone(&self, dir: &Path) -> Result<(), LaunchError> {
        let late = |_| ShimError::Io(io::ErrorKind::TimedOut.into());
        let end = self.shims.lock().unwrap_or_else(PoisonError::into_inner).remove(dir);
        if let Some(mut end) = end {
            let _ = tokio::time::timeout(END_DEADLINE, end.changed()).await.map_err(late)?;
        }
        let Some((farewell, time)) = Farewell::begun(dir).map_err(ShimError::Io)? else { return Ok(()) };
        let told = tokio::task::spawn_blocking(move || Farewell::wait(&farewell));
        let told = tokio::time::timeout(END_DEADLINE.saturating_add(time), told).await.map_err(late)?;
        told.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| ShimError::Io(error).into())
    }

    fn remember(&self, dir: &Path, end: watch::Receiver<()>) {
        let mut shims = self.shims.lock().unwrap_or_else(PoisonError::into_inner);
        shims.retain(|_, end| end.has_changed().is_ok());
        shims.insert(dir.to_owned(), end);
    }

    /// Calls the hooks for the end of a container whose shim was killed, if that has not; its next launch waits.
    pub fn say_farewell(&self, dir: &Path) -> io::Result<()> {
        let Some(farewell) = Farewell::claim(dir)? else { return Ok(()) };
        let path = self.program()?.path();
        let mut command = std::process::Command::new(OsStr::from_bytes(path.to_bytes()));
        let mut calling = command.arg(Farewell::ROLE).stdin(farewell).stdout(Stdio::null()).spawn()?;
        tokio::task::spawn_blocking(move || {
            if let Err(error) = calling.wait() {
                tracing::warn!(%error, "hooks are no longer watched");
            }
        });
        Ok(())
    }

    fn program(&self) -> io::Result<&SealedProgram> {
        if let Some(program) = self.program.get() {
            return Ok(program);
        }
        let copy = SealedProgram::of_this_program()?;
        Ok(self.program.get_or_init(|| copy))
    }

    /// Writes the bundle and starts a shim in it; returns its process id and a connection. The writes go to a tmpfs.
    fn spawn(
        &self,
        spec: &mut LaunchSpec,
        confinement: &Confinement,
    ) -> Result<(i32, UnixStream), LaunchError> {
        let dir = spec.dir.as_path();
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| LaunchError::Bundle { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        for stale in [SOCKET, EXIT_FILE, SECCOMP_FILE] {
            missing_is_fine(fs::remove_file(dir.join(stale))).map_err(at(dir))?;
        }
        let config = dir.join("config.json");
        let json = serde_json::to_vec(&spec.spec)?;
        durable::write_state(&config, &json).map_err(at(&config))?;
        if let Some(filter) = confinement.filter.as_deref() {
            let path = dir.join(SECCOMP_FILE);
            durable::write_state(&path, filter).map_err(at(&path))?;
        }
        let farewell = Farewell {
            id: spec.id.clone(),
            dir: dir.to_owned(),
            hooks: confinement.poststop.clone(),
            annotations: confinement.hooks.annotations.clone(),
        };
        farewell.leave().map_err(at(dir))?;
        let listener = socket_at::bind(dir, SOCKET).map_err(at(dir))?;
        let errors = open_log(dir).map_err(at(dir))?;
        let (ours, theirs) = UnixStream::pair().map_err(LaunchError::Spawn)?;
        let fds = [theirs.as_fd(), listener.as_fd()];
        let pid = self.spawn_with(&spec.id, dir, &fds, errors.as_fd()).map_err(LaunchError::Spawn)?;
        Ok((pid, ours))
    }

    fn spawn_with(
        &self,
        id: &ContainerId,
        dir: &Path,
        fds: &[BorrowedFd<'_>],
        stderr: BorrowedFd<'_>,
    ) -> io::Result<i32> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::other);
        let args = [
            text(b"slipwayd")?,
            text(b"shim")?,
            text(id.as_str().as_bytes())?,
            text(dir.as_os_str().as_bytes())?,
        ];
        let mut env = vec![text(b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")?];
        if let Ok(place) = std::env::var("SLIPWAY_CRASH_AT") {
            env.push(text(format!("SLIPWAY_CRASH_AT={place}").as_bytes())?);
        }
        let path = self.program()?.path();
        spawn::in_own_session(&spawn::Program { path: &path, args: &args, env: &env, fds, stderr })
    }
}

/// Where the shim and the runtime in it write what goes wrong beyond what they can report.
fn open_log(dir: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join("shim.log"))
}

fn adopted(
    shim: Shim,
    events: tokio::sync::mpsc::UnboundedReceiver<super::ShimEvent>,
    status: Status,
    dir: &Path,
) -> Adopted {
    match (status.exit.clone(), status.pid) {
        (Some(record), _) => Adopted::Exited(Exited { record, shim: Some(shim), dir: dir.to_owned() }),
        (None, Some(pid)) => {
            let started = status.started;
            Adopted::Running(Box::new(Running { shim, pid, started, events, status }))
        }
        (None, None) => Adopted::Gone,
    }
}

async fn hold(shim: &Shim, mut sockets: Vec<OwnedFd>) -> Result<(), ShimError> {
    while !sockets.is_empty() {
        let rest = sockets.split_off(sockets.len().min(fdpass::MAX_FDS));
        shim.ask(Command::Hold, sockets).await?;
        sockets = rest;
    }
    Ok(())
}

/// What the shim does in the embedded runtime's place.
#[derive(Default)]
struct Confinement {
    filter: Option<Arc<[u8]>>,
    capabilities: Option<LinuxCapabilities>,
    rlimits: Vec<PosixRlimit>,
    resources: Option<LinuxResources>,
    hooks: Hooks,
    poststop: Vec<Hook>,
    devices: Devices,
}

fn describe(spec: &mut LaunchSpec, confinement: Confinement) -> (Launch, Vec<OwnedFd>) {
    let linux = spec.spec.linux().as_ref();
    let own_pid_namespace = linux
        .and_then(|linux| linux.namespaces().as_ref())
        .is_some_and(|all| all.iter().any(|ns| ns.typ() == LinuxNamespaceType::Pid && ns.path().is_none()));
    let user = spec.spec.process().as_ref().map_or(0, |process| process.user().uid());
    let users = users_of(&spec.spec);
    let terminal = spec.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    let cgroups_path = linux.and_then(|linux| linux.cgroups_path().clone());
    let (streams, clients) =
        spec.attachments.drain(..).map(|attachment| (attachment.streams, attachment.client)).unzip();
    let launch = Launch {
        relays: std::mem::take(&mut spec.relays),
        id: spec.id.clone(),
        terminal,
        console_size: spec.console_size,
        stdin: spec.stdin,
        log: spec.log.clone(),
        log_mode: spec.log_mode,
        losses: Some(Place { container: spec.id.clone(), dir: spec.losses.clone() }),
        runtime: spec.runtime.clone(),
        systemd_cgroup: spec.systemd_cgroup,
        cgroups_path,
        own_pid_namespace,
        // One that the namespace lacks is the runtime's to complain about.
        user: users.to_host(user).unwrap_or(user),
        in_user_namespace: users != IdMap::default(),
        rlimits: confinement.rlimits,
        within_proc: within_proc(&spec.spec),
        capabilities: confinement.capabilities,
        resources: confinement.resources,
        hooks: confinement.hooks,
        devices: confinement.devices,
        attachments: streams,
        restore: spec.restore.clone(),
    };
    (launch, clients)
}

/// The user ids of a specification's user namespace; none without one.
fn users_of(spec: &Spec) -> IdMap {
    let mappings = spec.linux().as_ref().and_then(|linux| linux.uid_mappings().as_ref());
    let ranges = mappings.into_iter().flatten().map(|range| (range.host_id(), range.size()));
    IdMap::of(&ranges.collect::<Vec<_>>()).unwrap_or_default()
}

/// What a specification mounts within `/proc`, masks included; none if it takes the host's.
fn within_proc(spec: &Spec) -> Option<Vec<PathBuf>> {
    let mounts = || spec.mounts().iter().flatten();
    let is_own =
        |mount: &Mount| mount.destination() == Path::new("/proc") && mount.typ().as_deref() == Some("proc");
    if !mounts().any(is_own) {
        return None;
    }
    let masked = spec.linux().iter().filter_map(|linux| linux.masked_paths().as_ref()).flatten();
    let mounted = mounts().map(|mount| mount.destination().as_path());
    let all = mounted.chain(masked.map(Path::new)).filter(|path| path.starts_with("/proc"));
    Some(all.map(Path::to_owned).collect())
}
