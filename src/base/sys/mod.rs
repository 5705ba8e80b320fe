//! System calls behind safe functions. With `shim`, the only place for `unsafe`.

pub mod bell;
pub mod bpf;
pub mod cgroup;
pub mod fdpass;
pub mod igzip;
pub mod inherited;
pub mod memory;
pub mod mount;
pub mod mount_point;
pub mod netlink;
pub mod netns;
pub mod overlay;
pub mod pidfd;
pub mod process;
pub mod project_quota;
pub mod pty;
pub mod root_fs;
pub mod sealed;
pub mod socket;
pub mod socket_at;
pub mod spawn;
pub mod tool;
pub mod tree;
pub mod userns;
pub mod writeback;
