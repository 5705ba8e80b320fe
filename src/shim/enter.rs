//! Adds a process to the running container, in a forked helper.
//!
//! Of our own rather than libcontainer's: its tenants get no seccomp filter, and it reads and writes state files for
//! each. Two forks: the helper joins the cgroups and namespaces, its child (made a child of the shim by CLONE_PARENT)
//! is then in the PID namespace too, takes on what the process is to be, and becomes the program. Nothing of the host
//! is open in it but its streams and the report.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libcontainer::apparmor::AppArmorError;
use libcontainer::syscall::syscall::create_syscall;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use oci_spec::runtime::Process;

use super::confine::{ConfineError, Filter, as_program, confine};
use super::fork::{close_all_but, fork};
use super::program::{Program, home_of};
use super::report::{Reporter, start_failure};
use super::rlimit::{self, RlimitError};
use super::words;
use crate::base::errno::{in_gos_words, number};
use crate::base::sys::cgroup::Cgroup;
use crate::base::sys::fdpass;
use crate::base::sys::pidfd::PidFd;
use crate::base::sys::pty;
use crate::runtime::protocol::Size;

/// What is needed to enter the container.
pub struct Entry<'a> {
    /// The container's directory, with its specification.
    pub dir: &'a Path,
    /// Its first process.
    pub init: i32,
    pub cgroup: &'a Cgroup,
    pub process: &'a Process,
    pub size: Option<Size>,
}

/// The new process's streams.
pub enum Stdio {
    Pipes([OwnedFd; 3]),
    /// A terminal is made in the container and its master sent here.
    Terminal(OwnedFd),
}

/// Why a process could not be added; texts as runc's.
#[derive(Debug, thiserror::Error)]
enum EnterError {
    #[error("joining the container's cgroup: {0}")]
    Cgroup(io::Error),
    #[error("joining the container's namespaces: {}", in_gos_words(*.0))]
    Namespaces(Errno),
    #[error("making the terminal: {0}")]
    Terminal(io::Error),
    #[error("chdir to cwd ({cwd:?}) set in config.json failed: {}", in_gos_words(*.errno))]
    WorkingDirectory { cwd: PathBuf, errno: Errno },
    #[error("Cwd must be an absolute path")]
    Relative,
    #[error(
        "current working directory is outside of container mount namespace root -- possible container breakout detected"
    )]
    Outside,
    #[error(transparent)]
    Rlimit(#[from] RlimitError),
    #[error("unable to {what}: {}", in_gos_words(*.errno))]
    Step { what: &'static str, errno: Errno },
    #[error("reading the container's seccomp filter: {0}")]
    Filter(io::Error),
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error("{}", words::refused_profile(.0))]
    Profile(io::Error),
    #[error("unable to apply caps: {0}")]
    Privileges(#[from] libcontainer::syscall::SyscallError),
    #[error(transparent)]
    Program(#[from] super::program::ProgramError),
    #[error("{0}")]
    Refused(String),
}

/// Starts to add a process; how it goes is reported. Returns the helper's process id.
pub fn start(entry: &Entry<'_>, stdio: Stdio, report: OwnedFd) -> io::Result<i32> {
    let init = PidFd::open(entry.init)?;
    // Found out once, rather than in each helper.
    known_namespaces();
    let reporter = Reporter::new(&report);
    let mut keep = vec![reporter.fd(), init.as_raw_fd()];
    keep.extend(descriptors(&stdio));
    fork(&keep, || {
        if let Err(error) = join(entry, &init, &stdio, reporter) {
            fail(reporter, &error);
        }
    })
}

fn descriptors(stdio: &Stdio) -> Vec<RawFd> {
    match stdio {
        Stdio::Pipes(fds) => fds.iter().map(AsRawFd::as_raw_fd).collect(),
        Stdio::Terminal(socket) => vec![socket.as_raw_fd()],
    }
}

fn fail(reporter: Reporter, error: &EnterError) {
    let message = format!("exec failed: unable to start container process: {error}: unknown");
    reporter.failure(start_failure(message));
}

/// The helper: everything that is done with the host's view.
fn join(entry: &Entry<'_>, init: &PidFd, stdio: &Stdio, reporter: Reporter) -> Result<(), EnterError> {
    // First of all: what is done for the container is counted as its own.
    entry
        .cgroup
        .join()
        // A container that sorts its own processes into groups below (v2) cannot have any in its own.
        .or_else(|_| Cgroup::of_process(entry.init)?.join())
        .map_err(EnterError::Cgroup)?;
    let filter = Filter::read(entry.dir).map_err(EnterError::Filter)?;
    if let Some(score) = entry.process.oom_score_adj() {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|e| EnterError::Step { what: "set the OOM score", errno: number(&e) })?;
    }
    // From here on the container's root could trace this process (CVE-2016-9962).
    step("become undumpable", nix::sys::prctl::set_dumpable(false))?;
    let namespaces = namespaces(entry.init);
    let own_users = namespaces.contains(CloneFlags::CLONE_NEWUSER);
    rlimit::raise(entry.process.rlimits().as_deref().unwrap_or_default());
    nix::sched::setns(init, namespaces).map_err(EnterError::Namespaces)?;
    if own_users {
        // The host's root is nobody there, and files that it makes (terminals) would be nobody's.
        set_groups(&[])?;
        create_syscall().set_id(0.into(), 0.into())?;
    }
    // SAFETY: as fork, in a process with one thread; the child has the shim as its parent, whose exit signal it takes
    // over from its maker.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0, 0, 0, 0) };
    match pid {
        0 => {
            if let Err(error) = become_process(entry, stdio, filter.as_ref(), reporter) {
                fail(reporter, &error);
            }
            Ok(())
        }
        -1 => Err(EnterError::Step { what: "fork", errno: Errno::last() }),
        pid => {
            reporter.process(pid as i32, String::new());
            Ok(())
        }
    }
}

/// The kinds of namespaces that are joined, without looking which of them this process is in already: joining those
/// again changes nothing. Only a user namespace cannot be joined twice.
fn namespaces(init: i32) -> CloneFlags {
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    let own_users = link(&init.to_string()) != link("self");
    if own_users { known_namespaces() | CloneFlags::CLONE_NEWUSER } else { known_namespaces() }
}

/// The kinds of namespaces that this kernel has, but for those of users.
fn known_namespaces() -> CloneFlags {
    static KNOWN: OnceLock<CloneFlags> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let all = [
            ("mnt", CloneFlags::CLONE_NEWNS),
            ("net", CloneFlags::CLONE_NEWNET),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("cgroup", CloneFlags::CLONE_NEWCGROUP),
            ("time", CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)),
        ];
        let known = all.into_iter().filter(|(name, _)| Path::new("/proc/self/ns").join(name).exists());
        known.map(|(_, flag)| flag).collect()
    })
}

