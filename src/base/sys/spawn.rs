//! Starts a program without copying the caller's memory map: posix_spawn(3) borrows it until the exec, so the cost does
//! not grow with the daemon.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;

/// glibc's `POSIX_SPAWN_SETSID`.
const SETSID: i32 = 0x80;

/// What the new process gets.
pub struct Program<'a> {
    pub path: &'a CStr,
    pub args: &'a [CString],
    pub env: &'a [CString],
    /// Its descriptors from 3 on, in this order. 0 to 2 are `/dev/null` but for `stderr`.
    pub fds: &'a [BorrowedFd<'a>],
    pub stderr: BorrowedFd<'a>,
}

/// Starts `program` in a session of its own with no signal blocked or ignored; returns its process id. No other
/// descriptor goes along, not even one that the caller itself inherited.
pub fn in_own_session(program: &Program<'_>) -> io::Result<i32> {
    // Sources above all targets, so that no dup2 overwrites what a later one needs.
    let above = 3 + program.fds.len() as i32;
    let fds = program.fds.iter().map(|fd| duplicate_above(*fd, above)).collect::<io::Result<Vec<_>>>()?;
    let stderr = duplicate_above(program.stderr, above)?;
    let mut actions = PosixSpawnFileActions::init()?;
    for fd in [0, 1] {
        actions.add_open(fd, "/dev/null", OFlag::O_RDWR, Mode::empty())?;
    }
    actions.add_dup2(stderr.as_raw_fd(), 2)?;
    for (target, fd) in (3..).zip(&fds) {
        actions.add_dup2(fd.as_raw_fd(), target)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    close_on_exec();
    let flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
    attributes.set_flags(flags | PosixSpawnFlags::from_bits_retain(SETSID as _))?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    Ok(posix_spawn(program.path, &actions, &attributes, program.args, program.env)?.as_raw())
}

/// Marks everything above the standard streams close-on-exec (close_range(2)); Rust's own descriptors are already.
fn close_on_exec() {
    // SAFETY: this changes flags of descriptors, and closes none. Kernels before 5.11 refuse: then all is as before.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

fn duplicate_above(fd: BorrowedFd<'_>, lowest: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call on a descriptor that is open.
    let new = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn the_program_has_the_given_descriptors_and_a_session_of_its_own() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let script = c"test $(cut -d' ' -f6 /proc/self/stat) = $$ && ls /proc/$$/fd | tr '\\n' ' ' >&3";
        let args = [c"sh".to_owned(), c"-c".to_owned(), script.to_owned()];
        let env = [c"PATH=/bin:/usr/bin".to_owned()];
        let fds = [writer.as_fd()];
        let program = Program { path: c"/bin/sh", args: &args, env: &env, fds: &fds, stderr: writer.as_fd() };
        let pid = in_own_session(&program).unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        assert_eq!(text.trim(), "0 1 2 3");
    }
}
