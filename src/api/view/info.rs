//! `/info`: the engine, its host and its settings.

use serde_json::{Value, json};

use crate::api::versions::{ApiVersion, ENGINE_VERSION, Feature};
use crate::base::host::{self, CgroupVersion, Host};
use crate::base::time::Timestamp;
use crate::config::{CgroupDriver, Clients, Config, Listen, Live};
use crate::container::cdi::Catalogue;
use crate::logs::options::DRIVERS;

/// What the reply is made of.
pub struct Sources<'a> {
    /// The engine's own id.
    pub id: &'a str,
    pub host: &'a Host,
    pub config: &'a Config,
    pub containers: ContainerCounts,
    pub images: usize,
    /// Readers of `/events`.
    pub listeners: usize,
    pub devices: &'a Catalogue,
}

/// Containers by state.
#[derive(Clone, Copy, Default, Debug)]
pub struct ContainerCounts {
    pub running: usize,
    pub paused: usize,
    pub stopped: usize,
}

/// The whole reply.
pub fn info(sources: &Sources<'_>, version: ApiVersion) -> Value {
    let mut reply = json!({});
    let parts =
        [engine(sources), on_host(sources.host), capabilities(sources), settings(sources), constants()];
    for part in parts {
        if let (Some(reply), Value::Object(part)) = (reply.as_object_mut(), part) {
            reply.extend(part);
        }
    }
    for_version(&mut reply, version);
    reply
}

fn engine(sources: &Sources<'_>) -> Value {
    let counts = sources.containers;
    json!({
        "ID": sources.id,
        "Containers": counts.running + counts.paused + counts.stopped,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.stopped,
        "Images": sources.images,
        "NFd": host::open_descriptors(),
        // Tasks are not counted anywhere; threads are what costs.
        "NGoroutines": host::threads(),
        "NEventsListener": sources.listeners,
        "SystemTime": Timestamp::now(),
        "ServerVersion": ENGINE_VERSION,
        "ExperimentalBuild": sources.config.experimental,
    })
}

fn on_host(host: &Host) -> Value {
    json!({
        "Name": host::name(),
        "KernelVersion": host.kernel,
        "OperatingSystem": host.operating_system,
        "OSVersion": host.os_version,
        "OSType": "linux",
        "Architecture": host.architecture,
        "NCPU": host.processors,
        "MemTotal": host.memory,
        "IPv4Forwarding": host::forwards_ipv4(),
    })
}

fn capabilities(sources: &Sources<'_>) -> Value {
    let cgroups = &sources.host.cgroups;
    let mut reply = json!({
        "MemoryLimit": cgroups.memory,
        "SwapLimit": cgroups.swap,
        "CpuCfsPeriod": cgroups.cpu_quota,
        "CpuCfsQuota": cgroups.cpu_quota,
        "CPUShares": cgroups.cpu_shares,
        "CPUSet": cgroups.cpuset,
        "PidsLimit": cgroups.pids,
        "OomKillDisable": cgroups.oom_kill_disable,
        "CgroupVersion": match cgroups.version { CgroupVersion::V1 => "1", CgroupVersion::V2 => "2" },
        "SecurityOptions": security_options(sources),
        "Warnings": warnings(sources),
    });
    if cgroups.kernel_memory_tcp {
        reply["KernelMemoryTCP"] = json!(true);
    }
    reply
}

fn settings(sources: &Sources<'_>) -> Value {
    let config = sources.config;
    let live = config.live();
    let mut reply = json!({
        "Debug": live.debug,
        "LoggingDriver": config.log_driver,
        "CgroupDriver": match config.cgroup_driver {
            CgroupDriver::Cgroupfs => "cgroupfs",
            CgroupDriver::Systemd => "systemd",
        },
        "DockerRootDir": config.data_root,
        "HttpProxy": masked(config.http_proxy.as_deref()),
        "HttpsProxy": masked(config.https_proxy.as_deref()),
        "NoProxy": config.no_proxy.as_deref().unwrap_or_default(),
        "Labels": live.labels,
        "Runtimes": runtimes(&live),
        "DefaultRuntime": live.default_runtime,
        "LiveRestoreEnabled": live.live_restore,
        "RegistryConfig": registries(&live),
        "FirewallBackend": { "Driver": "nftables" },
        "CDISpecDirs": config.cdi_spec_dirs,
    });
    if !config.default_address_pools.is_empty() {
        let pools = config.default_address_pools.iter();
        let pools: Vec<_> =
            pools.map(|pool| json!({ "Base": pool.base.to_string(), "Size": pool.size })).collect();
        reply["DefaultAddressPools"] = json!(pools);
    }
    let devices: Vec<_> =
        sources.devices.names().map(|name| json!({ "Source": "cdi", "ID": name })).collect();
    if !devices.is_empty() {
        reply["DiscoveredDevices"] = json!(devices);
    }
    reply
}

