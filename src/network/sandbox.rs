//! What a container asks of its network and what it got: plain data, kept in the container's record.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::options::{DnsOptions, Labels};
use super::port::{ContainerPort, PortMap, PortRequest};
use crate::base::id::{ContainerId, EndpointId, NetworkId};
use crate::base::id_map::IdMaps;
use crate::runtime::protocol::Relay;

/// `HostConfig.NetworkMode`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetworkMode {
    /// The default bridge (`bridge`, `default` and the empty text).
    Bridge,
    /// A namespace with the loopback interface only.
    None,
    /// The host's own namespace.
    Host,
    /// The namespace of another container, by id or name.
    Container(String),
    /// A user-defined network, by name or id.
    User(String),
}

impl NetworkMode {
    /// The name under which the mode's network is listed; `None` for a container's namespace.
    pub fn network(&self) -> Option<&str> {
        match self {
            Self::Bridge => Some("bridge"),
            Self::None => Some("none"),
            Self::Host => Some("host"),
            Self::Container(_) => None,
            Self::User(name) => Some(name),
        }
    }
}

impl FromStr for NetworkMode {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "" | "default" | "bridge" => Self::Bridge,
            "none" => Self::None,
            "host" => Self::Host,
            _ => match text.strip_prefix("container:") {
                Some(target) => Self::Container(target.to_owned()),
                None => Self::User(text.to_owned()),
            },
        })
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(target) => write!(f, "container:{target}"),
            other => f.write_str(other.network().unwrap_or_default()),
        }
    }
}

/// A container's wishes for its place in one network (`EndpointSettings` of a request). Serialised as on the wire.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    #[serde(rename = "IPAMConfig")]
    pub ipam: Option<EndpointIpam>,
    pub links: Option<Vec<String>>,
    pub aliases: Option<Vec<String>>,
    pub mac_address: Option<String>,
    pub driver_opts: Option<Labels>,
    #[serde(deserialize_with = "null_is_default")]
    pub gw_priority: i64,
}

/// Addresses asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpam {
    #[serde(
        rename = "IPv4Address",
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv4: Option<Ipv4Addr>,
    #[serde(
        rename = "IPv6Address",
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv6: Option<Ipv6Addr>,
    #[serde(
        rename = "LinkLocalIPs",
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub link_local: Vec<std::net::IpAddr>,
}

/// Go clients send `null` for what they leave empty.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Clients send `""` for an address that they do not ask for.
fn empty_is_none<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    match Option::<String>::deserialize(from)? {
        Some(text) if !text.is_empty() => text.parse().map(Some).map_err(D::Error::custom),
        _ => Ok(None),
    }
}

/// One network to join.
#[derive(Clone, Debug)]
pub struct EndpointRequest {
    /// Name or id.
    pub network: String,
    pub settings: EndpointSettings,
}

/// Which user namespace a container's network belongs to: what is set in it takes the capabilities of its owner.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum UserNamespace {
    /// The host's.
    #[default]
    Host,
    /// One of the container's own.
    Own(IdMaps),
    /// That of a container whose other namespaces it shares, at this path.
    Of { path: PathBuf, ids: IdMaps },
}

impl UserNamespace {
    /// Whose files the container's root can use.
    pub(super) fn ids(&self) -> IdMaps {
        match self {
            Self::Host => IdMaps::default(),
            Self::Own(ids) | Self::Of { ids, .. } => ids.clone(),
        }
    }
}

/// All that is needed to give a container its network.
#[derive(Clone, Debug)]
pub struct SandboxRequest {
    pub container: ContainerId,
    /// Without the leading slash.
    pub name: String,
    pub hostname: String,
    pub domainname: String,
    pub mode: NetworkMode,
    pub user: UserNamespace,
    /// Settings of the mode's own network, and further networks to join.
    pub endpoints: Vec<EndpointRequest>,
    pub ports: Vec<PortRequest>,
    pub exposed: Vec<ContainerPort>,
    pub dns: DnsOptions,
    /// `name:address` or `name=address`; the address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// Where `hosts`, `hostname` and `resolv.conf` are written.
    pub dir: PathBuf,
}

/// A container's place in one network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointState {
    pub network: NetworkId,
    pub endpoint: EndpointId,
    pub address: Option<Ipv4Net>,
    pub gateway: Option<Ipv4Addr>,
    pub address6: Option<Ipv6Net>,
    pub gateway6: Option<Ipv6Addr>,
    /// `02:42:ac:11:00:02`; empty where the network has no interface of its own (host, none).
    pub mac_address: String,
    /// Whether the container's default route leaves here; its ports are published here too.
    #[serde(default)]
    pub default_route: bool,
    /// Names that resolve to this endpoint on user-defined networks; empty on the predefined ones.
    pub dns_names: Vec<String>,
}

/// The network of a running container. Kept in its record; a daemon that starts again hands it to
/// [`Networks::recover`](super::Networks::recover).
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sandbox {
    /// The namespace to join; `None` for the host's own.
    pub netns: Option<PathBuf>,
    /// The user namespace to join; `None` for the host's.
    #[serde(default)]
    pub userns: Option<PathBuf>,
    /// By network name.
    pub endpoints: BTreeMap<String, EndpointState>,
    pub ports: PortMap,
    /// Where the container's `hosts` is; `None` if it is another container's.
    #[serde(default)]
    pub files: Option<PathBuf>,
    /// Sockets that hold the published ports on the host: for the shim to keep while the container runs.
    #[serde(skip)]
    pub port_sockets: Vec<OwnedFd>,
    /// The published ports that the packet filter cannot serve: for the shim to serve.
    #[serde(skip)]
    pub relays: Vec<Relay>,
}

/// A clone describes the sandbox; it holds no port.
impl Clone for Sandbox {
    fn clone(&self) -> Self {
        Self {
            netns: self.netns.clone(),
            userns: self.userns.clone(),
            endpoints: self.endpoints.clone(),
            ports: self.ports.clone(),
            files: self.files.clone(),
            port_sockets: Vec::new(),
            relays: Vec::new(),
        }
    }
}

/// A container that was running when the daemon started, for [`Networks::recover`](super::Networks::recover).
#[derive(Clone, Debug)]
pub struct LiveSandbox {
    pub container: ContainerId,
    /// Without the leading slash.
    pub name: String,
    pub sandbox: Sandbox,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_from_their_names() {
        for (text, shown) in [
            ("", "bridge"),
            ("default", "bridge"),
            ("none", "none"),
            ("host", "host"),
            ("container:abc", "container:abc"),
            ("mynet", "mynet"),
        ] {
            let Ok(mode) = text.parse::<NetworkMode>();
            assert_eq!(mode.to_string(), shown);
        }
    }

    #[test]
    fn a_stored_sandbox_is_read_back() {
        let endpoint = EndpointState {
            network: NetworkId::random(),
            endpoint: EndpointId::random(),
            address: Some("172.17.0.2/16".parse().unwrap()),
            gateway: Some("172.17.0.1".parse().unwrap()),
            address6: None,
            gateway6: None,
            mac_address: "02:42:ac:11:00:02".into(),
            default_route: true,
            dns_names: Vec::new(),
        };
        let endpoints = BTreeMap::from([("bridge".to_owned(), endpoint)]);
        let sandbox = Sandbox { netns: Some("/run/x".into()), endpoints, ..Sandbox::default() };
        let text = serde_json::to_string(&sandbox).unwrap();
        assert_eq!(serde_json::from_str::<Sandbox>(&text).unwrap().endpoints, sandbox.endpoints);
    }
}
