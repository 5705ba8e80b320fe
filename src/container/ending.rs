//! How a container's process ends: stop, kill, its own end, and a shim that is gone.
//!
//! A stop waits for the end without blocking the owner; SIGKILL follows when its grace is over.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{ContainerError, StartFailure};
use super::handle::{Reply, StopOptions};
use super::launch;
use super::owner::{Owner, acknowledged, answer};
use super::state::{Effect, EndRequest, Ended, Input, Phase};
use super::teardown;
use crate::crash_point;
use crate::runtime::{Adopted, ExitRecord, Exited, Scope};

/// After SIGKILL a process is gone at once unless the kernel holds it; then a stop gives up waiting.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// A stop under way.
pub(super) struct Ending {
    /// When SIGKILL is due, or, after it, when to give up; never if absent.
    pub(super) deadline: Option<Instant>,
    killed: bool,
    replies: Vec<Reply>,
    pub(super) restarts: Vec<Reply>,
}

impl Owner {
    pub(super) async fn stop(&mut self, options: StopOptions, reply: Reply, again: bool) {
        if !self.now.is_running() {
            let waited = self.give_up_restarting(options.request);
            if waited && !again {
                self.report().plain("stop");
                return answer(reply, Ok(()));
            }
            let result = if again { self.start_anew().await } else { Err(self.not_running()) };
            return answer(reply, result);
        }
        let signal = options.signal.unwrap_or_else(|| self.now.record.stop_signal());
        let grace = options.grace.unwrap_or_else(|| self.now.record.stop_timeout());
        self.end_requested(options.request);
        let result = self.send(signal, Scope::Init).await;
        if let Err(error) = result {
            return answer(reply, Err(error));
        }
        let deadline = u64::try_from(grace).ok().map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let ending =
            self.ending.get_or_insert(Ending { deadline, killed: false, replies: vec![], restarts: vec![] });
        if !ending.killed {
            ending.deadline = deadline;
        }
        if again { ending.restarts.push(reply) } else { ending.replies.push(reply) }
    }

    pub(super) async fn kill(&mut self, signal: i32, reply: Reply) {
        let request = match self.now.record.config.stop_signal.as_deref() {
            Some(name) if !name.is_empty() && signal != libc::SIGKILL => match signal {
                stop if stop == self.now.record.stop_signal() => EndRequest::Stop,
                _ => EndRequest::Signal,
            },
            _ => EndRequest::Stop,
        };
        if self.give_up_restarting(request) {
            return answer(reply, Ok(()));
        }
        if !self.now.is_running() {
            let source = Box::new(self.not_running());
            let name = self.now.record.plain_name().to_owned();
            return answer(reply, Err(ContainerError::Kill { name, source }));
        }
        self.end_requested(request);
        match self.send(signal, Scope::Init).await {
            Ok(()) if signal == libc::SIGKILL => self.kills.push(reply),
            result => answer(reply, result),
        }
    }

    /// Sends a signal, thawing a frozen container first so that it can act on it.
    pub(super) async fn send(&mut self, signal: i32, scope: Scope) -> Result<(), ContainerError> {
        if self.now.state.phase == Phase::Paused {
            self.freeze(Input::Resume, "unpause").await?;
        }
        let Some((shim, _)) = &self.shim else { return Err(self.not_running()) };
        shim.signal(signal, scope)
            .await
            .map_err(|source| ContainerError::Shim { id: self.shared.id.clone(), source })?;
        self.report().with("kill", [("signal", signal.to_string())]);
        Ok(())
    }

    /// On record before the signal is sent: whoever finds the process ended knows that it was asked to.
    fn end_requested(&mut self, request: EndRequest) {
        if self.apply(Input::EndRequested(request)).is_ok() {
            self.persist();
        }
    }

