//! How the daemon reaches its containers: one shim process each, started by the [`Launcher`] and spoken to through a
//! [`Shim`].
//!
//! The shim is the parent of the container, the owner of its streams, the writer of its log and the recorder of its
//! exit; it outlives the daemon. What it knows is told in full to whoever connects ([`protocol::Status`]), so a daemon
//! that comes back needs no memory of its own. Client connections (attach, exec) are handed to the shim as
//! descriptors: the daemon copies none of their bytes.
//! Deliberately absent: networks, mounts of images, restart policies, what is in the container's record.

mod anticipate;
mod client;
mod devices;
mod embedded;
mod error;
mod farewell;
mod filter;
mod launcher;
pub mod protocol;
mod spec;

pub use client::{ExecProcess, Running, Shim, ShimEvent};
pub use error::{LaunchError, ShimError, StartFailure};
pub use launcher::{Adopted, Exited, Launcher};
pub use protocol::{
    Afterwards, Checkpoint, ExitRecord, Framing, Kept, LogMode, Runtime, Scope, Size, StdinMode, Streams,
};
pub use spec::{Attachment, ExecOutput, ExecSpec, LaunchSpec};
