//! From raw options to a [`Config`]: defaults, types, and the checks that dockerd makes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::live::{Live, Slot};
use super::options::{self, Raw};
use super::values::{AddressPool, Cidr, Listen, RuntimeConfig, Ulimit};
use super::{BridgeConfig, CgroupDriver, Clients, Config, ConfigError, LogFormat, Tls, file};
use crate::base::id_map::IdMaps;
use crate::base::units::binary_size;

const DATA_ROOT: &str = "/var/lib/slipway";
const EXEC_ROOT: &str = "/run/slipway";
const PIDFILE: &str = "/run/slipway.pid";
const GROUP: &str = "docker";
const SHM_SIZE: u64 = 64 << 20;
const CDI_SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Reads everything.
pub fn config(raw: &Raw) -> Result<Config, ConfigError> {
    raw.refuse()?;
    let tls = tls(raw)?;
    let cgroup_driver = cgroup_driver(raw)?;
    let config = Config {
        data_root: path(raw, "data-root")?.unwrap_or_else(|| DATA_ROOT.into()),
        exec_root: path(raw, "exec-root")?.unwrap_or_else(|| EXEC_ROOT.into()),
        pidfile: path(raw, "pidfile")?.unwrap_or_else(|| PIDFILE.into()),
        hosts: hosts(raw, if tls.is_some() { 2376 } else { 2375 })?,
        group: text(raw, "group")?.unwrap_or_else(|| GROUP.to_owned()),
        group_is_required: raw.get("group").is_some_and(|group| group != GROUP),
        tls,
        log_level: log_level(raw)?,
        log_format: log_format(raw)?,
        raw_logs: boolean(raw, "raw-logs")?.unwrap_or(false),
        log_driver: text(raw, "log-driver")?.unwrap_or_else(|| "json-file".to_owned()),
        log_opts: map(raw, "log-opts")?,
        size_limit: size_limit(raw)?,
        cgroup_driver,
        cgroup_parent: cgroup_parent(raw, cgroup_driver)?,
        experimental: boolean(raw, "experimental")?.unwrap_or(false),
        init: boolean(raw, "init")?.unwrap_or(false),
        init_path: path(raw, "init-path")?,
        bridge: bridge(raw)?,
        dns: addresses(raw, "dns")?,
        dns_search: list(raw, "dns-search")?,
        dns_opts: list(raw, "dns-opts")?,
        host_gateway_ips: host_gateway_ips(raw)?,
        http_proxy: text(raw, "http-proxy")?,
        https_proxy: text(raw, "https-proxy")?,
        no_proxy: text(raw, "no-proxy")?,
        default_ulimits: ulimits(raw)?,
        default_shm_size: shm_size(raw)?,
        default_address_pools: address_pools(raw)?,
        default_network_opts: network_opts(raw)?,
        seccomp_profile: text(raw, "seccomp-profile")?.unwrap_or_else(|| "builtin".to_owned()),
        no_new_privileges: boolean(raw, "no-new-privileges")?.unwrap_or(false),
        default_ipc_mode: ipc_mode(raw)?,
        default_cgroupns_mode: cgroupns_mode(raw)?,
        oom_score_adjust: integer(raw, "oom-score-adjust")?.map(|n| n.clamp(-1000, 1000) as i32),
        cdi_spec_dirs: cdi_spec_dirs(raw)?,
        userns_remap: text(raw, "userns-remap")?.map(|text| text.parse()).transpose()?,
        ids: IdMaps::default(),
        live: Slot::new(live(raw)?),
    };
    Ok(config)
}

