//! dockerd's flags and `daemon.json`, as validated data.
//!
//! One table ([`options`]) knows every option: its flag, its key in the file, its type, and whether it means anything
//! here. Flags ([`flags`]) and file ([`file`]) are read into the same raw form, merged, and turned into a [`Config`]
//! once ([`read`]). Options that mean nothing here are accepted and reported, so that units and scripts written for
//! dockerd work. Nothing in here touches the system beyond reading the file and looking whether others exist.

mod error;
mod file;
mod flags;
mod live;
mod options;
mod read;
mod remap;
mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use error::ConfigError;
pub use live::Live;
pub use remap::{DEFAULT_USER, InvalidRemap, Name, Remap};
pub use values::{AddressPool, Cidr, Listen, RuntimeConfig, Ulimit};

use crate::base::id_map::IdMaps;

/// The file that is read if none is named; it need not be there.
pub const DEFAULT_FILE: &str = "/etc/docker/daemon.json";

/// What the command line asks for.
pub enum Invocation {
    Run(Box<Started>),
    /// `--validate`: check what can be checked without starting, and say so.
    Check(Box<Config>),
    /// Print this and end well: help, version.
    Print(String),
}

/// A configuration and what it was made from.
pub struct Started {
    pub config: Config,
    pub source: Source,
    /// Options that were given and mean nothing here, with the reason: to be logged once logging works.
    pub ignored: Vec<(String, &'static str)>,
}

/// Where a configuration came from; read again on SIGHUP.
#[derive(Clone)]
pub struct Source {
    flags: options::Raw,
    file: PathBuf,
    file_is_required: bool,
}

/// How containers' cgroups are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

/// How the daemon's own log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

/// How TCP listeners speak TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// `None` only if the user named none and the default does not exist; then listening fails.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub authority: PathBuf,
    pub clients: Clients,
}

/// Who may speak to a TLS listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clients {
    /// Whoever has a certificate signed by the authority.
    Verified,
    Anyone,
}

/// The default bridge, and what holds for all bridge networks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeConfig {
    /// An existing bridge to use instead of `docker0`, or `none`.
    pub name: Option<String>,
    pub bip: Option<Cidr>,
    pub bip6: Option<Cidr>,
    pub fixed_cidr: Option<Cidr>,
    pub fixed_cidr_v6: Option<Cidr>,
    pub mtu: u32,
    pub default_gateway: Option<IpAddr>,
    pub default_gateway_v6: Option<IpAddr>,
    pub ipv6: bool,
    pub icc: bool,
    /// The host address that published ports are bound to if none is given.
    pub ip: IpAddr,
    pub iptables: bool,
    pub ip6tables: bool,
    pub ip_forward: bool,
    pub ip_forward_no_drop: bool,
    pub ip_masq: bool,
    pub userland_proxy: bool,
    pub allow_direct_routing: bool,
}

/// Everything that is decided before the daemon starts. What SIGHUP may change is behind [`Config::live`].
#[derive(Debug)]
pub struct Config {
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub pidfile: PathBuf,
    pub hosts: Vec<Listen>,
    /// Group of the Unix sockets; if the user named it, it must exist.
    pub group: String,
    pub group_is_required: bool,
    pub tls: Option<Tls>,
    pub log_level: tracing::Level,
    pub log_format: LogFormat,
    pub raw_logs: bool,
    pub log_driver: String,
    pub log_opts: BTreeMap<String, String>,
    /// Bytes that a container may write into its root unless it asks for another limit; 0 is no limit.
    pub size_limit: u64,
    pub cgroup_driver: CgroupDriver,
    pub cgroup_parent: Option<String>,
    /// Whether containers get an init process of ours unless they say otherwise.
    pub init: bool,
    pub init_path: Option<PathBuf>,
    pub bridge: BridgeConfig,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_opts: Vec<String>,
    pub host_gateway_ips: Vec<IpAddr>,
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    pub no_proxy: Option<String>,
    pub default_ulimits: BTreeMap<String, Ulimit>,
    /// Bytes.
    pub default_shm_size: u64,
    pub default_address_pools: Vec<AddressPool>,
    /// Options of new networks by driver.
    pub default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    /// `builtin`, `unconfined` or a file.
    pub seccomp_profile: String,
    pub no_new_privileges: bool,
    /// Only what clients are told: the CLI offers checkpoints then.
    pub experimental: bool,
    pub default_ipc_mode: String,
    /// `None`: private on cgroup v2, host on v1.
    pub default_cgroupns_mode: Option<String>,
    pub oom_score_adjust: Option<i32>,
    /// Where files describe devices (CDI), the later before the earlier; none if that is turned off.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Whose ids containers get, as `--userns-remap` names them.
    pub userns_remap: Option<Remap>,
    /// What that means on this host: filled in when the daemon starts. Every id for itself without it.
    pub ids: IdMaps,
    live: live::Slot,
}

