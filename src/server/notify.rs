//! Tells systemd how far the daemon is (sd_notify(3)). Without systemd it tells nobody.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::time::{ClockId, clock_gettime};

/// The daemon serves.
pub fn ready() {
    send("READY=1");
}

/// The daemon reads its configuration again.
pub fn reloading() {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
    let micros = now.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The daemon ends.
pub fn stopping() {
    send("STOPPING=1");
}

fn send(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
