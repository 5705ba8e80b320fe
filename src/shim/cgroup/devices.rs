//! The rules of the devices cgroup (linux.resources.devices) as a program for cgroup v2, which has no such controller.
//!
//! The meaning is cgroup v1's (Documentation/admin-guide/cgroup-v1/devices.rst): what is allowed by default, and
//! exceptions. A rule for all devices sets the default and forgets the exceptions; another one adds an exception or,
//! where it says what the default says, takes from those before it.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::base::sys::bpf::Instruction;

/// Bits of `struct bpf_cgroup_dev_ctx`'s access.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const EVERYTHING: u32 = MKNOD | READ | WRITE;
/// Its kinds of device.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// Registers: what the program returns, a scratch register (at first the context), and what the context holds.
const RESULT: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Operations (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_NOT: u8 = 0x55;
const JUMP_IF: u8 = 0x15;
const EXIT: u8 = 0x95;

/// The devices that an exception is about; `None` is any number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Devices {
    kind: u32,
    major: Option<i32>,
    minor: Option<i32>,
}

/// Rules put in order.
#[derive(PartialEq, Eq, Debug)]
struct Policy {
    allowed: bool,
    exceptions: Vec<(Devices, u32)>,
}

/// The program that decides as `rules` say. Without any, nothing is allowed.
pub fn program(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let policy = Policy::of(rules);
    let mut program = vec![
        // The access is in the upper half of the context's first word, the kind in the lower.
        load(KIND, 0),
        register(MOVE_REGISTER, ACCESS, KIND),
        with(AND, KIND, 0xffff),
        with(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for (devices, access) in &policy.exceptions {
        program.extend(exception(*devices, *access, policy.allowed));
    }
    program.extend(answer(policy.allowed));
    program
}

impl Policy {
    fn of(rules: &[LinuxDeviceCgroup]) -> Self {
        let mut policy = Self { allowed: false, exceptions: Vec::new() };
        for rule in rules {
            match rule.typ().unwrap_or_default() {
                LinuxDeviceType::A => {
                    policy.allowed = rule.allow();
                    policy.exceptions.clear();
                }
                LinuxDeviceType::B => policy.add(rule, BLOCK),
                LinuxDeviceType::C | LinuxDeviceType::U => policy.add(rule, CHARACTER),
                // Pipes are no devices to the kernel.
                LinuxDeviceType::P => {}
            }
        }
        policy.exceptions.retain(|(_, access)| *access != 0);
        policy
    }

    fn add(&mut self, rule: &LinuxDeviceCgroup, kind: u32) {
        let (Some(major), Some(minor)) = (number(rule.major()), number(rule.minor())) else { return };
        let devices = Devices { kind, major, minor };
        let access = access(rule.access().as_deref().unwrap_or_default());
        let known = self.exceptions.iter_mut().find(|(known, _)| *known == devices);
        match known {
            Some((_, known)) if rule.allow() == self.allowed => *known &= !access,
            Some((_, known)) => *known |= access,
            None if rule.allow() == self.allowed => {}
            None => self.exceptions.push((devices, access)),
        }
    }
}

/// A device number: any if absent or negative; `None` if no device has it.
fn number(given: Option<i64>) -> Option<Option<i32>> {
    match given {
        None | Some(..0) => Some(None),
        Some(number) => i32::try_from(number).ok().map(Some),
    }
}

fn access(letters: &str) -> u32 {
    let bit = |letter| match letter {
        'm' => MKNOD,
        'r' => READ,
        'w' => WRITE,
        _ => 0,
    };
    letters.chars().map(bit).fold(0, |all, bit| all | bit)
}

/// Decides if the devices and the access are those of the exception, else goes on behind it.
///
/// An allowed exception must cover all that is asked, a refused one any part of it.
fn exception(devices: Devices, access: u32, default: bool) -> Vec<Instruction> {
    let mut tests = vec![with(JUMP_IF_NOT, KIND, devices.kind as i32)];
    tests.extend(devices.major.map(|major| with(JUMP_IF_NOT, MAJOR, major)));
    tests.extend(devices.minor.map(|minor| with(JUMP_IF_NOT, MINOR, minor)));
    if access != EVERYTHING {
        let (bits, jump) = if default { (access, JUMP_IF) } else { (EVERYTHING & !access, JUMP_IF_NOT) };
        tests.push(register(MOVE_REGISTER, SCRATCH, ACCESS));
        tests.push(with(AND, SCRATCH, bits as i32));
        tests.push(with(jump, SCRATCH, 0));
    }
    tests.extend(answer(!default));
    let end = tests.len();
    for (at, test) in tests.iter_mut().enumerate().filter(|(_, test)| is_jump(**test)) {
        // A handful of instructions.
        test.offset = (end - at - 1) as i16;
    }
    tests
}

fn is_jump(instruction: Instruction) -> bool {
    matches!(instruction.code, JUMP_IF | JUMP_IF_NOT)
}

fn answer(allowed: bool) -> [Instruction; 2] {
    [with(MOVE, RESULT, i32::from(allowed)), with(EXIT, 0, 0)]
}

fn load(target: u8, offset: i16) -> Instruction {
    Instruction { code: LOAD_WORD, registers: target | SCRATCH << 4, offset, immediate: 0 }
}

fn register(code: u8, target: u8, source: u8) -> Instruction {
    Instruction { code, registers: target | source << 4, offset: 0, immediate: 0 }
}

fn with(code: u8, target: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: target, offset: 0, immediate }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with the program, for the instructions used here.
    fn run(program: &[Instruction], kind: u32, major: u64, minor: u64, access: u32) -> bool {
        let context = [u64::from(access << 16 | kind), major, minor];
        let mut registers = [0_u64; 6];
        let mut at = 0;
        loop {
            let Instruction { code, registers: names, offset, immediate } = program[at];
            let (target, source) = (usize::from(names & 15), usize::from(names >> 4));
            let given = immediate as u64;
            at += 1;
            match code {
                LOAD_WORD => registers[target] = context[offset as usize / 4],
                MOVE => registers[target] = given,
                MOVE_REGISTER => registers[target] = registers[source],
                AND => registers[target] &= given,
                SHIFT_RIGHT => registers[target] >>= given,
                JUMP_IF if registers[target] == given => at += offset as usize,
                JUMP_IF_NOT if registers[target] != given => at += offset as usize,
                JUMP_IF | JUMP_IF_NOT => {}
                EXIT => return registers[usize::from(RESULT)] != 0,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    const USUAL: &str = r#"[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},
        {"allow":true,"type":"c","access":"m"}, {"allow":true,"type":"b","access":"m"},
        {"allow":true,"type":"c","major":136,"access":"rwm"},
        {"allow":true,"type":"b","major":8,"minor":0,"access":"r"}]"#;

    #[test]
    fn what_no_rule_allows_is_refused() {
        let program = program(&rules(USUAL));
        for (kind, major, minor, access, allowed) in [
            (CHARACTER, 1, 3, READ | WRITE, true),
            (CHARACTER, 1, 3, EVERYTHING, true),
            (CHARACTER, 1, 4, READ, false),
            (BLOCK, 1, 3, READ, false),
            (CHARACTER, 1, 4, MKNOD, true),
            (BLOCK, 254, 0, MKNOD, true),
            (BLOCK, 254, 0, READ, false),
            (CHARACTER, 136, 7, READ | WRITE, true),
            (BLOCK, 8, 0, READ, true),
            (BLOCK, 8, 0, READ | WRITE, false),
            (BLOCK, 8, 1, READ, false),
        ] {
            assert_eq!(run(&program, kind, major, minor, access), allowed, "{kind} {major}:{minor} {access}");
        }
    }

    #[test]
    fn where_all_is_allowed_a_refused_part_refuses() {
        let program = program(&rules(
            r#"[{"allow":true,"access":"rwm"}, {"allow":false,"type":"b","major":8,"access":"w"}]"#,
        ));
        assert!(run(&program, BLOCK, 8, 0, READ));
        assert!(!run(&program, BLOCK, 8, 0, READ | WRITE));
        assert!(run(&program, CHARACTER, 8, 0, WRITE));
    }

    #[test]
    fn rules_for_the_same_device_add_up_and_take_away() {
        let policy = |text| Policy::of(&rules(text));
        let added = policy(
            r#"[{"allow":true,"type":"c","major":7,"minor":1,"access":"r"},
                {"allow":true,"type":"c","major":7,"minor":1,"access":"w"}]"#,
        );
        assert_eq!(added.exceptions.iter().map(|(_, access)| *access).collect::<Vec<_>>(), [READ | WRITE]);
        let taken = policy(
            r#"[{"allow":true,"type":"c","major":7,"minor":1,"access":"rw"},
                {"allow":false,"type":"c","major":7,"minor":1,"access":"rwm"}]"#,
        );
        assert_eq!(taken.exceptions, []);
        let reset = policy(r#"[{"allow":true,"type":"c","access":"m"}, {"allow":true,"type":"a"}]"#);
        assert_eq!(reset, Policy { allowed: true, exceptions: vec![] });
    }

    #[test]
    fn numbers_that_no_device_has_make_no_rule() {
        let policy = Policy::of(&rules(r#"[{"allow":true,"type":"c","major":9999999999,"access":"r"}]"#));
        assert_eq!(policy.exceptions, []);
    }
}
