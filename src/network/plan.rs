//! What connecting a container will do: every decision and every reservation, made before the first effect.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::endpoint_options::EndpointOptions;
use super::ipam::Refused;
use super::link::{self, Mac, PortFlags, Veth};
use super::model::{Driver, Network};
use super::options::Labels;
use super::publish::{self, Ephemeral, Held, PortTable, Publication, Target};
use super::{
    EndpointRequest, EndpointSettings, EndpointState, Inner, NetworkError, NetworkMode, Sandbox,
    SandboxRequest, State, UserNamespace, bridge, mac,
};
use crate::base::id::EndpointId;
use crate::base::missing::missing_is_fine;
use crate::base::sys::netlink::{Message, Socket};
use crate::base::sys::netns;

const HOST_GATEWAY: &str = "host-gateway";
/// The longest interface name (`IFNAMSIZ` without its NUL) is 15 bytes.
pub(super) const VETH_DIGITS: usize = 11;

/// Decisions and reservations. Dropping it gives the reservations back, unless they are [kept](Plan::keep).
pub(super) struct Plan<'a> {
    inner: &'a Inner,
    pub sandbox: Sandbox,
    pub endpoints: Vec<Planned>,
    pub ports: Vec<Held>,
    pub extra_hosts: Vec<(String, IpAddr)>,
    kept: bool,
}

/// A place in one network.
pub(super) struct Planned {
    pub network: Arc<Network>,
    pub state: EndpointState,
    mac: Mac,
    interface: String,
    options: EndpointOptions,
    /// Addresses beside those of the network.
    link_local: Vec<IpNet>,
}

impl Inner {
    /// Decides how a container is connected and reserves what that takes.
    pub(super) fn plan(&self, request: &SandboxRequest) -> Result<Plan<'_>, NetworkError> {
        let mut plan = Plan {
            inner: self,
            sandbox: Sandbox::default(),
            endpoints: Vec::new(),
            ports: Vec::new(),
            extra_hosts: Vec::new(),
            kept: false,
        };
        for (network, settings) in self.wanted(request)? {
            let options = EndpointOptions::read(settings.driver_opts.as_ref().unwrap_or(&Labels::default()))?;
            let interface = options.interface.clone();
            let interface = interface.unwrap_or_else(|| format!("eth{}", plan.endpoints.len()));
            let link_local = link_local(&settings)?;
            let own = own_mac(&settings, &interface)?;
            // Last: what is reserved is given back with the plan, of which it is part from here.
            let (state, mac) = self.reserve(&network, &settings, own, request)?;
            plan.endpoints.push(Planned { network, state, mac, interface, options, link_local });
        }
        plan.choose_gateway(request);
        for extra in &request.extra_hosts {
            plan.extra_hosts.extend(self.extra_host(extra)?);
        }
        plan.hold_ports(request)?;
        plan.sandbox = plan.describe(request);
        Ok(plan)
    }

    /// The mode's own network first, then the others by name; each once.
    fn wanted(
        &self,
        request: &SandboxRequest,
    ) -> Result<Vec<(Arc<Network>, EndpointSettings)>, NetworkError> {
        let main = request.mode.network().unwrap_or_default();
        if request.mode == NetworkMode::Bridge && self.options.bridge.disabled {
            return Err(NetworkError::BridgeDisabled);
        }
        let mut wanted: Vec<(Arc<Network>, EndpointSettings)> =
            vec![(self.resolve(main)?, EndpointSettings::default())];
        for EndpointRequest { network, settings } in &request.endpoints {
            let network = self.resolve(if network == "default" { "bridge" } else { network })?;
            match wanted.iter_mut().find(|(known, _)| known.id == network.id) {
                Some((_, own)) => *own = settings.clone(),
                None => wanted.push((network, settings.clone())),
            }
        }
        wanted[1..].sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        Ok(wanted)
    }

    fn reserve(
        &self,
        network: &Network,
        settings: &EndpointSettings,
        own: Option<Mac>,
        request: &SandboxRequest,
    ) -> Result<(EndpointState, Mac), NetworkError> {
        let mut endpoint = EndpointState {
            network: network.id.clone(),
            endpoint: EndpointId::random(),
            address: None,
            gateway: None,
            address6: None,
            gateway6: None,
            mac_address: String::new(),
            default_route: false,
            dns_names: Vec::new(),
        };
        if network.driver != Driver::Bridge {
            return Ok((endpoint, Mac::default()));
        }
        self.state().take_addresses(network, settings, &mut endpoint)?;
        let usual = || endpoint.address.map_or_else(bridge::random_mac, |net| mac::of(net.addr()));
        let mac = own.unwrap_or_else(usual);
        endpoint.mac_address = mac::print(mac);
        if !network.is_predefined() {
            endpoint.dns_names = dns_names(settings, request);
        }
        Ok((endpoint, mac))
    }

    /// Reads `name:address` or `name=address`; `host-gateway` gives one line for each address of the host.
    fn extra_host(&self, text: &str) -> Result<Vec<(String, IpAddr)>, NetworkError> {
        let bad = || NetworkError::BadExtraHost(text.to_owned());
        let (name, address) = text.split_once(['=', ':']).ok_or_else(bad)?;
        if address != HOST_GATEWAY {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            return Ok(vec![(name.to_owned(), address.parse().map_err(|_| bad())?)]);
        }
        let mut hosts = self.options.host_gateway.clone();
        if hosts.is_empty() {
            let bridge = self.resolve("bridge").map_err(|_| NetworkError::NoHostGateway)?;
            hosts.extend(bridge.ipam.subnets.iter().filter_map(|s| s.gateway));
        }
        Ok(hosts.into_iter().map(|ip| (name.to_owned(), ip)).collect())
    }
}

