//! From layer blobs in the content store to snapshots: a layer is published only if what was unpacked is what the
//! image's configuration says it is.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use super::assemble::Layer;
use super::error::ImageError;
use crate::content::Contents;
use crate::crash_point;
use crate::snapshot::decompress::{self, Compression};
use crate::snapshot::{ChainId, LayerWriter, Snapshots};

/// Unpacks the layers that are not unpacked yet, as many at once as there are processors. Blocks.
pub fn missing(contents: &Contents, snapshots: &Snapshots, layers: &[Layer]) -> Result<(), ImageError> {
    let chain: Vec<_> = layers.iter().map(|layer| layer.chain).collect();
    let waiting: VecDeque<_> = (0..layers.len()).filter(|n| !snapshots.exists(&chain[*n])).collect();
    let workers = thread::available_parallelism().map_or(1, usize::from).min(waiting.len());
    let queue = Mutex::new(waiting);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let order = Order::default();
    let work = || {
        while let Some(n) = next() {
            let (layer, below) = (&layers[n], &chain[..n]);
            let done = from_store(contents, snapshots, layer, below).and_then(|writer| {
                order.wait(|| below.iter().all(|parent| snapshots.exists(parent)))?;
                publish(writer)
            });
            match done {
                Ok(()) => order.advance(),
                Err(error) => {
                    order.fail();
                    return Err(error);
                }
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut results: Vec<_> =
            threads.into_iter().map(|t| t.join().unwrap_or(Err(ImageError::Worker))).collect();
        // A layer that waited for one that failed has less to say.
        results.sort_by_key(|result| matches!(result, Err(ImageError::Worker)));
        results.into_iter().collect()
    })
}

/// Unpacks one layer whose blob is in the content store; complete but not yet visible.
pub fn from_store(
    contents: &Contents,
    snapshots: &Snapshots,
    layer: &Layer,
    below: &[ChainId],
) -> Result<LayerWriter, ImageError> {
    let blob = contents.get(&layer.blob.digest)?;
    apply(snapshots.begin(&layer.chain, below)?, layer, blob)
}

/// Layers are unpacked in any order and become visible from the base up.
#[derive(Default)]
struct Order {
    failed: Mutex<bool>,
    changed: Condvar,
}

impl Order {
    /// Waits until `ready`, which is asked again after each layer; an error if it never will be.
    fn wait(&self, ready: impl Fn() -> bool) -> Result<(), ImageError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |failed: &mut bool| !*failed && !ready();
        let failed = self.changed.wait_while(failed, waiting).unwrap_or_else(PoisonError::into_inner);
        if *failed { Err(ImageError::Worker) } else { Ok(()) }
    }

    fn advance(&self) {
        // Under the lock, so that nobody who has just looked goes to sleep.
        let _failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_all();
    }

    fn fail(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// Unpacks a compressed stream and checks the result. What comes back is complete but not yet visible.
pub fn apply(
    mut writer: LayerWriter,
    layer: &Layer,
    compressed: impl Read + Send,
) -> Result<LayerWriter, ImageError> {
    let (start, compressed) = peek(compressed).map_err(|e| unreadable(layer, e))?;
    let tar = decompress::reader(Compression::sniff(&start), compressed).map_err(|e| unreadable(layer, e))?;
    let applied = writer.apply(tar)?;
    if applied.diff_id != layer.diff_id {
        let (expected, actual) = (layer.diff_id, applied.diff_id);
        return Err(ImageError::WrongDiffId { blob: layer.blob.digest, expected, actual });
    }
    Ok(writer)
}

/// Makes an unpacked layer visible.
pub fn publish(writer: LayerWriter) -> Result<(), ImageError> {
    crash_point!("layer-unpacked");
    writer.commit()?;
    crash_point!("layer-published");
    Ok(())
}

fn unreadable(layer: &Layer, source: std::io::Error) -> ImageError {
    ImageError::Unreadable { blob: layer.blob.digest, source }
}

/// The first bytes, and a reader that gives them again.
pub fn peek<R: Read>(mut source: R) -> std::io::Result<([u8; 4], impl Read + use<R>)> {
    let mut start = [0; 4];
    let mut filled = 0;
    while filled < start.len() {
        match source.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok((start, std::io::Cursor::new(start).take(filled as u64).chain(source)))
}
