//! The one task that owns a container's record and carries out its transitions.
//!
//! It takes, in this order: messages of the shim, the kill-and-remove lane, commands, timers. Each transition is
//! apply → persist → publish → event → reply: an answer means that the change is visible and on disk. A slow start
//! is raced by the kill-and-remove lane; `stop` waits for the exit without blocking anything.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ending::Ending;
use super::error::{ContainerError, StartFailure};
use super::handle::{Beginning, Command, Reply, Shared, Streams, Urgent};
use super::health::Monitor;
use super::launch;
use super::links;
use super::parts::Parts;
use super::published::Published;
use super::record::Record;
use super::report::Reporter;
use super::state::{self, Effect, Ended, Input, Refusal, Volumes};
use super::storage;
use crate::base::errno::told_in_gos_words;
use crate::base::id::ExecId;
use crate::base::time::Timestamp;
use crate::crash_point;
use crate::runtime::{Kept, Running, Shim, ShimEvent};

/// How long a start waits for clients whose attach has been answered; hand-overs take microseconds.
const ARRIVAL: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Owner {
    pub shared: Arc<Shared>,
    pub parts: Arc<Parts>,
    pub now: Published,
    pub shim: Option<(Shim, mpsc::UnboundedReceiver<ShimEvent>)>,
    pub commands: mpsc::Receiver<Command>,
    pub urgent: mpsc::Receiver<Urgent>,
    pub ending: Option<Ending>,
    pub kills: Vec<Reply>,
    pub removal: Option<(Volumes, Vec<Reply>)>,
    pub restart_at: Option<Instant>,
    pub monitor: Monitor,
}

/// Whether the owner goes on.
#[derive(PartialEq, Eq)]
pub(super) enum Flow {
    On,
    End,
}

impl Owner {
    /// Runs until the container is removed or the daemon lets go of it.
    pub async fn run(mut self) {
        loop {
            let deadline = self.deadline();
            let flow = tokio::select! {
                biased;
                event = next_event(&mut self.shim) => self.on_shim(event).await,
                Some(urgent) = self.urgent.recv() => self.on_urgent(urgent).await,
                Some(command) = self.commands.recv() => self.on_command(command).await,
                outcome = self.monitor.finished() => {
                    self.probed(outcome);
                    Flow::On
                }
                () = sleep_until(deadline) => self.on_timer().await,
                else => Flow::End,
            };
            if flow == Flow::End {
                return;
            }
        }
    }

    async fn on_command(&mut self, command: Command) -> Flow {
        match command {
            Command::Start(beginning, reply) => {
                let result = self.start_from(beginning).await;
                answer(reply, result);
            }
            Command::Stop(options, reply) => self.stop(options, reply, false).await,
            Command::Restart(options, reply) => self.stop(options, reply, true).await,
            Command::Pause(reply) => {
                let result = self.freeze(Input::Pause, "pause").await;
                answer(reply, result);
            }
            Command::Resume(reply) => {
                let result = self.freeze(Input::Resume, "unpause").await;
                answer(reply, result);
            }
            Command::Rename(name, reply) => {
                let result = self.rename(name).await;
                answer(reply, result);
            }
            Command::Unlink(alias, reply) => {
                let result = self.unlink(&alias).await;
                answer(reply, result);
            }
            Command::Update(wanted, reply) => {
                let result = self.update(&wanted).await;
                answer(reply, result);
            }
            Command::Release(reply) => {
                self.save_health();
                answer(reply, Ok(()));
                return Flow::End;
            }
        }
        self.after_step().await
    }

    async fn on_urgent(&mut self, urgent: Urgent) -> Flow {
        match urgent {
            Urgent::Kill(signal, reply) => self.kill(signal, reply).await,
            Urgent::Remove(options, reply) => self.remove(options, reply).await,
        }
        self.after_step().await
    }

    async fn on_timer(&mut self) -> Flow {
        if self.restart_at.is_some_and(|at| at <= Instant::now()) {
            self.restart_at = None;
            self.restart_by_rule().await;
        }
        self.probe_if_due();
        self.escalate().await;
        self.after_step().await
    }

    async fn on_shim(&mut self, event: Option<ShimEvent>) -> Flow {
        match event {
            Some(ShimEvent::Exited(record)) => self.exited(record).await,
            Some(ShimEvent::Oom) => self.report().plain("oom"),
            Some(ShimEvent::ExecExited { id, exit, kept }) => self.exec_exited(&id, exit.code, kept),
            Some(ShimEvent::Detached { exec }) => self.report().detached(exec.as_ref()),
            Some(ShimEvent::Disconnected) | None => self.shim_lost().await,
        }
        self.after_step().await
    }

