//! A thread that polls futures and waits for a socket at the same time: wakers ring, the thread hears.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wakes one thread that waits (eventfd(2)).
pub struct Bell {
    event: EventFd,
    rung: AtomicBool,
    asleep: AtomicBool,
}

impl Bell {
    /// Fails when there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { event, rung: AtomicBool::new(false), asleep: AtomicBool::new(false) })
    }

    /// Whether the bell has been rung since this was asked last.
    pub fn take_rung(&self) -> bool {
        self.rung.swap(false, Ordering::SeqCst)
    }

    /// Waits until the bell is rung, or `socket` can be read, or written where `writable` is asked for. Blocking; may
    /// return early.
    pub fn wait(&self, socket: Option<BorrowedFd<'_>>, writable: bool) {
        self.asleep.store(true, Ordering::SeqCst);
        if !self.rung.load(Ordering::SeqCst) {
            let wanted = if writable { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
            let socket = socket.map(|socket| PollFd::new(socket, wanted));
            let event = PollFd::new(self.event.as_fd(), PollFlags::POLLIN);
            let mut watched: Vec<_> = [Some(event), socket].into_iter().flatten().collect();
            // It fails for a signal or want of memory; the thread looks again then, too.
            let _ = nix::poll::poll(&mut watched, PollTimeout::NONE);
        }
        self.asleep.store(false, Ordering::SeqCst);
        // Empty if it was the socket.
        let _ = self.event.read();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            // It fails only when it has been rung 2^64 - 1 times.
            let _ = self.event.write(1);
        }
    }
}
