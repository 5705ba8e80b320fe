//! Slipway: a drop-in replacement for the Docker engine.
//!
//! Imports point one way: `server → api → engine → {container, build, cluster} → {image, volume, network} →
//! {content, snapshot, registry, logs, runtime} → events → base`. Never back, never between siblings in one brace.
//! `shim` imports `base`, `logs` and `runtime`'s protocol only, and never tokio.

pub mod api;
pub mod base;
pub mod config;
pub mod container;
pub mod content;
pub mod engine;
pub mod events;
pub mod image;
pub mod logs;
pub mod network;
pub mod registry;
pub mod runtime;
pub mod server;
pub mod shim;
pub mod snapshot;
pub mod volume;