    /// A removal whose process has ended goes on here, from whatever step made it possible.
    pub(super) async fn after_step(&mut self) -> Flow {
        if self.now.is_removed() {
            return Flow::End;
        }
        if self.removal.is_some() && !self.now.is_running() && self.shim.is_none() {
            return self.finish_removal().await;
        }
        Flow::On
    }

    // ---- starting

    /// A start that counts restarts anew: by a user, or with the daemon.
    pub(super) async fn start_anew(&mut self) -> Result<(), ContainerError> {
        self.start_from(Beginning::Program).await
    }

    async fn start_from(&mut self, beginning: Beginning) -> Result<(), ContainerError> {
        self.apply(Input::Start)?;
        self.restart_at = None;
        self.launch(beginning).await
    }

    async fn restart_by_rule(&mut self) {
        if self.apply(Input::RestartDue).is_ok()
            && let Err(error) = self.launch(Beginning::Program).await
        {
            tracing::warn!(container = %self.shared.id, %error, "automatic restart failed");
        }
    }

    /// Carries out [`Effect::Launch`], raced by the kill-and-remove lane.
    async fn launch(&mut self, beginning: Beginning) -> Result<(), ContainerError> {
        self.publish();
        self.await_attaching().await;
        let attachments = self.take_waiting();
        let (files, parts, now) = (self.shared.files.clone(), self.parts.clone(), self.now.clone());
        let mut effect = Box::pin(async move {
            // Until it runs, nobody else may mount its root.
            let held = files.write_owned().await;
            launch::run(parts, now, attachments, beginning).await.map(|launched| (launched, held))
        });
        let outcome = loop {
            tokio::select! {
                biased;
                Some(urgent) = self.urgent.recv() => match urgent {
                    Urgent::Kill(signal, reply) if signal != libc::SIGKILL => {
                        answer(reply, Err(self.not_running()));
                    }
                    urgent => break Err(Interrupted::By(urgent)),
                },
                launched = &mut effect => break launched.map_err(Interrupted::Failed),
            }
        };
        drop(effect);
        match outcome {
            Ok((launched, _held)) => self.launched(launched).await,
            Err(Interrupted::Failed(error)) => Err(self.launch_failed(error).await),
            Err(Interrupted::By(urgent)) => {
                let message = "the start was interrupted by a kill or a removal".to_owned();
                let error = self
                    .launch_failed(ContainerError::StartFailed { message, kind: StartFailure::Cancelled });
                let error = error.await;
                match urgent {
                    Urgent::Kill(_, reply) => answer(reply, Ok(())),
                    Urgent::Remove(options, reply) => self.remove(options, reply).await,
                }
                Err(error)
            }
        }
    }

    async fn launched(&mut self, launched: launch::Launched) -> Result<(), ContainerError> {
        let launch::Launched { running, sandbox } = launched;
        self.apply(Input::Launched { pid: running.pid, at: running.started })?;
        self.now.sandbox = Some(Arc::new(sandbox));
        self.go_live(running).await;
        self.start_health();
        crash_point!("container-launched");
        self.persist();
        self.publish();
        links::spread_address(&self.parts, &self.now);
        self.report().plain("start");
        Ok(())
    }

    /// Makes the shim the place for attaching clients, those that came during the launch included.
    pub(super) async fn go_live(&mut self, running: Running) {
        let Running { shim, events, .. } = running;
        let late = {
            let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
            match std::mem::replace(&mut *streams, Streams::Live(shim.clone())) {
                Streams::Waiting(late) => late,
                Streams::Live(_) => vec![],
            }
        };
        for attachment in late {
            if let Err(error) = shim.attach(attachment).await {
                tracing::warn!(container = %self.shared.id, %error, "a client could not be attached");
            }
        }
        self.shim = Some((shim, events));
    }

    async fn launch_failed(&mut self, error: ContainerError) -> ContainerError {
        let exit_code = match &error {
            ContainerError::StartFailed { kind, .. } => kind.exit_code(),
            _ => StartFailure::System.exit_code(),
        };
        self.release().await;
        let input = Input::LaunchFailed { exit_code, error: told_in_gos_words(error.to_string()) };
        if self.apply(input).is_ok() {
            self.now.exits += 1;
            self.now.last_exit = Some(Ended { exit_code, oom_killed: false, at: Timestamp::now() });
            self.persist();
            self.publish();
        }
        self.remove_if_automatic().await;
        error
    }

    /// A client that was told that it is attached counts, even if its socket is still being handed over. One that
    /// does not read its answer is attached when the container runs.
    async fn await_attaching(&self) {
        let _ = tokio::time::timeout(ARRIVAL, self.shared.attaching.write()).await;
    }

