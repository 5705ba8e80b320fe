//! Makes the container with the embedded runtime, in a forked helper: libcontainer changes its caller's attributes and
//! must not run in a process with threads, and the memory it takes goes with the helper.
//!
//! The container's first process becomes a child of the shim (CLONE_PARENT). It is started as soon as it is made:
//! nobody can see a container that is created but not started.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::notify_socket::{NOTIFY_FILE, NotifySocket};
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxCapabilities, LinuxResources, PosixRlimit, Process, Spec};

use super::cgroup::{self, GroupError, Maker, Wanted};
use super::confine::{Filter, as_program, confine};
use super::devices::Prepared;
use super::fork::fork;
use super::hooks;
use super::program::{Program, ProgramError};
use super::report::{Reporter, complain, start_failure};
use super::rlimit;
use super::sysctl;
use super::trace::Hints;
use super::words::{failure, of_panic, of_refusal};
use crate::base::errno::reason;
use crate::base::missing::missing_is_fine;
use crate::base::sys::mount::{self, MountPoint};
use crate::base::sys::pty;
use crate::runtime::protocol::{Failure, Launch, Size, StartFailure};

/// Directory of the runtime library's own files, in the container's. Nothing in it is ever trusted.
const STATE: &str = "runtime";
/// The runtime library's words for a kernel parameter, or another file, that cannot be opened.
const NOT_IN_PROC: &str = "open subpath in procfs failed";
/// The container's ends of its streams; none with a terminal.
pub type Stdio = Option<[OwnedFd; 3]>;
/// Name of the socket on which the runtime hands over the terminal.
pub const CONSOLE: &str = "console.sock";

/// Starts to make the container; how it goes is reported. Returns the helper's process id.
pub fn start(dir: &Path, launch: &Launch, stdio: Stdio, report: OwnedFd) -> io::Result<i32> {
    helper(stdio, report, |stdio, reporter| {
        // Fails only if there is one already, which a new process has not.
        let _ = tracing::subscriber::set_global_default(Hints::new(reporter));
        create(dir, launch, stdio, reporter)
    })
}

/// Runs `body` in a forked helper that has a process's streams, and reports its failure.
pub fn helper(
    stdio: Stdio,
    report: OwnedFd,
    body: impl FnOnce(Stdio, Reporter) -> Result<(), String>,
) -> io::Result<i32> {
    let reporter = Reporter::new(&report);
    let mut keep = vec![reporter.fd()];
    keep.extend(stdio.iter().flatten().map(AsRawFd::as_raw_fd));
    fork(&keep, move || {
        // Also in the process that becomes the container, whose output is the container's.
        std::panic::set_hook(Box::new(move |panic| {
            let (kind, message) = (StartFailure::Other, of_panic(panic.payload()));
            reporter.failure(Failure::Start { kind, message });
        }));
        if let Err(message) = body(stdio, reporter) {
            reporter.failure(start_failure(message));
        }
    })
}

