//! A container's removal: begun on record, so that the next daemon finishes what this one is killed in, and carried
//! on when its process has ended.

use super::error::ContainerError;
use super::handle::{RemoveOptions, Reply};
use super::launch;
use super::owner::{Flow, Owner, answer};
use super::published::Removal;
use super::state::{Effect, Force, Input, Refusal, Volumes};
use super::teardown;
use crate::runtime::Scope;

impl Owner {
    pub(super) async fn remove(&mut self, options: RemoveOptions, reply: Reply) {
        match self.begin_removal(options) {
            Err(error) => answer(reply, Err(error)),
            Ok(effects) => {
                self.restart_at = None;
                self.removal = Some((options.volumes, vec![reply]));
                self.persist();
                self.publish();
                if effects.contains(&Effect::KillThenRemove) {
                    self.kill_for_removal().await;
                }
            }
        }
    }

    pub(super) async fn kill_for_removal(&mut self) {
        if self.now.state.pid.is_some()
            && let Some((shim, _)) = &self.shim
        {
            if let Err(error) = launch::set_frozen(&self.parts, &self.now.record, false).await {
                tracing::debug!(container = %self.shared.id, %error, "thawing before the kill");
            }
            match shim.signal(libc::SIGKILL, Scope::All).await {
                Ok(()) => self.report().with("kill", [("signal", libc::SIGKILL.to_string())]),
                Err(error) => {
                    tracing::warn!(container = %self.shared.id, %error, "kill for removal failed");
                }
            }
        }
    }

    pub(super) async fn finish_removal(&mut self) -> Flow {
        let Some((volumes, replies)) = self.removal.take() else { return Flow::On };
        let result = teardown::remove(&self.parts, &self.now.record, volumes).await;
        match result {
            Ok(()) => {
                self.now.removal = Some(Removal::Done);
                self.publish();
                self.report().plain("destroy");
                replies.into_iter().for_each(|reply| answer(reply, Ok(())));
                Flow::End
            }
            Err(error) => {
                let text = error.to_string();
                let _ = self.apply(Input::RemoveFailed { error: text.clone() });
                self.now.removal = Some(Removal::Failed(text.clone()));
                self.persist();
                self.publish();
                let mut error = Some(error);
                for reply in replies {
                    let gone = || ContainerError::Refused(text.clone(), Refusal::AlreadyRemoving);
                    answer(reply, Err(error.take().unwrap_or_else(gone)));
                }
                Flow::On
            }
        }
    }

    pub(super) async fn remove_if_automatic(&mut self) {
        if !self.now.record.host_config.auto_remove || self.removal.is_some() || self.restart_at.is_some() {
            return;
        }
        // Its end was that of a restart by a user, which has not begun yet or is done.
        if self.now.is_running() || self.ending.as_ref().is_some_and(|ending| !ending.restarts.is_empty()) {
            return;
        }
        let options = RemoveOptions { force: Force::Kill, volumes: Volumes::RemoveAnonymous };
        if self.begin_removal(options).is_ok() {
            self.removal = Some((options.volumes, vec![]));
            self.persist();
        }
    }

    fn begin_removal(&mut self, options: RemoveOptions) -> Result<Vec<Effect>, ContainerError> {
        self.apply(Input::Remove { force: options.force, volumes: options.volumes })
    }
}
