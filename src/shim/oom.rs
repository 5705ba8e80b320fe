//! Kills for want of memory: how many there were, and the events that tell of them.

use std::os::fd::OwnedFd;

use nix::sys::epoll::EpollFlags;

use super::Shim;
use super::poll::Token;
use super::process::End;
use crate::runtime::protocol::{Event, Message};

/// What is known of a container's kills for want of memory.
#[derive(Default)]
pub struct Oom {
    watch: Option<OwnedFd>,
    pub kills: u64,
    /// What the group around the container's had counted when the container's was last read.
    around: Option<u64>,
    /// Whether the shim itself was asked to kill the container.
    pub is_killed: bool,
}

impl Oom {
    /// Takes in what the container's group and the one around it have counted, as far as they can be read; `end` is the
    /// container's, if this is it. True if there were kills that were not known.
    ///
    /// systemd removes the group of a scope as soon as it is empty, often before it can be read. A kill by nobody known
    /// while the group around counted one is taken for what it most likely is.
    fn take(&mut self, own: Option<u64>, around: Option<u64>, end: Option<End>) -> bool {
        let before = self.kills;
        match own {
            Some(kills) => {
                self.kills = self.kills.max(kills);
                self.around = around;
            }
            None => {
                let is_kill = end.is_some_and(|end| end.signal == Some(libc::SIGKILL)) && !self.is_killed;
                let grew = self.around.is_some_and(|before| around.is_some_and(|now| now > before));
                self.kills += u64::from(is_kill && grew && self.kills == 0);
            }
        }
        self.kills > before
    }
}

impl Shim {
    /// Begins to listen for them.
    pub(super) fn watch_oom(&mut self) {
        if self.cgroup.is_empty() {
            return;
        }
        let watched = self.cgroup.watch_oom().and_then(|fd| {
            self.poller.add(&fd, Token::Oom, EpollFlags::EPOLLIN)?;
            Ok(fd)
        });
        // A container that has ended already has no group to watch; a host without the controller none at all.
        self.oom.watch = watched.ok();
        self.check_oom(None);
    }

    /// There may be more of them.
    pub(super) fn oom_ready(&mut self) {
        if let Some(watch) = &self.oom.watch {
            let mut scrap = [0; 4096];
            let _ = nix::unistd::read(watch, &mut scrap);
        }
        self.check_oom(None);
    }

    /// Looks for more of them, for the last time if the container has had its `end`.
    pub(super) fn check_oom(&mut self, end: Option<End>) {
        // The one around first: what it counts later is not lost.
        let around = self.cgroup.oom_kills_around().ok();
        if self.oom.take(self.cgroup.oom_kills().ok(), around, end) {
            self.tell(&Message::Event(Event::Oom));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;

    #[test]
    fn a_kill_whose_group_is_gone_is_known_by_the_group_around() {
        let end = |signal| Some(End { code: 0, signal, at: Timestamp::UNSET });
        let killed = end(Some(libc::SIGKILL));
        // What the two groups have counted at the start and at the end; whether somebody asked for the kill.
        for (own, around, later, end, is_killed, expected) in [
            (Some(0), Some(5), (Some(1), Some(6)), killed, false, 1),
            (Some(0), Some(5), (None, Some(6)), killed, false, 1),
            (Some(0), Some(5), (None, Some(6)), killed, true, 0),
            (Some(0), Some(5), (None, Some(5)), killed, false, 0),
            (Some(0), Some(5), (None, Some(6)), end(Some(libc::SIGTERM)), false, 0),
            (Some(0), Some(5), (None, Some(6)), end(None), false, 0),
            (Some(2), Some(7), (None, Some(8)), killed, false, 2),
            (Some(0), None, (None, Some(6)), killed, false, 0),
            (None, None, (None, None), killed, false, 0),
        ] {
            let mut oom = Oom { is_killed, ..Oom::default() };
            assert_eq!(oom.take(own, around, None), own.is_some_and(|kills| kills > 0));
            let before = oom.kills;
            let told = oom.take(later.0, later.1, end);
            assert_eq!((oom.kills, told), (expected, expected > before), "{own:?} {around:?} {later:?}");
        }
    }
}
