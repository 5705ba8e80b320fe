//! Containers: their records, their life, and what turns a record into a running process.

pub mod config;
pub mod create;
pub mod host_config;
pub mod lenient;
pub mod names;
pub mod oci_spec;
pub mod record;
pub mod seccomp;
pub mod signal;
pub mod state;
pub mod users;
