//! Bridge networks on the host: the interface, its address, the kernel's switches and the packet filter's rules.
//!
//! A bridge is set up when the first container needs it, and checked again when a container cannot be plugged in.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::firewall::{self, Firewall, Transit};
use super::link::{self, Link, Mac};
use super::model::{Driver, Ipam, Network, Subnet};
use super::options::{BridgeOptions, Labels};
use super::publish::Publication;
use super::{Inner, NetworkError, ipam, plan};
use crate::base::id::NetworkId;
use crate::base::sys::netlink::{Family, Socket};
use crate::crash_point;

pub(super) const OPTION_NAME: &str = "com.docker.network.bridge.name";
const OPTION_DEFAULT: &str = "com.docker.network.bridge.default_bridge";
const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const OPTION_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const OPTION_MTU: &str = "com.docker.network.driver.mtu";
const DEFAULT_BRIDGE: &str = "docker0";
const DEFAULT_MTU: u32 = 1500;
/// The bridge beside another engine that has [`DEFAULT_BRIDGE`].
const OWN_BRIDGE: &str = "slipway0";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const FORWARDING6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// Beside the namespaces (and gone with them when the machine restarts): forwarding was off before us.
const TRANSIT_MARK: &str = ".forwarding-was-off";
const TRANSIT_MARK6: &str = ".forwarding6-was-off";

/// The bridges that are known to be in order.
#[derive(Default)]
pub(super) struct Fabric {
    ready: BTreeMap<NetworkId, Ready>,
    is_watched: bool,
    firewall: Option<Firewall>,
}

impl Fabric {
    /// The packet filter's socket, kept open: closing it after something was removed waits for the kernel's readers
    /// (13 ms; `nft_rcv_nl_event` in net/netfilter/nf_tables_api.c).
    fn firewall(&mut self) -> io::Result<&Firewall> {
        match &mut self.firewall {
            Some(open) => Ok(open),
            none => Ok(none.insert(Firewall::open()?)),
        }
    }
}

struct Ready {
    index: u32,
    rules: firewall::Bridge,
}

/// What a network's options say of its bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub name: String,
    pub mtu: u32,
    pub icc: bool,
    pub masquerade: bool,
    /// The address to which ports are published when the request names none.
    pub binding: Option<IpAddr>,
}

impl Settings {
    pub fn of(network: &Network) -> Self {
        let option = |key| network.options.get(key).map(String::as_str);
        let name = option(OPTION_NAME).filter(|n| !n.is_empty());
        Self {
            name: name.map_or_else(|| format!("br-{}", network.id.short()), str::to_owned),
            mtu: option(OPTION_MTU).and_then(|v| v.parse().ok()).unwrap_or(DEFAULT_MTU),
            icc: option(OPTION_ICC) != Some("false"),
            masquerade: option(OPTION_MASQUERADE) != Some("false"),
            binding: option(OPTION_BINDING).and_then(|v| v.parse().ok()),
        }
    }
}

impl Ready {
    /// Finds or makes the interface of a network.
    fn make(network: &Network) -> io::Result<Self> {
        let settings = Settings::of(network);
        let index = interface(network, &settings)?;
        let subnet =
            |v6: bool| network.ipam.subnets.iter().map(|s| s.subnet).find(|s| s.addr().is_ipv6() == v6);
        let rules = firewall::Bridge {
            name: settings.name,
            subnet4: subnet(false).filter(|_| network.ipv4),
            subnet6: subnet(true).filter(|_| network.ipv6),
            masquerade: settings.masquerade,
            icc: settings.icc,
            internal: network.internal,
        };
        Ok(Self { index, rules })
    }
}

impl Inner {
    /// The interface index of a network's bridge, which is set up if it is not known to be in order.
    pub(super) fn bridge(&self, network: &Network) -> Result<u32, NetworkError> {
        let mut fabric = self.fabric();
        if let Some(ready) = fabric.ready.get(&network.id) {
            return Ok(ready.index);
        }
        let index = self.set_up(network, &mut fabric)?;
        Ok(index)
    }

    /// Has the bridge checked again when it is next needed.
    pub(super) fn doubt_bridge(&self, id: &NetworkId) {
        self.fabric().ready.remove(id);
    }

    fn set_up(&self, network: &Network, fabric: &mut Fabric) -> Result<u32, NetworkError> {
        let ready = Ready::make(network).map_err(NetworkError::kernel("bridge"))?;
        crash_point!("network-bridge-made");
        let index = ready.index;
        fabric.ready.insert(network.id.clone(), ready);
        let done = self.open_the_way(fabric);
        if done.is_err() {
            fabric.ready.remove(&network.id);
        }
        done.map(|()| index).map_err(NetworkError::kernel("bridge rules"))
    }

    /// Takes over the bridges that are there already, and makes the rules say what they should. Returns the indexes of
    /// those bridges.
    pub(super) fn adopt_bridges(&self, present: &[Link]) -> io::Result<Vec<u32>> {
        let networks: Vec<_> = self.state().networks.values().cloned().collect();
        let mut fabric = self.fabric();
        for network in networks.iter().filter(|n| n.driver == Driver::Bridge) {
            let name = Settings::of(network).name;
            if present.iter().any(|link| link.name == name) {
                fabric.ready.insert(network.id.clone(), Ready::make(network)?);
            }
        }
        if !fabric.ready.is_empty() {
            self.open_the_way(&mut fabric)?;
        }
        Ok(fabric.ready.values().map(|ready| ready.index).collect())
    }