fn constants() -> Value {
    let embedded = json!({ "ID": concat!("slipway-", env!("CARGO_PKG_VERSION")) });
    json!({
        // As newest dockerd shows its image store: buildx looks for the driver-type.
        "Driver": "overlayfs",
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": log_drivers(),
        },
        "IndexServerAddress": "https://index.docker.io/v1/",
        "GenericResources": null,
        "Isolation": "",
        "InitBinary": "docker-init",
        "ContainerdCommit": embedded,
        "RuncCommit": embedded,
        "InitCommit": embedded,
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
    })
}

/// `none` is no driver that one could choose between.
fn log_drivers() -> Vec<&'static str> {
    DRIVERS.into_iter().filter(|driver| *driver != "none").collect()
}

/// Takes back what the request's version does not know, and adds what it still expects.
fn for_version(reply: &mut Value, version: ApiVersion) {
    if !version.has(Feature::NoNondistributable) {
        reply["RegistryConfig"]["AllowNondistributableArtifactsCIDRs"] = Value::Null;
        reply["RegistryConfig"]["AllowNondistributableArtifactsHostnames"] = Value::Null;
    }
    if !version.has(Feature::NoExpectedCommit) {
        for commit in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            reply[commit]["Expected"] = reply[commit]["ID"].clone();
        }
    }
    if !version.has(Feature::DiscoveredDevices) {
        reply["BridgeNfIptables"] = json!(false);
        reply["BridgeNfIp6tables"] = json!(false);
    }
    let absent = [
        (Feature::FirewallBackend, "FirewallBackend"),
        (Feature::InfoWarnings, "Warnings"),
        (Feature::DiscoveredDevices, "DiscoveredDevices"),
    ];
    for (feature, field) in absent {
        if let Some(reply) = reply.as_object_mut().filter(|_| !version.has(feature)) {
            reply.remove(field);
        }
    }
}

fn runtimes(live: &Live) -> Value {
    let mut runtimes = serde_json::Map::new();
    // The embedded runtime goes by both names that clients ask for.
    for name in ["runc", "io.containerd.runc.v2"] {
        runtimes.insert(name.to_owned(), json!({ "path": "runc" }));
    }
    for (name, runtime) in &live.runtimes {
        let mut shown = json!({ "path": runtime.path });
        if !runtime.args.is_empty() {
            shown["runtimeArgs"] = json!(runtime.args);
        }
        runtimes.insert(name.clone(), shown);
    }
    Value::Object(runtimes)
}

/// Loopback registries are insecure by default, as with dockerd.
fn registries(live: &Live) -> Value {
    let is_network = |entry: &&String| entry.contains('/');
    let networks: Vec<&str> =
        live.insecure_registries.iter().filter(is_network).map(String::as_str).collect();
    let mut indexes = serde_json::Map::new();
    for name in live.insecure_registries.iter().filter(|entry| !is_network(entry)) {
        indexes
            .insert(name.clone(), json!({ "Name": name, "Mirrors": [], "Secure": false, "Official": false }));
    }
    let official =
        json!({ "Name": "docker.io", "Mirrors": live.registry_mirrors, "Secure": true, "Official": true });
    indexes.insert("docker.io".to_owned(), official);
    json!({
        "InsecureRegistryCIDRs": networks.into_iter().chain(["::1/128", "127.0.0.0/8"]).collect::<Vec<_>>(),
        "IndexConfigs": indexes,
        "Mirrors": live.registry_mirrors,
    })
}

fn security_options(sources: &Sources<'_>) -> Vec<String> {
    let mut options = Vec::new();
    if sources.host.apparmor {
        options.push("name=apparmor".to_owned());
    }
    if sources.host.seccomp {
        options.push(format!("name=seccomp,profile={}", sources.config.seccomp_profile));
    }
    if !sources.config.ids.is_identity() {
        options.push("name=userns".to_owned());
    }
    let private = match sources.config.default_cgroupns_mode.as_deref() {
        Some(mode) => mode == "private",
        None => sources.host.cgroups.version == CgroupVersion::V2,
    };
    if private && sources.host.cgroups.namespaces {
        options.push("name=cgroupns".to_owned());
    }
    if sources.config.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    options
}

