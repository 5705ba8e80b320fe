//! What a process gives up just before it becomes its program: system calls and capabilities.
//!
//! The filter comes first, because loading one needs privilege unless the process has no_new_privs; so a profile must
//! allow capset(2) and execve(2), as under runc. The program is looked for before that, with the capabilities that it
//! will have: what only root could execute is not found for others.

use std::fs;
use std::io;
use std::path::Path;

use libcontainer::capabilities::{CapabilityExt, drop_privileges, reset_effective};
use libcontainer::syscall::SyscallError;
use libcontainer::syscall::syscall::create_syscall;
use nix::errno::Errno;
use oci_spec::runtime::LinuxCapabilities;

use crate::runtime::protocol::SECCOMP_FILE;

/// A seccomp filter that the daemon compiled: flags and number of instructions, 32 bits each, then `sock_filter`s.
#[derive(Clone, Debug)]
pub struct Filter {
    flags: u32,
    program: Vec<libc::sock_filter>,
}

impl Filter {
    /// The container's filter; none if its file is absent.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(SECCOMP_FILE)) {
            Ok(bytes) => Self::parse(&bytes).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?));
        let (flags, count) = (word(bytes)?, word(bytes.get(4..)?)?);
        let instruction = |bytes: &[u8]| {
            Some(libc::sock_filter {
                code: u16::from_ne_bytes([bytes[0], bytes[1]]),
                jt: bytes[2],
                jf: bytes[3],
                k: word(&bytes[4..])?,
            })
        };
        let program: Vec<_> = bytes[8..].chunks_exact(8).map(instruction).collect::<Option<_>>()?;
        (program.len() == count as usize && bytes.len() == 8 + program.len() * 8)
            .then_some(Self { flags, program })
    }

    /// Applies it to this process for good.
    pub fn load(&self) -> Result<(), Errno> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.program.len()).map_err(|_| Errno::EINVAL)?,
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: the kernel reads `len` instructions, which live as long as `self`, and copies them.
        let done =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &program) };
        Errno::result(done).map(drop)
    }
}

/// Loads the filter and keeps only these capabilities.
pub fn confine(
    filter: Option<&Filter>,
    capabilities: Option<&LinuxCapabilities>,
) -> Result<(), ConfineError> {
    if let Some(filter) = filter {
        filter.load().map_err(ConfineError::Filter)?;
    }
    if let Some(capabilities) = capabilities {
        drop_privileges(capabilities, create_syscall().as_ref())?;
    }
    Ok(())
}

/// Does something with the effective capabilities that the program will have.
pub fn as_program<T>(
    capabilities: Option<&LinuxCapabilities>,
    work: impl FnOnce() -> T,
) -> Result<T, ConfineError> {
    let Some(capabilities) = capabilities else { return Ok(work()) };
    let syscall = create_syscall();
    let effective = capabilities.effective().iter().flatten().map(CapabilityExt::to_cap).collect();
    syscall.set_capability(caps::CapSet::Effective, &effective)?;
    let result = work();
    reset_effective(syscall.as_ref())?;
    Ok(result)
}

/// Why a process could not be confined; texts as runc's.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("unable to init seccomp: error loading seccomp filter into kernel: {0}")]
    Filter(Errno),
    #[error("unable to apply caps: {0}")]
    Capabilities(#[from] SyscallError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_as_many_instructions_as_it_says() {
        let header = [4u32.to_ne_bytes(), 1u32.to_ne_bytes()].concat();
        let whole = [header.as_slice(), &[6, 0, 0, 0, 0, 0, 0xff, 0x7f]].concat();
        let filter = Filter::parse(&whole).unwrap();
        assert_eq!((filter.flags, filter.program.len(), filter.program[0].k), (4, 1, 0x7fff_0000));
        for bad in [&whole[..4], &whole[..8], &whole[..15], &[&whole[..], &[0]].concat()] {
            assert!(Filter::parse(bad).is_none());
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn a_filter_is_its_count_and_as_many_instructions(
            count in 0..5u32,
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let file = [&[0; 4], &count.to_ne_bytes()[..], &bytes].concat();
            let filter = Filter::parse(&file);
            prop_assert_eq!(filter.is_some(), bytes.len() == count as usize * 8);
            if let Some(filter) = filter {
                let write = |one: &libc::sock_filter| {
                    [&one.code.to_ne_bytes()[..], &[one.jt, one.jf], &one.k.to_ne_bytes()].concat()
                };
                prop_assert_eq!(filter.program.iter().flat_map(write).collect::<Vec<_>>(), bytes.clone());
            }
            let _ = Filter::parse(&bytes);
        }
    }
}
