//! Everything that dockerd refuses or warns of when a container is created, in its words.

use std::collections::BTreeMap;

use super::limits::{self, Occasion};
use super::{CreateDefaults, Invalid};
use crate::base::host::Host;
use crate::base::signal;
use crate::container::config::{ContainerConfig, HealthConfig};
use crate::container::host_config::HostConfig;
use crate::container::oci_spec::{self, bounding_set};
use crate::logs::options as log_options;
use crate::network::{EndpointSettings, HostPorts};

/// The longest host name (utsname(2)).
const LONGEST_HOSTNAME: usize = 64;
/// Nanoseconds: probes are not scheduled finer.
const LEAST_DURATION: i64 = 1_000_000;

pub(super) type Checked = Result<(), Invalid>;

pub(super) fn config(config: &ContainerConfig) -> Checked {
    if config.hostname.len() > LONGEST_HOSTNAME {
        return refuse(format!(
            "invalid hostname '{}': cannot be longer than 64 characters",
            config.hostname
        ));
    }
    if let Some(entry) = config.env.iter().flatten().find(|entry| entry.is_empty() || entry.starts_with('='))
    {
        return refuse(format!("invalid environment variable: {entry}"));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        let path = &config.working_dir;
        return refuse(format!("the working directory '{path}' is invalid, it needs to be an absolute path"));
    }
    match config.stop_signal.as_deref() {
        Some(name) if !name.is_empty() && signal::parse(name).is_none() => {
            return refuse(format!("invalid signal: {name}"));
        }
        _ => {}
    }
    config.healthcheck.as_ref().map_or(Ok(()), probe)
}

