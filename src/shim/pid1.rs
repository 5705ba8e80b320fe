//! The role `slipwayd init -- PROGRAM ARGS…`: the first process of a container started with `--init`.
//!
//! Runs the program as a child in a process group of its own, which has the terminal if there is one; forwards signals
//! to it; reaps whatever is orphaned; ends with the program's status as a shell would give it. What tini does, which
//! dockerd uses here, so that programs see no difference.

use std::ffi::CString;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execvp, fork, getpgrp, setpgid, tcsetpgrp};

use super::program::restore_signals;
use super::report::complain;
use crate::base::errno::in_gos_words;

/// The first argument that makes this program a container's init.
pub const ROLE: &str = "init";

/// Signals of the process's own faults, which a block would turn into loops, and those of terminal access.
const NOT_FORWARDED: [Signal; 9] = [
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Runs the program until it ends.
pub fn run(args: &[String]) -> ExitCode {
    let args = match args {
        [dashes, rest @ ..] if dashes == "--" => rest,
        all => all,
    };
    let args: Result<Vec<_>, _> = args.iter().map(|arg| CString::new(arg.as_bytes())).collect();
    let Some(args) = args.ok().filter(|args| !args.is_empty()) else {
        complain("usage: slipwayd init -- PROGRAM ARGUMENTS");
        return ExitCode::from(1);
    };
    match supervise(&args) {
        Ok(code) => ExitCode::from(code),
        Err(errno) => {
            complain(&format!("init: {}", errno.desc()));
            ExitCode::from(1)
        }
    }
}

fn supervise(args: &[CString]) -> Result<u8, Errno> {
    let mut signals = SigSet::all();
    for signal in NOT_FORWARDED {
        signals.remove(signal);
    }
    signals.thread_block()?;
    // SAFETY: sets dispositions only: without this a write or read of the terminal by its background would stop us.
    unsafe {
        libc::signal(libc::SIGTTIN, libc::SIG_IGN);
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
    }
    // SAFETY: this role has a single thread.
    match unsafe { fork() }? {
        ForkResult::Child => become_program(args),
        ForkResult::Parent { child } => loop {
            // SAFETY: waits for one of the blocked signals and writes nothing.
            let signal = unsafe { libc::sigwaitinfo(signals.as_ref(), std::ptr::null_mut()) };
            match Errno::result(signal) {
                Ok(signal) => {
                    if let Some(code) = handle(signal, child) {
                        return Ok(code);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        },
    }
}

fn become_program(args: &[CString]) -> Result<u8, Errno> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    match tcsetpgrp(std::io::stdin(), getpgrp()) {
        // No terminal, or one that is not this session's.
        Ok(()) | Err(Errno::ENOTTY | Errno::ENXIO | Errno::EPERM | Errno::EBADF) => {}
        Err(errno) => return Err(errno),
    }
    // SAFETY: sets dispositions to their defaults.
    unsafe {
        libc::signal(libc::SIGTTIN, libc::SIG_DFL);
        libc::signal(libc::SIGTTOU, libc::SIG_DFL);
    }
    restore_signals();
    let Err(errno) = execvp(&args[0], args);
    complain(&format!("exec {}: {}", args[0].to_string_lossy(), in_gos_words(errno)));
    let code = match errno {
        Errno::ENOENT => 127,
        Errno::EACCES => 126,
        _ => 1,
    };
    // SAFETY: ends the child without running what belongs to the parent.
    unsafe { libc::_exit(code) }
}

/// Forwards a signal, or reaps; the exit status once the program has ended.
fn handle(signal: i32, child: Pid) -> Option<u8> {
    if signal != libc::SIGCHLD {
        // By number: real-time signals have no name.
        // SAFETY: kill takes two numbers.
        unsafe { libc::kill(child.as_raw(), signal) };
        return None;
    }
    let mut code = None;
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        match status {
            WaitStatus::Exited(pid, status) if pid == child => code = Some(status as u8),
            WaitStatus::Signaled(pid, signal, _) if pid == child => code = Some(128 + signal as u8),
            WaitStatus::StillAlive => break,
            _ => {}
        }
    }
    code
}
