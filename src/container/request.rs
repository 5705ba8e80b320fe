//! What a record means to the parts that carry it out: the network's request, the log's target, the input of the
//! OCI specification.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

use super::apparmor;
use super::cdi::Edits;
use super::error::{ContainerError, StartFailure};
use super::mounts::Mounted;
use super::oci_spec::{Defaults, HostDevice, SpecInput, cgroups_path};
use super::parts::Parts;
use super::record::Record;
use super::users::{Accounts, ResolvedUser};
use super::{host_config::Ulimit, host_devices};
use crate::base::host::CgroupVersion;
use crate::config::{CgroupDriver, Config};
use crate::logs::attributes::Subject;
use crate::logs::options::{self as log_options, LogTarget};
use crate::network::{
    DnsOptions, EndpointRequest, HostPorts, NetworkMode, PortRequest, Sandbox, SandboxRequest, UserNamespace,
};
use crate::runtime::LogMode;

/// Files in `/etc` that the engine keeps for a container.
const FILES: [&str; 3] = ["resolv.conf", "hostname", "hosts"];

/// What the daemon's configuration says of every container's specification.
pub fn defaults(config: &Config, parts: &crate::base::host::Host) -> Defaults {
    let limit = |(name, limit): (&String, &crate::config::Ulimit)| Ulimit {
        name: name.clone(),
        hard: limit.hard,
        soft: limit.soft,
    };
    let seccomp = match config.seccomp_profile.as_str() {
        "" | "builtin" => None,
        "unconfined" => Some("unconfined".to_owned()),
        file => std::fs::read_to_string(file).ok(),
    };
    Defaults {
        ulimits: config.default_ulimits.iter().map(limit).collect(),
        no_new_privileges: config.no_new_privileges,
        seccomp,
        cgroup_parent: config.cgroup_parent.clone(),
        systemd_cgroup: config.cgroup_driver == CgroupDriver::Systemd,
        cgroup_v2: parts.cgroups.version == CgroupVersion::V2,
        apparmor: parts.apparmor,
        apparmor_profile: apparmor::of_engine().filter(|_| parts.apparmor),
    }
}

/// The input of [`super::oci_spec::build`].
pub(super) fn spec_input<'a>(
    parts: &'a Parts,
    record: &'a Record,
    sandbox: &'a Sandbox,
    mounted: &Mounted,
    edits: Edits,
) -> Result<SpecInput<'a>, ContainerError> {
    let wants_init = record.host_config.init.unwrap_or(parts.config.init);
    let own_init = parts.config.init_path.as_deref().unwrap_or(&parts.program);
    Ok(SpecInput {
        record,
        user: user(record, &mounted.rootfs)?,
        rootfs: mounted.rootfs.clone(),
        netns: sandbox.netns.as_deref(),
        userns: sandbox.userns.as_deref(),
        ids: &parts.config.ids,
        shared: shared(parts, record)?,
        shm: super::shm::source(parts, record)?,
        mounts: mounted.mounts.clone(),
        files: files(parts, record),
        init: wants_init.then_some(own_init),
        devices: devices(record)?,
        defaults: &parts.defaults,
        kernel: &parts.host.kernel,
        links: super::links::environment(&parts.containers, record),
        edits,
    })
}

fn user(record: &Record, rootfs: &std::path::Path) -> Result<ResolvedUser, ContainerError> {
    let groups = record.host_config.group_add.as_deref().unwrap_or_default();
    let accounts = Accounts::read(rootfs);
    accounts.resolve(&record.config.user, groups).map_err(|error| bad(error.to_string()))
}

/// Whose namespace the container's network is made in: to share a container's namespaces, its user namespace must be
/// shared too.
fn user_namespace(parts: &Parts, record: &Record) -> Result<UserNamespace, ContainerError> {
    let ids = parts.config.ids.clone();
    if ids.is_identity() || record.host_config.userns_mode == "host" {
        return Ok(UserNamespace::Host);
    }
    // The last one counts, as for dockerd.
    let Some((kind, shared)) = shared(parts, record)?.pop_last() else {
        return Ok(UserNamespace::Own(ids));
    };
    let path = shared.with_file_name("user");
    if std::fs::read_link(&path).ok() == std::fs::read_link("/proc/self/ns/user").ok() {
        return Err(bad(format!(
            "cannot join the {kind} namespace of a container that is in the host's user namespace: run this container \
             with --userns=host too"
        )));
    }
    Ok(UserNamespace::Of { path, ids })
}

/// Namespaces of other containers, by way of their first process.
fn shared(parts: &Parts, record: &Record) -> Result<BTreeMap<&'static str, PathBuf>, ContainerError> {
    let host_config = &record.host_config;
    let mut shared = BTreeMap::new();
    for (kind, mode) in [("pid", &host_config.pid_mode), ("ipc", &host_config.ipc_mode)] {
        let Some(target) = mode.strip_prefix("container:") else { continue };
        let refused = |why: &dyn Display| {
            ContainerError::system(&format!("failed to join {} namespace: {why}", kind.to_uppercase()))
        };
        let handle = parts.containers.resolve(target).map_err(|error| refused(&error))?;
        let not_running = || refused(&format!("container {} is not running", handle.id()));
        let pid = handle.snapshot().state.pid.ok_or_else(not_running)?;
        shared.insert(kind, PathBuf::from(format!("/proc/{pid}/ns/{kind}")));
    }
    Ok(shared)
}

