//! Devices in a container: those that every container has are made by the runtime; these are the user's.

use serde_json::{Value, json};

use super::{SpecError, SpecInput};

/// A device node of the host that goes into a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostDevice {
    /// On the host.
    pub source: String,
    /// In the container.
    pub path: String,
    pub kind: DeviceKind,
    pub major: u64,
    pub minor: u64,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Some of `r`, `w`, `m`.
    pub access: String,
}

/// What a device node leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceKind {
    Block,
    Character,
}

impl DeviceKind {
    fn letter(self) -> &'static str {
        match self {
            Self::Block => "b",
            Self::Character => "c",
        }
    }
}

/// Character devices that every container may use: null, zero, full, random, urandom, tty, console.
const USUAL: [(u64, u64); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1)];

/// Those that the runtime makes: in a user namespace nobody may, so the host's are mounted there.
pub(super) fn list(input: &SpecInput<'_>) -> Vec<Value> {
    if input.userns.is_some() {
        return Vec::new();
    }
    let json = |device: &HostDevice| {
        json!({ "path": device.path, "type": device.kind.letter(), "major": device.major, "minor": device.minor,
                "fileMode": device.mode, "uid": device.uid, "gid": device.gid })
    };
    input.devices.iter().map(json).collect()
}

/// Access rules of the devices cgroup, the last match wins: nothing, then what is needed.
pub(super) fn rules(input: &SpecInput<'_>) -> Result<Vec<Value>, SpecError> {
    let host_config = &input.record.host_config;
    if host_config.privileged {
        return Ok(vec![json!({ "allow": true, "access": "rwm" })]);
    }
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules.extend(USUAL.map(|(major, minor)| allow("c", major as i64, minor as i64, "rwm")));
    // Nodes may be made of any device; only using them is refused.
    rules.extend(["c", "b"].map(|kind| json!({ "allow": true, "type": kind, "access": "m" })));
    rules.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
    rules.push(allow("c", 5, 2, "rwm"));
    let own = input.devices.iter();
    rules.extend(own.map(|d| allow(d.kind.letter(), d.major as i64, d.minor as i64, &d.access)));
    for rule in host_config.device_cgroup_rules.iter().flatten() {
        rules.push(parse_rule(rule).ok_or_else(|| SpecError::DeviceRule(rule.clone()))?);
    }
    Ok(rules)
}

fn allow(kind: &str, major: i64, minor: i64, access: &str) -> Value {
    json!({ "allow": true, "type": kind, "major": major, "minor": minor, "access": access })
}

/// `c 1:3 rwm`, `b *:* r`, `a 7:* w`.
fn parse_rule(rule: &str) -> Option<Value> {
    let mut words = rule.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let known = matches!(kind, "a" | "b" | "c") && (1..=3).contains(&access.len());
    if !known || words.next().is_some() || access.chars().any(|letter| !"rwm".contains(letter)) {
        return None;
    }
    // Rust's own parser takes a sign too.
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| match text {
        "*" => Some(-1),
        text => text.parse::<u32>().ok().filter(|_| digits(text)).map(i64::from),
    };
    let mut value = json!({ "allow": true, "type": kind, "access": access });
    for (key, number) in [("major", number(major)?), ("minor", number(minor)?)] {
        if number >= 0 {
            value[key] = json!(number);
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_or_refused() {
        assert_eq!(parse_rule("c 1:3 rwm").unwrap()["minor"], 3);
        assert_eq!(parse_rule("b *:7 r").unwrap().get("major"), None);
        for bad in
            ["", "c", "c 1 rwm", "x 1:3 rwm", "c 1:3 rwx", "c 1:3 rwm r", "c a:3 r", "c 1:3 ", "c +1:3 r"]
        {
            assert!(parse_rule(bad).is_none(), "{bad}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        // daemon/pkg/opts of moby, deviceCgroupRuleRegex.
        #[test]
        fn rules_are_those_that_dockerd_takes(
            rule in "[abcx] ?([0-9]{1,3}|\\*|[+]1|):?([0-9]{1,3}|\\*|-1) [rwmx]{0,4} ?",
        ) {
            let known = Regex::new(r"^[acb] (?:[0-9]+|\*):(?:[0-9]+|\*) [rwm]{1,3}$").unwrap();
            prop_assert_eq!(parse_rule(&rule).is_some(), known.is_match(&rule), "{}", rule);
        }
    }
}
