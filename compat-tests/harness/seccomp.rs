//! What the seccomp filters of a process decide, read from the kernel (ptrace(2), PTRACE_SECCOMP_GET_FILTER) and worked
//! out here (classic BPF: linux/filter.h, linux/bpf_common.h, linux/seccomp.h).
//!
//! The process is one in a sandbox, so this is done there: the suite runs itself as [`dump`].

use std::io;

use nix::libc;

/// Names the process to whoever runs the suite as [`dump`].
pub const PROCESS: &str = "COMPAT_SECCOMP_PROCESS";

/// `PTRACE_SECCOMP_GET_FILTER` (linux/ptrace.h).
const GET_FILTER: libc::c_uint = 0x420c;
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
/// The bit that marks calls of the x32 interface.
const X32: u32 = 0x4000_0000;

type Program = Vec<libc::sock_filter>;

/// A system call as the kernel hands it to filters (`struct seccomp_data`).
struct Call {
    number: u32,
    architecture: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            // The instruction pointer.
            8 | 12 => 0,
            _ => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
        }
    }
}

/// Prints a line for each system call; consecutive ones with the same decision share it.
pub fn dump(process: i32) -> io::Result<()> {
    let programs = programs(process)?;
    println!("{} filter(s)", programs.len());
    let decide =
        |architecture, number, arguments| decide(&programs, &Call { number, architecture, arguments });
    for (name, architecture) in [("x86_64", X86_64), ("i386", I386)] {
        for number in 0..480 {
            println!("{name} {number} {}", decide(architecture, number, [0; 6]));
        }
        for number in 0x1000..0x1003 {
            println!("{name} {number} {}", decide(architecture, number, [0; 6]));
        }
    }
    for number in [0, 1, 59, 512] {
        println!("x32 {number} {}", decide(X86_64, X32 | number, [0; 6]));
    }
    for personality in [0, 1, 8, 0x20000, 0x20008, 0xffff_ffff, 1 << 32] {
        println!("personality {personality:#x} {}", decide(X86_64, 135, [personality, 0, 0, 0, 0, 0]));
    }
    for flag in 0..34 {
        println!("clone {:#x} {}", 1u64 << flag, decide(X86_64, 56, [1 << flag, 0, 0, 0, 0, 0]));
    }
    for family in (0..46).chain([1 << 32 | 38, 1 << 32 | 40, 1 << 32 | 2]) {
        println!("socket {family:#x} {}", decide(X86_64, 41, [family, 0, 0, 0, 0, 0]));
    }
    Ok(())
}

/// All of a process's filters, the newest first.
fn programs(process: i32) -> io::Result<Vec<Program>> {
    let check = |result: libc::c_long| match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    };
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: ptrace with a process id and no memory of ours; each result is looked at.
    unsafe {
        check(libc::ptrace(libc::PTRACE_SEIZE, process, nothing, nothing))?;
        check(libc::ptrace(libc::PTRACE_INTERRUPT, process, nothing, nothing))?;
        libc::waitpid(process, std::ptr::null_mut(), libc::__WALL);
    }
    let mut programs = Vec::new();
    // SAFETY: without a buffer the kernel only counts; with one it writes as many instructions as it counted.
    unsafe {
        loop {
            let index = programs.len();
            let count = libc::ptrace(GET_FILTER, process, index, nothing);
            if count < 0 {
                break;
            }
            let mut program = vec![libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; count as usize];
            check(libc::ptrace(GET_FILTER, process, index, program.as_mut_ptr()))?;
            programs.push(program);
        }
        libc::ptrace(libc::PTRACE_DETACH, process, nothing, nothing);
    }
    Ok(programs)
}

/// Of several filters the most severe decision counts: the lowest number, read with its sign.
fn decide(programs: &[Program], call: &Call) -> String {
    let decisions = programs.iter().map(|program| run(program, call));
    let decision = decisions.min_by_key(|decision| (decision & 0xffff_0000) as i32).unwrap_or(0x7fff_0000);
    match (decision & 0xffff_0000, decision & 0xffff) {
        (0x7fff_0000, _) => "allow".to_owned(),
        (0x0005_0000, number) => format!("errno {number}"),
        (action, data) => format!("action {action:#x} {data}"),
    }
}

fn run(program: &Program, call: &Call) -> u32 {
    let (mut accumulator, mut at) = (0u32, 0usize);
    loop {
        let step = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
        match step.code {
            0x20 => accumulator = call.word(step.k),
            0x00 => accumulator = step.k,
            0x54 => accumulator &= step.k,
            0x05 => at += step.k as usize,
            0x15 => at += jump(accumulator == step.k),
            0x25 => at += jump(accumulator > step.k),
            0x35 => at += jump(accumulator >= step.k),
            0x45 => at += jump(accumulator & step.k != 0),
            0x06 => return step.k,
            0x16 => return accumulator,
            code => panic!("an instruction {code:#x} that no filter of libseccomp has"),
        }
    }
}