fn warnings(sources: &Sources<'_>) -> Vec<String> {
    let cgroups = &sources.host.cgroups;
    let lacking = [
        (cgroups.memory, "WARNING: No memory limit support"),
        (cgroups.swap, "WARNING: No swap limit support"),
        (
            cgroups.oom_kill_disable || cgroups.version == CgroupVersion::V2,
            "WARNING: No oom kill disable support",
        ),
        (cgroups.cpu_quota, "WARNING: No cpu cfs quota support"),
        (cgroups.cpu_quota, "WARNING: No cpu cfs period support"),
        (cgroups.cpu_shares, "WARNING: No cpu shares support"),
        (cgroups.cpuset, "WARNING: No cpuset support"),
        (host::forwards_ipv4(), "WARNING: IPv4 forwarding is disabled"),
    ];
    let lacking = lacking.into_iter().filter(|(there, _)| !there).map(|(_, warning)| warning.to_owned());
    let default_profile = sources.config.seccomp_profile == "builtin" || !sources.host.seccomp;
    let profile =
        (!default_profile).then(|| "WARNING: daemon is not using the default seccomp profile".to_owned());
    let devices = sources.devices.problems().iter();
    let devices = devices.map(|problem| {
        format!("CDI: Error associated with spec file {}: {}", problem.path.display(), problem.text)
    });
    exposures(sources.config).into_iter().chain(lacking).chain(profile).chain(devices).collect()
}

/// Listeners on which whoever reaches them is root.
fn exposures(config: &Config) -> Vec<String> {
    const ADVICE: &str = "\n         Access to the remote API is equivalent to root access on the host. Refer\n         \
                          to the 'Docker daemon attack surface' section in the documentation for\n         \
                          more information: https://docs.docker.com/go/attack-surface/";
    let (scheme, fault) = match &config.tls {
        None => ("http", "encryption"),
        Some(tls) if tls.clients == Clients::Anyone => ("https", "TLS client verification"),
        Some(_) => return Vec::new(),
    };
    let tcp = config.hosts.iter().filter(|host| matches!(host, Listen::Tcp { .. })).map(ToString::to_string);
    tcp.map(|host| {
        let address = host.trim_start_matches("tcp://");
        format!("WARNING: API is accessible on {scheme}://{address} without {fault}.{ADVICE}")
    })
    .collect()
}

/// A proxy's address without name and password.
fn masked(proxy: Option<&str>) -> String {
    let proxy = proxy.unwrap_or_default();
    match proxy.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, address))) => format!("{scheme}://xxxxx:xxxxx@{address}"),
        None => proxy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conformance;

    fn info_of(minor: u16) -> Value {
        let config = Config::default_for("/var/lib/docker".as_ref(), "/run/docker".as_ref());
        let host = Host::detect();
        let containers = ContainerCounts { running: 1, paused: 2, stopped: 3 };
        let devices = &Catalogue::default();
        let sources =
            Sources { id: "x", host: &host, config: &config, containers, images: 4, listeners: 0, devices };
        info(&sources, ApiVersion::of_minor(minor))
    }

    #[test]
    fn info_fits_every_version_of_the_specification() {
        for minor in 24..=55 {
            let version = ApiVersion::of_minor(minor);
            let found = conformance::validate_operation(
                "SystemInfo",
                version,
                200,
                info_of(minor).to_string().as_bytes(),
            );
            assert_eq!(found, [], "1.{minor}");
        }
    }

    #[test]
    fn versions_differ_where_dockerds_do() {
        let shown = |minor, pointer: &str| info_of(minor).pointer(pointer).cloned();
        for (pointer, first, last) in [
            ("/BridgeNfIptables", 24, 49),
            ("/RuncCommit/Expected", 24, 48),
            ("/RegistryConfig/AllowNondistributableArtifactsCIDRs", 24, 46),
            ("/FirewallBackend", 49, 55),
            ("/Warnings", 39, 55),
            ("/Swarm/LocalNodeState", 24, 55),
        ] {
            for minor in [24, first, last, 55] {
                let expected = (first..=last).contains(&minor);
                assert_eq!(shown(minor, pointer).is_some(), expected, "{pointer} in 1.{minor}");
            }
        }
        assert_eq!(shown(55, "/Containers"), Some(json!(6)));
    }

    #[test]
    fn secrets_of_proxies_are_hidden() {
        assert_eq!(masked(Some("http://me:secret@proxy:3128")), "http://xxxxx:xxxxx@proxy:3128");
        assert_eq!(masked(Some("http://proxy:3128")), "http://proxy:3128");
        assert_eq!(masked(None), "");
    }
}