fn probe(probe: &HealthConfig) -> Checked {
    for (name, value) in [
        ("Interval", probe.interval),
        ("Timeout", probe.timeout),
        ("StartPeriod", probe.start_period),
        ("StartInterval", probe.start_interval),
    ] {
        if value != 0 && value < LEAST_DURATION {
            return refuse(format!("{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    match probe.retries < 0 {
        true => refuse("Retries in Healthcheck cannot be negative"),
        false => Ok(()),
    }
}

pub(super) fn host_config(
    host_config: &mut HostConfig,
    defaults: &CreateDefaults,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Checked {
    restart_policy(host_config)?;
    limits::check(host_config, host, Occasion::Create, warnings)?;
    modes(host_config)?;
    user_namespace(host_config, defaults)?;
    if host_config.shm_size < 0 {
        return refuse("SHM size can not be less than 0");
    }
    if !(-1000..=1000).contains(&host_config.oom_score_adj) {
        let value = host_config.oom_score_adj;
        return refuse(format!("Invalid value {value}, range for oom score adj is [-1000, 1000]"));
    }
    // Zero and less mean no limit, which is told as none.
    host_config.pids_limit = host_config.pids_limit.filter(|limit| *limit > 0);
    for options in host_config.tmpfs.values() {
        if let Some(bad) = options.split(',').find(|option| !is_tmpfs_option(option)) {
            return refuse(format!("invalid tmpfs option [{bad:?}]"));
        }
    }
    bounding_set(host_config).map_err(|error| Invalid::new(error.to_string()))?;
    if !defaults.runtimes.contains(&host_config.runtime) {
        return refuse(format!("unknown or invalid runtime name: {}", host_config.runtime));
    }
    if !matches!(host_config.isolation.as_str(), "" | "default") {
        return refuse(format!("invalid isolation '{}' on linux", host_config.isolation));
    }
    if defaults.systemd_cgroup
        && !host_config.cgroup_parent.is_empty()
        && !host_config.cgroup_parent.ends_with(".slice")
    {
        return refuse("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"");
    }
    oci_spec::check_security_options(host_config).map_err(|error| Invalid::new(error.to_string()))?;
    let bindings = host_config.port_bindings.values().flatten().flatten();
    for port in bindings.map(|binding| binding.host_port.as_str()) {
        port.parse::<HostPorts>().map_err(|error| Invalid::new(error.to_string()))?;
    }
    log_options::validate(&host_config.log_config.driver, &host_config.log_config.options)
        .map_err(|error| Invalid::new(error.to_string()))?;
    host_config.extra_hosts.iter().flatten().try_for_each(|entry| extra_host(entry))?;
    if let Some(key) = host_config.annotations.keys().find(|key| key.is_empty()) {
        return refuse(format!(
            "invalid Annotations: the empty string is not permitted as an annotation key{key}"
        ));
    }
    sysctls(host_config)
}

/// Flags of mount(2) by their names in mount(8), and the options of tmpfs(5) that make sense here.
fn is_tmpfs_option(option: &str) -> bool {
    const FLAGS: [&str; 24] = [
        "",
        "async",
        "atime",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "mand",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nomand",
        "norelatime",
        "nosuid",
        "relatime",
        "ro",
        "rw",
        "strictatime",
        "suid",
        "sync",
    ];
    const VALUES: [&str; 7] = ["gid", "mode", "mpol", "nr_blocks", "nr_inodes", "size", "uid"];
    match option.split_once('=') {
        Some((name, _)) => VALUES.contains(&name),
        None => FLAGS.contains(&option),
    }
}

pub(in crate::container) fn restart_policy(host_config: &HostConfig) -> Checked {
    let policy = &host_config.restart_policy;
    match policy.name.as_str() {
        "no" | "always" | "unless-stopped" | "on-failure" => {}
        other => {
            return refuse(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            ));
        }
    }
    if policy.maximum_retry_count != 0 && policy.name != "on-failure" {
        return refuse("invalid restart policy: maximum retry count can only be used with 'on-failure'");
    }
    if policy.maximum_retry_count < 0 {
        return refuse("invalid restart policy: maximum retry count cannot be negative");
    }
    match host_config.auto_remove && policy.name != "no" {
        true => refuse("can't create 'AutoRemove' container with restart policy"),
        false => Ok(()),
    }
}

fn modes(host_config: &HostConfig) -> Checked {
    let of_container = |mode: &str| mode.strip_prefix("container:").is_some_and(|target| !target.is_empty());
    let ipc = host_config.ipc_mode.as_str();
    if !matches!(ipc, "" | "none" | "private" | "host" | "shareable") && !of_container(ipc) {
        return refuse(format!("invalid IPC mode: {ipc}"));
    }
    let pid = host_config.pid_mode.as_str();
    if !matches!(pid, "" | "host") && !of_container(pid) {
        return refuse(format!("invalid PID mode: {pid}"));
    }
    if !matches!(host_config.uts_mode.as_str(), "" | "host") {
        return refuse(format!("invalid UTS mode: {}", host_config.uts_mode));
    }
    if !matches!(host_config.userns_mode.as_str(), "" | "host") {
        return refuse(format!("invalid user namespace mode: {}", host_config.userns_mode));
    }
    match host_config.cgroupns_mode.as_str() {
        "" | "host" | "private" => Ok(()),
        other => refuse(format!("invalid cgroup namespace mode: {other}")),
    }
}

/// What the host's namespaces would give to a container whose root is nobody there.
fn user_namespace(host_config: &HostConfig, defaults: &CreateDefaults) -> Checked {
    if !defaults.remapped || host_config.userns_mode == "host" {
        return Ok(());
    }
    for (conflict, message) in [
        (
            host_config.privileged,
            "privileged mode is incompatible with user namespaces.  You must run the container in the host \
             namespace when running privileged mode",
        ),
        (
            host_config.network_mode == "host",
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            host_config.pid_mode == "host",
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ] {
        if conflict {
            return refuse(message);
        }
    }
    Ok(())
}

fn sysctls(host_config: &HostConfig) -> Checked {
    match host_config.sysctls.keys().find(|key| key.is_empty()) {
        Some(_) => refuse("sysctl '' is not allowed"),
        None => Ok(()),
    }
}

/// What a network mode does not go together with.
pub(super) fn network(
    host_config: &mut HostConfig,
    config: &ContainerConfig,
    warnings: &mut Vec<String>,
) -> Checked {
    let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let mode = host_config.network_mode.clone();
    if mode == "host" && given(&host_config.links) {
        return refuse(
            "conflicting options: host type networking can't be used with links. This would result in \
                       undefined behavior",
        );
    }
    if let Some(target) = mode.strip_prefix("container:") {
        if target.is_empty() {
            return refuse("invalid container format container:<name|id>");
        }
        for (conflict, what) in [
            (!config.hostname.is_empty(), "hostname and the network mode"),
            (
                given(&host_config.links),
                "container type network can't be used with links. This would result in undefined behavior",
            ),
            (given(&host_config.dns), "dns and the network mode"),
            (given(&host_config.extra_hosts), "custom host-to-IP mapping and the network mode"),
            (
                !host_config.port_bindings.is_empty() || host_config.publish_all_ports,
                "port publishing and the container type network mode",
            ),
            (!config.exposed_ports.is_empty(), "port exposing and the container type network mode"),
        ] {
            if conflict {
                return refuse(format!("conflicting options: {what}"));
            }
        }
    }
    if host_config.uts_mode == "host" && !config.hostname.is_empty() {
        return refuse("conflicting options: hostname and the UTS mode");
    }
    if mode == "host" && !host_config.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(())
}

pub(super) fn endpoints(endpoints: &BTreeMap<String, EndpointSettings>, host_config: &HostConfig) -> Checked {
    let predefined = |name: &str| matches!(name, "bridge" | "default" | "host" | "none");
    for (network, settings) in endpoints.iter().filter(|(name, _)| predefined(name)) {
        let mut problems = Vec::new();
        if settings.ipam.as_ref().is_some_and(|ipam| ipam.ipv4.is_some() || ipam.ipv6.is_some()) {
            problems.push("user-specified IP address is supported on user-defined networks only");
        }
        if settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
            problems.push("network-scoped aliases are only supported for user-defined networks");
        }
        if !problems.is_empty() {
            let network = if network == "default" { &host_config.network_mode } else { network };
            let list: String = problems.iter().map(|problem| format!("\n* {problem}")).collect();
            return refuse(format!("invalid config for network {network}: invalid endpoint settings:{list}"));
        }
    }
    Ok(())
}

/// `HOST:ADDRESS` or `HOST=ADDRESS`; an IPv6 address may have brackets.
fn extra_host(entry: &str) -> Checked {
    let (host, address) = entry.split_once(['=', ':']).unwrap_or_default();
    if host.is_empty() {
        return refuse(format!("bad format for add-host: \"{entry}\""));
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    match bare == "host-gateway" || bare.parse::<std::net::IpAddr>().is_ok() {
        true => Ok(()),
        false => refuse(format!("invalid IP address in add-host: \"{address}\"")),
    }
}

pub(super) fn refuse(message: impl Into<String>) -> Checked {
    Err(Invalid::new(message))
}
