//! Deletes what is out of sight, on a thread of its own: freeing tens of thousands of files can take a disk many
//! seconds (a file system mounted with `discard` waits for the device), and nobody should have to wait for that.
//! What is not finished when the process ends is found by its name at the next start.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::base::sys::root_fs::remove_tree;

/// The queue of trees to delete. The thread starts with the first one and ends when the queue is dropped.
#[derive(Debug, Default)]
pub(super) struct Trash(OnceLock<Option<Sender<PathBuf>>>);

impl Trash {
    /// Deletes the tree at `path` sooner or later.
    pub(super) fn dispose(&self, path: PathBuf) {
        let queue = self.0.get_or_init(start);
        let rejected = match queue {
            Some(queue) => queue.send(path).err().map(|error| error.0),
            None => Some(path),
        };
        if let Some(path) = rejected {
            delete(&path);
        }
    }
}

fn start() -> Option<Sender<PathBuf>> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("layer-trash".into()).stack_size(256 * 1024);
    thread.spawn(move || delete_all(&receiver)).ok().map(|_| sender)
}

fn delete_all(queue: &Receiver<PathBuf>) {
    for path in queue {
        delete(&path);
    }
}

fn delete(path: &std::path::Path) {
    if let Err(error) = remove_tree(path) {
        tracing::warn!(path = %path.display(), %error, "a removed layer could not be deleted; the next start tries again");
    }
}
