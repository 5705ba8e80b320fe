//! What clients read: the engine's objects as Docker's JSON, with explicit rules for null, empty and absent.

pub mod container;
pub mod event;
pub mod files;
pub mod image;
pub mod info;
pub mod log;
pub mod network;
pub mod stats;
pub mod usage;
pub mod version;
pub mod volume;
