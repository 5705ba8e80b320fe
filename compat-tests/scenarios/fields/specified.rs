//! What the specification has, against what is shown.

use std::collections::BTreeSet;

use serde_json::Value;

use super::rows;

/// Fields whose effect another scenario shows, or a unit test.
const ELSEWHERE: &[(&str, &str)] = &[
    ("ContainerConfig.OpenStdin", "a_half_closed_input_reaches_the_process"),
    ("ContainerConfig.StdinOnce", "a_half_closed_input_reaches_the_process"),
    ("HostConfig.CpuRealtimePeriod", "every_limit_goes_to_its_file"),
    ("HostConfig.CpuRealtimeRuntime", "every_limit_goes_to_its_file"),
    ("ContainerUpdate.CpuRealtimePeriod", "every_limit_goes_to_its_file"),
    ("ContainerUpdate.CpuRealtimeRuntime", "every_limit_goes_to_its_file"),
    ("ContainerUpdate.NanoCpus", "limits_change_while_a_container_runs_and_stay_after_a_restart"),
    ("HostConfig.IOMaximumBandwidth", "what_only_windows_can_do_is_refused"),
    ("HostConfig.IOMaximumIOps", "what_only_windows_can_do_is_refused"),
    ("HostConfig.DeviceRequests*", "a_cdi_device_brings_all_that_its_file_says"),
    ("HostConfig.Mounts.ImageOptions*", "an_image_is_shown_for_reading_while_the_container_runs"),
    ("HostConfig.UsernsMode", "userns_host_turns_it_off_for_one_container"),
    ("ContainerExec.AttachStdin", "exec_joins_a_running_container"),
    ("ContainerExec.DetachKeys", "detach_keys_leave_an_exec_running"),
    ("ExecStart.Detach", "a_detached_exec_is_inspected_until_it_ends"),
    ("NetworkingConfig.EndpointsConfig.Links", "a_linked_container_is_known_by_its_alias"),
];

/// Fields that change nothing, on dockerd neither.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("ContainerConfig.ArgsEscaped", "Windows only"),
    ("ContainerConfig.AttachStdin", "kept for clients; the attach request decides"),
    ("ContainerConfig.AttachStdout", "kept for clients; the attach request decides"),
    ("ContainerConfig.AttachStderr", "kept for clients; the attach request decides"),
    ("HostConfig.ContainerIDFile", "written by the client; kept for inspect"),
    ("HostConfig.CpuCount", "Windows only"),
    ("HostConfig.CpuPercent", "Windows only: discarded with a warning"),
    ("HostConfig.Cgroup", "of an older design; kept for inspect"),
    ("NetworkingConfig.EndpointsConfig.DNSNames", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.EndpointID", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.Gateway", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.GlobalIPv6Address", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.GlobalIPv6PrefixLen", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.IPAddress", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.IPPrefixLen", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.IPv6Gateway", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.NetworkID", "of answers only"),
    ("ContainerUpdate.CgroupParent", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.CpuCount", "Windows only"),
    ("ContainerUpdate.CpuPercent", "Windows only"),
    ("ContainerUpdate.DeviceCgroupRules", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.DeviceRequests*", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.Devices*", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.IOMaximumBandwidth", "Windows only"),
    ("ContainerUpdate.IOMaximumIOps", "Windows only"),
    ("ContainerUpdate.Init", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.MemorySwappiness", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.OomKillDisable", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.Ulimits*", "an update changes limits and the restart policy only"),
];

fn walk(definitions: &Value, shape: &Value, at: &str, found: &mut BTreeSet<String>) {
    let shape = shape.as_array().and_then(|shapes| shapes.last()).unwrap_or(shape);
    if let Some(name) = shape["ref"].as_str() {
        return walk(definitions, &definitions[name], at, found);
    }
    shape["all"].as_array().into_iter().flatten().for_each(|part| walk(definitions, part, at, found));
    for (name, shapes) in shape["fields"].as_object().into_iter().flatten() {
        let newest = shapes.as_array().and_then(|shapes| shapes.last()).unwrap_or(shapes);
        if newest.get("until").is_none() {
            let place = format!("{at}.{name}");
            walk(definitions, shapes, &place, found);
            found.insert(place);
        }
    }
    ["items", "values"]
        .iter()
        .filter_map(|key| shape.get(key))
        .for_each(|part| walk(definitions, part, at, found));
}

/// Every field that the newest specification has for containers and execs.
fn specified() -> BTreeSet<String> {
    let facts: Value = serde_json::from_str(include_str!("../../../api-spec/engine-api.json")).unwrap();
    let definitions = &facts["definitions"];
    let body = |id: &str| {
        let mut operations = facts["operations"].as_array().unwrap().iter();
        operations.find(|operation| operation["id"] == id).unwrap()["body"].clone()
    };
    let mut found = BTreeSet::new();
    for name in ["ContainerConfig", "HostConfig", "NetworkingConfig"] {
        walk(definitions, &definitions[name], name, &mut found);
    }
    for id in ["ContainerUpdate", "ContainerExec", "ExecStart"] {
        walk(definitions, &body(id), id, &mut found);
    }
    found
}

#[test]
fn every_field_has_an_effect_or_a_reason() {
    let rows = rows();
    let shown = rows.iter().flat_map(|row| row.fields.split_whitespace());
    let listed = [ELSEWHERE, WITHOUT_EFFECT].into_iter().flatten().map(|(field, _)| *field);
    let known: Vec<&str> = shown.chain(listed).collect();
    let covers = |known: &str, field: &str| match known.strip_suffix('*') {
        Some(start) => field.starts_with(start),
        // The rate and the device of a limit go with it.
        None => field == known || (known.contains("BlkioDevice") && field.starts_with(known)),
    };
    let specified = specified();
    let silent: Vec<_> =
        specified.iter().filter(|field| !known.iter().any(|known| covers(known, field))).collect();
    assert!(silent.is_empty(), "neither shown nor listed: {silent:#?}");
    let unknown: Vec<_> =
        known.iter().filter(|known| !specified.iter().any(|field| covers(known, field))).collect();
    assert!(unknown.is_empty(), "not in the specification: {unknown:#?}");
}

#[test]
fn what_is_said_to_be_shown_elsewhere_is() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = String::new();
    for folder in ["compat-tests/scenarios", "src/shim/cgroup"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                texts.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    for (field, test) in ELSEWHERE {
        let declared = [format!("scenario!({test},"), format!("fn {test}("), format!("    {test},\n")];
        assert!(declared.iter().any(|text| texts.contains(text)), "{field}: there is no {test}");
    }
}

// dockerd 20.10 answers with 500, newer ones with 400.
