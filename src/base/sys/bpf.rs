//! Programs that the kernel asks whether a control group may use a device (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! Deliberately absent: what such a program decides, and every other kind of program.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Commands, program and attachment types of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of groups above go on being asked: all must agree.
const ALLOW_MULTI: u32 = 2;

/// One instruction (`struct bpf_insn`; Documentation/bpf/standardization/instruction-set.rst).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    pub code: u8,
    /// The destination's number in the low four bits, the source's in the high ones.
    pub registers: u8,
    /// Of a jump: instructions to skip. Of a load: bytes.
    pub offset: i16,
    pub immediate: i32,
}

/// The part of `union bpf_attr` that loading reads.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that attaching reads.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Lets `program` decide about the devices of the group at `dir`, as long as the group exists.
pub fn guard_devices(dir: &Path, program: &[Instruction]) -> io::Result<()> {
    let group = File::open(dir)?;
    let program = load(program).or_else(|error| match error.raw_os_error() {
        // Before Linux 5.11 programs count as locked memory.
        Some(libc::EPERM) => with_locked_memory(|| load(program)),
        _ => Err(error),
    })?;
    let attributes = AttachAttributes {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    call(PROG_ATTACH, &attributes).map(drop)
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let fd = call(PROG_LOAD, &attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs `body` without a limit of locked memory; what the limit was it is again afterwards, for whoever inherits it.
fn with_locked_memory<T>(body: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    let outcome = body();
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    outcome
}

fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes of the attributes as they have; what they point to outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}