/// Has the process confined by the profile from its program on.
fn confine_by(profile: &str) -> io::Result<()> {
    libcontainer::apparmor::apply_profile(profile).map_err(|error| match error {
        AppArmorError::ActivateProfile { source, .. } => source,
        other => io::Error::other(other),
    })
}

/// The child, in the container: takes on what the process is to be and becomes the program.
fn become_process(
    entry: &Entry<'_>,
    stdio: &Stdio,
    filter: Option<&Filter>,
    reporter: Reporter,
) -> Result<(), EnterError> {
    let process = entry.process;
    let user = process.user();
    step("make a session", nix::unistd::setsid())?;
    open_streams(stdio, user.uid(), entry.size)?;
    close_all_but(&[reporter.fd()]);
    if let Some(profile) = process.apparmor_profile() {
        confine_by(profile).map_err(EnterError::Profile)?;
    }
    let umask = user.umask().unwrap_or(0o022);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
    if process.no_new_privileges() == Some(true) {
        step("set no_new_privs", nix::sys::prctl::set_no_new_privs())?;
    }
    let moved = enter_directory(process.cwd());
    set_groups(user.additional_gids().as_deref().unwrap_or_default())?;
    create_syscall().set_id(user.uid().into(), user.gid().into())?;
    let capabilities = process.capabilities().as_ref();
    let program = as_program(capabilities, || {
        // What root may not enter the user may (root squash), and the other way round.
        moved.or_else(|_| enter_directory(process.cwd()))?;
        stay_inside()?;
        Ok::<_, EnterError>(Program::find(process, Some(&home_of(user.uid())))?)
    })??;
    process.rlimits().iter().flatten().try_for_each(rlimit::set)?;
    confine(filter, capabilities)?;
    let errno = program.execute();
    Err(EnterError::Refused(program.refusal(errno)))
}

fn open_streams(stdio: &Stdio, uid: u32, size: Option<Size>) -> Result<(), EnterError> {
    match stdio {
        Stdio::Pipes(fds) => {
            for (target, fd) in (0..).zip(fds) {
                dup_onto(fd.as_fd(), target)?;
            }
            Ok(())
        }
        Stdio::Terminal(socket) => open_terminal(socket, uid, size).map_err(EnterError::Terminal),
    }
}

/// Makes a terminal of the container's own, controls this session by it, and sends its master to the shim.
fn open_terminal(socket: &OwnedFd, uid: u32, size: Option<Size>) -> io::Result<()> {
    let master = pty::open_master(Path::new("/dev/pts/ptmx"))?;
    if let Some(size) = size {
        pty::resize(master.as_fd(), size.rows, size.columns)?;
    }
    let slave = pty::open_peer(master.as_fd())?;
    nix::unistd::fchown(&slave, Some(uid.into()), None)?;
    pty::control(slave.as_fd())?;
    for target in 0..=2 {
        dup_onto(slave.as_fd(), target).map_err(|_| io::Error::last_os_error())?;
    }
    fdpass::send(socket.as_fd(), b"t", &[master.as_fd()]).map(drop)
}

fn dup_onto(fd: BorrowedFd<'_>, target: RawFd) -> Result<(), EnterError> {
    // SAFETY: replaces descriptors 0 to 2, which nothing in this process owns.
    let done = unsafe { libc::dup2(fd.as_raw_fd(), target) };
    step("connect a stream", Errno::result(done)).map(drop)
}

fn set_groups(groups: &[u32]) -> Result<(), EnterError> {
    let groups: Vec<_> = groups.iter().map(|gid| nix::unistd::Gid::from_raw(*gid)).collect();
    match nix::unistd::setgroups(&groups) {
        // A user namespace that denies it has no groups to drop either.
        Err(Errno::EPERM) if groups.is_empty() => Ok(()),
        other => step("set supplementary groups", other),
    }
}

fn enter_directory(cwd: &Path) -> Result<(), EnterError> {
    if cwd.as_os_str().is_empty() {
        return Ok(());
    }
    if cwd.is_relative() {
        return Err(EnterError::Relative);
    }
    nix::unistd::chdir(cwd).map_err(|errno| EnterError::WorkingDirectory { cwd: cwd.to_owned(), errno })
}

/// Refuses a working directory that was reached through a descriptor of the host's (CVE-2024-21626).
fn stay_inside() -> Result<(), EnterError> {
    match nix::unistd::getcwd() {
        Ok(cwd) if cwd.is_absolute() => Ok(()),
        _ => Err(EnterError::Outside),
    }
}

fn step<T>(what: &'static str, outcome: Result<T, Errno>) -> Result<T, EnterError> {
    outcome.map_err(|errno| EnterError::Step { what, errno })
}
