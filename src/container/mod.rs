//! Containers: their records, their life, and what turns a record into a running process.

pub mod config;
pub mod host_config;
pub mod lenient;
pub mod record;
pub mod signal;
pub mod state;
