//! What devices change of a specification that is otherwise done (Container Device Interface, SPEC.md).

use serde_json::{Value, json};

use crate::container::cdi::{DeviceNode, Edits, Hook, IntelRdt, Mount};

/// Applies the edits as the CDI library does: what is there already of the same name or at the same place is replaced.
pub(super) fn apply(spec: &mut Value, edits: &Edits) {
    for entry in &edits.env {
        set_variable(list(&mut spec["process"]["env"]), entry);
    }
    for node in &edits.device_nodes {
        add_device(spec, node);
    }
    for device in &edits.net_devices {
        spec["linux"]["netDevices"][&device.host_interface_name] = json!({ "name": device.name });
    }
    for mount in &edits.mounts {
        let mounts = list(&mut spec["mounts"]);
        mounts.retain(|other| other["destination"] != json!(mount.container_path));
        mounts.push(mount_of(mount));
    }
    if !edits.mounts.is_empty() {
        let depth = |mount: &Value| {
            let path = mount["destination"].as_str().unwrap_or_default();
            path.split('/').filter(|part| !part.is_empty()).count()
        };
        list(&mut spec["mounts"]).sort_by_key(depth);
    }
    for hook in &edits.hooks {
        list(&mut spec["hooks"][&hook.hook_name]).push(hook_of(hook));
    }
    if let Some(rdt) = &edits.intel_rdt {
        spec["linux"]["intelRdt"] = intel_rdt(rdt);
    }
    let groups = list(&mut spec["process"]["user"]["additionalGids"]);
    for group in edits.additional_gids.iter().filter(|group| **group != 0).map(|group| json!(group)) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
}

/// The list that is there, or a new one.
fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("it is an array by now")
}

fn set_variable(env: &mut Vec<Value>, entry: &str) {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    match env.iter_mut().find(|other| name(other.as_str().unwrap_or_default()) == name(entry)) {
        Some(other) => *other = json!(entry),
        None => env.push(json!(entry)),
    }
}

/// A node without an owner is the container's user's.
fn add_device(spec: &mut Value, node: &DeviceNode) {
    let user = |id: &str| spec["process"]["user"][id].as_u64().filter(|id| *id > 0);
    let mut device =
        json!({ "path": node.path, "type": node.kind, "major": node.major, "minor": node.minor });
    let owner = [
        ("fileMode", node.file_mode.map(u64::from)),
        ("uid", node.uid.map(u64::from).or(user("uid"))),
        ("gid", node.gid.map(u64::from).or(user("gid"))),
    ];
    for (key, value) in owner {
        if let Some(value) = value {
            device[key] = json!(value);
        }
    }
    let devices = list(&mut spec["linux"]["devices"]);
    devices.retain(|other| other["path"] != json!(node.path));
    devices.push(device);
    let access = match node.permissions.as_str() {
        "" => "rwm",
        "none" => "",
        some => some,
    };
    if matches!(node.kind.as_str(), "b" | "c") && !access.is_empty() {
        list(&mut spec["linux"]["resources"]["devices"]).push(json!({
            "allow": true, "type": node.kind, "major": node.major, "minor": node.minor, "access": access,
        }));
    }
}

fn mount_of(mount: &Mount) -> Value {
    let binds = mount.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"));
    let mut value = json!({
        "destination": mount.container_path, "source": mount.host_path, "options": mount.options,
    });
    // To the runtime a bind's type means nothing, to us that its source may be a file.
    match mount.kind.as_str() {
        "" if binds => value["type"] = json!("bind"),
        "" => {}
        kind => value["type"] = json!(kind),
    }
    value
}

fn hook_of(hook: &Hook) -> Value {
    let mut value = json!({ "path": hook.path });
    for (key, words) in [("args", &hook.args), ("env", &hook.env)] {
        if !words.is_empty() {
            value[key] = json!(words);
        }
    }
    if let Some(seconds) = hook.timeout {
        value["timeout"] = json!(seconds);
    }
    value
}

