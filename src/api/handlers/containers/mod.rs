//! Operations of the tag Container.

mod around;
mod attach;
mod change;
mod checkpoints;
mod create;
mod files;
mod lists;
mod query;
mod stats;
mod wait;

pub use around::Around;
pub use attach::{attach, attach_websocket, wire_framing};
pub use change::{delete, kill, pause, prune, rename, resize, restart, size, start, stop, unpause, update};
pub use checkpoints::{create_checkpoint, delete_checkpoint, list_checkpoints};
pub use create::create;
pub use files::{archive, archive_info, changes, export, put_archive};
pub use lists::Lists;
pub use query::{file_system_size, inspect, list, logs, shown, top};
pub use stats::stats;
pub use wait::wait;