/// Reads what SIGHUP may change.
pub fn live(raw: &Raw) -> Result<Live, ConfigError> {
    let runtimes = runtimes(raw)?;
    let default_runtime = text(raw, "default-runtime")?.unwrap_or_else(|| "runc".to_owned());
    if default_runtime != "runc" && !runtimes.contains_key(&default_runtime) {
        return Err(ConfigError::UnknownRuntime(default_runtime));
    }
    Ok(Live {
        debug: boolean(raw, "debug")?.unwrap_or(false),
        labels: labels(raw)?,
        insecure_registries: list(raw, "insecure-registries")?,
        registry_mirrors: mirrors(raw)?,
        max_concurrent_downloads: count(raw, "max-concurrent-downloads", "max concurrent downloads", 3)?,
        max_concurrent_uploads: count(raw, "max-concurrent-uploads", "max concurrent uploads", 5)?,
        max_download_attempts: count(raw, "max-download-attempts", "max download attempts", 5)?,
        shutdown_timeout: integer(raw, "shutdown-timeout")?.unwrap_or(15),
        runtimes,
        default_runtime,
        live_restore: boolean(raw, "live-restore")?.unwrap_or(false),
        features: features(raw)?,
    })
}

fn mismatch(key: &str, value: &Value) -> ConfigError {
    let (key, kind) =
        options::by_key(key).map_or(("", options::Kind::Structure), |spec| (spec.key, spec.kind));
    let (found, wanted) = file::type_names(value, kind);
    ConfigError::Type { key, found, wanted }
}

/// The option's value through `read`, which gives `None` for a wrong type. Null is as good as absent.
fn typed<T>(raw: &Raw, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, ConfigError> {
    match raw.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| mismatch(key, value)),
    }
}

fn boolean(raw: &Raw, key: &str) -> Result<Option<bool>, ConfigError> {
    typed(raw, key, Value::as_bool)
}

fn integer(raw: &Raw, key: &str) -> Result<Option<i64>, ConfigError> {
    typed(raw, key, Value::as_i64)
}

