//! Calls criu, which writes a container's processes to files and makes them again from those (`docker checkpoint`), for
//! the embedded runtime. libcontainer 0.7 can only write them; other runtimes call criu themselves.
//!
//! What the container has of the host is left out and given back at the restore: its network namespace, its streams,
//! and the mounts whose sources criu finds on the host by itself. Established TCP connections are refused, as by
//! dockerd. Log files stay in the container's run directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::FcntlArg;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::base::sys::cgroup::Cgroup;

/// Which stream was which pipe, beside criu's files; runc's name and form.
const STREAMS: &str = "descriptors.json";
/// The name under which the network namespace is left out and given back.
const NETWORK: &str = "extRootNetNS";
const PID_FILE: &str = "restored.pid";
/// Inherited descriptors are put where no program expects one.
const FIRST_INHERITED: i32 = 100;
/// criu says so on every host that limits open files; nothing follows from it.
const HARMLESS: &str = "Can't setup RLIMIT_NOFILE for self";
/// criu's last words when it knows the kernel's newer parts not.
const UNKNOWN_KERNEL: &str = "Could not initialize kernel features detection";

/// Why processes were not written, or not made again.
#[derive(Debug, thiserror::Error)]
pub enum CriuError {
    #[error("criu is not installed: checkpoints need the program \"criu\" in {path:?}")]
    Missing { path: String },
    #[error("criu {verb} failed: {reason} (log file: {})", log.display())]
    Failed { verb: &'static str, reason: String, log: PathBuf },
    #[error("a container that is in another's {0} namespace cannot be checkpointed")]
    SharedNamespace(LinuxNamespaceType),
    #[error("the container's control group: {0}")]
    Group(io::Error),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
}

/// One container, as criu sees it.
pub struct Criu<'a> {
    /// The container's directory, with its specification.
    pub dir: &'a Path,
}

impl Criu<'_> {
    /// Writes the processes below `init` to `images`. They are left stopped, or go on.
    pub fn dump(&self, init: i32, images: &Path, then: Then) -> Result<(), CriuError> {
        let spec = self.spec()?;
        refuse_shared(&spec)?;
        let streams: Vec<_> = (0..3).map(|fd| fs::read_link(format!("/proc/{init}/fd/{fd}"))).collect();
        let streams: Vec<_> = streams.into_iter().map(Result::unwrap_or_default).collect();
        let list = images.join(STREAMS);
        fs::write(&list, serde_json::to_vec(&streams).map_err(json(&list))?).map_err(file(&list))?;
        let mut command = self.command("dump", images);
        command.arg("--tree").arg(init.to_string());
        command.arg(match then {
            Then::Stopped => "--leave-stopped",
            Then::Running => "--leave-running",
        });
        if network_of(&spec).is_some() {
            let path = PathBuf::from(format!("/proc/{init}/ns/net"));
            let number = fs::metadata(&path).map_err(file(&path))?.ino();
            command.arg("--external").arg(format!("net[{number}]:{NETWORK}"));
        }
        self.run(command, "dump")
    }

    /// Makes the processes again, with these streams and in the container's groups; returns their first one's number.
    /// The caller, which must have one thread, is in those groups afterwards.
    pub fn restore(&self, images: &Path, stdio: &[OwnedFd; 3]) -> Result<i32, CriuError> {
        let spec = self.spec()?;
        // criu's children inherit the groups; their limits are set, of which criu does not know all.
        if let Some(path) = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref()) {
            Cgroup::of_container(path).and_then(|group| group.join()).map_err(CriuError::Group)?;
        }
        let list = images.join(STREAMS);
        let json_text = fs::read(&list).map_err(file(&list))?;
        let streams: Vec<PathBuf> = serde_json::from_slice(&json_text).map_err(json(&list))?;
        let mut command = self.command("restore", images);
        if let Some(root) = spec.root() {
            command.arg("--root").arg(root.path());
        }
        let mut inherited = Vec::new();
        for (was, now) in streams.iter().zip(stdio) {
            if was.to_string_lossy().starts_with("pipe:") {
                inherited.push((was.to_string_lossy().into_owned(), now.try_clone().map_err(file(was))?));
            }
        }
        if let Some(path) = network_of(&spec) {
            inherited.push((NETWORK.to_owned(), File::open(path).map_err(file(path))?.into()));
        }
        for (name, fd) in &inherited {
            // Without the flag that closes it when criu is executed. This process has one thread and ends soon.
            let number = nix::fcntl::fcntl(fd.as_fd(), FcntlArg::F_DUPFD(FIRST_INHERITED + fd.as_raw_fd()))
                .map_err(|errno| file(Path::new(name))(errno.into()))?;
            command.arg("--inherit-fd").arg(format!("fd[{number}]:{name}"));
        }
        let pid_file = self.dir.join(PID_FILE);
        // Of an earlier attempt; criu writes no file that is there.
        let _ = fs::remove_file(&pid_file);
        command.arg("--restore-detached").arg("--pidfile").arg(&pid_file);
        self.run(command, "restore")?;
        let text = fs::read_to_string(&pid_file).map_err(file(&pid_file))?;
        text.trim().parse().map_err(|_| file(&pid_file)(io::ErrorKind::InvalidData.into()))
    }

    fn spec(&self) -> Result<Spec, CriuError> {
        let path = self.dir.join("config.json");
        let text = fs::read(&path).map_err(file(&path))?;
        serde_json::from_slice(&text).map_err(json(&path))
    }

    fn log(&self, verb: &str) -> PathBuf {
        self.dir.join(format!("criu-{verb}.log"))
    }

    fn command(&self, verb: &str, images: &Path) -> Command {
        let mut command = Command::new("criu");
        command.arg(verb).arg("--images-dir").arg(images).arg("--work-dir").arg(self.dir);
        command.arg("--log-file").arg(self.log(verb));
        command.args([
            "--external",
            "mnt[]:sm",
            "--manage-cgroups=soft",
            "--file-locks",
            "--evasive-devices",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn run(&self, mut command: Command, verb: &'static str) -> Result<(), CriuError> {
        let log = self.log(verb);
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let text = fs::read(&log).unwrap_or_default();
                let reason = complaint(&String::from_utf8_lossy(&text)).unwrap_or_else(|| status.to_string());
                Err(CriuError::Failed { verb, reason, log })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(CriuError::Missing { path: std::env::var("PATH").unwrap_or_default() })
            }
            Err(error) => Err(CriuError::Failed { verb, reason: error.to_string(), log }),
        }
    }
}

