//! From layer blobs in the content store to snapshots: a layer is published only if what was unpacked is what the
//! image's configuration says it is.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
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
    let work = || {
        while let Some(n) = next() {
            from_store(contents, snapshots, &layers[n], &chain[..n])?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| ImageError::Worker)?)
    })
}

/// Unpacks one layer whose blob is in the content store.
pub fn from_store(
    contents: &Contents,
    snapshots: &Snapshots,
    layer: &Layer,
    parents: &[ChainId],
) -> Result<(), ImageError> {
    let blob = contents.get(&layer.blob.digest)?;
    let writer = snapshots.begin(&layer.chain, parents)?;
    let writer = apply(writer, layer, blob)?;
    publish(writer)
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
