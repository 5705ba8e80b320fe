//! Which interface and which subnet the default bridge gets: what the host already uses is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::bridge::{OPTION_BINDING, OPTION_ICC, OPTION_MASQUERADE, OPTION_MTU, OPTION_NAME};
use super::model::{Driver, Ipam, Network, Subnet};
use super::options::{BridgeOptions, Labels};
use super::{NetworkError, ipam, link};
use crate::base::sys::netlink::{Family, Socket};

const OPTION_DEFAULT: &str = "com.docker.network.bridge.default_bridge";
const DEFAULT_BRIDGE: &str = "docker0";
/// The bridge beside another engine that has [`DEFAULT_BRIDGE`].
const OWN_BRIDGE: &str = "slipway0";

/// What the daemon's options make of the network `bridge`, whose record gives its id and, if nothing speaks against
/// it, its subnet.
pub(super) fn default_bridge(
    record: Network,
    options: &BridgeOptions,
    taken: &Taken,
) -> Result<Network, NetworkError> {
    let name = match (&options.name, taken.default_bridge) {
        (Some(name), _) => name,
        (None, DefaultBridge::Free) if record.options.get(OPTION_NAME).is_none_or(|n| n != OWN_BRIDGE) => {
            DEFAULT_BRIDGE
        }
        (None, DefaultBridge::Free | DefaultBridge::OfAnotherEngine) => OWN_BRIDGE,
    };
    let own = taken.on(name);
    let before = record.ipam.subnets.iter().find(|s| s.subnet.addr().is_ipv4());
    let address = match (options.bip, own, before) {
        (Some(bip), _, _) => IpNet::V4(bip),
        (None, Some(own), _) => own,
        (None, None, Some(subnet)) if taken.is_free(&subnet.subnet) => first_host(subnet.subnet),
        _ => first_host(ipam::free_subnet(&taken.pools, &taken.nets).ok_or(NetworkError::NoFreePool)?),
    };
    let mut subnets = vec![Subnet {
        subnet: address.trunc(),
        range: options.fixed_cidr.map(IpNet::V4),
        gateway: Some(address.addr()),
        auxiliary: BTreeMap::new(),
    }];
    subnets[0]
        .auxiliary
        .extend(options.default_gateway.map(|ip| ("DefaultGatewayIPv4".to_owned(), IpAddr::V4(ip))));
    if let Some(net) = options.bip6.or(options.fixed_cidr6).filter(|_| options.ipv6).map(IpNet::V6) {
        let gateway = if options.bip6.is_some() { net } else { first_host(net) };
        subnets.push(Subnet {
            subnet: net.trunc(),
            range: options.fixed_cidr6.map(IpNet::V6),
            gateway: Some(gateway.addr()),
            auxiliary: BTreeMap::new(),
        });
    }
    let labels =
        |pairs: [(&str, String); 6]| pairs.map(|(k, v)| (k.to_owned(), v)).into_iter().collect::<Labels>();
    Ok(Network {
        driver: Driver::Bridge,
        ipv4: true,
        ipv6: options.ipv6,
        ipam: Ipam { options: Labels::new(), subnets },
        options: labels([
            (OPTION_DEFAULT, "true".to_owned()),
            (OPTION_ICC, options.icc.to_string()),
            (OPTION_MASQUERADE, options.ip_masq.to_string()),
            (OPTION_BINDING, options.default_binding.to_string()),
            (OPTION_NAME, name.to_owned()),
            (OPTION_MTU, options.mtu.to_string()),
        ]),
        ..record
    })
}

/// The first address of a subnet that a host can have, with the subnet's length.
pub(super) fn first_host(subnet: IpNet) -> IpNet {
    let first = subnet.hosts().next().unwrap_or(subnet.addr());
    // `hosts` of an IPv6 subnet starts at the subnet's own (router anycast) address.
    let first = match (first, subnet) {
        (IpAddr::V6(ip), IpNet::V6(net)) if ip == net.network() => IpAddr::V6((u128::from(ip) + 1).into()),
        (first, _) => first,
    };
    IpNet::new(first, subnet.prefix_len()).unwrap_or(subnet)
}

/// Whom `docker0` belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DefaultBridge {
    /// Nobody, or an engine that does not run any more and whose place we take.
    Free,
    OfAnotherEngine,
}

impl DefaultBridge {
    /// Looks whether dockerd runs in our network namespace.
    fn find() -> Self {
        let pid = fs::read_to_string("/run/docker.pid").ok().and_then(|text| text.trim().parse::<u32>().ok());
        let is_other = |pid: &u32| {
            let netns = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            *pid != std::process::id()
                && name.trim() == "dockerd"
                && netns("thread-self").is_some_and(|own| netns(&pid.to_string()) == Some(own))
        };
        if pid.is_some_and(|pid| is_other(&pid)) { Self::OfAnotherEngine } else { Self::Free }
    }
}

/// Which addresses the host has a use for already.
pub(super) struct Taken {
    /// Destinations of routes, subnets of addresses, name servers, subnets of other networks.
    pub nets: Vec<IpNet>,
    pub pools: Vec<super::AddressPool>,
    pub default_bridge: DefaultBridge,
    by_interface: Vec<(String, IpNet)>,
}

