//! A copy of our own program in memory that nobody can change.
//!
//! A container can reach the program that makes it through `/proc/self/exe` and write to it once no process runs it
//! (CVE-2019-5736). Shims run from this copy: sealed against writing, named by no path, shared by all of them.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The sealed copy.
#[derive(Debug)]
pub struct SealedProgram(OwnedFd);

impl SealedProgram {
    /// Copies the running program.
    pub fn of_this_program() -> io::Result<Self> {
        let mut source = File::open("/proc/self/exe")?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut copy = File::from(memfd_create(c"slipwayd", flags)?);
        io::copy(&mut source, &mut copy)?;
        let seals =
            SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
        fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
        // Only a descriptor opened for reading can be executed: one open for writing gives ETXTBSY.
        let reopened = File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
        Ok(Self(reopened.into()))
    }

    /// A path under which this process and its children can execute the copy. It names this process and not "self":
    /// a child that has closed all descriptors on its way to the exec finds it too.
    pub fn path(&self) -> CString {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd());
        CString::new(path).expect("numbers have no NUL")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails when the program itself is opened in place of the copy: it is busy then (ETXTBSY), as long as it runs.
    #[test]
    fn the_copy_cannot_be_written() {
        let copy = SealedProgram::of_this_program().unwrap();
        let path = copy.path().into_string().unwrap();
        assert!(File::open(&path).unwrap().metadata().unwrap().len() > 0);
        let written = std::fs::OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(0));
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
