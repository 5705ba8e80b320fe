//! Makes containers and execs with an OCI runtime program (`--add-runtime`), called as runc is: `create`, `start`,
//! `exec --detach`, `delete`. Its processes become children of the shim, which is their subreaper.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::creator::{self, CONSOLE};
use super::report::Reporter;
use crate::base::id::ContainerId;
use crate::base::sys::socket_at::Address;
use crate::runtime::protocol::Afterwards;
use oci_spec::runtime::Process;

/// The runtime's directory for its own state, in the container's.
const STATE: &str = "oci-runtime";
const LOG: &str = "oci-runtime.log";
const PID_FILE: &str = "init.pid";

/// A runtime program as it is called for one container.
pub struct Program<'a> {
    pub path: &'a Path,
    pub args: &'a [String],
    pub dir: &'a Path,
    pub id: &'a ContainerId,
    pub systemd_cgroup: bool,
}

/// One line of the runtime's log, as `--log-format json` has it.
#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

/// The process's ends of its streams; none with a terminal, which comes over the socket [`CONSOLE`] or `console`.
type Streams = Option<[OwnedFd; 3]>;

impl Program<'_> {
    /// Starts to make the container, or to make it again from the files of a checkpoint; how it goes is reported.
    /// Returns the helper's process id.
    pub fn start(&self, restore: Option<&Path>, stdio: Streams, report: OwnedFd) -> io::Result<i32> {
        helper(stdio, report, |stdio, reporter| {
            let pid_file = self.dir.join(PID_FILE);
            if let Some(images) = restore {
                let mut restore = self.command("restore", stdio);
                restore.arg("--image-path").arg(images).arg("--work-path").arg(self.dir).arg("--file-locks");
                restore.arg("--detach").arg("--bundle").arg(self.dir).arg("--pid-file").arg(&pid_file);
                self.run(restore.arg(self.id.as_str()))?;
                return self.tell(&pid_file, reporter);
            }
            let mut create = self.command("create", stdio);
            create.arg("--bundle").arg(self.dir).arg("--pid-file").arg(&pid_file);
            let console = stdio.is_none().then(|| self.console(CONSOLE)).transpose()?;
            if let Some(console) = &console {
                create.arg("--console-socket").arg(console.path());
            }
            self.run(create.arg(self.id.as_str()))?;
            self.tell(&pid_file, reporter)?;
            self.run(self.command("start", &None).arg(self.id.as_str()))
        })
    }

    fn tell(&self, pid_file: &Path, reporter: Reporter) -> Result<(), String> {
        let pid = read_pid(pid_file)?;
        reporter.process(pid, fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default());
        Ok(())
    }

    /// Writes the container's processes to files; those that shall not go on are ended by the runtime.
    pub fn checkpoint(&self, images: &Path, afterwards: Afterwards) -> Result<(), String> {
        let mut command = self.command("checkpoint", &None);
        command.arg("--image-path").arg(images).arg("--work-path").arg(self.dir).arg("--file-locks");
        if afterwards == Afterwards::GoOn {
            command.arg("--leave-running");
        }
        self.run(command.arg(self.id.as_str()))
    }

    /// Starts to add a process. `console` is the socket's name if it is to have a terminal.
    pub fn exec(
        &self,
        name: &str,
        process: &Process,
        stdio: Streams,
        console: Option<&str>,
        report: OwnedFd,
    ) -> io::Result<i32> {
        helper(stdio, report, |stdio, reporter| {
            let description = self.dir.join(format!("exec-{name}.json"));
            let pid_file = self.dir.join(format!("exec-{name}.pid"));
            let json = serde_json::to_vec(process).map_err(|e| e.to_string())?;
            fs::write(&description, json).map_err(|e| format!("{}: {e}", description.display()))?;
            let mut exec = self.command("exec", stdio);
            exec.arg("--detach").arg("--process").arg(&description).arg("--pid-file").arg(&pid_file);
            let console = console.map(|name| self.console(name)).transpose()?;
            if let Some(console) = &console {
                exec.arg("--console-socket").arg(console.path());
            }
            let outcome = self.run(exec.arg(self.id.as_str()));
            let pid = outcome.and_then(|()| read_pid(&pid_file));
            for file in [&description, &pid_file] {
                let _ = fs::remove_file(file);
            }
            reporter.process(pid?, String::new());
            Ok(())
        })
    }

    /// Lets the runtime forget the container, which has ended.
    pub fn delete(&self) -> Result<(), String> {
        self.run(self.command("delete", &None).arg("--force").arg(self.id.as_str()))
    }

    /// Where the runtime finds a socket of the container's directory.
    fn console(&self, name: &str) -> Result<Address, String> {
        Address::of(self.dir, name).map_err(|error| format!("{}: {error}", self.dir.display()))
    }

    fn command(&self, verb: &str, stdio: &Streams) -> Command {
        let mut command = Command::new(self.path);
        command.args(self.args).arg("--root").arg(self.dir.join(STATE));
        command.arg("--log").arg(self.dir.join(LOG)).args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command.arg(verb);
        let [stdin, stdout, stderr] = match stdio {
            Some(fds) => fds.each_ref().map(|fd| fd.try_clone().map_or_else(|_| Stdio::null(), Stdio::from)),
            None => [Stdio::null(), Stdio::null(), Stdio::null()],
        };
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        command
    }

    fn run(&self, command: &mut Command) -> Result<(), String> {
        let program = || self.path.display().to_string();
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.complaint().unwrap_or_else(|| format!("{} failed: {status}", program()))),
            Err(error) => Err(format!("{}: {error}", program())),
        }
    }

    /// The last error that the runtime logged.
    fn complaint(&self) -> Option<String> {
        let text = fs::read_to_string(self.dir.join(LOG)).ok()?;
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
        lines.rfind(|line| line.level == "error").map(|line| line.msg)
    }
}

/// Runs `body` in a forked helper that reports its failure.
fn helper(
    stdio: Streams,
    report: OwnedFd,
    body: impl FnOnce(&Streams, Reporter) -> Result<(), String>,
) -> io::Result<i32> {
    creator::helper(stdio, report, |stdio, reporter| {
        body(&stdio, reporter).map_err(|message| format!("{message}: unknown"))
    })
}

fn read_pid(file: &Path) -> Result<i32, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    text.trim().parse().map_err(|_| format!("{}: not a process id", file.display()))
}
