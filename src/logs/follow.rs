//! Carries a log to a client: batches are read on a blocking thread, waiting costs none.

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::json_file::Entry;
use super::reader::{Mode, Progress, Reader};
use super::watch::Changes;
use crate::base::time::Timestamp;

/// Bytes of a log per batch: large enough that the hop to the blocking thread does not count.
const BATCH: usize = 256 * 1024;

/// Turns entries into what the client gets.
pub trait Render: Send + 'static {
    /// Appends an entry, or nothing if it is not wanted.
    fn render(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>);
}

/// Sends the rendered log to `out` until its end. A followed log ends when `stopped` does and everything written
/// until then is sent, when the time asked for has passed, or when the client goes.
pub async fn send(
    mut reader: Reader,
    mut render: impl Render,
    stopped: impl Future<Output = ()> + Send,
    out: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let options = *reader.options();
    let mut changes =
        (options.mode == Mode::Follow).then(|| Changes::of(reader.path().parent().unwrap_or(Path::new("/"))));
    let mut stopped = std::pin::pin!(stopped);
    let mut is_last = false;
    loop {
        let (progress, bytes);
        (reader, render, progress, bytes) = batch(reader, render).await?;
        if !bytes.is_empty() && out.send(bytes.into()).await.is_err() {
            return Ok(());
        }
        match (progress, &mut changes) {
            (Progress::More, _) => {}
            (Progress::AtEnd, Some(changes)) if !is_last => tokio::select! {
                () = changes.wait() => {}
                () = &mut stopped => is_last = true,
                () = passed(options.until) => is_last = true,
                () = out.closed() => return Ok(()),
            },
            (Progress::AtEnd | Progress::Done, _) => return Ok(()),
        }
    }
}

async fn batch<R: Render>(mut reader: Reader, mut render: R) -> io::Result<(Reader, R, Progress, Vec<u8>)> {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let progress = reader.read(BATCH, &mut |entry| render.render(entry, &mut bytes))?;
        Ok((reader, render, progress, bytes))
    });
    read.await.map_err(io::Error::other)?
}

/// Returns when the time has passed.
async fn passed(until: Option<Timestamp>) {
    match until {
        Some(until) => {
            let left = until.since(Timestamp::now());
            // A little later, so that what was logged in time is seen.
            tokio::time::sleep(left + Duration::from_millis(10)).await;
        }
        None => std::future::pending().await,
    }
}
