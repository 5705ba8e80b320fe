//! What the shim waits for: an epoll instance whose events carry a [`Token`].

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::logs::Stream;

/// Number of a process in its shim: 0 is the container's first, execs count on.
pub type Key = u32;
/// The container's first process.
pub const INIT: Key = 0;

/// Who an event is for. Sixteen bits tell the kind, the rest whose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    Signals,
    Listener,
    Oom,
    Connection(u32),
    /// The pipe on which a process that is being started reports.
    Report(Key),
    /// The pipe on which a checkpoint reports.
    Checkpoint,
    Output(Key, Stream),
    Input(Key),
    Client(Key, u16),
    /// A published port that is served here, or a connection to it.
    Relay(u32, u16),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, who, which) = match self {
            Self::Signals => (0, 0, 0),
            Self::Listener => (1, 0, 0),
            Self::Oom => (2, 0, 0),
            Self::Connection(id) => (3, id, 0),
            Self::Report(key) => (4, key, 0),
            Self::Output(key, Stream::Stdout) => (5, key, 0),
            Self::Output(key, Stream::Stderr) => (5, key, 1),
            Self::Input(key) => (6, key, 0),
            Self::Client(key, id) => (7, key, id),
            Self::Relay(id, which) => (8, id, which),
            Self::Checkpoint => (9, 0, 0),
        };
        kind << 48 | u64::from(who) << 16 | u64::from(which)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let who = (packed >> 16) as u32;
        let which = packed as u16;
        Some(match (packed >> 48, which) {
            (0, _) => Self::Signals,
            (1, _) => Self::Listener,
            (2, _) => Self::Oom,
            (3, _) => Self::Connection(who),
            (4, _) => Self::Report(who),
            (5, 0) => Self::Output(who, Stream::Stdout),
            (5, _) => Self::Output(who, Stream::Stderr),
            (6, _) => Self::Input(who),
            (7, id) => Self::Client(who, id),
            (8, which) => Self::Relay(who, which),
            (9, _) => Self::Checkpoint,
            _ => return None,
        })
    }
}

/// The epoll instance. Level-triggered throughout: whatever is not dealt with is told again.
pub struct Poller {
    epoll: Epoll,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Begins to watch `fd`. Errors and hang-ups are always told.
    pub fn add(&self, fd: impl AsFd, token: Token, interest: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(interest, token.pack()))?)
    }

    /// Changes what is watched for.
    pub fn modify(&self, fd: impl AsFd, token: Token, interest: EpollFlags) {
        let mut event = EpollEvent::new(interest, token.pack());
        // Fails only for a descriptor that is not watched, which is then not to be watched either.
        let _ = self.epoll.modify(fd, &mut event);
    }

    /// Stops watching `fd`. Needed before closing what a forked creator may still hold open.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = self.epoll.delete(fd);
    }

    /// Waits for events, at most for `timeout`.
    pub fn wait(&self, timeout: Option<Duration>, events: &mut Vec<(Token, EpollFlags)>) -> io::Result<()> {
        let mut raw = [EpollEvent::empty(); 32];
        // Rounded up: a timer must have passed when the wait ends.
        let timeout = timeout.map_or(EpollTimeout::NONE, |time| {
            EpollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(EpollTimeout::MAX)
        });
        let count = match self.epoll.wait(&mut raw, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        events.clear();
        events.extend(
            raw[..count].iter().filter_map(|event| Some((Token::unpack(event.data())?, event.events()))),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        for token in [
            Token::Signals,
            Token::Listener,
            Token::Oom,
            Token::Connection(u32::MAX),
            Token::Report(7),
            Token::Output(0, Stream::Stdout),
            Token::Output(u32::MAX, Stream::Stderr),
            Token::Input(3),
            Token::Client(9, u16::MAX),
            Token::Relay(u32::MAX, 2),
            Token::Checkpoint,
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
    }
}
