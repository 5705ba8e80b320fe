//! Processes added to running containers: made known, run, found again.
//!
//! They bypass the container's owner as attached clients do: they change nothing that the record holds.

use std::sync::{Arc, MutexGuard, PoisonError};

use ::oci_spec::runtime::Process;

use super::apparmor;
use super::cdi::Edits;
use super::device_requests;
use super::error::{ContainerError, StartFailure};
use super::exec::{Exec, ExecConfig, ExecError, ExecPhase, Execs};
use super::handle::Handle;
use super::mounts::Mounted;
use super::oci_spec;
use super::parts::Parts;
use super::published::Published;
use super::registry::Containers;
use super::report::Reporter;
use super::request;
use super::state::Phase;
use super::users::Accounts;
use crate::base::id::ExecId;
use crate::network::Sandbox;
use crate::runtime::{ExecOutput, ExecSpec, ShimError, Size};

impl Containers {
    /// The exec with this id and its container.
    pub fn exec(&self, id: &str) -> Result<(Handle, Arc<Exec>), ExecError> {
        let unknown = || ExecError::NotFound(id.to_owned());
        let exec_id: ExecId = id.parse().map_err(|_| unknown())?;
        let found = self.all().into_iter().find_map(|handle| {
            let exec = handle.execs().get(&exec_id).cloned()?;
            Some((handle, exec))
        });
        found.ok_or_else(unknown)
    }

    /// The exec with this id, also if its container has been removed since.
    pub fn find_exec(&self, id: &str) -> Result<Arc<Exec>, ExecError> {
        self.exec(id).map(|(_, exec)| exec).or_else(|error| {
            let departed = self.departed();
            departed.iter().find(|exec| exec.id.as_str() == id && !exec.is_stale()).cloned().ok_or(error)
        })
    }
}

impl Handle {
    /// Makes an exec known; it does not run yet.
    pub fn add_exec(&self, parts: &Parts, config: ExecConfig) -> Result<Arc<Exec>, ExecError> {
        let now = self.snapshot();
        check(&now)?;
        if config.cmd.is_empty() {
            return Err(ExecError::NoCommand);
        }
        let exec = Exec::new(self.id().clone(), config);
        self.execs().add(exec.clone());
        report(parts, &now, "exec_create", &exec);
        Ok(exec)
    }

    /// Whether the container can run an exec now, and the exec has not run yet.
    pub fn check_exec(&self, exec: &Exec) -> Result<(), ExecError> {
        check(&self.snapshot())?;
        exec.claim()
    }

    /// Runs a claimed exec; returns when its program has been executed.
    pub async fn run_exec(
        &self,
        parts: &Parts,
        exec: &Exec,
        output: ExecOutput,
        console_size: Option<Size>,
    ) -> Result<(), ContainerError> {
        let process = self.exec_process(parts, &exec.config);
        self.run_process(parts, exec, process, output, console_size).await
    }

    /// What an exec with this configuration is to be: good as long as the container's process runs.
    pub(super) fn exec_process(&self, parts: &Parts, config: &ExecConfig) -> Result<Process, ContainerError> {
        process(parts, &self.snapshot(), config)
    }

