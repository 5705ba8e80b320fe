//! Owns one sandbox: namespaces, cgroups and a temporary directory of its own (`scripts/sandbox`).
//!
//! Dropping it ends every process inside (it is a PID namespace) and with them its mounts and network; then its
//! cgroups and its directory go. Nothing of the host is touched.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use super::poll::eventually;

/// `scripts/sandbox` of the source tree, or of the copy that `COMPAT_ROOT` names where that is not at hand.
fn script() -> PathBuf {
    let root = std::env::var_os("COMPAT_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&root).join("scripts/sandbox")
}

/// A place to run one engine and its clients in.
pub struct Sandbox {
    name: String,
    dir: PathBuf,
    keeper: Child,
    init: u32,
}

impl Sandbox {
    /// Makes the namespaces; ready to enter on return.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("compat-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir).unwrap();
        // The keeper must not outlive this process, whatever ends it.
        let mut keeper = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(script())
            .args(["hold", &name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv is part of util-linux");
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the sandbox could not be made");
        let init = children(keeper.id())[0];
        Self { name, dir, keeper, init }
    }

    /// A directory seen at the same path inside and outside.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The host's pid of process 1 inside.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// A command that runs inside; arguments may be added.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(script());
        command.args(["enter", &self.name, &self.init.to_string(), program]).current_dir(&self.dir);
        command
    }

    /// Runs `work` on a thread in the sandbox's network namespace.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The directories of the sandbox's cgroups below its own root, named from there, without repetition.
    pub fn cgroups(&self) -> Vec<String> {
        let mut found = Vec::new();
        for hierarchy in hierarchies() {
            collect_directories(&hierarchy.join(&self.name), Path::new(""), &mut found);
        }
        found.sort();
        found.dedup();
        found
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let gone = || !Path::new(&format!("/proc/{}", self.init)).exists();
        if !std::thread::panicking() {
            eventually("the sandbox has ended", gone);
        }
        let _ = Command::new(script()).args(["remove", &self.name]).status();
        if std::env::var_os("COMPAT_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// The cgroup hierarchies of the host.
fn hierarchies() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return vec![top.to_owned()];
    }
    let entries = fs::read_dir(top).unwrap().map(|entry| entry.unwrap());
    entries.filter(|e| !e.file_type().unwrap().is_symlink()).map(|e| e.path()).collect()
}

fn collect_directories(top: &Path, relative: &Path, found: &mut Vec<String>) {
    // A cgroup may go while it is listed.
    let Ok(entries) = fs::read_dir(top.join(relative)) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        let path = relative.join(entry.file_name());
        found.push(path.display().to_string());
        collect_directories(top, &path, found);
    }
}

/// The pids of the children of a process (proc_pid_task_children(5)).
pub fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
