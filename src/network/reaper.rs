//! Removal of interfaces behind the caller's back.
//!
//! The kernel takes 10 to 30 ms to remove a link, nearly all of it waiting; so a stopping container does not wait for
//! it. One thread works while there is work, and takes all that has come together in one go. Addresses are given back
//! only when their interface is gone: a neighbour must never find two owners of one address.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Inner, Sandbox, link, plan};
use crate::base::sys::netlink::{Family, Socket};

/// What waits for removal.
#[derive(Default)]
pub(super) struct Reaper {
    queue: Mutex<Queue>,
    idle: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Sandbox>,
    is_working: bool,
}

impl Reaper {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Removes the interfaces of a sandbox soon, and then gives its addresses back.
    pub(super) fn bury(self: &Arc<Self>, sandbox: Sandbox) {
        let mut queue = self.reaper.queue();
        queue.waiting.push(sandbox);
        if queue.is_working {
            return;
        }
        let inner = self.clone();
        let started = thread::Builder::new().name("network-reaper".into()).spawn(move || inner.reap());
        match started {
            Ok(_) => queue.is_working = true,
            Err(_) => {
                let waiting = std::mem::take(&mut queue.waiting);
                drop(queue);
                self.remove_links(&waiting);
            }
        }
    }

    /// Waits until nothing waits for removal.
    pub(super) fn settle(&self) {
        let queue = self.reaper.queue();
        let settled = self.reaper.idle.wait_while(queue, |queue| queue.is_working);
        drop(settled.unwrap_or_else(PoisonError::into_inner));
    }

    fn reap(&self) {
        loop {
            let waiting = {
                let mut queue = self.reaper.queue();
                queue.is_working = !queue.waiting.is_empty();
                std::mem::take(&mut queue.waiting)
            };
            if waiting.is_empty() {
                self.reaper.idle.notify_all();
                return;
            }
            self.remove_links(&waiting);
        }
    }

    fn remove_links(&self, sandboxes: &[Sandbox]) {
        let names: Vec<_> = sandboxes.iter().flat_map(plan::host_ends).collect();
        let removed = Socket::open(Family::Route).and_then(|socket| link::delete(&socket, &names));
        if let Err(error) = removed {
            tracing::warn!(?names, %error, "interfaces not removed");
        }
        let mut state = self.state();
        sandboxes.iter().for_each(|sandbox| state.release(sandbox));
    }
}