impl Taken {
    /// Reads the host's addresses and routes.
    pub fn read(pools: &[super::AddressPool], networks: &[&Network]) -> io::Result<Self> {
        let socket = Socket::open(Family::Route)?;
        let names: BTreeMap<u32, String> =
            link::list(&socket)?.into_iter().map(|l| (l.index, l.name)).collect();
        let addresses = link::addresses(&socket)?;
        let mut nets = link::routes(&socket)?;
        nets.extend(addresses.iter().map(|a| a.net.trunc()));
        nets.extend(networks.iter().flat_map(|n| n.ipam.subnets.iter().map(|s| s.subnet)));
        nets.extend(name_servers(Path::new("/etc/resolv.conf")));
        let by_interface =
            addresses.iter().filter_map(|a| Some((names.get(&a.index)?.clone(), a.net))).collect();
        let pools = if pools.is_empty() { ipam::default_pools() } else { pools.to_vec() };
        Ok(Self { nets, pools, default_bridge: DefaultBridge::find(), by_interface })
    }

    /// True if a subnet overlaps nothing.
    pub fn is_free(&self, subnet: &IpNet) -> bool {
        !self.nets.iter().any(|net| ipam::overlap(net, subnet))
    }

    /// The IPv4 address of an interface.
    fn on(&self, interface: &str) -> Option<IpNet> {
        let own = self.by_interface.iter().find(|(name, net)| name == interface && net.addr().is_ipv4());
        own.map(|(_, net)| *net)
    }
}

fn name_servers(path: &Path) -> Vec<IpNet> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let servers =
        text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    servers.map(IpNet::from).collect()
}

#[cfg(test)]
mod tests {
    use super::super::bridge::Settings;
    use super::*;

    fn taken(nets: &[&str], docker0: Option<&str>) -> Taken {
        Taken {
            nets: nets.iter().map(|n| n.parse().unwrap()).collect(),
            pools: ipam::default_pools(),
            default_bridge: DefaultBridge::Free,
            by_interface: docker0
                .map(|net| (DEFAULT_BRIDGE.to_owned(), net.parse().unwrap()))
                .into_iter()
                .collect(),
        }
    }

    fn subnet(record: Network, options: &BridgeOptions, taken: &Taken) -> (Network, String) {
        let network = default_bridge(record, options, taken).unwrap();
        let shown =
            format!("{} {}", network.ipam.subnets[0].subnet, network.ipam.subnets[0].gateway.unwrap());
        (network, shown)
    }

    #[test]
    fn the_default_subnet_gives_way_to_routes_and_stays_once_chosen() {
        let options = BridgeOptions::default();
        let fresh = || super::super::predefined("bridge", Driver::Bridge);
        assert_eq!(subnet(fresh(), &options, &taken(&[], None)).1, "172.17.0.0/16 172.17.0.1");
        let (chosen, shown) = subnet(fresh(), &options, &taken(&["172.17.0.0/24"], None));
        assert_eq!(shown, "172.18.0.0/16 172.18.0.1");
        assert_eq!(subnet(chosen.clone(), &options, &taken(&[], None)).1, shown);
        assert_eq!(subnet(chosen, &options, &taken(&["172.18.0.0/16"], None)).1, "172.17.0.0/16 172.17.0.1");
    }

    #[test]
    fn an_existing_interface_and_then_bip_have_precedence() {
        let fresh = || super::super::predefined("bridge", Driver::Bridge);
        let taken = taken(&["10.9.0.0/24"], Some("10.9.0.5/24"));
        assert_eq!(subnet(fresh(), &BridgeOptions::default(), &taken).1, "10.9.0.0/24 10.9.0.5");
        let options =
            BridgeOptions { bip: Some("192.168.5.1/24".parse().unwrap()), ..BridgeOptions::default() };
        assert_eq!(subnet(fresh(), &options, &taken).1, "192.168.5.0/24 192.168.5.1");
    }

    #[test]
    fn beside_another_engine_the_bridge_has_a_name_of_its_own_and_keeps_it() {
        let fresh = super::super::predefined("bridge", Driver::Bridge);
        let mut taken = taken(&["172.17.0.0/16"], None);
        taken.default_bridge = DefaultBridge::OfAnotherEngine;
        let (chosen, shown) = subnet(fresh, &BridgeOptions::default(), &taken);
        assert_eq!(
            (chosen.options[OPTION_NAME].as_str(), shown.as_str()),
            (OWN_BRIDGE, "172.18.0.0/16 172.18.0.1")
        );
        taken.default_bridge = DefaultBridge::Free;
        assert_eq!(subnet(chosen, &BridgeOptions::default(), &taken).0.options[OPTION_NAME], OWN_BRIDGE);
    }

    #[test]
    fn options_of_a_network_name_its_bridge() {
        let (network, _) = subnet(
            super::super::predefined("bridge", Driver::Bridge),
            &BridgeOptions::default(),
            &taken(&[], None),
        );
        let settings = Settings::of(&network);
        assert_eq!((settings.name.as_str(), settings.mtu, settings.icc), ("docker0", 1500, true));
        assert_eq!(settings.binding, Some("0.0.0.0".parse().unwrap()));
        let user = Network { options: Labels::new(), ..network };
        assert_eq!(Settings::of(&user).name, format!("br-{}", user.id.short()));
    }
}
