//! What the daemon's configuration says of networks, as validated data.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{BridgeConfig, Cidr, Config};

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

impl Options {
    /// What the daemon was started with.
    pub fn of(config: &Config) -> Self {
        let dns = DnsOptions {
            servers: config.dns.clone(),
            search: config.dns_search.clone(),
            options: config.dns_opts.clone(),
        };
        let pool =
            |pool: &crate::config::AddressPool| Some(AddressPool { base: net(&pool.base)?, size: pool.size });
        Self {
            state_dir: config.data_root.join("network"),
            netns_dir: config.exec_root.join("netns"),
            bridge: BridgeOptions::of(&config.bridge),
            dns,
            host_gateway: config.host_gateway_ips.clone(),
            address_pools: config.default_address_pools.iter().filter_map(pool).collect(),
        }
    }
}

impl BridgeOptions {
    fn of(config: &BridgeConfig) -> Self {
        let v4 = |cidr: &Option<Cidr>| match cidr.as_ref().and_then(net) {
            Some(IpNet::V4(net)) => Some(net),
            _ => None,
        };
        let v6 = |cidr: &Option<Cidr>| match cidr.as_ref().and_then(net) {
            Some(IpNet::V6(net)) => Some(net),
            _ => None,
        };
        let disabled = config.name.as_deref() == Some("none");
        Self {
            name: config.name.clone().filter(|_| !disabled),
            disabled,
            bip: v4(&config.bip),
            bip6: v6(&config.bip6),
            fixed_cidr: v4(&config.fixed_cidr),
            fixed_cidr6: v6(&config.fixed_cidr_v6),
            default_gateway: config
                .default_gateway
                .and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }),
            ipv6: config.ipv6,
            mtu: config.mtu,
            icc: config.icc,
            default_binding: config.ip,
            firewall: config.iptables,
            relays: config.userland_proxy,
            ip_forward: config.ip_forward,
            ip_forward_no_drop: config.ip_forward_no_drop,
            ip_masq: config.ip_masq,
        }
    }
}

fn net(cidr: &Cidr) -> Option<IpNet> {
    IpNet::new(cidr.address, cidr.prefix).ok()
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
    pub ipv6: bool,
    pub mtu: u32,
    /// Whether containers of the default bridge reach each other.
    pub icc: bool,
    /// The address to which ports are published when the request names none.
    pub default_binding: IpAddr,
    /// Whether packet filter rules may be set (`--iptables`).
    pub firewall: bool,
    /// Whether shims serve the published ports that the packet filter does not (`--userland-proxy`).
    pub relays: bool,
    /// Whether the kernel's forwarding is switched on if it is off.
    pub ip_forward: bool,
    /// Whether the host may then forward for others too.
    pub ip_forward_no_drop: bool,
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
            ipv6: false,
            mtu: 1500,
            icc: true,
            default_binding: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            firewall: true,
            relays: true,
            ip_forward: true,
            ip_forward_no_drop: false,
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
