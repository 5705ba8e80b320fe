//! A connection that is driven by the thread that reads a large body of it.
//!
//! Clients write archives in small pieces, each of which wakes whoever waits for it. The runtime would go through
//! three tasks for each. A thread that reads by itself lets the pieces pile up in the socket and takes them at once.

use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::connection::Driven;
use crate::api::unix_io::Attention;
use crate::base::sys::bell::Bell;

/// How long pieces may pile up: about as long as a client needs to fill its socket's buffer by half.
const PILE_UP: Duration = Duration::from_micros(50);

/// The right to drive a connection. It is given back when this is dropped.
pub struct Loan {
    driven: Option<Driven>,
    lender: Option<oneshot::Sender<Driven>>,
    attention: Option<Arc<Attention>>,
    bell: Arc<Bell>,
}

impl Loan {
    /// The loan, and how the connection comes back.
    pub(super) fn new(driven: Driven, bell: Bell) -> (Self, oneshot::Receiver<Driven>) {
        let (lender, back) = oneshot::channel();
        let attention = driven.attention();
        if let Some(attention) = &attention {
            attention.by_thread(true);
        }
        (Self { driven: Some(driven), lender: Some(lender), attention, bell: Arc::new(bell) }, back)
    }

    /// Drives the connection until `reading` has a result. Blocking.
    pub fn block_on<T>(&mut self, mut reading: impl Future<Output = T> + Unpin) -> T {
        let waker = Waker::from(self.bell.clone());
        let cx = &mut Context::from_waker(&waker);
        loop {
            if let Poll::Ready(read) = Pin::new(&mut reading).poll(cx) {
                return read;
            }
            if let Some(driven) = &mut self.driven {
                // When it is over, so is the body.
                let _ = driven.go_on(cx);
            }
            if !self.bell.take_rung() {
                self.wait();
            }
        }
    }

    fn wait(&self) {
        let Some(attention) = &self.attention else { return self.bell.wait(None, false) };
        thread::sleep(PILE_UP);
        self.bell.wait(Some(attention.as_fd()), attention.take_full());
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(attention) = &self.attention {
            attention.by_thread(false);
        }
        if let (Some(driven), Some(lender)) = (self.driven.take(), self.lender.take()) {
            // The connection's own task may have been cancelled; so the connection ends here.
            drop(lender.send(driven));
        }
    }
}