impl Config {
    /// What may change while the daemon runs, as it is now. Ask each time; do not keep it.
    pub fn live(&self) -> std::sync::Arc<Live> {
        self.live.load()
    }

    /// Reads the file again and takes over what may change. Returns the attributes of the `reload` event.
    pub fn reload(&self, source: &Source) -> Result<BTreeMap<String, String>, ConfigError> {
        let raw = source.raw()?;
        let fresh = read::live(&raw)?;
        Ok(self.live.replace(fresh))
    }

    /// The configuration of a daemon that was given no flags and no file.
    pub fn default_for(data_root: &Path, exec_root: &Path) -> Self {
        let mut config = read::config(&options::Raw::default()).expect("the defaults are valid");
        config.data_root = data_root.to_owned();
        config.exec_root = exec_root.to_owned();
        config
    }
}

/// Reads the command line (without the program's name) and the file it names.
pub fn load(args: &[String]) -> Result<Invocation, ConfigError> {
    let parsed = flags::parse(args)?;
    match parsed.action {
        flags::Action::Help => return Ok(Invocation::Print(flags::usage())),
        flags::Action::Version => return Ok(Invocation::Print(version())),
        flags::Action::Run | flags::Action::Validate => {}
    }
    let file_is_required = parsed.file.is_some();
    let file = parsed.file.unwrap_or_else(|| DEFAULT_FILE.into());
    let source = Source { flags: parsed.raw, file, file_is_required };
    let raw = source.raw()?;
    let config = read::config(&raw)?;
    if parsed.action == flags::Action::Validate {
        return Ok(Invocation::Check(Box::new(config)));
    }
    Ok(Invocation::Run(Box::new(Started { config, source, ignored: raw.ignored() })))
}

fn version() -> String {
    format!("Docker version {}, build slipway", env!("CARGO_PKG_VERSION"))
}

impl Source {
    /// Flags and file together.
    fn raw(&self) -> Result<options::Raw, ConfigError> {
        let from_file = match file::read(&self.file) {
            Err(ConfigError::Missing { .. }) if !self.file_is_required => options::Raw::default(),
            other => other.map_err(|e| ConfigError::File { path: self.file.clone(), source: Box::new(e) })?,
        };
        options::merge(self.flags.clone(), from_file)
            .map_err(|e| ConfigError::File { path: self.file.clone(), source: Box::new(e) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(flags: &[&str], file: &str) -> Result<Started, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(&path, file).unwrap();
        let mut args: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        args.push(format!("--config-file={}", path.display()));
        match load(&args)? {
            Invocation::Run(started) => Ok(*started),
            Invocation::Check(_) | Invocation::Print(_) => panic!("not a run"),
        }
    }

    #[test]
    fn flags_and_file_add_up_over_the_defaults() {
        let file = r#"{"live-restore": true, "iptables": false, "log-opts": {"max-size": "10m"}, "features": {"a": true},
            "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}], "containerd": "/x",
            "storage-opts": ["overlay2.override_kernel_check=true", "overlay2.size=10G"],
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}}"#;
        let flags = ["-H", "tcp://:1", "-Hunix:///s", "--default-ulimit=core=0:-1", "--default-shm-size=1g"];
        let error = started(&flags, file).err().unwrap().to_string();
        assert!(
            error.ends_with(
                "(from flag: map[core:map[Hard:-1 Name:core Soft:0]], from file: \
            map[nofile:map[Hard:2 Name:nofile Soft:1]])"
            ),
            "{error}"
        );
        let started = started(&["-H", "tcp://:1", "-Hunix:///s", "--default-shm-size=1g"], file).unwrap();
        let config = started.config;
        assert!(
            config.live().live_restore
                && !config.bridge.iptables
                && !config.bridge.ip_masq
                && config.bridge.icc
        );
        assert_eq!(config.log_opts["max-size"], "10m");
        assert_eq!((config.default_shm_size, config.size_limit), (1 << 30, 10 << 30));
        assert_eq!(config.default_ulimits["nofile"], Ulimit { soft: 1, hard: 2 });
        assert_eq!(config.default_address_pools[0].size, 24);
        assert_eq!(config.hosts.len(), 2);
        assert_eq!(config.data_root, Path::new("/var/lib/slipway"));
        assert_eq!(started.ignored, [("containerd".to_owned(), "there is no containerd here")]);
    }

