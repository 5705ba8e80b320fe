//! Bridge networks on the host: the interface, its address, the kernel's switches and the packet filter's rules.
//!
//! A bridge is set up when the first container needs it, and checked again when a container cannot be plugged in.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::firewall::{self, Firewall, Transit};
use super::link::{self, Link, Mac};
use super::model::{Driver, Network};
use super::publish::Publication;
use super::{Inner, NetworkError, plan};
use crate::base::id::NetworkId;
use crate::base::sys::netlink::{Family, Socket};
use crate::crash_point;

pub(super) const OPTION_NAME: &str = "com.docker.network.bridge.name";
pub(super) const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(super) const OPTION_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(super) const OPTION_MTU: &str = "com.docker.network.driver.mtu";
const DEFAULT_MTU: u32 = 1500;
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
        match fabric.firewall()?.publish(&translated(publications)) {
            // Somebody flushed the rule set. Laying it down anew opens the ways of all attached containers.
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.lay_down(&mut fabric),
            other => other,
        }
    }

    /// Closes the ways to published ports.
    pub(super) fn withdraw(&self, publications: &[Publication]) -> io::Result<()> {
        let translated = translated(publications);
        if translated.is_empty() || !self.options.bridge.firewall {
            return Ok(());
        }
        self.fabric().firewall()?.withdraw(&translated)
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
        fabric.firewall()?.lay_down(&bridges, &translated(&published), transit)
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

/// Those that the packet filter serves.
fn translated(publications: &[Publication]) -> Vec<Publication> {
    publications.iter().copied().filter(|publication| !publication.crosses_versions()).collect()
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
