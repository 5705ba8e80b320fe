//! The systemd driver: a container's group is a transient scope, made by systemd, which then leaves it alone
//! (systemd.io/CONTROL_GROUP_INTERFACE, org.freedesktop.systemd1(5)).
//!
//! systemd is told the limits too: it writes what it knows again when it is reloaded.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::dbus::{Body, CallError, Connection, Object};
use super::limits::{Bound, Limits};

/// How long a scope of the container's last run may take to go, and a new one to get its process.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

const SYSTEMD: Object = Object {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    #[error("unable to start unit {unit:?}: {source}")]
    Start { unit: String, source: CallError },
    #[error("unable to change unit {unit:?}: {source}")]
    Change { unit: String, source: CallError },
    #[error("unable to stop unit {unit:?}: {source}")]
    Stop { unit: String, source: CallError },
    #[error("systemd did not put the container's process into {0:?}")]
    NotMoved(String),
    #[error("a cgroup below a slice is needed, not {0:?}")]
    Path(String),
}

/// A property of a unit.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Processes(Vec<u32>),
    Mask(Vec<u8>),
}

/// Changes the limits that systemd knows of the scope at `path`.
pub fn change_scope(path: &Path, limits: &Limits) -> Result<(), ScopeError> {
    let all = properties(limits);
    let Some(unit) = name(path).filter(|_| !all.is_empty()) else { return Ok(()) };
    let mut body = Body::default();
    // Not beyond the scope's own life.
    body.text(&unit).number(1).array(8, |into| write_properties(into, &all));
    let failed = |source| ScopeError::Change { unit: unit.clone(), source };
    Connection::open().map_err(failed)?.call(SYSTEMD, "SetUnitProperties", "sba(sv)", &body).map_err(failed)
}

