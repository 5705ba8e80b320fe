//! System calls behind safe functions. With `shim`, the only place for `unsafe`.

pub mod fdpass;
pub mod netlink;
pub mod netns;
pub mod pidfd;
pub mod pty;
pub mod sealed;
pub mod socket;
pub mod socket_at;
pub mod spawn;