impl State {
    /// Takes one address of each family that the network has.
    fn take_addresses(
        &mut self,
        network: &Network,
        settings: &EndpointSettings,
        endpoint: &mut EndpointState,
    ) -> Result<(), NetworkError> {
        let wish = settings.ipam.clone().unwrap_or_default();
        if network.ipv4 {
            let (net, gateway) = self.take_address(network, Version::V4, wish.ipv4.map(IpAddr::V4))?;
            if let (IpNet::V4(net), gateway) = (net, gateway) {
                endpoint.address = Some(net);
                endpoint.gateway =
                    gateway.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
            }
        }
        if network.ipv6 {
            let taken = self.take_address(network, Version::V6, wish.ipv6.map(IpAddr::V6));
            let (net, gateway) = taken.inspect_err(|_| self.release_endpoint(endpoint))?;
            if let (IpNet::V6(net), gateway) = (net, gateway) {
                endpoint.address6 = Some(net);
                endpoint.gateway6 =
                    gateway.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
            }
        }
        Ok(())
    }

    fn take_address(
        &mut self,
        network: &Network,
        version: Version,
        wish: Option<IpAddr>,
    ) -> Result<(IpNet, Option<IpAddr>), NetworkError> {
        let exhausted = || NetworkError::NoFreeAddress {
            network: network.name.clone(),
            id: network.id.as_str().to_owned(),
        };
        let mut refused = exhausted();
        let pools = self.pools.get_mut(&network.id).into_iter().flatten();
        for (pool, subnet) in pools.zip(&network.ipam.subnets) {
            if subnet.subnet.addr().is_ipv6() != (version == Version::V6) {
                continue;
            }
            let taken = match wish {
                Some(ip) => pool.take(ip).map(|()| ip),
                None => pool.take_free(),
            };
            refused = match (taken, wish) {
                (Ok(ip), _) => {
                    let net = IpNet::new(ip, pool.subnet().prefix_len()).unwrap_or(IpNet::from(ip));
                    return Ok((net, subnet.gateway));
                }
                (Err(Refused::Taken), _) => return Err(NetworkError::AddressInUse),
                (Err(Refused::OutOfRange), Some(address)) => NetworkError::AddressOutOfRange { address },
                (Err(_), _) => exhausted(),
            };
        }
        Err(refused)
    }

    /// Gives the addresses of a sandbox back.
    pub(super) fn release(&mut self, sandbox: &Sandbox) {
        sandbox.endpoints.values().for_each(|endpoint| self.release_endpoint(endpoint));
    }

    fn release_endpoint(&mut self, endpoint: &EndpointState) {
        let pools = self.pools.get_mut(&endpoint.network).into_iter().flatten();
        for pool in pools {
            let subnet = pool.subnet();
            addresses(endpoint).filter(|ip| subnet.contains(ip)).for_each(|ip| pool.release(ip));
        }
    }
}

