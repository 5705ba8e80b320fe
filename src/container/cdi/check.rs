//! What a CDI specification may say.

use super::name;
use super::spec::{DeviceNode, Edits, Hook, IntelRdt, Mount, SpecFile};

/// A specification that is not valid; the texts are those of the CDI library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("invalid version {0:?}")]
    Version(String),
    #[error("the spec version must be at least v{0}")]
    TooOld(&'static str),
    #[error(transparent)]
    Name(#[from] name::NameError),
    #[error("failed add device {name:?}: {source}")]
    Device { name: String, source: Box<Invalid> },
    #[error("invalid device, empty device edits")]
    NoEdits,
    #[error("invalid spec, multiple device {0:?}")]
    Twice(String),
    #[error("invalid spec, no devices")]
    NoDevices,
    #[error("invalid container edits: {0}")]
    Env(EnvError),
    #[error("invalid (empty) device path")]
    NodePath,
    #[error("device {0:?}: invalid type {1:?}")]
    NodeType(String, String),
    #[error("device {path:?}: invalid (negative) device number {major}:{minor}")]
    NodeNumber { path: String, major: i64, minor: i64 },
    #[error("device {0:?}: invalid permissions {1:?}")]
    Permissions(String, String),
    #[error("invalid hook name {0:?}")]
    HookName(String),
    #[error("invalid hook {0:?} with empty path")]
    HookPath(String),
    #[error("invalid hook {0:?}: {1}")]
    HookEnv(String, EnvError),
    #[error("invalid mount, empty host path")]
    MountSource,
    #[error("invalid mount, empty container path")]
    MountTarget,
    #[error("invalid ClosID")]
    ClosId,
    #[error("invalid linux net device, empty {0}")]
    NetDevice(&'static str),
}

/// A variable without a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid environment variable {0:?}")]
pub struct EnvError(String);

/// Hooks that runtimes know.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Versions of the specification, oldest first.
const VERSIONS: [&str; 10] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// Checks a whole file.
pub fn check(spec: &SpecFile) -> Result<(), Invalid> {
    let version = spec.cdi_version.trim_start_matches('v');
    let rank = |wanted: &str| VERSIONS.iter().position(|known| *known == wanted);
    let given = rank(version).ok_or_else(|| Invalid::Version(spec.cdi_version.clone()))?;
    let needed = needed(spec);
    if rank(needed) > Some(given) {
        return Err(Invalid::TooOld(needed));
    }
    name::check_kind(&spec.kind)?;
    edits(&spec.container_edits)?;
    for (number, device) in spec.devices.iter().enumerate() {
        let checked = name::check_device(&device.name).map_err(Invalid::from);
        let checked = checked.and_then(|()| match device.container_edits == Edits::default() {
            true => Err(Invalid::NoEdits),
            false => edits(&device.container_edits),
        });
        checked.map_err(|source| Invalid::Device { name: device.name.clone(), source: Box::new(source) })?;
        if spec.devices[..number].iter().any(|other| other.name == device.name) {
            return Err(Invalid::Twice(device.name.clone()));
        }
    }
    if spec.devices.is_empty() { Err(Invalid::NoDevices) } else { Ok(()) }
}

/// The oldest version that has what the file uses.
fn needed(spec: &SpecFile) -> &'static str {
    let all = || spec.devices.iter().map(|device| &device.container_edits).chain([&spec.container_edits]);
    let rdt = |rdt: &IntelRdt| !rdt.schemata.is_empty() || rdt.enable_monitoring;
    let annotated =
        !spec.annotations.is_empty() || spec.devices.iter().any(|device| !device.annotations.is_empty());
    let digit = |name: &str| name.starts_with(|c: char| !c.is_ascii_alphabetic());
    match () {
        () if all().any(|e| !e.net_devices.is_empty() || e.intel_rdt.as_ref().is_some_and(rdt)) => "1.1.0",
        () if all().any(|e| e.intel_rdt.is_some() || !e.additional_gids.is_empty()) => "0.7.0",
        () if annotated || name::split_kind(&spec.kind).1.contains('.') => "0.6.0",
        () if spec.devices.iter().any(|device| digit(&device.name)) => "0.5.0",
        () if all().any(|e| e.device_nodes.iter().any(|node| !node.host_path.is_empty())) => "0.5.0",
        () if all().any(|e| e.mounts.iter().any(|mount| !mount.kind.is_empty())) => "0.4.0",
        () => "0.3.0",
    }
}

fn edits(edits: &Edits) -> Result<(), Invalid> {
    environment(&edits.env).map_err(Invalid::Env)?;
    edits.device_nodes.iter().try_for_each(node)?;
    edits.hooks.iter().try_for_each(hook)?;
    edits.mounts.iter().try_for_each(mount)?;
    edits.intel_rdt.iter().try_for_each(intel_rdt)?;
    edits.net_devices.iter().try_for_each(|device| match () {
        () if device.host_interface_name.is_empty() => Err(Invalid::NetDevice("HostInterfaceName")),
        () if device.name.is_empty() => Err(Invalid::NetDevice("Name")),
        () => Ok(()),
    })
}

fn environment(env: &[String]) -> Result<(), EnvError> {
    let nameless = |entry: &&String| entry.find('=').is_none_or(|at| at == 0);
    env.iter().find(nameless).map_or(Ok(()), |entry| Err(EnvError(entry.clone())))
}

fn node(node: &DeviceNode) -> Result<(), Invalid> {
    let path = || node.path.clone();
    if node.path.is_empty() {
        return Err(Invalid::NodePath);
    }
    if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
        return Err(Invalid::NodeType(path(), node.kind.clone()));
    }
    if node.major < 0 || node.minor < 0 {
        return Err(Invalid::NodeNumber { path: path(), major: node.major, minor: node.minor });
    }
    if node.permissions != "none" && node.permissions.contains(|c| !"rwm".contains(c)) {
        return Err(Invalid::Permissions(path(), node.permissions.clone()));
    }
    Ok(())
}

