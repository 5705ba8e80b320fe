//! seccomp profiles as programs that the kernel takes (seccomp(2), SECCOMP_SET_MODE_FILTER).
//!
//! libseccomp needs 20 ms and more for the default profile with its three architectures; the kernel takes the finished
//! program in 0.4 ms. So each profile is compiled once and its program kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSyscall};
use serde::Serialize;

/// Programs that are kept; users with more profiles than this compile some of them again.
const KEPT: usize = 64;
/// Lets libseccomp arrange system calls in a tree: the program is longer, but the kernel checks it twice as fast.
const TREE: u32 = 2;
/// Where the numbers of x32 system calls begin.
const X32_BIT: u32 = 0x4000_0000;

/// A profile that cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("SCMP_ACT_NOTIFY is not supported")]
    Notify,
    #[error("{0:?} is not known")]
    Unknown(String),
    #[error("adding a rule for {name}: {source}")]
    Rule { name: String, source: SeccompError },
    #[error(transparent)]
    Library(#[from] SeccompError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Compiled programs by profile.
#[derive(Debug, Default)]
pub struct Filters {
    programs: Mutex<HashMap<Vec<u8>, Arc<[u8]>>>,
}

impl Filters {
    /// The program of a profile, preceded by the flags for seccomp(2) and the number of instructions, 32 bits each in
    /// the machine's order. Blocks for 20 to 50 ms when the profile is new; who asks for the same meanwhile waits.
    pub fn program(&self, profile: &LinuxSeccomp) -> Result<Arc<[u8]>, FilterError> {
        let key = serde_json::to_vec(profile)?;
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(&key) {
            return Ok(program.clone());
        }
        if programs.len() == KEPT {
            programs.clear();
        }
        let program: Arc<[u8]> = compile(profile)?.into();
        programs.insert(key, program.clone());
        Ok(program)
    }
}

fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, FilterError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let architectures: Vec<ScmpArch> = profile
        .architectures()
        .iter()
        .flatten()
        .map(|arch| known(arch, str::parse))
        .collect::<Result<_, _>>()?;
    let mut context = ScmpFilterContext::new(default)?;
    for architecture in &architectures {
        context.add_arch(*architecture)?;
    }
    context.set_ctl_optimize(TREE)?;
    for rule in profile.syscalls().iter().flatten() {
        add(&mut context, rule, default)?;
    }
    let mut program = unknown_calls(profile, default, &architectures);
    program.extend(export(&context)?);
    let count = (program.len() / INSTRUCTION) as u32;
    let header = [flags(profile).to_ne_bytes(), count.to_ne_bytes()].concat();
    Ok([header, program].concat())
}