fn intel_rdt(rdt: &IntelRdt) -> Value {
    let mut value = json!({});
    let texts = [
        ("closID", &rdt.clos_id),
        ("l3CacheSchema", &rdt.l3_cache_schema),
        ("memBwSchema", &rdt.mem_bw_schema),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        value[key] = json!(text);
    }
    if !rdt.schemata.is_empty() {
        value["schemata"] = json!(rdt.schemata);
    }
    let switches = [
        ("enableCMT", rdt.enable_cmt),
        ("enableMBM", rdt.enable_mbm),
        ("enableMonitoring", rdt.enable_monitoring),
    ];
    for (key, _) in switches.into_iter().filter(|(_, on)| *on) {
        value[key] = json!(true);
    }
    value
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Spec;

    use super::*;

    fn edited(edits: Value) -> Value {
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "env": ["PATH=/bin", "A=old"],
                        "user": {"uid": 7, "gid": 0, "additionalGids": [0, 5]}},
            "mounts": [{"destination": "/dev", "type": "tmpfs"}, {"destination": "/a/b", "type": "bind"}],
            "linux": {"devices": [{"path": "/dev/x", "type": "b", "major": 9, "minor": 9}]},
        });
        apply(&mut spec, &serde_json::from_value(edits).unwrap());
        serde_json::from_value::<Spec>(spec.clone()).expect("the runtime understands it");
        spec
    }

    #[test]
    fn nothing_to_edit_changes_nothing_but_what_is_not_there() {
        let spec = edited(json!({}));
        assert_eq!(spec["mounts"].as_array().unwrap().len(), 2);
        assert_eq!(spec.get("hooks"), None);
    }

    #[test]
    fn variables_and_groups_are_set_once() {
        let spec = edited(json!({"env": ["A=new", "B=1"], "additionalGids": [5, 0, 44]}));
        assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "A=new", "B=1"]));
        assert_eq!(spec["process"]["user"]["additionalGids"], json!([0, 5, 44]));
    }

    #[test]
    fn a_device_takes_the_place_of_one_at_its_path_and_is_allowed() {
        let node = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "permissions": "rw"});
        let fifo = json!({"path": "/dev/p", "type": "p", "uid": 0});
        let hidden = json!({"path": "/dev/n", "type": "c", "major": 1, "minor": 5, "permissions": "none"});
        let spec = edited(json!({"deviceNodes": [node, fifo, hidden]}));
        let expected = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": 7});
        assert_eq!(spec["linux"]["devices"][0], expected);
        assert_eq!(spec["linux"]["devices"][1]["uid"], 0);
        let allowed = json!([{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}]);
        assert_eq!(spec["linux"]["resources"]["devices"], allowed);
    }

    #[test]
    fn mounts_are_replaced_and_come_after_those_they_lie_in() {
        let bind = json!({"hostPath": "/h", "containerPath": "/a/b", "options": ["ro", "rbind"]});
        let tmpfs = json!({"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs"});
        let spec = edited(json!({"mounts": [bind, tmpfs]}));
        let expected = json!([
            {"destination": "/dev", "type": "tmpfs"},
            {"destination": "/t", "source": "tmpfs", "options": [], "type": "tmpfs"},
            {"destination": "/a/b", "source": "/h", "options": ["ro", "rbind"], "type": "bind"},
        ]);
        assert_eq!(spec["mounts"], expected);
    }

    #[test]
    fn hooks_go_to_their_step_and_the_rest_where_it_belongs() {
        let hook = json!({"hookName": "createContainer", "path": "/h", "args": ["h", "x"], "timeout": 3});
        let net = json!({"hostInterfaceName": "eth5", "name": "net0"});
        let rdt = json!({"closID": "gold", "enableMonitoring": true});
        let spec = edited(json!({"hooks": [hook], "netDevices": [net], "intelRdt": rdt}));
        let expected = json!({"createContainer": [{"path": "/h", "args": ["h", "x"], "timeout": 3}]});
        assert_eq!(spec["hooks"], expected);
        assert_eq!(spec["linux"]["netDevices"], json!({"eth5": {"name": "net0"}}));
        assert_eq!(spec["linux"]["intelRdt"], rdt);
    }
}