fn name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// Makes the scope that `path` (`…/a.slice/name.scope`) names, with this process in it.
pub fn enter_scope(path: &Path, description: &str, limits: &Limits) -> Result<(), ScopeError> {
    let (Some(unit), slice) = (name(path), path.parent().and_then(name)) else {
        return Err(ScopeError::Path(path.display().to_string()));
    };
    // The root slice is at the top of the hierarchy.
    let slice = slice.unwrap_or_else(|| "-.slice".to_owned());
    let mut all = scope(description, slice, std::process::id());
    all.extend(properties(limits));
    let failed = |source| ScopeError::Start { unit: unit.clone(), source };
    start(&mut Connection::open().map_err(failed)?, &unit, &all).map_err(failed)?;
    // The answer comes when the work is queued.
    let deadline = Instant::now() + PATIENCE;
    while !is_inside(&unit) {
        if Instant::now() >= deadline {
            return Err(ScopeError::NotMoved(unit));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Has systemd end the scope at `path`, whose processes are gone. It would see by itself that the scope's group is empty,
/// but not that of a group that has been removed before it looked: then it keeps the scope as one that runs.
pub fn stop_scope(path: &Path) -> Result<(), ScopeError> {
    let Some(unit) = name(path) else { return Ok(()) };
    let mut body = Body::default();
    body.text(&unit).text("replace");
    let stopped = Connection::open().and_then(|mut systemd| systemd.call(SYSTEMD, "StopUnit", "ss", &body));
    match stopped {
        // It has seen it already.
        Err(CallError::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
        other => other.map_err(|source| ScopeError::Stop { unit, source }),
    }
}

fn start(systemd: &mut Connection, unit: &str, properties: &[(&str, Value)]) -> Result<(), CallError> {
    let mut body = Body::default();
    body.text(unit).text("replace").array(8, |all| write_properties(all, properties));
    body.array(8, |_| {});
    let deadline = Instant::now() + PATIENCE;
    loop {
        match systemd.call(SYSTEMD, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body) {
            Err(CallError::Refused { name, .. }) if name == UNIT_EXISTS && Instant::now() < deadline => {
                // That of the last run: it goes when systemd has seen that it is empty, unless it failed.
                let mut failed = Body::default();
                failed.text(unit);
                match systemd.call(SYSTEMD, "ResetFailedUnit", "s", &failed) {
                    Ok(()) | Err(CallError::Refused { .. }) => std::thread::sleep(PAUSE),
                    Err(error) => return Err(error),
                }
            }
            outcome => return outcome,
        }
    }
}

fn write_properties(all: &mut Body, properties: &[(&str, Value)]) {
    for (name, value) in properties {
        value.write(all.structure().text(name));
    }
}

fn is_inside(unit: &str) -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let systemds = own.lines().find(|line| line.starts_with("0::") || line.contains(":name=systemd:"));
    systemds.is_some_and(|line| line.ends_with(&format!("/{unit}")))
}

fn scope(description: &str, slice: String, process: u32) -> Vec<(&'static str, Value)> {
    vec![
        ("Description", Value::Text(description.to_owned())),
        ("Slice", Value::Text(slice)),
        ("PIDs", Value::Processes(vec![process])),
        // What is below the scope is the container's own.
        ("Delegate", Value::Flag(true)),
        ("MemoryAccounting", Value::Flag(true)),
        ("CPUAccounting", Value::Flag(true)),
        ("IOAccounting", Value::Flag(true)),
        ("TasksAccounting", Value::Flag(true)),
        // Containers end when the daemon says so.
        ("DefaultDependencies", Value::Flag(false)),
        // One that ended for want of memory would be kept as failed.
        ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
    ]
}

fn properties(limits: &Limits) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    for (name, bound) in [
        ("MemoryMax", limits.memory),
        ("MemoryLow", limits.memory_low),
        ("MemorySwapMax", limits.swap),
        ("TasksMax", limits.pids),
    ] {
        all.extend(bound.map(|bound| (name, Value::Number(number(bound)))));
    }
    all.extend(limits.cpu_weight.map(|weight| ("CPUWeight", Value::Number(weight))));
    if let Some(quota) = limits.cpu_quota {
        all.push(("CPUQuotaPeriodUSec", Value::Number(limits.cpu_period)));
        all.push(("CPUQuotaPerSecUSec", Value::Number(per_second(quota, limits.cpu_period))));
    }
    for (name, set) in [("AllowedCPUs", &limits.cpus), ("AllowedMemoryNodes", &limits.mems)] {
        all.extend(set.as_deref().and_then(mask).map(|mask| (name, Value::Mask(mask))));
    }
    all
}

fn number(bound: Bound) -> u64 {
    match bound {
        Bound::Unlimited => u64::MAX,
        Bound::At(value) => value,
    }
}

/// Microseconds of a second, in systemd's steps of ten milliseconds, rounded up.
fn per_second(quota: Bound, period: u64) -> u64 {
    match quota {
        Bound::Unlimited => u64::MAX,
        Bound::At(quota) => (quota.saturating_mul(1_000_000) / period.max(1)).next_multiple_of(10_000),
    }
}

/// `0-2,5` as bits, the lowest first; `None` if it is no such list, which the kernel then says.
fn mask(set: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for range in set.split(',') {
        let (first, last) = range.trim().split_once('-').unwrap_or((range.trim(), range.trim()));
        for number in first.parse::<u16>().ok()?..=last.parse::<u16>().ok()? {
            let (byte, bit) = (usize::from(number / 8), number % 8);
            mask.resize(mask.len().max(byte + 1), 0);
            mask[byte] |= 1 << bit;
        }
    }
    Some(mask)
}

impl Value {
    /// As a variant: its type, then itself.
    fn write(&self, body: &mut Body) {
        match self {
            Self::Text(text) => body.signature("s").text(text),
            Self::Flag(flag) => body.signature("b").number(u32::from(*flag)),
            Self::Number(number) => body.signature("t").long(*number),
            Self::Processes(pids) => body.signature("au").array(4, |all| {
                for pid in pids {
                    all.number(*pid);
                }
            }),
            Self::Mask(mask) => body.signature("ay").array(1, |all| {
                for byte in mask {
                    all.byte(*byte);
                }
            }),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_properties() {
        let resources = r#"{"memory":{"limit":100,"swap":-1},"pids":{"limit":5},
            "cpu":{"shares":1024,"quota":25,"period":1000,"cpus":"0-1,9"}}"#;
        let limits = Limits::of(&serde_json::from_str(resources).unwrap()).unwrap();
        let expected = [
            ("MemoryMax", Value::Number(100)),
            ("MemorySwapMax", Value::Number(u64::MAX)),
            ("TasksMax", Value::Number(5)),
            ("CPUWeight", Value::Number(100)),
            ("CPUQuotaPeriodUSec", Value::Number(1000)),
            ("CPUQuotaPerSecUSec", Value::Number(30_000)),
            ("AllowedCPUs", Value::Mask(vec![3, 2])),
        ];
        assert_eq!(properties(&limits), expected);
    }

    #[test]
    fn what_is_no_list_of_numbers_has_no_mask() {
        assert_eq!(mask("0,2-3"), Some(vec![0b1101]));
        for bad in ["", "a", "1-", "-2", "1,,2"] {
            assert_eq!(mask(bad), None, "{bad}");
        }
    }
}
