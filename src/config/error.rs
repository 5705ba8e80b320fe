//! Why a configuration is refused, in dockerd's words where it has some.

use std::io;
use std::path::PathBuf;

/// Why the daemon does not start, or keeps its configuration on SIGHUP.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("unknown flag: --{flag}{}", did_you_mean("--", .nearest))]
    UnknownFlag { flag: String, nearest: Option<&'static str> },
    #[error("unknown shorthand flag: '{flag}' in -{word}")]
    UnknownShorthand { flag: char, word: String },
    #[error("flag needs an argument: --{0}")]
    MissingArgument(&'static str),
    #[error("invalid argument {value:?} for \"--{flag}\" flag: {reason}")]
    InvalidArgument { value: String, flag: &'static str, reason: String },
    #[error("slipwayd accepts no arguments: {0:?}")]
    Argument(String),
    #[error("unable to configure the Docker daemon with file {}: {source}", path.display())]
    File { path: PathBuf, source: Box<ConfigError> },
    #[error("open {}: no such file or directory", path.display())]
    Missing { path: PathBuf },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("not a JSON object")]
    NotAnObject,
    #[error("the following directives don't match any configuration option: {}", list(.0))]
    UnknownKeys(Vec<(String, Option<&'static str>)>),
    #[error(
        "the following directives are specified both as a flag and in the configuration file: {}",
        .0.join(", ")
    )]
    Conflicts(Vec<String>),
    #[error("host-gateway-ip and host-gateway-ips must not both be specified in the config file")]
    GatewayTwice,
    #[error("json: cannot unmarshal {found} into field {key} of type {wanted}")]
    Type { key: &'static str, found: &'static str, wanted: &'static str },
    #[error("invalid {what}: {value}")]
    Invalid { what: &'static str, value: String },
    #[error("invalid bind address ({0})")]
    Host(String),
    #[error("bad attribute format: {0}")]
    Label(String),
    #[error("conflict labels for {key}={first} and {key}={second}")]
    LabelConflict { key: String, first: String, second: String },
    #[error("invalid mirror: {0}")]
    Mirror(String),
    #[error("invalid exec-opt ({option}): {reason}")]
    ExecOption { option: String, reason: &'static str },
    #[error("invalid storage-opt ({option}): {reason}")]
    StorageOption { option: String, reason: String },
    #[error("runtime name 'runc' is reserved")]
    ReservedRuntime,
    #[error("specified default runtime '{0}' does not exist")]
    UnknownRuntime(String),
    #[error("default IPC mode setting ({0}) is invalid; use \"shareable\" or \"private\"")]
    IpcMode(String),
    #[error("invalid default cgroup namespace ({0}): use \"host\" or \"private\"")]
    CgroupNamespace(String),
    #[error("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"")]
    CgroupParent,
    #[error("You specified -b & --bip, mutually exclusive options. Please specify only one")]
    BridgeAndAddress,
    #[error(
        "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or \
         --iptables to true"
    )]
    IsolationWithoutFirewall,
    #[error(transparent)]
    Remap(#[from] super::InvalidRemap),
    #[error("{option} is not supported: {reason}")]
    Unsupported { option: &'static str, reason: &'static str },
}

fn did_you_mean(prefix: &str, nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(" (did you mean {prefix}{nearest}?)"))
}

fn list(keys: &[(String, Option<&'static str>)]) -> String {
    let keys: Vec<String> =
        keys.iter().map(|(key, nearest)| format!("{key}{}", did_you_mean("", nearest))).collect();
    keys.join(", ")
}
