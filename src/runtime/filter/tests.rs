//! Programs are run here as the kernel would run them.

use super::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;

/// Runs the instructions that libseccomp and this module make use of (linux/filter.h, bpf(4)).
fn run(program: &[u8], architecture: u32, number: u32, args: [u64; 2]) -> u32 {
    let mut data = [number.to_ne_bytes(), architecture.to_ne_bytes()].concat();
    data.extend(0u64.to_ne_bytes());
    args.iter().for_each(|arg| data.extend(arg.to_ne_bytes()));
    let (mut at, mut value) = (0usize, 0u32);
    loop {
        let instruction = &program[8 + at * INSTRUCTION..][..INSTRUCTION];
        let code = u16::from_ne_bytes([instruction[0], instruction[1]]);
        let k = u32::from_ne_bytes(instruction[4..].try_into().unwrap());
        let jump = |test: bool| usize::from(if test { instruction[2] } else { instruction[3] });
        at += 1;
        match code {
            LOAD => value = u32::from_ne_bytes(data[k as usize..][..4].try_into().unwrap()),
            IF_EQUAL => at += jump(value == k),
            IF_GREATER => at += jump(value > k),
            IF_AT_LEAST => at += jump(value >= k),
            0x05 => at += k as usize,
            0x54 => value &= k,
            RETURN => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn profile() -> LinuxSeccomp {
    serde_json::from_str(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
            "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],
            "syscalls":[
              {"names":["read","no_such_call","futex_waitv"],"action":"SCMP_ACT_ALLOW"},
              {"names":["clone"],"action":"SCMP_ACT_ALLOW",
               "args":[{"index":0,"value":2114060288,"op":"SCMP_CMP_MASKED_EQ"}]},
              {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
              {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
              {"names":["personality"],"action":"SCMP_ACT_ALLOW",
               "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}
            ]}"#,
    )
    .unwrap()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_are_allowed_refused_and_unknown() {
    let program = Filters::default().program(&profile()).unwrap();
    let enosys = NO_SUCH_CALL;
    for (what, architecture, number, args, result) in [
        ("read", X86_64, 0, [0, 0], ALLOW),
        ("write", X86_64, 1, [0, 0], EPERM),
        ("clone of a thread", X86_64, 56, [0x003d_0f00, 0], ALLOW),
        ("clone with a namespace", X86_64, 56, [0x1000_0000, 0], EPERM),
        ("clone3", X86_64, 435, [0, 0], enosys),
        ("socket", X86_64, 41, [2, 0], ALLOW),
        ("socket of another family", X86_64, 41, [38, 0], EPERM),
        ("socket with a high bit", X86_64, 41, [(1 << 32) | 38, 0], EPERM),
        ("the first of several conditions", X86_64, 135, [1, 0], ALLOW),
        ("the second of several conditions", X86_64, 135, [8, 0], ALLOW),
        ("none of several conditions", X86_64, 135, [9, 0], EPERM),
        ("what is newer than the profile", X86_64, 450, [0, 0], enosys),
        ("read of i386", I386, 3, [0, 0], ALLOW),
        ("write of i386", I386, 4, [0, 0], EPERM),
        ("what is newer, on i386", I386, 460, [0, 0], enosys),
        ("read of x32", X86_64, X32_BIT, [0, 0], ALLOW),
        ("write of x32", X86_64, X32_BIT + 1, [0, 0], EPERM),
        ("what is newer, on x32", X86_64, X32_BIT + 800, [0, 0], enosys),
    ] {
        assert_eq!(run(&program, architecture, number, args), result, "{what}");
    }
}

#[test]
fn a_profile_is_compiled_once() {
    let filters = Filters::default();
    let program = filters.program(&profile()).unwrap();
    assert!(Arc::ptr_eq(&program, &filters.program(&profile()).unwrap()));
    let count = u32::from_ne_bytes(program[4..8].try_into().unwrap());
    assert_eq!(program.len(), 8 + count as usize * INSTRUCTION);
}

#[test]
fn a_profile_that_allows_by_default_has_no_unknown_calls() {
    let profile: LinuxSeccomp = serde_json::from_str(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    let program = Filters::default().program(&profile).unwrap();
    #[cfg(target_arch = "x86_64")]
    for (number, result) in [(83, EPERM), (84, ALLOW), (900, ALLOW)] {
        assert_eq!(run(&program, X86_64, number, [0, 0]), result, "{number}");
    }
    assert!(!program.is_empty());
}