/// How processes are left that were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    Running,
    Stopped,
}

/// The reason in criu's log: its first error, whose consequences are the others.
fn complaint(log: &str) -> Option<String> {
    let mut errors = log.lines().filter_map(|line| Some(line.split_once("Error (")?.1.split_once("): ")?.1));
    let first = errors.find(|text| !text.contains(HARMLESS))?.trim().to_owned();
    if log.contains(UNKNOWN_KERNEL) {
        return Some(format!("{first}: this criu does not know this kernel, a newer one may"));
    }
    Some(first)
}

/// The network namespace that the container was put into; none if it has the host's or one of its own making.
fn network_of(spec: &Spec) -> Option<&Path> {
    let namespaces = spec.linux().as_ref()?.namespaces().as_ref()?;
    let network = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::Network)?;
    network.path().as_deref()
}

/// criu would make a namespace of its own in place of the shared one.
fn refuse_shared(spec: &Spec) -> Result<(), CriuError> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let shared = namespaces
        .into_iter()
        .flatten()
        .find(|namespace| namespace.path().is_some() && namespace.typ() != LinuxNamespaceType::Network);
    shared.map_or(Ok(()), |namespace| Err(CriuError::SharedNamespace(namespace.typ())))
}

fn file(path: &Path) -> impl Fn(io::Error) -> CriuError {
    let path = path.to_owned();
    move |source| CriuError::File { path: path.clone(), source }
}

fn json(path: &Path) -> impl Fn(serde_json::Error) -> CriuError {
    let path = path.to_owned();
    move |source| CriuError::Json { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_that_matters_is_the_reason() {
        let log = "(00.08) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: x\n\
                   (00.22) Error (criu/files-reg.c:1790): Can't lookup mount=47 for fd=1\n\
                   (00.30) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(complaint(log).as_deref(), Some("Can't lookup mount=47 for fd=1"));
        assert_eq!(complaint("(00.1) Warn  (x.c:1): y\n"), None);
        let old = "Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\n\
                   Error (criu/crtools.c:260): Could not initialize kernel features detection.\n";
        let reason = complaint(old).unwrap();
        assert!(reason.starts_with("vdso: Unexpected rt vDSO area bounds: this criu"), "{reason}");
    }

    #[test]
    fn only_the_network_may_be_anothers() {
        let spec = |namespaces: &str| -> Spec {
            let text = format!(r#"{{"ociVersion":"1.0.2","linux":{{"namespaces":[{namespaces}]}}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let network = spec(r#"{"type":"pid"},{"type":"network","path":"/run/netns/a"}"#);
        assert_eq!(network_of(&network), Some(Path::new("/run/netns/a")));
        refuse_shared(&network).unwrap();
        let shared = refuse_shared(&spec(r#"{"type":"ipc","path":"/proc/7/ns/ipc"}"#)).unwrap_err();
        assert_eq!(
            shared.to_string(),
            "a container that is in another's ipc namespace cannot be checkpointed"
        );
        assert_eq!(network_of(&spec(r#"{"type":"mount"}"#)), None);
    }
}
