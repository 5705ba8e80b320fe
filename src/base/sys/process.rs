//! Settings of this process as a whole, made while it has one thread.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Sets a variable that libraries read later, such as `HTTP_PROXY`. Fails once the process has other threads: the
/// environment has no lock.
pub fn set_variable(name: &str, value: &str) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("the environment cannot be changed while other threads may read it"));
    }
    // SAFETY: no other thread exists that could read or change the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

/// Lets this process open as many descriptors as its hard limit allows; its children inherit that.
pub fn raise_open_files() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// How much the kernel likes to kill this process when memory is short, from −1000 (never) to 1000
/// (proc_pid_oom_score_adj(5)).
pub fn set_oom_score(score: i32) -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
}