fn hook(hook: &Hook) -> Result<(), Invalid> {
    if !HOOKS.contains(&hook.hook_name.as_str()) {
        return Err(Invalid::HookName(hook.hook_name.clone()));
    }
    if hook.path.is_empty() {
        return Err(Invalid::HookPath(hook.hook_name.clone()));
    }
    environment(&hook.env).map_err(|error| Invalid::HookEnv(hook.hook_name.clone(), error))
}

fn mount(mount: &Mount) -> Result<(), Invalid> {
    match () {
        () if mount.host_path.is_empty() => Err(Invalid::MountSource),
        () if mount.container_path.is_empty() => Err(Invalid::MountTarget),
        () => Ok(()),
    }
}

/// It is the name of a directory.
fn intel_rdt(rdt: &IntelRdt) -> Result<(), Invalid> {
    match rdt.clos_id.as_str() {
        "/" => Ok(()),
        id if id.len() >= 4096 || matches!(id, "." | "..") || id.contains(['/', '\n']) => {
            Err(Invalid::ClosId)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(change: impl FnOnce(&mut Value)) -> Result<(), String> {
        let mut spec = json!({
            "cdiVersion": "0.3.0", "kind": "vendor.com/class",
            "devices": [{"name": "dev", "containerEdits": {"env": ["A=1"]}}],
        });
        change(&mut spec);
        let spec: SpecFile = serde_json::from_value(spec).unwrap();
        check(&spec).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_valid_or_told_why_not() {
        assert_eq!(checked(|_| {}), Ok(()));
        assert_eq!(checked(|spec| spec["cdiVersion"] = json!("v0.8.0")), Ok(()));
        let edits = |key: &'static str, value: Value| {
            checked(move |spec| {
                spec["cdiVersion"] = json!("1.1.0");
                spec["containerEdits"] = json!({ key: value });
            })
        };
        assert_eq!(edits("mounts", json!([{"hostPath": "/a", "containerPath": "/b"}])), Ok(()));
        for (result, why) in [
            (checked(|spec| spec["cdiVersion"] = json!("9.9.9")), "invalid version \"9.9.9\""),
            (checked(|spec| spec["cdiVersion"] = Value::Null), "invalid version \"\""),
            (checked(|spec| spec["kind"] = json!("vendor")), "invalid vendor. empty name"),
            (checked(|spec| spec["devices"] = json!([])), "invalid spec, no devices"),
            (
                checked(|spec| spec["devices"][0]["containerEdits"] = json!({})),
                "failed add device \"dev\": invalid device, empty device edits",
            ),
            (
                checked(|spec| {
                    let device = spec["devices"][0].clone();
                    spec["devices"] = json!([device, device]);
                }),
                "invalid spec, multiple device \"dev\"",
            ),
            (edits("env", json!(["A"])), "invalid container edits: invalid environment variable \"A\""),
            (edits("deviceNodes", json!([{}])), "invalid (empty) device path"),
            (edits("deviceNodes", json!([{"path": "/x", "type": "z"}])), "device \"/x\": invalid type \"z\""),
            (
                edits("deviceNodes", json!([{"path": "/x", "major": -1}])),
                "device \"/x\": invalid (negative) device number -1:0",
            ),
            (
                edits("deviceNodes", json!([{"path": "/x", "permissions": "rx"}])),
                "device \"/x\": invalid permissions \"rx\"",
            ),
            (edits("hooks", json!([{"hookName": "x", "path": "/x"}])), "invalid hook name \"x\""),
            (edits("hooks", json!([{"hookName": "poststop"}])), "invalid hook \"poststop\" with empty path"),
            (edits("mounts", json!([{"containerPath": "/b"}])), "invalid mount, empty host path"),
            (edits("intelRdt", json!({"closID": "../x"})), "invalid ClosID"),
        ] {
            assert_eq!(result.unwrap_err(), why);
        }
    }

    #[test]
    fn a_file_must_be_of_a_version_that_has_what_it_uses() {
        let with = |key: &'static str, value: Value| {
            checked(move |spec| spec["containerEdits"] = json!({ key: value })).unwrap_err()
        };
        let at_least = |version: &str| format!("the spec version must be at least v{version}");
        let net = json!([{"hostInterfaceName": "a", "name": "b"}]);
        assert_eq!(with("netDevices", net), at_least("1.1.0"));
        assert_eq!(with("additionalGids", json!([5])), at_least("0.7.0"));
        assert_eq!(with("deviceNodes", json!([{"path": "/x", "hostPath": "/y"}])), at_least("0.5.0"));
        let mount = json!([{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]);
        assert_eq!(with("mounts", mount), at_least("0.4.0"));
        assert_eq!(checked(|spec| spec["devices"][0]["name"] = json!("0")).unwrap_err(), at_least("0.5.0"));
        assert_eq!(checked(|spec| spec["kind"] = json!("v/c.d")).unwrap_err(), at_least("0.6.0"));
    }
}
