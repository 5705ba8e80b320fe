//! Terminals (tty_ioctl(4)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Sets the window size; the kernel tells the foreground processes by SIGWINCH.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    let set = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens the other end of the terminal whose master is given, also if that is of another mount namespace.
pub fn open_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open(2) flags by value.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a terminal of the devpts instance whose multiplexer is at `path`; refuses anything else that a container may
/// have put there (CVE-2025-52565).
pub fn open_master(path: &Path) -> io::Result<OwnedFd> {
    const PTMX_INODE: u64 = 2;
    let flags = libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let filesystem = nix::sys::statfs::fstatfs(&file)?.filesystem_type();
    let stat = nix::sys::stat::fstat(&file)?;
    let multiplexer = filesystem == nix::sys::statfs::DEVPTS_SUPER_MAGIC
        && stat.st_ino == PTMX_INODE
        && stat.st_rdev == libc::makedev(5, 2);
    if !multiplexer {
        return Err(io::Error::other(format!("{} is no terminal multiplexer", path.display())));
    }
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCSPTLCK, &unlocked) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file.into())
}

/// Makes the terminal the controlling one of the calling process's session.
pub fn control(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a number.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // CVE-2025-52565. Fails when the file system and device are not looked at, and without O_NOFOLLOW.
    #[test]
    fn only_a_multiplexer_is_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ptmx");
        let refusal = || open_master(&path).unwrap_err();
        std::fs::write(&path, "").unwrap();
        assert!(refusal().to_string().ends_with("is no terminal multiplexer"));
        std::fs::remove_file(&path).unwrap();
        // A true one, but not here.
        std::os::unix::fs::symlink("/dev/pts/ptmx", &path).unwrap();
        assert_eq!(refusal().raw_os_error(), Some(libc::ELOOP));
        std::fs::remove_file(&path).unwrap();
        let zero = libc::makedev(1, 5);
        let kind = nix::sys::stat::SFlag::S_IFCHR;
        nix::sys::stat::mknod(&path, kind, nix::sys::stat::Mode::from_bits_truncate(0o600), zero).unwrap();
        assert!(refusal().to_string().ends_with("is no terminal multiplexer"));
        assert!(open_master(Path::new("/dev/pts/ptmx")).is_ok());
    }
}