pub(super) fn files(parts: &Parts, record: &Record) -> Vec<(&'static str, PathBuf)> {
    let owner = match record.host_config.network_mode.strip_prefix("container:") {
        Some(target) => {
            parts.containers.resolve(target).map_or_else(|_| record.id.clone(), |h| h.id().clone())
        }
        None => record.id.clone(),
    };
    let dir = parts.paths.container(&owner);
    let targets = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];
    let all = targets.into_iter().zip(FILES).map(|(target, file)| (target, dir.join(file)));
    all.filter(|(_, file)| file.exists()).collect()
}

fn devices(record: &Record) -> Result<Vec<HostDevice>, ContainerError> {
    if record.host_config.privileged {
        return Ok(host_devices::all());
    }
    let mut devices = Vec::new();
    for mapping in record.host_config.devices.iter().flatten() {
        devices.extend(host_devices::find(mapping).map_err(|error| bad(error.to_string()))?);
    }
    Ok(devices)
}

/// What the network is asked for.
pub(super) fn sandbox(parts: &Parts, record: &Record) -> Result<SandboxRequest, ContainerError> {
    let mode = record.host_config.network_mode.parse::<NetworkMode>();
    let mode = mode.unwrap_or_else(|never| match never {});
    let endpoint = |(network, settings): (&String, &crate::network::EndpointSettings)| EndpointRequest {
        network: network.clone(),
        settings: settings.clone(),
    };
    let extra = record.host_config.extra_hosts.clone().unwrap_or_default().into_iter();
    let links = super::links::hosts(&parts.containers, record)?;
    Ok(SandboxRequest {
        container: record.id.clone(),
        name: record.plain_name().to_owned(),
        hostname: record.config.hostname.clone(),
        domainname: record.config.domainname.clone(),
        user: user_namespace(parts, record)?,
        mode: if record.config.network_disabled { NetworkMode::None } else { mode },
        endpoints: record.endpoints.iter().map(endpoint).collect(),
        ports: ports(record)?,
        exposed: record.config.ports().into_iter().collect(),
        dns: dns(record)?,
        extra_hosts: extra.chain(links).collect(),
        dir: parts.paths.container(&record.id),
    })
}

fn ports(record: &Record) -> Result<Vec<PortRequest>, ContainerError> {
    let host_config = &record.host_config;
    let mut requests = Vec::new();
    for (container, bindings) in &host_config.port_bindings {
        let none = [super::host_config::HostPort::default()];
        let bindings = bindings.as_deref().filter(|list| !list.is_empty()).unwrap_or(&none);
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| bad(format!("invalid IP address: {text}")))?),
            };
            let host: HostPorts =
                binding.host_port.parse().map_err(|e: crate::network::InvalidPort| bad(e.to_string()))?;
            requests.push(PortRequest { container: *container, host_ip, host });
        }
    }
    if host_config.publish_all_ports {
        let unbound =
            record.config.ports().into_iter().filter(|port| !host_config.port_bindings.contains_key(port));
        requests.extend(unbound.map(|container| PortRequest {
            container,
            host_ip: None,
            host: HostPorts::Any,
        }));
    }
    Ok(requests)
}

fn dns(record: &Record) -> Result<DnsOptions, ContainerError> {
    let host_config = &record.host_config;
    let list = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let mut servers = Vec::new();
    for server in list(&host_config.dns) {
        servers.push(server.parse().map_err(|_| bad(format!("bad nameserver address: {server}")))?);
    }
    Ok(DnsOptions { servers, search: list(&host_config.dns_search), options: list(&host_config.dns_options) })
}

/// Where its output is written.
pub fn log_target(parts: &Parts, record: &Record) -> Result<LogTarget, log_options::LogOptionError> {
    let log = &record.host_config.log_config;
    let env = record.config.env.as_deref().unwrap_or_default();
    let image = record.image.to_string();
    let command = record.args.join(" ");
    let created = record.created.to_string();
    let subject = Subject {
        id: record.id.as_str(),
        name: record.plain_name(),
        image_id: &image,
        image_name: &record.config.image,
        command: &command,
        created: &created,
        env,
        labels: Some(&record.config.labels),
    };
    log_options::target(&log.driver, &log.options, &parts.paths.container(&record.id), &subject)
}

pub(super) fn log_mode(record: &Record) -> LogMode {
    match record.host_config.log_config.options.get("mode").map(String::as_str) {
        Some("non-blocking") => LogMode::NonBlocking,
        _ => LogMode::Blocking,
    }
}

/// The container's cgroup, as its specification names it.
pub(super) fn cgroup_path(parts: &Parts, record: &Record) -> PathBuf {
    // A parent that the specification refuses has made no cgroup.
    cgroups_path(record, &parts.defaults).map(PathBuf::from).unwrap_or_default()
}

fn bad(message: String) -> ContainerError {
    ContainerError::StartFailed { message, kind: StartFailure::BadRequest }
}
