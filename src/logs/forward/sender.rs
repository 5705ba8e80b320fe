//! The thread that waits for a sink, which may take for ever: nobody waits for the thread longer than it wants to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender as Channel, channel};
use std::thread;
use std::time::Duration;

use super::address::Address;
use super::sink::{Sent, Sink};
use super::tls::Tls;

/// Entries, each of one or more messages.
pub type Batch = Vec<Vec<Vec<u8>>>;

/// A sink with a thread of its own. Dropped while it is at something, it goes on with that until the process ends.
pub struct Sender {
    batches: Channel<Batch>,
    done: Receiver<()>,
    /// Entries that the sink has taken.
    sent: Arc<AtomicU64>,
}

impl Sender {
    pub fn start(to: Address, tls: Tls) -> io::Result<Self> {
        let (batches, theirs) = channel::<Batch>();
        let (tell, done) = channel();
        let sent = Arc::new(AtomicU64::new(0));
        let count = sent.clone();
        thread::Builder::new().name("sink".to_owned()).spawn(move || {
            let mut sink = Sink::new(to, tls);
            for batch in theirs {
                for messages in batch {
                    let all = messages.iter().fold(Sent::Whole, |all, message| all.and(sink.send(message)));
                    count.fetch_add(u64::from(all == Sent::Whole), Ordering::Relaxed);
                }
                let _ = tell.send(());
            }
            // Whoever waits for the end of `tell` waits for the connection's.
            drop(sink);
            drop(tell);
        })?;
        Ok(Self { batches, done, sent })
    }

    /// Begins to send a batch; the one before is done.
    pub fn begin(&mut self, batch: Batch) {
        // A thread that is gone is seen at the next look.
        let _ = self.batches.send(batch);
    }

    /// Waits for the end of the batch.
    pub fn is_done_within(&self, patience: Duration) -> bool {
        !matches!(self.done.recv_timeout(patience), Err(RecvTimeoutError::Timeout))
    }

    /// How many entries were sent since this was asked last.
    pub fn take_sent(&self) -> u64 {
        self.sent.swap(0, Ordering::Relaxed)
    }

    /// Closes the connection, so that what was sent arrives.
    pub fn end_within(self, patience: Duration) {
        drop(self.batches);
        let _ = self.done.recv_timeout(patience);
    }
}
