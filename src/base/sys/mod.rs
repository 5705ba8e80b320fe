//! System calls behind safe functions. With `shim`, the only place for `unsafe`.

pub mod netns;
pub mod socket;
