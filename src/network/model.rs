//! A network as the API describes it. Immutable once created; who is attached is kept by [`Networks`](super::Networks).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::options::Labels;
use crate::base::id::NetworkId;
use crate::base::time::Timestamp;

/// What implements a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    Bridge,
    Host,
    /// Loopback only: the network `none`.
    Null,
}

impl Driver {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// One network. Serialised into its durable record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    pub name: String,
    pub created: Timestamp,
    pub driver: Driver,
    pub ipv4: bool,
    pub ipv6: bool,
    /// Reaches nothing outside itself.
    pub internal: bool,
    pub attachable: bool,
    pub ipam: Ipam,
    pub options: Labels,
    pub labels: Labels,
}

impl Network {
    /// True for `bridge`, `host` and `none`, which nobody creates or removes.
    pub fn is_predefined(&self) -> bool {
        is_predefined(&self.name)
    }
}

/// True for the names of the networks that always exist (and `default`, which stands for `bridge`).
pub fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

/// The address management of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipam {
    pub options: Labels,
    /// IPv4 first.
    pub subnets: Vec<Subnet>,
}

/// One subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet: IpNet,
    /// Where addresses are taken from, if not from the whole subnet.
    pub range: Option<IpNet>,
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given to containers, by label.
    pub auxiliary: std::collections::BTreeMap<String, IpAddr>,
}
