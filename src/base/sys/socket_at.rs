//! Unix sockets in deep directories: their address holds 107 bytes only (unix(7)), so the directory is opened and the
//! socket named through `/proc/self/fd`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::base::missing::missing_is_fine;

/// Bytes of an address without the last, which is zero.
const LONGEST: usize = 107;

/// Makes and listens on the socket `name` in `dir`.
pub fn bind(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let (_open, path) = short(dir, name)?;
    UnixListener::bind(path)
}

/// Connects to the socket `name` in `dir`.
pub fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let (_open, path) = short(dir, name)?;
    UnixStream::connect(path)
}

/// Makes the socket `name` in `dir` for datagrams, in the place of one whose owner is gone.
pub fn bind_datagram(dir: &Path, name: &str) -> io::Result<UnixDatagram> {
    let (_open, path) = short(dir, name)?;
    missing_is_fine(std::fs::remove_file(&path))?;
    UnixDatagram::bind(path)
}

/// Sends a datagram to the socket `name` in `dir`; never waits.
pub fn send(dir: &Path, name: &str, message: &[u8]) -> io::Result<()> {
    let (_open, path) = short(dir, name)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(message, path).map(drop)
}

/// The path of a socket for other programs, which have no such means: they reach it through this process while this
/// lives.
#[derive(Debug)]
pub struct Address {
    path: PathBuf,
    _open: Option<File>,
}

impl Address {
    /// The socket `name` in `dir`.
    pub fn of(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(name);
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self { path, _open: None });
        }
        let (open, _) = short(dir, name)?;
        let path = format!("/proc/{}/fd/{}/{name}", std::process::id(), open.as_raw_fd());
        Ok(Self { path: path.into(), _open: Some(open) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn short(dir: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    let open =
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", open.as_raw_fd()));
    Ok((open, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_can_be_in_a_directory_longer_than_its_address() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(200));
        std::fs::create_dir(&dir).unwrap();
        let _listener = bind(&dir, "s").unwrap();
        connect(&dir, "s").unwrap();
        let address = Address::of(&dir, "s").unwrap();
        UnixStream::connect(address.path()).unwrap();
        assert_eq!(Address::of(root.path(), "s").unwrap().path(), root.path().join("s"));
    }
}
