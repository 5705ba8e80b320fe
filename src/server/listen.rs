//! Opens the sockets that clients connect to.

use std::fs::Permissions;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, chown};
use rustls::ServerConfig;

use super::{StartError, activation};
use crate::config::{Config, Listen};

/// A bound socket.
pub struct Listener {
    pub socket: Socket,
    pub address: Listen,
    /// How TCP clients are spoken to; plainly if absent.
    pub tls: Option<Arc<ServerConfig>>,
}

/// The kind of a bound socket.
pub enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// What the accept loop takes.
pub enum TokioListener {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener, Option<Arc<ServerConfig>>),
}

/// Opens all of the configuration's hosts. Call it while the process has one thread: the umask is the process's.
pub fn open(config: &Config, tls: Option<Arc<ServerConfig>>) -> Result<Vec<Listener>, StartError> {
    let mut passed = None;
    let mut listeners = Vec::new();
    for address in &config.hosts {
        let sockets = match address {
            Listen::Unix(path) => vec![Socket::Unix(unix(path, config)?)],
            Listen::Tcp { host, port } => vec![Socket::Tcp(tcp(host, *port)?)],
            Listen::Systemd(choice) => {
                let passed = match &mut passed {
                    Some(passed) => passed,
                    none => none.insert(activation::take()?),
                };
                let chosen = activation::choose(passed, choice.as_deref())?;
                chosen.into_iter().map(|passed| adopt(passed.fd)).collect::<Result<_, _>>()?
            }
        };
        for socket in sockets {
            warn_if_open(&socket, address, config);
            listeners.push(Listener { socket, address: address.clone(), tls: tls.clone() });
        }
    }
    Ok(listeners)
}

fn unix(path: &Path, config: &Config) -> Result<UnixListener, StartError> {
    let failed = |source| StartError::UnixSocket { path: path.to_owned(), source };
    let group = group(config)?;
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed)?;
    }
    remove_stale(path).map_err(failed)?;
    // Nobody may connect before group and mode are right.
    let before = umask(Mode::from_bits_truncate(0o777));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(failed)?;
    chown(path, None, group).map_err(|errno| failed(errno.into()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Removes the socket of a dead daemon. One that answers, or anything that is no socket, stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let meta = match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if meta.file_type().is_socket() && UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    std::fs::remove_file(path)
}

/// The socket's group: by name or number. The default one need not exist.
fn group(config: &Config) -> Result<Option<Gid>, StartError> {
    let found = match config.group.parse() {
        Ok(number) => Some(Gid::from_raw(number)),
        Err(_) => Group::from_name(&config.group).ok().flatten().map(|group| group.gid),
    };
    match found {
        None if config.group_is_required => Err(StartError::NoGroup(config.group.clone())),
        None => {
            tracing::debug!(group = config.group, "the socket's group does not exist; only root can connect");
            Ok(None)
        }
        found => Ok(found),
    }
}

fn tcp(host: &str, port: u16) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Tcp { address: format!("{host}:{port}"), source };
    // All addresses: one socket for both families, or IPv4 alone where the kernel has no IPv6.
    let bound = match host {
        "" => TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))),
        host => TcpListener::bind((host, port)),
    };
    bound.map_err(failed)
}

fn adopt(fd: OwnedFd) -> Result<Socket, StartError> {
    let address: SockaddrStorage =
        getsockname(std::os::fd::AsRawFd::as_raw_fd(&fd)).map_err(io::Error::from)?;
    match address.family() {
        Some(AddressFamily::Unix) => Ok(Socket::Unix(fd.into())),
        _ => Ok(Socket::Tcp(fd.into())),
    }
}

fn warn_if_open(socket: &Socket, address: &Listen, config: &Config) {
    let verified = config.tls.as_ref().is_some_and(|tls| tls.clients == crate::config::Clients::Verified);
    if matches!(socket, Socket::Tcp(_)) && !verified {
        tracing::warn!(
            %address,
            "[DEPRECATION NOTICE]: API is accessible without client verification: access to it is equal to root \
             access on the host; use --tlsverify"
        );
    }
}

/// Removes the Unix sockets when the daemon ends; systemd's are systemd's.
pub struct Sockets(Vec<PathBuf>);

impl Sockets {
    /// Those that [`open`] has made for the configuration.
    pub fn of(config: &Config) -> Self {
        let path = |listen: &Listen| match listen {
            Listen::Unix(path) => Some(path.clone()),
            Listen::Tcp { .. } | Listen::Systemd(_) => None,
        };
        Self(config.hosts.iter().filter_map(path).collect())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for path in &self.0 {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    /// Registers the socket with the runtime.
    pub fn into_tokio(self) -> io::Result<TokioListener> {
        match self.socket {
            Socket::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Ok(TokioListener::Unix(tokio::net::UnixListener::from_std(listener)?))
            }
            Socket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(TokioListener::Tcp(tokio::net::TcpListener::from_std(listener)?, self.tls))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/d.sock");
        let config = Config::default_for(dir.path(), dir.path());
        let first = unix(&path, &config).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
        assert!(unix(&path, &config).is_err());
        drop(first);
        unix(&path, &config).unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(unix(&dir.path().join("dir"), &config).is_err());
    }
}