impl Plan<'_> {
    fn describe(&self, request: &SandboxRequest) -> Sandbox {
        let named = |e: &Planned| (e.network.name.clone(), e.state.clone());
        let is_bridged = self.endpoints.iter().any(Planned::has_interface);
        let is_own = request.mode != NetworkMode::Host;
        let exposed = if is_bridged { request.exposed.as_slice() } else { &[] };
        Sandbox {
            netns: is_own.then(|| self.inner.netns_path(&request.container)),
            userns: (is_own && request.user != UserNamespace::Host)
                .then(|| self.inner.userns_path(&request.container)),
            endpoints: self.endpoints.iter().map(named).collect(),
            ports: publish::port_map(exposed, self.publications().into_iter()),
            files: Some(request.dir.clone()),
            port_sockets: Vec::new(),
            relays: Vec::new(),
        }
    }

    /// All ports that are published.
    pub fn publications(&self) -> Vec<Publication> {
        self.ports.iter().flat_map(|held| held.publications.iter().copied()).collect()
    }

    /// Ports are published where the default route is; a container without one has nowhere to be reached at.
    fn hold_ports(&mut self, request: &SandboxRequest) -> Result<(), NetworkError> {
        let Some(main) = self.endpoints.iter().find(|e| e.state.default_route) else { return Ok(()) };
        if request.ports.is_empty() {
            return Ok(());
        }
        let (name, endpoint) = (request.name.clone(), main.state.endpoint.clone());
        let target = Target {
            default_binding: bridge::Settings::of(&main.network).binding,
            relays: self.inner.options.bridge.relays,
            loopback6: publish::has_loopback6(),
            ..publish_target(&main.state)
        };
        let ephemeral = Ephemeral::read();
        for group in publish::groups(&request.ports, target) {
            let table = |use_it: &mut dyn FnMut(&mut PortTable)| use_it(&mut self.inner.state().ports);
            match publish::hold(table, &group, target, &ephemeral) {
                Ok(held) => self.ports.push(held),
                Err(cause) => return Err(NetworkError::Publish { name, endpoint, cause }),
            }
        }
        Ok(())
    }

    /// True if any network has IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.endpoints.iter().any(|e| e.state.address6.is_some())
    }

    /// The reservations stay after the plan is gone.
    pub fn keep(mut self) -> Sandbox {
        self.kept = true;
        let mut sandbox = std::mem::take(&mut self.sandbox);
        let options = &self.inner.options.bridge;
        let served = |p: &Publication| options.relays && (!options.firewall || p.crosses_versions());
        let relayed = self.publications().into_iter().filter(served);
        sandbox.relays = relayed.filter_map(|publication| publication.relay()).collect();
        sandbox.port_sockets = self.ports.iter_mut().flat_map(|held| held.sockets.drain(..)).collect();
        sandbox
    }

    /// Highest priority first, then by name, as dockerd chooses; networks without a way out do not count.
    fn choose_gateway(&mut self, request: &SandboxRequest) {
        let priority = |network: &Network| {
            let own = |e: &&EndpointRequest| e.network == network.name || e.network == network.id.as_str();
            request.endpoints.iter().find(own).map_or(0, |e| e.settings.gw_priority)
        };
        let outward = self.endpoints.iter_mut().filter(|e| e.has_interface() && !e.network.internal);
        let best = outward.min_by_key(|e| (std::cmp::Reverse(priority(&e.network)), e.network.name.clone()));
        if let Some(best) = best {
            best.state.default_route = true;
        }
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let mut state = self.inner.state();
            self.endpoints.iter().for_each(|e| state.release_endpoint(&e.state));
            self.publications().iter().for_each(|p| state.ports.release(p.protocol, p.host));
        }
    }
}

impl Planned {
    /// False for `host` and `none`.
    pub fn has_interface(&self) -> bool {
        self.network.driver == Driver::Bridge
    }

