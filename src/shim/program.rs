//! Finds and executes a container's program, with runc's words for what may go wrong.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::Process;

use crate::base::errno::{in_gos_words, number};

/// A program that was found, ready to be executed.
#[derive(Clone, Debug)]
pub struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

/// Why there is no program to execute; texts as runc's.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("exec: no command")]
    NoCommand,
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    #[error("exec: {name:?}: stat {name}: {reason}")]
    Stat { name: String, reason: String },
    #[error("exec: {name:?}: {reason}")]
    NotExecutable { name: String, reason: &'static str },
    #[error("exec: {0:?}: invalid argument")]
    Nul(String),
}

impl Program {
    /// Looks for the program of `process` where it will run, as the user it will run as. `home` is for an environment
    /// without `HOME`.
    pub fn find(process: &Process, home: Option<&str>) -> Result<Self, ProgramError> {
        let args = process.args().as_deref().unwrap_or_default();
        let name = args.first().ok_or(ProgramError::NoCommand)?;
        let env = process.env().as_deref().unwrap_or_default();
        let path = look_up(name, env, process.cwd())?;
        let mut env = env.to_vec();
        if let Some(home) = home.filter(|_| !env.iter().any(|entry| entry.starts_with("HOME="))) {
            env.push(format!("HOME={home}"));
        }
        let text = |text: &str| CString::new(text).map_err(|_| ProgramError::Nul(text.to_owned()));
        Ok(Self {
            path: text(&path)?,
            args: args.iter().map(|arg| text(arg)).collect::<Result<_, _>>()?,
            env: env.iter().map(|entry| text(entry)).collect::<Result<_, _>>()?,
        })
    }

    /// Becomes the program, with signals as a new process expects them. Returns only the error.
    pub fn execute(&self) -> Errno {
        restore_signals();
        match nix::unistd::execve(&self.path, &self.args, &self.env) {
            Err(errno) => errno,
        }
    }

    /// What runc says when execve refuses a program that was found.
    pub fn refusal(&self, errno: Errno) -> String {
        format!("exec {}: {}", self.path.to_string_lossy(), in_gos_words(errno))
    }
}

/// Rust ignores SIGPIPE and the shim blocks what it reads from a signalfd; a program must not inherit either.
pub fn restore_signals() {
    // SAFETY: sets a disposition to the default and empties the calling thread's mask.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

fn look_up(name: &str, env: &[String], cwd: &Path) -> Result<String, ProgramError> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::EACCES) => not_executable(name, "permission denied"),
            Err(Errno::EISDIR) => not_executable(name, "is a directory"),
            Err(errno) => Err(ProgramError::Stat { name: name.to_owned(), reason: in_gos_words(errno) }),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("");
    let mut denied = false;
    for dir in path.split(':') {
        let candidate = if dir.is_empty() { PathBuf::from(".") } else { PathBuf::from(dir) }.join(name);
        match executable(&candidate) {
            // Go's LookPath refuses to run what it finds through a relative directory.
            Ok(()) if candidate.is_absolute() => return Ok(candidate.to_string_lossy().into_owned()),
            Ok(()) => return Ok(cwd.join(candidate).to_string_lossy().into_owned()),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    if denied && path.split(':').count() == 1 {
        return not_executable(name, "permission denied");
    }
    Err(ProgramError::NotInPath(name.to_owned()))
}

fn not_executable(name: &str, reason: &'static str) -> Result<String, ProgramError> {
    Err(ProgramError::NotExecutable { name: name.to_owned(), reason })
}

/// Whether the file is one that Go's `exec.LookPath` takes.
fn executable(path: &Path) -> Result<(), Errno> {
    let metadata = path.metadata().map_err(|e| number(&e))?;
    if metadata.is_dir() {
        return Err(Errno::EISDIR);
    }
    let flags = nix::unistd::AccessFlags::X_OK;
    let at = nix::fcntl::AT_FDCWD;
    match nix::unistd::faccessat(at, path, flags, nix::fcntl::AtFlags::AT_EACCESS) {
        // Root may execute anything that has one x bit; a seccomp profile may not know the call.
        Ok(()) | Err(Errno::ENOSYS | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    Ok(())
}

/// The home directory of a user by the `/etc/passwd` around; `/` if it is not there. Read as a plain file of bounded
/// size: what a container puts there may be anything.
pub fn home_of(uid: u32) -> String {
    const LIMIT: u64 = 1 << 20;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/etc/passwd");
    let mut text = String::new();
    let read = file.and_then(|file| {
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        file.take(LIMIT).read_to_string(&mut text)
    });
    if read.is_err() {
        return "/".to_owned();
    }
    let mut users = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|fields| fields.len() >= 6 && fields[2].parse() == Ok(uid));
    user.map_or("/", |fields| fields[5]).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::ProcessBuilder;

    fn find(name: &str, path: &str) -> Result<String, String> {
        let process = ProcessBuilder::default()
            .args(vec![name.to_owned()])
            .env(vec![format!("PATH={path}")])
            .build()
            .unwrap();
        match Program::find(&process, None) {
            Ok(program) => Ok(program.path.into_string().unwrap()),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn programs_are_found_or_missed_in_runcs_words() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "x").unwrap();
        let plain = plain.to_str().unwrap();
        assert_eq!(find("sh", "/nowhere:/bin").unwrap(), "/bin/sh");
        assert_eq!(find("/bin/sh", "").unwrap(), "/bin/sh");
        for (name, message) in [
            ("nosuch", "exec: \"nosuch\": executable file not found in $PATH".to_owned()),
            ("/nosuch", "exec: \"/nosuch\": stat /nosuch: no such file or directory".to_owned()),
            ("/etc", "exec: \"/etc\": is a directory".to_owned()),
            (plain, format!("exec: \"{plain}\": permission denied")),
        ] {
            assert_eq!(find(name, "/bin:/usr/bin").unwrap_err(), message);
        }
    }
}