fn create(dir: &Path, launch: &Launch, stdio: Stdio, reporter: Reporter) -> Result<(), String> {
    // A shim that was killed has left its container's.
    forget(dir);
    let state = dir.join(STATE);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&state).map_err(|e| runtime_error(&e))?;
    make_group(launch)?;
    // Here, where it is allowed; they are set once nothing more has to be done within them.
    rlimit::raise(&launch.rlimits);
    if launch.in_user_namespace {
        // The library keeps them where the container's user has none.
        nix::unistd::setgroups(&[]).map_err(|e| runtime_error(&e))?;
    }
    let program = ContainerProgram {
        reporter,
        filter: Filter::read(dir).map_err(|e| runtime_error(&e))?,
        capabilities: launch.capabilities.clone(),
        rlimits: launch.rlimits.clone(),
        devices: Rc::new(Prepared::new(&launch.devices).map_err(|e| runtime_error(&e))?),
        home: Rc::default(),
        size: launch.console_size.filter(|_| launch.terminal),
    };
    let mut builder = ContainerBuilder::new(launch.id.to_string(), SyscallType::default())
        .with_root_path(&state)
        .map_err(|e| runtime_error(&e))?
        .with_executor(program);
    match stdio {
        Some([stdin, stdout, stderr]) => {
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        None => builder = builder.with_console_socket(Some(dir.join(CONSOLE))),
    }
    // Open in the container's first process until it has become the program.
    let starting = (!launch.hooks.poststart.is_empty()).then(io::pipe).transpose();
    let starting = starting.map_err(|e| runtime_error(&e))?;
    let container = builder
        .as_init(dir)
        // What systemd makes it has made; the path is that of a directory.
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|e| closed_sysctl(dir, &e).unwrap_or_else(|| runtime_error(&e)))?;
    let pid = container.pid().ok_or_else(|| "the runtime made no process".to_owned())?.as_raw();
    if launch.terminal && launch.user != 0 {
        // The terminal is of the container's own devpts: reached through the process that has it open.
        let _ = std::os::unix::fs::chown(format!("/proc/{pid}/fd/0"), Some(launch.user), None);
    }
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    reporter.process(pid, cgroup);
    let allowed = launch.within_proc.as_ref();
    let checked = allowed.map_or(Ok(()), |allowed| leave_proc_alone(pid, allowed));
    let checked = checked.and_then(|()| limit_processes(launch));
    let go_on =
        || NotifySocket::new(state.join(launch.id.as_str()).join(NOTIFY_FILE)).notify_container_start();
    if let Err(message) = checked.and_then(|()| go_on().map_err(|e| runtime_error(&e))) {
        // It waits for the word to start, with the report open, whose end is waited for in turn.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        return Err(message);
    }
    let Some((mut running, ours)) = starting else { return Ok(()) };
    drop(ours);
    // Nothing is ever written: this waits for the end.
    let _ = running.read(&mut [0]);
    hooks::started(dir, launch, pid).map_err(|error| failure(&error))
}

/// Refuses a container whose `/proc` is not the kernel's throughout, as its first process sees it now: what is mounted
/// below a volume may have been led there by a link in the volume, which another container can change at any time.
fn leave_proc_alone(pid: i32, allowed: &[PathBuf]) -> Result<(), String> {
    let mounts = mount::mounts_of(pid).map_err(|e| runtime_error(&e))?;
    let is_top = |found: &MountPoint| found.target == Path::new("/proc");
    let foreign = |found: &&MountPoint| {
        let is_within = found.target.starts_with("/proc");
        is_within && found.kind != "proc" && (is_top(found) || !allowed.contains(&found.target))
    };
    match mounts.iter().find(foreign) {
        Some(found) => {
            let why = if is_top(found) { "is not of type proc" } else { "is inside /proc" };
            Err(failure(&format!("{:?} cannot be mounted because it {why}", found.target)))
        }
        None => Ok(()),
    }
}

/// Removes the library's own files of a container that was made and is not to go on: the next one has its name.
pub fn forget(dir: &Path) {
    if let Err(error) = missing_is_fine(fs::remove_dir_all(dir.join(STATE))) {
        complain(&format!("shim: removing the runtime's files: {error}"));
    }
}

/// Makes the container's groups, with their limits but for one of processes that is tight ([`limit_processes`]).
pub fn make_group(launch: &Launch) -> Result<(), String> {
    let Some((path, resources)) = group_of(launch) else { return Ok(()) };
    let description = format!("docker container {}", launch.id);
    let maker = if launch.systemd_cgroup { Maker::Systemd(&description) } else { Maker::Own };
    let resources = &cgroup::with_room(resources);
    cgroup::make(&Wanted { path, resources, maker }).map_err(|error| group_error(&error))
}