    /// The container's addresses here.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        addresses(&self.state)
    }

    /// Makes the pair of interfaces and returns what is left to do inside: addresses and routes. Call in the new
    /// namespace.
    pub fn plug_in(&self, host: &Socket, inside: &Socket, bridge: u32) -> io::Result<Vec<Message>> {
        let netns = netns::current()?;
        let settings = bridge::Settings::of(&self.network);
        let host_name = host_end(&self.state.endpoint);
        let mut outside = vec![link::new_veth(&Veth {
            host_name: &host_name,
            bridge,
            mtu: settings.mtu,
            netns: std::os::fd::AsFd::as_fd(&netns),
            name: &self.interface,
            mac: self.mac,
        })];
        let flags = PortFlags { hairpin: bridge::translates_frames(), isolated: !settings.icc };
        if flags != PortFlags::default() {
            outside.push(link::set_port(&host_name, flags));
        }
        host.request(outside)?;
        let made =
            link::find(inside, &self.interface)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        self.options.apply(&self.interface)?;
        let nets = [self.state.address.map(IpNet::V4), self.state.address6.map(IpNet::V6)];
        let mut changes = vec![link::set_up(made.index)];
        let nets = nets.into_iter().flatten().chain(self.link_local.iter().copied());
        changes.extend(nets.map(|net| link::add_address(made.index, net)));
        if self.state.default_route {
            let gateways = [self.state.gateway.map(IpAddr::V4), self.state.gateway6.map(IpAddr::V6)];
            changes.extend(gateways.into_iter().flatten().map(|ip| link::default_route(made.index, ip)));
        }
        Ok(changes)
    }
}

/// The publications of a sandbox.
pub(super) fn publications(sandbox: &Sandbox) -> Vec<Publication> {
    let main = sandbox.endpoints.values().find(|e| e.default_route);
    main.map(|endpoint| publish::publications(&sandbox.ports, publish_target(endpoint))).unwrap_or_default()
}

fn publish_target(endpoint: &EndpointState) -> Target {
    let (v4, v6) = (endpoint.address.map(|net| net.addr()), endpoint.address6.map(|net| net.addr()));
    // What was relayed when it was published is so still.
    Target { v4, v6, default_binding: None, relays: true, loopback6: false }
}

/// An IP version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    V4,
    V6,
}

/// The hardware address that was asked for.
fn own_mac(settings: &EndpointSettings, interface: &str) -> Result<Option<Mac>, NetworkError> {
    let Some(text) = settings.mac_address.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let mac = mac::parse(text)?;
    match mac::is_one_s_own(mac) {
        true => Ok(Some(mac)),
        false => Err(NetworkError::GroupMac { interface: interface.to_owned(), mac: mac::print(mac) }),
    }
}

/// The name of the host's end of an endpoint's pair of interfaces.
pub(super) fn host_end(endpoint: &EndpointId) -> String {
    format!("{VETH_PREFIX}{}", &endpoint.as_str()[..VETH_DIGITS])
}

/// The names of the host's ends of all pairs of interfaces that a sandbox has.
pub(super) fn host_ends(sandbox: &Sandbox) -> impl Iterator<Item = String> {
    sandbox.endpoints.values().filter(|e| !e.mac_address.is_empty()).map(|e| host_end(&e.endpoint))
}

/// How the names of our interfaces begin.
pub(super) const VETH_PREFIX: &str = "veth";

/// Keeps interfaces that are made from now on in the caller's namespace free of IPv6; the loopback has it already.
pub(super) fn disable_ipv6() -> io::Result<()> {
    missing_is_fine(fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))
}

/// The addresses of an endpoint.
pub(super) fn addresses(endpoint: &EndpointState) -> impl Iterator<Item = IpAddr> {
    let v4 = endpoint.address.map(|net| IpAddr::V4(net.addr()));
    let v6 = endpoint.address6.map(|net| IpAddr::V6(net.addr()));
    v4.into_iter().chain(v6)
}

/// The link-local addresses asked for (RFC 3927, RFC 4291 section 2.5.6).
fn link_local(settings: &EndpointSettings) -> Result<Vec<IpNet>, NetworkError> {
    let asked = settings.ipam.iter().flat_map(|ipam| &ipam.link_local);
    asked
        .map(|ip| {
            let (is_one, bits) = match ip {
                IpAddr::V4(ip) => (ip.is_link_local(), 16),
                IpAddr::V6(ip) => (ip.is_unicast_link_local(), 64),
            };
            let net = IpNet::new(*ip, bits).ok().filter(|_| is_one);
            net.ok_or(NetworkError::NotLinkLocal(*ip))
        })
        .collect()
}

/// The container's name, the aliases, its short id and its host name, each once.
fn dns_names(settings: &EndpointSettings, request: &SandboxRequest) -> Vec<String> {
    let mut names = vec![request.name.clone()];
    names.extend(settings.aliases.iter().flatten().cloned());
    names.extend([request.container.short().to_owned(), request.hostname.clone()]);
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_fit_into_the_kernels_limit() {
        assert!(host_end(&EndpointId::random()).len() < libc::IFNAMSIZ);
    }
}
