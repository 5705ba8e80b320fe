//! The harness: starts a real engine in a sandbox of its own for each scenario, talks to it as users and clients
//! do, and checks afterwards that nothing was left behind.
//!
//! Reading order: `daemon` (what a scenario is handed), `sandbox`, `shell`, `http`, then the rest.

pub mod certificates;
pub mod daemon;
pub mod engine;
pub mod etc;
pub mod http;
pub mod images;
pub mod leaks;
pub mod poll;
pub mod proxy;
pub mod record;
pub mod registry;
pub mod sandbox;
pub mod scenario;
pub mod seccomp;
pub mod shell;
pub mod wire;