    #[test]
    fn what_dockerd_refuses_is_refused_in_its_words() {
        for (flags, file, text) in [
            (&[][..], r#"{"debug": "yes"}"#, "json: cannot unmarshal string into field debug of type bool"),
            (&["--log-level=loud"], "", "invalid logging level: loud"),
            (&["--label=x"], "", "bad attribute format: x"),
            (&["--label=a=1", "--label=a=2"], "", "conflict labels for a=1 and a=2"),
            (&["--mtu=-1"], "", "invalid default MTU: -1"),
            (&["--mtu=4294967297"], "", "invalid default MTU: 4294967297"),
            (&["--add-runtime=runc=/x"], "", "runtime name 'runc' is reserved"),
            (&["--default-runtime=x"], "", "specified default runtime 'x' does not exist"),
            (&["--registry-mirror=x"], "", "invalid mirror: x"),
            (&["--host=udp://x"], "", "invalid bind address (udp://x)"),
            (&["--exec-opt=native.cgroupdriver"], "", "must be formatted 'opt=value'"),
            (&["--bridge=b", "--bip=10.0.0.1/8"], "", "mutually exclusive options"),
            (&["--icc=false", "--iptables=false"], "", "You specified --iptables=false with --icc=false"),
            (&["--storage-opt=dm.basesize=1g"], "", "overlay2: unknown option dm.basesize"),
            (&["--storage-opt=overlay2.size=x"], "", "invalid size: 'x'"),
            (&["--storage-opt=size"], "", "invalid storage-opt (size)"),
            (&["--userns-remap=a:b:c"], "", "invalid user/group specification in --userns-remap: \"a:b:c\""),
        ] {
            let error = started(flags, file).err().unwrap().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_reload_takes_over_what_may_change_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(&path, "{}").unwrap();
        let Invocation::Run(started) =
            load(&["--config-file".to_owned(), path.display().to_string()]).unwrap()
        else {
            panic!("not a run");
        };
        std::fs::write(&path, r#"{"debug": true, "labels": ["a=b"], "init": true}"#).unwrap();
        let attributes = started.config.reload(&started.source).unwrap();
        assert_eq!((attributes["debug"].as_str(), attributes["labels"].as_str()), ("true", r#"["a=b"]"#));
        assert!(started.config.live().debug && !started.config.init);
        std::fs::write(&path, r#"{"debug": 1}"#).unwrap();
        assert!(started.config.reload(&started.source).is_err());
        assert!(started.config.live().debug);
    }

    #[test]
    fn only_a_named_file_must_exist() {
        assert!(matches!(load(&["--validate".to_owned()]), Ok(Invocation::Check(_))));
        let error = load(&["--config-file=/nonexistent/d.json".to_owned()]).err().unwrap().to_string();
        assert_eq!(
            error,
            "unable to configure the Docker daemon with file /nonexistent/d.json: open /nonexistent/d.json: no such \
             file or directory"
        );
    }
}