/// Sets the limit of processes that was too tight for making the container.
pub fn limit_processes(launch: &Launch) -> Result<(), String> {
    let Some((path, resources)) = group_of(launch) else { return Ok(()) };
    let scope = launch.systemd_cgroup.then_some(path);
    cgroup::take_room(path, scope, resources).map_err(|error| group_error(&error))
}

fn group_of(launch: &Launch) -> Option<(&Path, &LinuxResources)> {
    launch.cgroups_path.as_deref().zip(launch.resources.as_ref())
}

fn group_error(error: &GroupError) -> String {
    format!("runc create failed: unable to start container process: {}: {error}: unknown", error.doing())
}

/// The runtime's error with all its causes, as runc would put it.
fn runtime_error(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    of_refusal(&text).unwrap_or_else(|| failure(&text))
}

/// What [`runtime_error`] would not name.
fn closed_sysctl(dir: &Path, error: &dyn Error) -> Option<String> {
    let (file, why) = runtime_error(error).contains(NOT_IN_PROC).then(|| sysctl::closed(dir)).flatten()?;
    Some(failure(&format!("open {}: {}", file.display(), reason(&why))))
}

/// What libcontainer calls in the container's first process.
#[derive(Clone)]
struct ContainerProgram {
    reporter: Reporter,
    filter: Option<Filter>,
    capabilities: Option<LinuxCapabilities>,
    rlimits: Vec<PosixRlimit>,
    devices: Rc<Prepared>,
    home: Rc<RefCell<Option<String>>>,
    size: Option<Size>,
}

impl ContainerProgram {
    /// The program, found where it will work.
    fn find(&self, process: &Process, home: Option<&str>) -> Result<Program, ProgramError> {
        let mut process = process.clone();
        process.set_cwd(self.devices.working_dir().to_owned());
        Program::find(&process, home)
    }
}

impl Executor for ContainerProgram {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let fail = |text: String| {
            self.reporter.failure(start_failure(failure(&text)));
            Err(ExecutorValidationError::ArgValidationError(text))
        };
        if let Err(error) = self.devices.put() {
            return fail(error.to_string());
        }
        let Some(process) = spec.process() else { return fail("no process".to_owned()) };
        match as_program(self.capabilities.as_ref(), || self.find(process, None)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => fail(error.to_string()),
            Err(error) => fail(error.to_string()),
        }
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The environment is taken from the specification, in its order; only HOME may be the runtime's.
        self.home.replace(envs.get("HOME").cloned());
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let give_up = |reason: &str| {
            self.reporter.failure(start_failure(failure(reason)));
            // SAFETY: as below.
            unsafe { libc::_exit(255) }
        };
        let home = self.home.borrow();
        let program =
            self.find(process, home.as_deref()).map_err(|error| ExecutorError::Other(error.to_string()))?;
        if let Err(error) = self.rlimits.iter().try_for_each(rlimit::set) {
            give_up(&format!("error setting rlimits for ready process: {error}"));
        }
        if let Err(error) = confine(self.filter.as_ref(), self.capabilities.as_ref()) {
            complain(&error.to_string());
            // SAFETY: as below.
            unsafe { libc::_exit(255) }
        }
        if let Some(size) = self.size {
            let _ = pty::resize(io::stdin().as_fd(), size.rows, size.columns);
        }
        let errno = program.execute();
        // The container counts as started, as under runc: the reason goes to its own output.
        complain(&program.refusal(errno));
        // SAFETY: ends the process; what libcontainer would still do is for a container that did not start.
        unsafe { libc::_exit(255) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_on_the_way_to_the_program_is_a_failure_with_its_words() {
        let (mut report, writer) = io::pipe().unwrap();
        let helper = helper(None, writer.into(), |_, _| panic!("no such thing")).unwrap();
        let mut told = String::new();
        report.read_to_string(&mut told).unwrap();
        assert!(told.contains("what it did not expect: no such thing"), "{told}");
        assert_eq!(
            nix::sys::wait::waitpid(Pid::from_raw(helper), None).unwrap().pid().unwrap().as_raw(),
            helper
        );
    }
}