    fn take_waiting(&mut self) -> Vec<crate::runtime::Attachment> {
        match &mut *self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner) {
            Streams::Waiting(waiting) => std::mem::take(waiting),
            Streams::Live(_) => vec![],
        }
    }

    // ---- freezing, renaming

    pub(super) async fn freeze(&mut self, input: Input, action: &'static str) -> Result<(), ContainerError> {
        let frozen = input == Input::Pause;
        let (next, _) = state::apply(&self.now.state, self.rule(), input).map_err(|r| self.refused(r))?;
        launch::set_frozen(&self.parts, &self.now.record, frozen)
            .await
            .map_err(|source| self.io("freezing its processes", source))?;
        self.now.state = next;
        if frozen {
            self.stop_health()
        } else {
            self.watch_health()
        }
        self.persist();
        self.publish();
        self.report().plain(action);
        Ok(())
    }

    async fn rename(&mut self, name: String) -> Result<(), ContainerError> {
        let record = Record { name: format!("/{name}"), ..(*self.now.record).clone() };
        storage::save_record(&self.parts.paths, &record)
            .await
            .map_err(|source| self.io("saving its record", source))?;
        let old = std::mem::replace(&mut self.now.record, Arc::new(record));
        self.publish();
        self.report().with("rename", [("oldName", old.name.clone())]);
        Ok(())
    }

    // ---- execs

    fn exec_exited(&mut self, id: &ExecId, code: i32, kept: Option<Kept>) {
        let is_waited_for = kept.is_none();
        let exec = self.shared.execs.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(exec) = exec {
            match kept {
                Some(kept) => exec.ended_with(code, kept),
                None => exec.ended(code),
            }
            self.report().exec_died(id, code);
        }
        if is_waited_for && let Some((shim, _)) = &self.shim {
            shim.acknowledge_exec(id.clone());
        }
    }

    pub(super) fn execs_ended(&self) {
        let execs = self.shared.execs.lock().unwrap_or_else(PoisonError::into_inner);
        execs.iter().for_each(|exec| exec.ended(128 + libc::SIGKILL));
    }

    // ---- the transition itself

    pub(super) fn apply(&mut self, input: Input) -> Result<Vec<Effect>, ContainerError> {
        let (state, effects) =
            state::apply(&self.now.state, self.rule(), input).map_err(|refusal| self.refused(refusal))?;
        self.now.state = state;
        Ok(effects)
    }

    /// Losing a state file to a full disk must not keep a container from ending: logged, and the next one heals it.
    pub(super) fn persist(&self) {
        if let Err(error) = storage::save_state(&self.parts.paths, &self.shared.id, &self.now) {
            tracing::error!(container = %self.shared.id, %error, "cannot save the state");
        }
    }

    pub(super) fn publish(&self) {
        self.shared.published.send_replace(Arc::new(self.now.clone()));
        self.parts.containers.changed();
    }

    pub(super) fn stop_streams(&self) {
        *self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner) = Streams::Waiting(vec![]);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let ending = self.ending.as_ref().and_then(|ending| ending.deadline);
        [ending, self.restart_at, self.monitor.deadline()].into_iter().flatten().min()
    }

    pub(super) fn rule(&self) -> state::RestartRule {
        self.now.record.restart_rule()
    }

    pub(super) fn report(&self) -> Reporter<'_> {
        Reporter { events: &self.parts.events, record: &self.now.record }
    }

    pub(super) fn not_running(&self) -> ContainerError {
        let message = format!("container {} is not running", self.shared.id);
        ContainerError::Refused(message, Refusal::NotRunning)
    }

    pub(super) fn refused(&self, refusal: Refusal) -> ContainerError {
        ContainerError::refused(&self.now.record, refusal)
    }

    pub(super) fn io(&self, doing: &'static str, source: std::io::Error) -> ContainerError {
        ContainerError::Io { id: self.shared.id.clone(), doing, source }
    }
}

/// What ended a start.
enum Interrupted {
    Failed(ContainerError),
    By(Urgent),
}

/// A shim that cannot be told keeps its exit record, and is told by the next daemon.
pub(super) fn acknowledged(result: Result<(), crate::runtime::ShimError>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a shim was not told that its exit is recorded");
    }
}

pub(super) fn answer(reply: Reply, result: Result<(), ContainerError>) {
    // The client may have gone: its wish is carried out all the same.
    let _ = reply.send(result);
}

async fn next_event(shim: &mut Option<(Shim, mpsc::UnboundedReceiver<ShimEvent>)>) -> Option<ShimEvent> {
    match shim {
        Some((_, events)) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
