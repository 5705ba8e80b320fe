//! What knows nothing of Docker: identifiers, digests, the writer of state files, system calls.

pub mod archive;
pub mod boolean;
pub mod crash;
pub mod digest;
pub mod durable;
pub mod errno;
pub mod host;
pub mod id;
pub mod id_map;
pub mod json;
pub mod missing;
pub mod path;
pub mod signal;
pub mod sys;
#[cfg(test)]
pub mod testing;
pub mod time;
pub mod tls;
pub mod units;
