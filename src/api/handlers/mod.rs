//! One file per tag of the specification; `bind.rs` says which operation each function serves.

pub mod containers;
pub mod distribution;
pub mod exec;
pub mod images;
pub mod logs;
pub mod networks;
pub mod plugins;
pub mod system;
pub mod volumes;