    /// Removes a network's bridge with its rules. A bridge that does not exist is no error.
    pub(super) fn tear_down(&self, network: &Network) -> io::Result<()> {
        let mut fabric = self.fabric();
        if fabric.ready.remove(&network.id).is_some() && self.options.bridge.firewall {
            self.lay_down(&mut fabric)?;
        }
        link::delete(&Socket::open(Family::Route)?, &[Settings::of(network).name])
    }

    /// Opens the ways to published ports.
    pub(super) fn publish(&self, publications: &[Publication]) -> io::Result<()> {
        let mut fabric = self.fabric();
        match fabric.firewall()?.publish(publications) {
            // Somebody flushed the rule set. Laying it down anew opens the ways of all attached containers.
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.lay_down(&mut fabric),
            other => other,
        }
    }

    /// Closes the ways to published ports.
    pub(super) fn withdraw(&self, publications: &[Publication]) -> io::Result<()> {
        if publications.is_empty() || !self.options.bridge.firewall {
            return Ok(());
        }
        self.fabric().firewall()?.withdraw(publications)
    }

    /// Makes the packet filter say what it should.
    pub(super) fn lay_down(&self, fabric: &mut Fabric) -> io::Result<()> {
        let transit =
            [TRANSIT_MARK, TRANSIT_MARK6].map(|mark| match self.options.netns_dir.join(mark).exists() {
                true => Transit::Forbidden,
                false => Transit::Allowed,
            });
        let bridges: Vec<_> = fabric.ready.values().map(|r| r.rules.clone()).collect();
        let published: Vec<_> =
            self.state().attached.values().flat_map(|a| plan::publications(&a.sandbox)).collect();
        fabric.firewall()?.lay_down(&bridges, &published, transit)
    }

    /// Whether forwarding must be switched on; remembers that it was off.
    fn must_forward(&self, switch: &str, mark: &str) -> io::Result<bool> {
        if !self.options.bridge.ip_forward || fs::read_to_string(switch)?.trim() != "0" {
            return Ok(false);
        }
        fs::create_dir_all(&self.options.netns_dir)?;
        if !self.options.bridge.ip_forward_no_drop {
            fs::write(self.options.netns_dir.join(mark), "")?;
        }
        Ok(true)
    }

    /// Lays the rules down for all bridges and then switches forwarding on, in this order: nothing may pass before
    /// the rules are there.
    fn open_the_way(&self, fabric: &mut Fabric) -> io::Result<()> {
        let has_ipv6 = fabric.ready.values().any(|ready| ready.rules.subnet6.is_some());
        let forwards = self.must_forward(FORWARDING, TRANSIT_MARK)?;
        let forwards6 = has_ipv6 && self.must_forward(FORWARDING6, TRANSIT_MARK6)?;
        if self.options.bridge.firewall {
            if !fabric.is_watched {
                self.watch()?;
                fabric.is_watched = true;
            }
            self.lay_down(fabric)?;
            // For `curl localhost:PORT` on the host: packets from 127.0.0.1 may leave by the bridge.
            for bridge in fabric.ready.values().filter(|ready| ready.rules.subnet4.is_some()) {
                switch_on(&format!("/proc/sys/net/ipv4/conf/{}/route_localnet", bridge.rules.name))?;
            }
        }
        if forwards {
            switch_on(FORWARDING)?;
        }
        if forwards6 { switch_on(FORWARDING6) } else { Ok(()) }
    }
}

/// Whether the packet filter also handles what a bridge forwards from port to port. Then a frame to a container's own
/// published port is sent back where it came from before it gets to the host, which takes a hairpin.
pub(super) fn translates_frames() -> bool {
    fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|value| value.starts_with(b"1"))
}

/// Writes 1 to a kernel switch that is not 1 yet: the file may be read-only where everything is set already.
fn switch_on(path: &str) -> io::Result<()> {
    if fs::read_to_string(path)?.trim() == "1" { Ok(()) } else { fs::write(path, "1") }
}

/// Finds or makes the interface, up and with the gateway's addresses.
fn interface(network: &Network, settings: &Settings) -> io::Result<u32> {
    let socket = Socket::open(Family::Route)?;
    let found = link::find(&socket, &settings.name)?;
    let index = match &found {
        Some(link) => link.index,
        None => {
            let mtu = (settings.mtu != DEFAULT_MTU).then_some(settings.mtu);
            socket.request(vec![link::new_bridge(&settings.name, random_mac(), mtu)])?;
            let made = link::find(&socket, &settings.name)?;
            made.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.index
        }
    };
    let present: Vec<_> =
        link::addresses(&socket)?.into_iter().filter(|a| a.index == index).map(|a| a.net).collect();
    let missing = gateways(network).filter(|g| !present.contains(g));
    let mut changes: Vec<_> = missing.map(|net| link::add_address(index, net)).collect();
    if found.is_some_and(|link| !link.up) {
        changes.push(link::set_up(index));
    }
    if !changes.is_empty() {
        socket.request(changes)?;
    }
    Ok(index)
}

/// The bridge's own addresses, each with the length of its subnet.
fn gateways(network: &Network) -> impl Iterator<Item = IpNet> {
    let wanted = network.ipam.subnets.iter().filter(|s| s.subnet.addr().is_ipv4() || network.ipv6);
    wanted.filter_map(|s| IpNet::new(s.gateway?, s.subnet.prefix_len()).ok())
}

/// Locally administered, as dockerd's: `02:42:…`.
pub(super) fn random_mac() -> Mac {
    let mut mac = [0x02, 0x42, 0, 0, 0, 0];
    getrandom::fill(&mut mac[2..]).expect("the kernel's random source is always there");
    mac
}

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
