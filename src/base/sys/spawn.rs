//! Starts a program without copying the caller's memory map: posix_spawn(3) borrows it until the exec, so the cost does
//! not grow with the daemon.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::signal::SigSet;

/// glibc's `POSIX_SPAWN_SETSID`.
const SETSID: libc::c_int = 0x80;

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
    let mut actions = Actions::new()?;
    for fd in [0, 1] {
        actions.open(fd, c"/dev/null")?;
    }
    actions.dup2(&stderr, 2)?;
    for (target, fd) in (3..).zip(&fds) {
        actions.dup2(fd, target)?;
    }
    actions.close_from(above)?;
    let attributes = Attributes::of_a_session()?;
    let pointers = |texts: &[CString]| -> Vec<*mut libc::c_char> {
        texts.iter().map(|text| text.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
    };
    let (args, env) = (pointers(program.args), pointers(program.env));
    let mut pid = 0;
    // SAFETY: every pointer is to something that lives until the end of this function, the lists end with a null, and
    // posix_spawn only reads them.
    checked(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.path.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            args.as_ptr(),
            env.as_ptr(),
        )
    })?;
    Ok(pid)
}

/// What the child does before the exec. nix has these too, but for `close_from`, which must be an action of the child:
/// a flag set by the caller would miss what its other threads open meanwhile.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = std::mem::MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        checked(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: the call before succeeded.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn open(&mut self, target: libc::c_int, path: &CStr) -> io::Result<()> {
        // SAFETY: the actions are initialised, and the path is copied.
        checked(unsafe {
            libc::posix_spawn_file_actions_addopen(&raw mut self.0, target, path.as_ptr(), libc::O_RDWR, 0)
        })
    }

    fn dup2(&mut self, fd: &OwnedFd, target: libc::c_int) -> io::Result<()> {
        // SAFETY: the actions are initialised.
        checked(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, fd.as_raw_fd(), target) })
    }

    /// Closes every descriptor from `lowest` on.
    fn close_from(&mut self, lowest: libc::c_int) -> io::Result<()> {
        // SAFETY: the actions are initialised.
        checked(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&raw mut self.0, lowest) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: the actions are initialised and never used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A new session in which no signal is blocked or ignored.
    fn of_a_session() -> io::Result<Self> {
        let mut attributes = std::mem::MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        checked(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: the call before succeeded.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        let flags = SETSID | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let (none, all) = (SigSet::empty(), SigSet::all());
        // SAFETY: the attributes are initialised, and the sets are copied.
        unsafe {
            checked(libc::posix_spawnattr_setflags(&raw mut attributes.0, flags as libc::c_short))?;
            checked(libc::posix_spawnattr_setsigmask(&raw mut attributes.0, none.as_ref()))?;
            checked(libc::posix_spawnattr_setsigdefault(&raw mut attributes.0, all.as_ref()))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: the attributes are initialised and never used again.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// The posix_spawn family returns the error number.
fn checked(errno: libc::c_int) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
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
        // One that the caller was given and does not know of.
        let _inherited = nix::unistd::dup(&reader).unwrap();
        let script = c"test $(cut -d' ' -f6 /proc/self/stat) = $$ && exec >&3; ls /proc/$$/fd; true";
        let args = [c"sh".to_owned(), c"-c".to_owned(), script.to_owned()];
        let env = [c"PATH=/bin:/usr/bin".to_owned()];
        let fds = [writer.as_fd()];
        let program = Program { path: c"/bin/sh", args: &args, env: &env, fds: &fds, stderr: writer.as_fd() };
        let pid = in_own_session(&program).unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        assert_eq!(text, "0\n1\n2\n3\n");
    }
}