fn add(context: &mut ScmpFilterContext, rule: &LinuxSyscall, default: ScmpAction) -> Result<(), FilterError> {
    let action = action(rule.action(), rule.errno_ret())?;
    if action == default {
        return Ok(());
    }
    let compare = rule.args().iter().flatten().map(|arg| {
        let op = match word(arg.op())?.as_str() {
            // The mask comes first in the specification, what it leaves second.
            "SCMP_CMP_MASKED_EQ" => {
                let mask = ScmpCompareOp::MaskedEqual(arg.value());
                return Ok(ScmpArgCompare::new(arg.index() as u32, mask, arg.value_two().unwrap_or(0)));
            }
            other => other.parse().map_err(|_| FilterError::Unknown(other.to_owned()))?,
        };
        Ok(ScmpArgCompare::new(arg.index() as u32, op, arg.value()))
    });
    let compare: Vec<ScmpArgCompare> = compare.collect::<Result<_, FilterError>>()?;
    // libseccomp compares an argument once per rule; runc makes several rules of it, one of which is enough.
    let indices: Vec<_> = rule.args().iter().flatten().map(|arg| arg.index()).collect();
    let repeated = indices.iter().enumerate().any(|(at, index)| indices[..at].contains(index));
    for name in rule.names() {
        // A system call that this release of libseccomp does not know is not allowed.
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        let wrong = |source| FilterError::Rule { name: name.clone(), source };
        match repeated {
            true => compare.iter().try_for_each(|one| {
                context.add_rule_conditional(action, call, std::slice::from_ref(one)).map(drop)
            }),
            false => context.add_rule_conditional(action, call, &compare).map(drop),
        }
        .map_err(wrong)?;
    }
    Ok(())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, FilterError> {
    let errno = errno.map_or(libc::EPERM, |errno| errno as i32);
    match action {
        LinuxSeccompAction::ScmpActNotify => Err(FilterError::Notify),
        other => known(&other, |word| ScmpAction::from_str(word, Some(errno))),
    }
}

/// The specification's words are libseccomp's.
fn known<T, E>(value: &impl Serialize, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, FilterError> {
    let word = word(value)?;
    parse(&word).map_err(|_| FilterError::Unknown(word))
}

fn word(value: impl Serialize) -> Result<String, FilterError> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}

fn flags(profile: &LinuxSeccomp) -> u32 {
    let bit = |flag: &LinuxSeccompFilterFlag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // There is one thread, and nobody is notified.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync
        | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    profile.flags().iter().flatten().map(bit).fold(0, |all, bit| all | bit) as u32
}

fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, FilterError> {
    let memory = nix::sys::memfd::memfd_create("seccomp", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .map_err(io::Error::from)?;
    context.export_bpf(memory.as_fd())?;
    let mut file = File::from(memory);
    let mut program = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut program)?;
    Ok(program)
}

/// Bytes of `struct sock_filter` (linux/filter.h).
const INSTRUCTION: usize = 8;
// Codes of instructions (linux/bpf_common.h): load a word of seccomp_data, compare it, return.
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// SECCOMP_RET_ERRNO with ENOSYS.
const NO_SUCH_CALL: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// Instructions before all others: a system call newer than all that the profile names does not exist, as on an older
/// kernel, instead of being forbidden. C libraries try newer calls first and fall back only on ENOSYS (runc does so).
fn unknown_calls(profile: &LinuxSeccomp, default: ScmpAction, architectures: &[ScmpArch]) -> Vec<u8> {
    let forbids = matches!(default, ScmpAction::Errno(errno) if errno != libc::ENOSYS);
    if !forbids {
        return Vec::new();
    }
    let names: Vec<&String> = profile.syscalls().iter().flatten().flat_map(|rule| rule.names()).collect();
    let newest = |arch: ScmpArch| {
        let numbers = names.iter().filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok());
        numbers.map(i32::from).filter(|number| *number >= 0).max().map(|number| number as u32)
    };
    let x32 = architectures.contains(&ScmpArch::X32).then(|| newest(ScmpArch::X32)).flatten();
    let mut program = Vec::new();
    for (architecture, token) in TOKENS.iter().filter(|(arch, _)| architectures.contains(arch)) {
        let Some(newest) = newest(*architecture) else { continue };
        // x32 has the token of x86-64 and numbers of its own; without it those are all unknown.
        let newest_x32 = if *architecture == ScmpArch::X8664 { x32.unwrap_or(X32_BIT) } else { u32::MAX };
        for (code, if_true, if_false, value) in [
            (LOAD, 0, 0, ARCHITECTURE),
            (IF_EQUAL, 0, 5, *token),
            (LOAD, 0, 0, NUMBER),
            (IF_AT_LEAST, 1, 0, if newest_x32 == u32::MAX { u32::MAX } else { X32_BIT }),
            (IF_GREATER, 1, 2, newest),
            (IF_GREATER, 0, 1, newest_x32),
            (RETURN, 0, 0, NO_SUCH_CALL),
        ] {
            program.extend(u16::to_ne_bytes(code));
            program.extend([if_true, if_false]);
            program.extend(u32::to_ne_bytes(value));
        }
    }
    program
}

/// How the kernel names architectures in seccomp_data (linux/audit.h).
const TOKENS: [(ScmpArch, u32); 7] = [
    (ScmpArch::X8664, 0xc000_003e),
    (ScmpArch::X86, 0x4000_0003),
    (ScmpArch::Aarch64, 0xc000_00b7),
    (ScmpArch::Arm, 0x4000_0028),
    (ScmpArch::Riscv64, 0xc000_00f3),
    (ScmpArch::S390X, 0x8000_0016),
    (ScmpArch::S390, 0x0000_0016),
];

#[cfg(test)]
mod tests;
