//! Terminals (tty_ioctl(4)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets the window size; the kernel tells the foreground processes by SIGWINCH.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    let set = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