    /// As [`Self::run_exec`], for who knows already what the exec is to be.
    pub(super) async fn run_process(
        &self,
        parts: &Parts,
        exec: &Exec,
        process: Result<Process, ContainerError>,
        output: ExecOutput,
        console_size: Option<Size>,
    ) -> Result<(), ContainerError> {
        report(parts, &self.snapshot(), "exec_start", exec);
        let outcome = match process {
            Ok(process) => {
                let spec = ExecSpec { id: exec.id.clone(), process, console_size, output };
                self.launch_exec(exec, spec).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome {
            exec.ended(exit_code(error));
        }
        outcome
    }

    async fn launch_exec(&self, exec: &Exec, spec: ExecSpec) -> Result<(), ContainerError> {
        let confined = apparmor::ready(spec.process.apparmor_profile().as_deref()).await;
        confined.map_err(|error| ContainerError::system(&error))?;
        let started = self.shim()?.exec(spec).await;
        let started = started.map_err(|source| ContainerError::Shim { id: self.id().clone(), source })?;
        exec.started(started.pid);
        Ok(())
    }

    /// Sets the size of a running exec's terminal.
    pub async fn resize_exec(&self, exec: &Exec, size: Size) -> Result<(), ContainerError> {
        let resized = self.shim()?.exec_resize(exec.id.clone(), size).await;
        resized.map_err(|source| ContainerError::Shim { id: self.id().clone(), source })
    }

    /// Signals a running exec's process.
    pub async fn signal_exec(&self, exec: &Exec, signal: i32) -> Result<(), ContainerError> {
        let sent = self.shim()?.exec_signal(exec.id.clone(), signal).await;
        sent.map_err(|source| ContainerError::Shim { id: self.id().clone(), source })
    }

    /// Forgets an exec that nobody will ask for.
    pub fn forget_exec(&self, id: &ExecId) {
        self.execs().remove(id);
    }

    /// The execs whose processes run.
    pub fn running_execs(&self) -> Vec<ExecId> {
        let running = |exec: &&Arc<Exec>| matches!(exec.phase(), ExecPhase::Running { .. });
        self.execs().iter().filter(running).map(|exec| exec.id.clone()).collect()
    }

    pub(super) fn ended_execs(&self) -> Vec<Arc<Exec>> {
        let ended = |exec: &&Arc<Exec>| matches!(exec.phase(), ExecPhase::Ended { .. });
        self.execs().iter().filter(ended).cloned().collect()
    }

    /// Reports that a client attached.
    pub fn report_attach(&self, parts: &Parts) {
        Reporter { events: &parts.events, record: &self.snapshot().record }.plain("attach");
    }

    fn execs(&self) -> MutexGuard<'_, Execs> {
        self.shared.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(now: &Published) -> Result<(), ExecError> {
    let id = now.record.id.clone();
    match now.state.phase {
        Phase::Running => Ok(()),
        Phase::Paused => Err(ExecError::Paused(id)),
        Phase::Restarting => Err(ExecError::Restarting(id)),
        Phase::Created | Phase::Starting | Phase::Exited | Phase::Removing | Phase::Dead => {
            Err(ExecError::NotRunning(id))
        }
    }
}

fn report(parts: &Parts, now: &Published, action: &str, exec: &Exec) {
    let command = format!("{action}: {}", exec.config.cmd.join(" "));
    Reporter { events: &parts.events, record: &now.record }.with(command, [("execID", exec.id.to_string())]);
}

fn exit_code(error: &ContainerError) -> i32 {
    match error {
        ContainerError::Shim { source: ShimError::Start { kind, .. }, .. } => kind.exit_code(),
        // As dockerd has it for whatever keeps an exec from being tried.
        _ => StartFailure::CommandNotExecutable.exit_code(),
    }
}

/// The container's own process with what the exec asks for in place of what the image said.
fn process(parts: &Parts, now: &Published, config: &ExecConfig) -> Result<Process, ContainerError> {
    let record = &now.record;
    let bad = |message: String| ContainerError::StartFailed { message, kind: StartFailure::BadRequest };
    let sandbox = now.sandbox.as_deref().cloned().unwrap_or_else(Sandbox::default);
    let rootfs = parts.paths.rootfs(&record.id);
    let mounted = Mounted { rootfs: rootfs.clone(), mounts: Vec::new() };
    let mut input = request::spec_input(parts, record, &sandbox, &mounted, Edits::default())?;
    let has_devices = record.host_config.device_requests.iter().flatten().next().is_some();
    if config.user.is_empty() && record.config.user.is_empty() && has_devices {
        // As under dockerd: only whoever is no other user has the groups that its devices brought.
        let groups = device_requests::groups_of_program(&parts.paths.run(&record.id));
        input.user.groups = groups.unwrap_or(input.user.groups);
    }
    if !config.user.is_empty() {
        let groups = record.host_config.group_add.as_deref().unwrap_or_default();
        let user = Accounts::read(&rootfs).resolve(&config.user, groups);
        input.user = user.map_err(|error| bad(error.to_string()))?;
    }
    oci_spec::exec_process(&input, config).map_err(|error| bad(error.to_string()))
}