/// An empty text is as good as none.
fn text(raw: &Raw, key: &str) -> Result<Option<String>, ConfigError> {
    let text = typed(raw, key, |value| value.as_str().map(str::to_owned))?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn path(raw: &Raw, key: &str) -> Result<Option<PathBuf>, ConfigError> {
    let absolute = |text: String| std::path::absolute(&text).unwrap_or_else(|_| text.into());
    Ok(text(raw, key)?.map(absolute))
}

fn list(raw: &Raw, key: &str) -> Result<Vec<String>, ConfigError> {
    let strings =
        |value: &Value| value.as_array()?.iter().map(|item| Some(item.as_str()?.to_owned())).collect();
    Ok(typed(raw, key, strings)?.unwrap_or_default())
}

fn map(raw: &Raw, key: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    Ok(typed(raw, key, strings)?.unwrap_or_default())
}

fn strings(value: &Value) -> Option<BTreeMap<String, String>> {
    value.as_object()?.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn parsed<T: std::str::FromStr>(raw: &Raw, key: &'static str) -> Result<Option<T>, ConfigError> {
    let invalid = |value: &str| ConfigError::Invalid { what: key, value: value.to_owned() };
    text(raw, key)?.map(|text| text.parse().map_err(|_| invalid(&text))).transpose()
}

fn addresses(raw: &Raw, key: &'static str) -> Result<Vec<IpAddr>, ConfigError> {
    let address = |text: &String| {
        text.trim().parse().map_err(|_| ConfigError::Invalid { what: "IP address", value: text.clone() })
    };
    list(raw, key)?.iter().map(address).collect()
}

fn count(raw: &Raw, key: &str, what: &'static str, default: usize) -> Result<usize, ConfigError> {
    match integer(raw, key)? {
        None | Some(0) => Ok(default),
        Some(n) => usize::try_from(n).map_err(|_| ConfigError::Invalid { what, value: n.to_string() }),
    }
}

fn mtu(raw: &Raw) -> Result<u32, ConfigError> {
    let mtu = count(raw, "mtu", "default MTU", 1500)?;
    u32::try_from(mtu).map_err(|_| ConfigError::Invalid { what: "default MTU", value: mtu.to_string() })
}

fn hosts(raw: &Raw, default_port: u16) -> Result<Vec<Listen>, ConfigError> {
    let mut hosts = list(raw, "hosts")?;
    if hosts.is_empty() {
        hosts.push("unix://".to_owned());
    }
    hosts.iter().map(|host| Listen::parse(host, default_port)).collect()
}

/// dockerd looks for certificates where the client does.
fn tls(raw: &Raw) -> Result<Option<Tls>, ConfigError> {
    let verify = boolean(raw, "tlsverify")?;
    let from_environment = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
    let wanted = verify.is_some() || from_environment || boolean(raw, "tls")?.unwrap_or(false);
    if !wanted {
        return Ok(None);
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".docker");
    let dir = std::env::var_os("DOCKER_CERT_PATH").or_else(|| std::env::var_os("DOCKER_CONFIG"));
    let dir = dir.map_or_else(home, PathBuf::from);
    let existing = |name: &str| Some(dir.join(name)).filter(|path| path.exists());
    Ok(Some(Tls {
        certificate: path(raw, "tlscert")?.or_else(|| existing("cert.pem")),
        key: path(raw, "tlskey")?.or_else(|| existing("key.pem")),
        authority: path(raw, "tlscacert")?.unwrap_or_else(|| dir.join("ca.pem")),
        clients: if verify.unwrap_or(true) { Clients::Verified } else { Clients::Anyone },
    }))
}

fn log_level(raw: &Raw) -> Result<tracing::Level, ConfigError> {
    let level = text(raw, "log-level")?.unwrap_or_else(|| "info".to_owned());
    match level.to_lowercase().as_str() {
        "trace" => Ok(tracing::Level::TRACE),
        "debug" => Ok(tracing::Level::DEBUG),
        "info" => Ok(tracing::Level::INFO),
        "warn" | "warning" => Ok(tracing::Level::WARN),
        "error" | "fatal" | "panic" => Ok(tracing::Level::ERROR),
        _ => Err(ConfigError::Invalid { what: "logging level", value: level }),
    }
}

fn log_format(raw: &Raw) -> Result<LogFormat, ConfigError> {
    match text(raw, "log-format")?.as_deref() {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(ConfigError::Invalid { what: "log format", value: other.to_owned() }),
    }
}

/// Where systemd runs the host and cgroups are unified, it must know of every cgroup; elsewhere files will do.
fn cgroup_driver(raw: &Raw) -> Result<CgroupDriver, ConfigError> {
    let mut driver = None;
    let systemd = || Path::new("/run/systemd/system").exists();
    for option in list(raw, "exec-opts")? {
        let invalid = |reason| ConfigError::ExecOption { option: option.clone(), reason };
        let (name, value) = option.split_once('=').unwrap_or((&option, ""));
        driver = match (name.trim().to_lowercase().as_str(), value.trim()) {
            ("", _) | (_, "") => return Err(invalid("must be formatted 'opt=value'")),
            // Every start of a container would fail.
            ("native.cgroupdriver", "systemd") if !systemd() => {
                return Err(invalid("systemd does not run this host; use native.cgroupdriver=cgroupfs"));
            }
            ("native.cgroupdriver", "systemd") => Some(CgroupDriver::Systemd),
            ("native.cgroupdriver", "cgroupfs") => Some(CgroupDriver::Cgroupfs),
            ("native.cgroupdriver", _) => return Err(invalid("only cgroupfs and systemd are available")),
            ("isolation", _) => return Err(invalid("option 'isolation' is only supported on windows")),
            _ => return Err(invalid("unknown option")),
        };
    }
    let unified = || Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let default = || if unified() && systemd() { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
    Ok(driver.unwrap_or_else(default))
}

fn cgroup_parent(raw: &Raw, driver: CgroupDriver) -> Result<Option<String>, ConfigError> {
    let parent = text(raw, "cgroup-parent")?;
    let is_slice = |parent: &String| parent.ends_with(".slice") && !parent.contains('/');
    match driver {
        CgroupDriver::Systemd if !parent.iter().all(is_slice) => Err(ConfigError::CgroupParent),
        CgroupDriver::Systemd | CgroupDriver::Cgroupfs => Ok(parent),
    }
}

fn bridge(raw: &Raw) -> Result<BridgeConfig, ConfigError> {
    let on = |key: &str| boolean(raw, key).map(|value| value.unwrap_or(true));
    let off = |key: &str| boolean(raw, key).map(|value| value.unwrap_or(false));
    let bridge = BridgeConfig {
        name: text(raw, "bridge")?,
        bip: parsed::<Cidr>(raw, "bip")?,
        bip6: parsed::<Cidr>(raw, "bip6")?,
        fixed_cidr: parsed::<Cidr>(raw, "fixed-cidr")?,
        fixed_cidr_v6: parsed::<Cidr>(raw, "fixed-cidr-v6")?,
        mtu: mtu(raw)?,
        default_gateway: parsed(raw, "default-gateway")?,
        default_gateway_v6: parsed(raw, "default-gateway-v6")?,
        ipv6: off("ipv6")?,
        icc: on("icc")?,
        ip: parsed(raw, "ip")?.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        iptables: on("iptables")?,
        ip6tables: on("ip6tables")?,
        ip_forward: on("ip-forward")?,
        ip_forward_no_drop: off("ip-forward-no-drop")?,
        ip_masq: on("ip-masq")? && on("iptables")?,
        userland_proxy: on("userland-proxy")?,
        allow_direct_routing: off("allow-direct-routing")?,
    };
    if bridge.name.is_some() && bridge.bip.is_some() {
        return Err(ConfigError::BridgeAndAddress);
    }
    if !bridge.iptables && !bridge.icc {
        return Err(ConfigError::IsolationWithoutFirewall);
    }
    Ok(bridge)
}

fn host_gateway_ips(raw: &Raw) -> Result<Vec<IpAddr>, ConfigError> {
    match parsed(raw, "host-gateway-ip")? {
        Some(address) => Ok(vec![address]),
        None => addresses(raw, "host-gateway-ips"),
    }
}

fn ulimits(raw: &Raw) -> Result<BTreeMap<String, Ulimit>, ConfigError> {
    let ulimit = |(name, value): (&String, &Value)| {
        let ulimit = Ulimit { soft: value.get("Soft")?.as_i64()?, hard: value.get("Hard")?.as_i64()? };
        Some((name.clone(), ulimit))
    };
    Ok(typed(raw, "default-ulimits", |value| value.as_object()?.iter().map(ulimit).collect())?
        .unwrap_or_default())
}

/// The one option that dockerd's overlay2 has, and one that it once had, which many files still name.
fn size_limit(raw: &Raw) -> Result<u64, ConfigError> {
    let mut limit = 0;
    for option in list(raw, "storage-opts")? {
        let invalid = |reason| ConfigError::StorageOption { option: option.clone(), reason };
        let (key, value) =
            option.split_once('=').ok_or_else(|| invalid("it must be \"key=value\"".to_owned()))?;
        match key.trim().to_lowercase().as_str() {
            "overlay2.size" => {
                limit = binary_size(value.trim()).map_err(|error| invalid(error.to_string()))?;
            }
            "overlay2.override_kernel_check" => {}
            key => return Err(invalid(format!("overlay2: unknown option {key}"))),
        }
    }
    Ok(limit)
}

fn shm_size(raw: &Raw) -> Result<u64, ConfigError> {
    if let Some(bytes) = raw.get("default-shm-size").and_then(Value::as_u64) {
        return Ok(bytes);
    }
    let Some(size) = text(raw, "default-shm-size")? else { return Ok(SHM_SIZE) };
    binary_size(&size).map_err(|e| ConfigError::Invalid { what: "default-shm-size", value: e.to_string() })
}

fn address_pools(raw: &Raw) -> Result<Vec<AddressPool>, ConfigError> {
    let pool = |value: &Value| {
        let base: Cidr = value.get("base")?.as_str()?.parse().ok()?;
        let size = u8::try_from(value.get("size")?.as_i64()?).ok()?;
        let longest = if base.address.is_ipv4() { 32 } else { 128 };
        (base.prefix <= size && size <= longest).then_some(AddressPool { base, size })
    };
    let invalid =
        |value: &Value| ConfigError::Invalid { what: "default address pool", value: value.to_string() };
    match raw.get("default-address-pools") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(pools)) => {
            pools.iter().map(|value| pool(value).ok_or_else(|| invalid(value))).collect()
        }
        Some(other) => Err(mismatch("default-address-pools", other)),
    }
}

fn network_opts(raw: &Raw) -> Result<BTreeMap<String, BTreeMap<String, String>>, ConfigError> {
    let drivers = |value: &Value| {
        value.as_object()?.iter().map(|(driver, opts)| Some((driver.clone(), strings(opts)?))).collect()
    };
    Ok(typed(raw, "default-network-opts", drivers)?.unwrap_or_default())
}

fn ipc_mode(raw: &Raw) -> Result<String, ConfigError> {
    let mode = text(raw, "default-ipc-mode")?.unwrap_or_else(|| "private".to_owned());
    if matches!(mode.as_str(), "private" | "shareable") { Ok(mode) } else { Err(ConfigError::IpcMode(mode)) }
}

fn cgroupns_mode(raw: &Raw) -> Result<Option<String>, ConfigError> {
    match text(raw, "default-cgroupns-mode")? {
        Some(mode) if !matches!(mode.as_str(), "private" | "host") => Err(ConfigError::CgroupNamespace(mode)),
        mode => Ok(mode),
    }
}

fn runtimes(raw: &Raw) -> Result<BTreeMap<String, RuntimeConfig>, ConfigError> {
    let arguments = |value: &Value| -> Option<Vec<String>> {
        let Some(arguments) = value.get("runtimeArgs").filter(|value| !value.is_null()) else {
            return Some(Vec::new());
        };
        arguments.as_array()?.iter().map(|argument| Some(argument.as_str()?.to_owned())).collect()
    };
    let runtime = |(name, value): (&String, &Value)| {
        let path = value.get("path")?.as_str().filter(|path| !path.is_empty())?;
        Some((name.clone(), RuntimeConfig { path: path.into(), args: arguments(value)? }))
    };
    let runtimes: BTreeMap<_, _> =
        typed(raw, "runtimes", |value| value.as_object()?.iter().map(runtime).collect())?.unwrap_or_default();
    if runtimes.contains_key("runc") { Err(ConfigError::ReservedRuntime) } else { Ok(runtimes) }
}

fn labels(raw: &Raw) -> Result<Vec<String>, ConfigError> {
    let labels = list(raw, "labels")?;
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for label in &labels {
        let (key, value) = label.split_once('=').ok_or_else(|| ConfigError::Label(label.clone()))?;
        match seen.insert(key, value) {
            Some(first) if first != value => {
                let (key, first, second) = (key.to_owned(), first.to_owned(), value.to_owned());
                return Err(ConfigError::LabelConflict { key, first, second });
            }
            _ => {}
        }
    }
    Ok(seen.iter().map(|(key, value)| format!("{key}={value}")).collect())
}

fn mirrors(raw: &Raw) -> Result<Vec<String>, ConfigError> {
    let mut mirrors = list(raw, "registry-mirrors")?;
    for mirror in &mut mirrors {
        let host = mirror.strip_prefix("https://").or_else(|| mirror.strip_prefix("http://"));
        let is_url = host.is_some_and(|host| !host.is_empty() && !host.contains(['?', '#', '@']));
        if !is_url {
            return Err(ConfigError::Mirror(std::mem::take(mirror)));
        }
        mirror.truncate(mirror.trim_end_matches('/').len());
        mirror.push('/');
    }
    Ok(mirrors)
}

/// An empty name turns CDI off, as the feature `cdi` set to false does.
fn cdi_spec_dirs(raw: &Raw) -> Result<Vec<PathBuf>, ConfigError> {
    if features(raw)?.get("cdi") == Some(&false) {
        return Ok(Vec::new());
    }
    let named = match raw.get("cdi-spec-dirs") {
        None => CDI_SPEC_DIRS.map(str::to_owned).into(),
        Some(_) => list(raw, "cdi-spec-dirs")?,
    };
    Ok(named.into_iter().filter(|dir| !dir.is_empty()).map(PathBuf::from).collect())
}

fn features(raw: &Raw) -> Result<BTreeMap<String, bool>, ConfigError> {
    let feature = |(name, value): (&String, &Value)| Some((name.clone(), value.as_bool()?));
    Ok(typed(raw, "features", |value| value.as_object()?.iter().map(feature).collect())?.unwrap_or_default())
}
