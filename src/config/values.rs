//! The forms that single values have on the command line and in the file.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Map as Object, Value, json};

use super::ConfigError;
use super::options::{Raw, Spec};

use crate::base::boolean::parse_bool;

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl FromStr for Cidr {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let prefix: u8 = prefix.parse().map_err(|_| ())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix <= longest { Ok(Self { address, prefix }) } else { Err(()) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A place to listen at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    Unix(PathBuf),
    /// Host and port; an empty host is all addresses.
    Tcp {
        host: String,
        port: u16,
    },
    /// Sockets that systemd has opened: all of them, or those with this name or number.
    Systemd(Option<String>),
}

impl Listen {
    /// Reads `-H`. Without a scheme it is `tcp`; the port's default depends on TLS.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, ConfigError> {
        let invalid = || ConfigError::Host(text.to_owned());
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("tcp", text.trim()));
        match scheme {
            "unix" => {
                Ok(Self::Unix(if rest.is_empty() { "/var/run/docker.sock".into() } else { rest.into() }))
            }
            "fd" => Ok(Self::Systemd((!rest.is_empty() && rest != "*").then(|| rest.to_owned()))),
            "tcp" => {
                let rest = rest.trim_end_matches('/');
                let (host, port) = match rest.rsplit_once(':') {
                    Some((host, port)) if !host.ends_with(':') && !port.contains(']') => {
                        (host, port.parse().map_err(|_| invalid())?)
                    }
                    _ => (rest, default_port),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let host = if rest.is_empty() { "localhost" } else { host };
                if host.contains('/') || port == 0 {
                    Err(invalid())
                } else {
                    Ok(Self::Tcp { host: host.to_owned(), port })
                }
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Systemd(name) => write!(f, "fd://{}", name.as_deref().unwrap_or_default()),
        }
    }
}

/// An OCI runtime other than the embedded one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuntimeConfig {
    pub path: PathBuf,
    pub args: Vec<String>,
}

/// A default resource limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ulimit {
    /// −1 is unlimited.
    pub soft: i64,
    pub hard: i64,
}

/// Addresses that networks get their subnets from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressPool {
    pub base: Cidr,
    /// Prefix length of each subnet.
    pub size: u8,
}

/// A Boolean as Go's `strconv.ParseBool` reads it; the error is Go's.
pub fn boolean(text: &str) -> Result<bool, String> {
    parse_bool(text).ok_or_else(|| format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))
}

/// An integer as Go's `strconv.ParseInt` reads it; the error is Go's.
pub fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
}

/// `name=value`; without `=` the value is empty.
pub fn pair(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

/// Adds the flag of an option with a form of its own to `raw`, in the form that the file has.
pub fn structure(spec: &'static Spec, raw: &mut Raw, text: &str) -> Result<(), String> {
    let split = || text.split_once('=').ok_or_else(|| format!("invalid value {text:?}: expected name=value"));
    let (name, value) = match spec.key {
        "runtimes" => {
            let (name, path) = split().map_err(|_| format!("invalid runtime argument: {text}"))?;
            (name.trim().to_lowercase(), json!({ "path": path.trim() }))
        }
        "default-ulimits" => {
            let (name, limits) = split().map_err(|_| format!("invalid ulimit argument: {text}"))?;
            let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
            (name.to_owned(), json!({ "Name": name, "Soft": integer(soft)?, "Hard": integer(hard)? }))
        }
        "features" => {
            let (name, value) = text.split_once('=').unwrap_or((text, "true"));
            (name.to_owned(), boolean(value)?.into())
        }
        "default-network-opts" => {
            let (driver, option) = split()?;
            let (name, value) = pair(option);
            let opts = raw.entry(spec, Value::Object(Object::new()));
            opts[driver][name] = value.into();
            return Ok(());
        }
        "default-address-pools" => {
            let mut pool = Object::new();
            for field in text.split(',') {
                let (name, value) = pair(field);
                let value = if name == "size" { integer(value)?.into() } else { value.into() };
                pool.insert(name.to_owned(), value);
            }
            if let Value::Array(pools) = raw.entry(spec, Value::Array(Vec::new())) {
                pools.push(pool.into());
            }
            return Ok(());
        }
        _ => (text.to_owned(), Value::Null),
    };
    if let Value::Object(map) = raw.entry(spec, Value::Object(Object::new())) {
        map.insert(name, value);
    }
    Ok(())
}

/// A value as Go's `%v` prints it.
pub fn go_format(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_format).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_format(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_dockerd_reads_them() {
        let tcp = |host: &str, port| Listen::Tcp { host: host.to_owned(), port };
        for (text, expected) in [
            ("unix://", Listen::Unix("/var/run/docker.sock".into())),
            ("unix:///a/b", Listen::Unix("/a/b".into())),
            ("fd://", Listen::Systemd(None)),
            ("fd://docker.socket", Listen::Systemd(Some("docker.socket".to_owned()))),
            ("tcp://0.0.0.0:1", tcp("0.0.0.0", 1)),
            ("tcp://", tcp("localhost", 2375)),
            ("tcp://:7", tcp("", 7)),
            ("tcp://[::1]:2376/", tcp("::1", 2376)),
            ("tcp://[::1]", tcp("::1", 2375)),
            ("1.2.3.4", tcp("1.2.3.4", 2375)),
            ("1.2.3.4:5", tcp("1.2.3.4", 5)),
        ] {
            assert_eq!(Listen::parse(text, 2375).unwrap(), expected, "{text}");
        }
        for bad in ["udp://a:1", "tcp://a:x", "tcp://a:99999", "tcp://a:1/path", "npipe:////./pipe/x"] {
            assert!(Listen::parse(bad, 2375).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_need_a_prefix_that_fits() {
        assert_eq!("10.0.0.1/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.1/8");
        for bad in ["10.0.0.1", "10.0.0.1/33", "x/8", "::1/129"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_place_to_listen_at_survives_being_written(
            text in "(tcp://|unix://|fd://|http://)?([a-z0-9.]{0,5}|\\[?[0-9a-f:]{2,6}\\]?|/[a-z/]{1,6}|\\*)(:[0-9]{0,6})?/?",
            port in 1..=u16::MAX,
        ) {
            let Ok(listen) = Listen::parse(&text, port) else { return Ok(()) };
            prop_assert_eq!(&Listen::parse(&listen.to_string(), 9).unwrap(), &listen, "{}", text);
            let nowhere = matches!(listen, Listen::Tcp { port: 0, .. });
            prop_assert!(!nowhere);
        }

        #[test]
        fn a_network_survives_being_written_and_is_no_longer_than_its_address(
            address in any::<IpAddr>(),
            prefix in 0..200u8,
        ) {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let read = format!("{address}/{prefix}").parse::<Cidr>();
            prop_assert_eq!(read.is_ok(), prefix <= longest);
            if let Ok(read) = read {
                prop_assert_eq!((read.address, read.prefix), (address, prefix));
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