    /// Whether it was waiting for an automatic restart; if its end is meant, it does so no more.
    fn give_up_restarting(&mut self, request: EndRequest) -> bool {
        let waiting = self.now.is_restarting();
        if waiting {
            self.end_requested(request);
            self.publish();
        }
        if !self.now.is_restarting() {
            self.restart_at = None;
        }
        waiting
    }

    /// SIGKILL when the grace is over; the caller is told when even that does not help.
    pub(super) async fn escalate(&mut self) {
        let Some(ending) = &mut self.ending else { return };
        if ending.deadline.is_none_or(|at| at > Instant::now()) {
            return;
        }
        if !ending.killed {
            ending.killed = true;
            ending.deadline = Some(Instant::now() + KILL_GRACE);
            if let Err(error) = self.send(libc::SIGKILL, Scope::All).await {
                tracing::warn!(container = %self.shared.id, %error, "kill after the grace period failed");
            }
        } else if let Some(ending) = self.ending.take() {
            for reply in ending.replies.into_iter().chain(ending.restarts) {
                answer(reply, Err(ContainerError::StillAlive));
            }
        }
    }

    pub(super) async fn exited(&mut self, record: ExitRecord) {
        let ended = Ended { exit_code: record.code, oom_killed: record.oom_killed, at: record.at };
        let ran = ended.at.since(self.now.state.started_at);
        self.stop_streams();
        self.execs_ended();
        crash_point!("container-exited");
        self.release().await;
        let Ok(effects) = self.apply(Input::Ended(ended)) else { return };
        self.stop_health();
        for effect in effects {
            if let Effect::RestartAfter(delay) = effect {
                self.restart_at = Some(Instant::now() + delay);
            }
        }
        self.now.exits += 1;
        self.now.last_exit = Some(ended);
        self.persist();
        self.publish();
        self.report().died(ended, ran);
        if let Some((shim, _)) = self.shim.take() {
            acknowledged(shim.acknowledge_exit().await);
        }
        self.answer_ended().await;
        self.remove_if_automatic().await;
    }

    pub(super) async fn answer_ended(&mut self) {
        self.kills.drain(..).for_each(|reply| answer(reply, Ok(())));
        let Some(ending) = self.ending.take() else { return };
        self.report().plain("stop");
        ending.replies.into_iter().for_each(|reply| answer(reply, Ok(())));
        if ending.restarts.is_empty() {
            return;
        }
        let result = self.start_anew().await;
        if result.is_ok() {
            self.report().plain("restart");
        }
        let message = result.err().map(|error| error.to_string());
        for reply in ending.restarts {
            let result = match &message {
                None => Ok(()),
                Some(text) => {
                    Err(ContainerError::StartFailed { message: text.clone(), kind: StartFailure::System })
                }
            };
            answer(reply, result);
        }
    }

    /// The connection broke: the shim may still be there (then go on with it), or it died with its container.
    pub(super) async fn shim_lost(&mut self) {
        self.shim = None;
        self.stop_streams();
        match launch::adopt(&self.parts, &self.now.record).await {
            Adopted::Running(running) => self.go_live(*running).await,
            Adopted::Exited(exited) => self.adopt_exit(exited).await,
            Adopted::Gone => self.lost().await,
        }
    }

    /// Takes over an exit that was recorded while nobody listened.
    pub(super) async fn adopt_exit(&mut self, exited: Exited) {
        if exited.is_orphaned() {
            launch::end_remains(&self.parts, &self.now.record).await;
        }
        self.exited(exited.record.clone()).await;
        acknowledged(exited.acknowledge().await);
    }

    /// The end of a container whose shim left no word.
    pub(super) async fn lost(&mut self) {
        launch::end_remains(&self.parts, &self.now.record).await;
        self.exited(launch::lost()).await;
    }

    pub(super) async fn release(&mut self) {
        let sandbox = self.now.sandbox.take();
        teardown::release(&self.parts, &self.now.record, sandbox.as_deref()).await;
    }
}
