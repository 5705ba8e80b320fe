//! Every option that dockerd knows, from 20.10 to the newest: one row each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ConfigError;
use super::values::go_format;

/// The type of an option's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Bool,
    Int,
    Text,
    /// Strings; the flag may be repeated.
    List,
    /// Strings by name; the flag is `name=value`.
    Map,
    /// An object or array of its own form.
    Structure,
}

/// Whether an option does anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    Used,
    /// Accepted and reported, for this reason.
    Ignored(&'static str),
    /// Refused if it is set: going on without it would be less safe than what was asked for.
    Refused(&'static str),
}

/// One option.
pub struct Spec {
    /// Name on the command line; empty where there is only a key.
    pub flag: &'static str,
    pub short: Option<char>,
    /// Name in the file.
    pub key: &'static str,
    pub kind: Kind,
    pub meaning: Meaning,
    pub help: &'static str,
}

const fn used(flag: &'static str, key: &'static str, kind: Kind, help: &'static str) -> Spec {
    Spec { flag, short: None, key, kind, meaning: Meaning::Used, help }
}

const fn short(flag: &'static str, short: char, key: &'static str, kind: Kind, help: &'static str) -> Spec {
    Spec { flag, short: Some(short), key, kind, meaning: Meaning::Used, help }
}

const fn ignored(flag: &'static str, key: &'static str, kind: Kind, why: &'static str) -> Spec {
    Spec {
        flag,
        short: None,
        key,
        kind,
        meaning: Meaning::Ignored(why),
        help: "Accepted for compatibility; no effect",
    }
}

const fn refused(flag: &'static str, key: &'static str, kind: Kind, why: &'static str) -> Spec {
    Spec { flag, short: None, key, kind, meaning: Meaning::Refused(why), help: "Not supported" }
}

use Kind::{Bool, Int, List, Map, Structure, Text};

const CONTAINERD: &str = "there is no containerd here";
const NO_PROXY_PROCESS: &str = "published ports need no proxy process";
const SWARM: &str = "swarm mode is not supported yet";
const REMOVED: &str = "dockerd has removed it";

/// The table, sorted by flag.
pub static OPTIONS: &[Spec] = &[
    used("add-runtime", "runtimes", Structure, "Register an additional OCI compatible runtime"),
    used("allow-direct-routing", "allow-direct-routing", Bool, "Allow remote access to container addresses"),
    ignored("allow-nondistributable-artifacts", "allow-nondistributable-artifacts", List, REMOVED),
    refused("api-cors-header", "api-cors-header", Text, "use a reverse proxy for CORS headers"),
    refused("authorization-plugin", "authorization-plugins", List, "there are no authorization plugins yet"),
    used("bip", "bip", Text, "IPv4 address for the default bridge"),
    used("bip6", "bip6", Text, "IPv6 address for the default bridge"),
    short("bridge", 'b', "bridge", Text, "Attach containers to a network bridge"),
    ignored("bridge-accept-fwmark", "bridge-accept-fwmark", Text, "no rule of ours looks at marks"),
    used("cdi-spec-dir", "cdi-spec-dirs", List, "CDI specification directories to use"),
    used("cgroup-parent", "cgroup-parent", Text, "Set parent cgroup for all containers"),
    ignored("cluster-advertise", "cluster-advertise", Text, REMOVED),
    ignored("cluster-store", "cluster-store", Text, REMOVED),
    ignored("cluster-store-opt", "cluster-store-opts", Map, REMOVED),
    ignored("containerd", "containerd", Text, CONTAINERD),
    ignored("containerd-namespace", "containerd-namespace", Text, CONTAINERD),
    ignored("containerd-plugins-namespace", "containerd-plugin-namespace", Text, CONTAINERD),
    ignored(
        "cpu-rt-period",
        "cpu-rt-period",
        Int,
        "the parent cgroup's real-time budget is the host's business",
    ),
    ignored(
        "cpu-rt-runtime",
        "cpu-rt-runtime",
        Int,
        "the parent cgroup's real-time budget is the host's business",
    ),
    ignored("cri-containerd", "cri-containerd", Bool, CONTAINERD),
    used("data-root", "data-root", Text, "Root directory of persistent state"),
    short("debug", 'D', "debug", Bool, "Enable debug mode"),
    used("default-address-pool", "default-address-pools", Structure, "Default address pools for networks"),
    used("default-cgroupns-mode", "default-cgroupns-mode", Text, "Default cgroup namespace (host|private)"),
    used("default-gateway", "default-gateway", Text, "Default gateway IPv4 address of the default bridge"),
    used(
        "default-gateway-v6",
        "default-gateway-v6",
        Text,
        "Default gateway IPv6 address of the default bridge",
    ),
    used("default-ipc-mode", "default-ipc-mode", Text, "Default IPC mode of containers (shareable|private)"),
    used("default-network-opt", "default-network-opts", Structure, "Default network options"),
    used("default-runtime", "default-runtime", Text, "Default OCI runtime for containers"),
    used("default-shm-size", "default-shm-size", Text, "Default shm size for containers"),
    used("default-ulimit", "default-ulimits", Structure, "Default ulimits for containers"),
    used("dns", "dns", List, "DNS server to use"),
    used("dns-opt", "dns-opts", List, "DNS options to use"),
    used("dns-search", "dns-search", List, "DNS search domains to use"),
    used("exec-opt", "exec-opts", List, "Runtime execution options"),
    used("exec-root", "exec-root", Text, "Root directory for execution state files"),
    used("experimental", "experimental", Bool, "Tell clients that checkpoints are served"),
    used("feature", "features", Structure, "Enable feature in the daemon"),
    ignored("firewall-backend", "firewall-backend", Text, "rules go to nftables in a table of our own"),
    used("fixed-cidr", "fixed-cidr", Text, "IPv4 subnet for the default bridge network"),
    used("fixed-cidr-v6", "fixed-cidr-v6", Text, "IPv6 subnet for the default bridge network"),
    short("group", 'G', "group", Text, "Group for the unix socket"),
    short("host", 'H', "hosts", List, "Daemon socket(s) to connect to"),
    used(
        "host-gateway-ip",
        "host-gateway-ips",
        List,
        "Addresses that 'host-gateway' in --add-host stands for",
    ),
    used("http-proxy", "http-proxy", Text, "HTTP proxy URL to use for outgoing traffic"),
    used("https-proxy", "https-proxy", Text, "HTTPS proxy URL to use for outgoing traffic"),
    used("icc", "icc", Bool, "Enable inter-container communication on the default bridge"),
    used("init", "init", Bool, "Run an init in the container to forward signals and reap processes"),
    used("init-path", "init-path", Text, "Path to the init binary"),
    used("insecure-registry", "insecure-registries", List, "Enable insecure registry communication"),
    used("ip", "ip", Text, "Host IP for port publishing from the default bridge network"),
    used("ip-forward", "ip-forward", Bool, "Enable IP forwarding in system configuration"),
    used("ip-forward-no-drop", "ip-forward-no-drop", Bool, "Do not drop forwarded traffic by default"),
    used("ip-masq", "ip-masq", Bool, "Enable IP masquerading"),
    used("ip6tables", "ip6tables", Bool, "Enable IPv6 firewall rules"),
    used("iptables", "iptables", Bool, "Enable IPv4 firewall rules"),
    used("ipv6", "ipv6", Bool, "Enable IPv6 networking for the default bridge network"),
    used("label", "labels", List, "Set key=value labels to the daemon"),
    used("live-restore", "live-restore", Bool, "Keep containers running when the daemon stops"),
    used("log-driver", "log-driver", Text, "Default driver for container logs"),
    used("log-format", "log-format", Text, "Set the logging format (text|json)"),
    short("log-level", 'l', "log-level", Text, "Set the logging level (debug|info|warn|error|fatal)"),
    used("log-opt", "log-opts", Map, "Default log driver options for containers"),
    used("max-concurrent-downloads", "max-concurrent-downloads", Int, "Set the max concurrent downloads"),
    used("max-concurrent-uploads", "max-concurrent-uploads", Int, "Set the max concurrent uploads"),
    used(
        "max-download-attempts",
        "max-download-attempts",
        Int,
        "Set the max download attempts for each pull",
    ),
    ignored("metrics-addr", "metrics-addr", Text, "metrics are not served yet"),
    used("mtu", "mtu", Int, "Set the MTU for the default bridge network"),
    ignored("network-control-plane-mtu", "network-control-plane-mtu", Int, SWARM),
    ignored("network-diagnostic-port", "network-diagnostic-port", Int, "there is no diagnostic server"),
    used(
        "no-new-privileges",
        "no-new-privileges",
        Bool,
        "Set no-new-privileges by default for new containers",
    ),
    used("no-proxy", "no-proxy", Text, "Comma-separated hosts or addresses for which the proxy is skipped"),
    ignored("node-generic-resource", "node-generic-resources", List, SWARM),
    ignored("nri-opts", "nri-opts", Structure, "there are no NRI plugins"),
    used("oom-score-adjust", "oom-score-adjust", Int, "Set the oom_score_adj for the daemon"),
    short("pidfile", 'p', "pidfile", Text, "Path to use for daemon PID file"),
    used("raw-logs", "raw-logs", Bool, "Full timestamps without ANSI coloring"),
    used("registry-mirror", "registry-mirrors", List, "Preferred registry mirror"),
    Spec {
        flag: "restart",
        short: Some('r'),
        key: "restart",
        kind: Bool,
        meaning: Meaning::Ignored("restart policies decide"),
        help: "Accepted for compatibility; no effect",
    },
    refused("rootless", "rootless", Bool, "the engine needs root"),
    used("seccomp-profile", "seccomp-profile", Text, "Path to seccomp profile, or \"unconfined\""),
    ignored("selinux-enabled", "selinux-enabled", Bool, "SELinux labels are not supported yet"),
    used("shutdown-timeout", "shutdown-timeout", Int, "Set the default shutdown timeout"),
    Spec {
        flag: "storage-driver",
        short: Some('s'),
        key: "storage-driver",
        kind: Text,
        meaning: Meaning::Ignored("layers are always kept by overlayfs"),
        help: "Accepted for compatibility; no effect",
    },
    used("storage-opt", "storage-opts", List, "Storage driver options"),
    ignored("swarm-default-advertise-addr", "swarm-default-advertise-addr", Text, SWARM),
    used("tls", "tls", Bool, "Use TLS; implied by --tlsverify"),
    used("tlscacert", "tlscacert", Text, "Trust certs signed only by this CA"),
    used("tlscert", "tlscert", Text, "Path to TLS certificate file"),
    used("tlskey", "tlskey", Text, "Path to TLS key file"),
    used("tlsverify", "tlsverify", Bool, "Use TLS and verify the remote"),
    used("userland-proxy", "userland-proxy", Bool, "Serve published ports on the host's loopback"),
    ignored("userland-proxy-path", "userland-proxy-path", Text, NO_PROXY_PROCESS),
    used("userns-remap", "userns-remap", Text, "User/Group setting for user namespaces"),
    // Keys without a flag.
    ignored("", "builder", Structure, "the builder has its own settings"),
    ignored("", "default-init", Text, "the engine's own binary is the init process"),
    ignored("", "deprecated-key-path", Text, REMOVED),
    used("", "host-gateway-ip", Text, ""),
    ignored("", "resolv-conf", Text, "the host's file is found by itself"),
    ignored("", "swarm-raft-election-tick", Int, SWARM),
    ignored("", "swarm-raft-heartbeat-tick", Int, SWARM),
];

/// Options by their key in the file, as given.
#[derive(Clone, Default, Debug)]
pub struct Raw {
    values: BTreeMap<&'static str, Value>,
}

impl Raw {
    /// Whether the user gave the option.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Sets an option.
    pub fn set(&mut self, spec: &'static Spec, value: Value) {
        self.values.insert(spec.key, value);
    }

    /// The value of an option, to add to.
    pub fn entry(&mut self, spec: &'static Spec, empty: Value) -> &mut Value {
        self.values.entry(spec.key).or_insert(empty)
    }

    /// Options given that mean nothing here, and why.
    pub fn ignored(&self) -> Vec<(String, &'static str)> {
        let reason = |key: &str| match by_key(key)?.meaning {
            Meaning::Ignored(why) => Some(why),
            Meaning::Used | Meaning::Refused(_) => None,
        };
        self.values.keys().filter_map(|key| Some(((*key).to_owned(), reason(key)?))).collect()
    }

    /// Refuses what cannot be honoured. Off and empty ask for nothing.
    pub fn refuse(&self) -> Result<(), ConfigError> {
        for (key, value) in &self.values {
            let nothing = matches!(value, Value::Bool(false) | Value::Null) || is_empty(value);
            if let Some(Spec { meaning: Meaning::Refused(reason), .. }) = by_key(key)
                && !nothing
            {
                return Err(ConfigError::Unsupported { option: key, reason });
            }
        }
        Ok(())
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// The option with this key.
pub fn by_key(key: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.key == key)
}

/// Puts flags and file together. An option given in both is an error, except runtimes, which add up.
pub fn merge(flags: Raw, file: Raw) -> Result<Raw, ConfigError> {
    let twice = |key: &&&'static str| file.values.contains_key(**key) && **key != "runtimes";
    let mut conflicts: Vec<String> = (flags.values.keys().filter(twice))
        .map(|key| format!("{key}: (from flag: {}, from file: {})", show(key, &flags), show(key, &file)))
        .collect();
    if let (Some(_), Some(_)) = (flags.get("host-gateway-ips"), file.get("host-gateway-ip")) {
        conflicts.push("host-gateway-ip".to_owned());
    }
    if !conflicts.is_empty() {
        return Err(ConfigError::Conflicts(conflicts));
    }
    let mut merged = file;
    for (key, value) in flags.values {
        match (merged.values.get_mut(key), value) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
            (_, value) => drop(merged.values.insert(key, value)),
        }
    }
    Ok(merged)
}

/// As Go prints it; a proxy's credentials are not.
fn show(key: &str, raw: &Raw) -> String {
    let text = raw.get(key).map(go_format).unwrap_or_default();
    match (key, text.split_once("://"), text.rsplit_once('@')) {
        ("http-proxy" | "https-proxy", Some((scheme, _)), Some((_, host))) => {
            format!("{scheme}://xxxxx:xxxxx@{host}")
        }
        _ => text,
    }
}

/// The known name that takes the fewest edits, if it takes few.
pub fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let near = known.filter(|known| !known.is_empty()).map(|known| (edits(name, known), known)).min()?;
    let few = if name.len() < 4 { 1 } else { (name.len() / 3).max(2) };
    (near.0 <= few).then_some(near.1)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_debians_dockerd_is_known() {
        let flags = "add-runtime allow-nondistributable-artifacts api-cors-header authorization-plugin bip bridge \
            cgroup-parent containerd containerd-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime \
            cri-containerd data-root debug default-address-pool default-cgroupns-mode default-gateway \
            default-gateway-v6 default-ipc-mode default-runtime default-shm-size default-ulimit dns dns-opt \
            dns-search exec-opt exec-root experimental fixed-cidr fixed-cidr-v6 group host host-gateway-ip icc init \
            init-path insecure-registry ip ip-forward ip-masq ip6tables iptables ipv6 label live-restore log-driver \
            log-level log-opt max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr mtu \
            network-control-plane-mtu no-new-privileges node-generic-resource oom-score-adjust pidfile raw-logs \
            registry-mirror rootless seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opt \
            swarm-default-advertise-addr tls tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path \
            userns-remap";
        for flag in flags.split_whitespace() {
            assert!(OPTIONS.iter().any(|spec| spec.flag == flag), "{flag}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_if_it_is_near() {
        let known = || OPTIONS.iter().map(|spec| spec.flag);
        assert_eq!(nearest("registry-miror", known()), Some("registry-mirror"));
        assert_eq!(nearest("hosts", known()), Some("host"));
        assert_eq!(nearest("completely-different", known()), None);
    }
}
