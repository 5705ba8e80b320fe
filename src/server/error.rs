//! Why the daemon does not start.

use std::io;
use std::path::PathBuf;

use crate::engine::OpenError;
use crate::logs::options::LogOptionError;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    LogOptions(#[from] LogOptionError),
    #[error("the directory {} is in use by another daemon", .0.display())]
    RootInUse(PathBuf),
    #[error("{} holds the data of another engine; choose another --data-root", .0.display())]
    ForeignRoot(PathBuf),
    #[error("{}: {source}", path.display())]
    Root { path: PathBuf, source: io::Error },
    #[error("process with PID {pid} is still running (pid file {})", path.display())]
    Running { pid: i32, path: PathBuf },
    #[error("cannot write pid file {}: {source}", path.display())]
    Pidfile { path: PathBuf, source: io::Error },
    #[error("can't create unix socket {}: {source}", path.display())]
    UnixSocket { path: PathBuf, source: io::Error },
    #[error("could not find group {0}")]
    NoGroup(String),
    #[error("listen tcp {address}: {source}")]
    Tcp { address: String, source: io::Error },
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NotActivated,
    #[error("no socket named or numbered {0} was passed in by systemd")]
    NoSuchActivation(String),
    #[error("could not read CA certificate {}: {reason}", path.display())]
    Authority { path: PathBuf, reason: String },
    #[error("could not load X509 key pair: {0}")]
    KeyPair(String),
    #[error(transparent)]
    Remap(#[from] super::remap::RemapError),
    #[error(
        "a subdirectory in your graphroot path ({}) restricts access to the remapped root uid/gid; please fix by allowing \
         'o+x' permissions on existing directories",
        .0.display()
    )]
    HiddenRoot(PathBuf),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Engine(#[from] OpenError),
    #[error(transparent)]
    Io(#[from] io::Error),
}
