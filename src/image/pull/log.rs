//! What a pull has said so far. A client that joins late is told all of it, one that reads slowly gets the latest of
//! each kind, and neither holds up the pull.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::image::error::ImageError;
use crate::image::progress::Progress;

/// One slot for each part and status: a newer message takes the place of an older one with the same words.
#[derive(Debug)]
pub struct ProgressLog {
    slots: Mutex<Slots>,
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Slots {
    places: HashMap<(Option<Arc<str>>, String), usize>,
    /// Each with the number of its latest change.
    messages: Vec<(u64, Progress)>,
    next: u64,
}

impl Default for ProgressLog {
    fn default() -> Self {
        Self { slots: Mutex::default(), latest: watch::Sender::new(0) }
    }
}

impl ProgressLog {
    /// Adds a message.
    pub fn add(&self, message: Progress) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut *slots;
        slots.next += 1;
        let key = (message.id.clone(), message.status.as_deref().unwrap_or_default().to_owned());
        match slots.places.get(&key) {
            Some(place) => slots.messages[*place] = (slots.next, message),
            None => {
                slots.places.insert(key, slots.messages.len());
                slots.messages.push((slots.next, message));
            }
        }
        self.latest.send_replace(slots.next);
    }

    /// A reader that starts at the beginning.
    pub fn reader(self: &Arc<Self>) -> LogReader {
        let mut changes = self.latest.subscribe();
        changes.mark_changed();
        LogReader { log: self.clone(), seen: 0, changes }
    }

    fn since(&self, seen: u64) -> Vec<(u64, Progress)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news: Vec<_> = slots.messages.iter().filter(|(number, _)| *number > seen).cloned().collect();
        news.sort_by_key(|(number, _)| *number);
        news
    }
}

/// One client's place in the log.
#[derive(Debug)]
pub struct LogReader {
    log: Arc<ProgressLog>,
    seen: u64,
    changes: watch::Receiver<u64>,
}

impl LogReader {
    /// Waits until there is something new.
    pub async fn changed(&mut self) {
        // The log lives as long as its reader, so the sender is never gone.
        let _ = self.changes.changed().await;
    }

    /// Sends what is new; an error if nobody listens any more.
    pub async fn forward(&mut self, to: &mpsc::Sender<Progress>) -> Result<(), ImageError> {
        for (number, message) in self.log.since(self.seen) {
            to.send(message).await.map_err(|_| ImageError::Cancelled)?;
            self.seen = number;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_reader_gets_the_latest_of_each_in_order() {
        let log = Arc::new(ProgressLog::default());
        let layer: Arc<str> = "abc".into();
        log.add(Progress::of(&layer, "Pulling fs layer"));
        for n in 0..1000 {
            log.add(Progress::of(&layer, "Downloading").at(n, Some(1000)));
        }
        log.add(Progress::of(&layer, "Pull complete"));
        let (send, mut receive) = mpsc::channel(10);
        let mut reader = log.reader();
        reader.changed().await;
        reader.forward(&send).await.unwrap();
        log.add(Progress::status("Digest: x"));
        reader.forward(&send).await.unwrap();
        drop(send);
        let mut words = Vec::new();
        while let Some(message) = receive.recv().await {
            words.push((message.status.unwrap().into_owned(), message.detail.map(|d| d.current)));
        }
        let expected = [
            ("Pulling fs layer", None),
            ("Downloading", Some(999)),
            ("Pull complete", None),
            ("Digest: x", None),
        ];
        assert_eq!(words, expected.map(|(word, at)| (word.to_owned(), at)));
    }
}
