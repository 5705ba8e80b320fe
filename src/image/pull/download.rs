//! One blob from the registry: tried again where it broke off, given to its readers as it comes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::log::ProgressLog;
use super::stream::Feed;
use crate::content::ContentError;
use crate::image::error::ImageError;
use crate::image::progress::Progress;
use crate::registry::manifest::Descriptor;
use crate::registry::{RegistryError, Session};

/// How often a client is told how far it is.
const TICK: Duration = Duration::from_millis(100);
/// The wait before the second attempt; it grows by as much for each further one (as dockerd).
const BACKOFF: Duration = Duration::from_secs(5);

/// A download and those who read it.
pub struct Download<'a> {
    pub session: &'a Session,
    pub blob: &'a Descriptor,
    pub id: &'a Arc<str>,
    pub log: &'a ProgressLog,
    pub attempts: usize,
    /// Each gets every byte from the starting point on.
    pub feeds: Vec<Feed>,
    /// Bytes that they have, or that the blob has from an earlier attempt.
    pub received: u64,
}

/// How a download ended that did not fail.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    Complete,
    /// A reader gave up: it knows why.
    Refused,
}

impl Download<'_> {
    /// Gets the rest of the blob.
    pub async fn run(mut self) -> Result<Delivery, ImageError> {
        let mut failures = 0;
        while self.received < self.blob.size {
            let before = self.received;
            match self.attempt().await {
                Ok(Delivery::Complete) => {}
                Ok(Delivery::Refused) => return Ok(Delivery::Refused),
                Err(ImageError::Registry(error)) if error.is_transient() => {
                    // Progress earns new attempts: a bad line must not fail a large layer in the end.
                    failures = if self.received > before { 1 } else { failures + 1 };
                    if failures >= self.attempts {
                        return Err(error.into());
                    }
                    tracing::info!(blob = %self.blob.digest, %error, failures, "a download is tried again");
                    self.wait(failures).await;
                }
                Err(error) => return Err(error),
            }
        }
        for feed in std::mem::take(&mut self.feeds) {
            feed.end().await;
        }
        Ok(Delivery::Complete)
    }

    async fn attempt(&mut self) -> Result<Delivery, ImageError> {
        let mut stream = self.session.blob(self.blob, self.received).await?;
        // A server that does not resume starts over: skip what is here already.
        let mut skip = self.received - stream.offset;
        let mut told: Option<Instant> = None;
        while let Some(mut piece) = stream.chunk().await? {
            let skipped = skip.min(piece.len() as u64);
            skip -= skipped;
            bytes::Buf::advance(&mut piece, skipped as usize);
            if self.received + piece.len() as u64 > self.blob.size {
                return Err(self.too_long(piece.len() as u64));
            }
            if !self.deliver(piece).await {
                return Ok(Delivery::Refused);
            }
            if told.is_none_or(|told| told.elapsed() >= TICK) {
                told = Some(Instant::now());
                self.log.add(Progress::of(self.id, "Downloading").at(self.received, Some(self.blob.size)));
            }
        }
        if self.received < self.blob.size {
            let (url, reason) = (self.blob.digest.to_string(), "unexpected EOF".to_owned());
            return Err(RegistryError::Request { method: "Get", url, reason }.into());
        }
        Ok(Delivery::Complete)
    }

    async fn deliver(&mut self, piece: Bytes) -> bool {
        for feed in &self.feeds {
            if !feed.send(piece.clone()).await {
                return false;
            }
        }
        self.received += piece.len() as u64;
        true
    }

    /// Counts down where the client sees it.
    async fn wait(&self, failures: usize) {
        let wait = BACKOFF * u32::try_from(failures).unwrap_or(u32::MAX).min(12);
        for left in (1..=wait.as_secs()).rev() {
            let plural = if left == 1 { "" } else { "s" };
            self.log.add(Progress::of(self.id, format!("Retrying in {left} second{plural}")));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn too_long(&self, more: u64) -> ImageError {
        let (digest, expected) = (self.blob.digest, self.blob.size);
        ContentError::WrongSize { digest, expected, actual: self.received + more }.into()
    }
}
