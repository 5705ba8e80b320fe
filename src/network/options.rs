//! What the daemon's configuration says of networks, as validated data.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Everything [`Networks::open`](super::Networks::open) needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Durable records: `<data root>/network`.
    pub state_dir: PathBuf,
    /// Where network namespaces are bound: `<exec root>/netns`.
    pub netns_dir: PathBuf,
    pub bridge: BridgeOptions,
    pub dns: DnsOptions,
    /// What `host-gateway` in extra hosts stands for; empty: the default bridge's own addresses.
    pub host_gateway: Vec<IpAddr>,
    /// Where subnets of new networks are taken from (`default-address-pools`); empty: Docker's pools.
    pub address_pools: Vec<AddressPool>,
}

/// The default bridge, as dockerd's flags describe it.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// The interface (`--bridge`); `None`: `docker0`, created when it is first needed.
    pub name: Option<String>,
    /// No default bridge at all (`--bridge=none`).
    pub disabled: bool,
    /// The bridge's address with its subnet (`--bip`).
    pub bip: Option<Ipv4Net>,
    pub bip6: Option<Ipv6Net>,
    /// The part of the subnet from which containers get addresses.
    pub fixed_cidr: Option<Ipv4Net>,
    pub fixed_cidr6: Option<Ipv6Net>,
    pub default_gateway: Option<Ipv4Addr>,
    pub default_gateway6: Option<Ipv6Addr>,
    pub ipv6: bool,
    pub mtu: u32,
    /// Whether containers of the default bridge reach each other.
    pub icc: bool,
    /// The address to which ports are published when the request names none.
    pub default_binding: IpAddr,
    /// Whether packet filter rules may be set (`--iptables`, `--ip6tables`).
    pub firewall: bool,
    pub firewall6: bool,
    /// Whether the kernel's forwarding is switched on if it is off.
    pub ip_forward: bool,
    pub ip_masq: bool,
}

impl Default for BridgeOptions {
    fn default() -> Self {
        Self {
            name: None,
            disabled: false,
            bip: None,
            bip6: None,
            fixed_cidr: None,
            fixed_cidr6: None,
            default_gateway: None,
            default_gateway6: None,
            ipv6: false,
            mtu: 1500,
            icc: true,
            default_binding: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            firewall: true,
            firewall6: true,
            ip_forward: true,
            ip_masq: true,
        }
    }
}

/// Name servers, search domains and options that replace the host's, each where it is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsOptions {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl DnsOptions {
    /// `self`, with `defaults` where it is empty.
    pub fn or(self, defaults: &DnsOptions) -> DnsOptions {
        fn pick<T: Clone>(own: Vec<T>, default: &[T]) -> Vec<T> {
            if own.is_empty() { default.to_vec() } else { own }
        }
        DnsOptions {
            servers: pick(self.servers, &defaults.servers),
            search: pick(self.search, &defaults.search),
            options: pick(self.options, &defaults.options),
        }
    }
}

/// A range of addresses that is cut into subnets of `size` bits of prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    pub base: IpNet,
    pub size: u8,
}

/// Labels or driver options.
pub type Labels = BTreeMap<String, String>;
