//! `NetworkSettings`: where a container is in its networks, and which of its ports are published.
//!
//! A container that does not run keeps an entry for each of its networks, without addresses. Addresses are bare,
//! prefix lengths beside them, and `""` where there is none: Go clients parse these strictly.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

use serde::Serialize;

use super::{Shown, Surroundings};
use crate::api::versions::{ApiVersion, Feature};
use crate::network::{EndpointIpam, EndpointSettings, EndpointState, Labels, NetworkMode, PortMap};

/// `NetworkSettings` of inspect, with the top-level fields for the default bridge that 1.52 dropped.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkView<'a> {
    bridge: &'static str,
    #[serde(rename = "SandboxID")]
    sandbox_id: &'a str,
    sandbox_key: String,
    ports: PortMap,
    hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    link_local_address: &'static str,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    link_local_prefix: u8,
    #[serde(rename = "SecondaryIPAddresses")]
    secondary_addresses: (),
    #[serde(rename = "SecondaryIPv6Addresses")]
    secondary_addresses6: (),
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    #[serde(flatten)]
    address: Address,
    networks: BTreeMap<String, Endpoint<'a>>,
}

/// The addresses of one endpoint.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Address {
    gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global6: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    prefix6: u8,
    #[serde(rename = "IPAddress")]
    address: String,
    #[serde(rename = "IPPrefixLen")]
    prefix: u8,
    #[serde(rename = "IPv6Gateway")]
    gateway6: String,
    mac_address: String,
}

/// `EndpointSettings` of a response: the user's wishes and what came of them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Endpoint<'a> {
    #[serde(rename = "IPAMConfig")]
    ipam: Option<&'a EndpointIpam>,
    links: Option<&'a [String]>,
    aliases: Option<Vec<&'a str>>,
    driver_opts: Option<&'a Labels>,
    gw_priority: i64,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    #[serde(flatten)]
    address: Address,
    #[serde(rename = "DNSNames")]
    dns_names: Option<&'a [String]>,
}

/// Whether a view shows what the user asked for beside what came of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Inspect.
    Full,
    /// List: no aliases, links and names.
    Addresses,
}

/// The settings as inspect shows them.
pub(super) fn settings<'a>(
    shown: Shown<'a>,
    around: &dyn Surroundings,
    version: ApiVersion,
) -> NetworkView<'a> {
    let bridge = shown.sandbox.and_then(|sandbox| sandbox.endpoints.get("bridge"));
    let key = shown.sandbox.and_then(|sandbox| sandbox.netns.as_ref());
    let mut networks = endpoints(shown, around, Detail::Full);
    // dockerd adds them when the container is connected.
    if !version.has(Feature::UserAliasesOnly) && shown.was_set_up() {
        networks.iter_mut().for_each(|(name, endpoint)| endpoint.add_own_names(name, shown));
    }
    NetworkView {
        bridge: "",
        sandbox_id: if shown.sandbox.is_some() { shown.record.id.as_str() } else { "" },
        sandbox_key: key.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        ports: shown.sandbox.map(|sandbox| sandbox.ports.clone()).unwrap_or_default(),
        hairpin_mode: false,
        link_local_address: "",
        link_local_prefix: 0,
        secondary_addresses: (),
        secondary_addresses6: (),
        endpoint_id: bridge.map(|endpoint| endpoint.endpoint.to_string()).unwrap_or_default(),
        address: bridge.map(Address::of).unwrap_or_default(),
        networks,
    }
}

/// The container's networks by name: those that it is in while it runs, else those that it will be in.
pub(super) fn endpoints<'a>(
    shown: Shown<'a>,
    around: &dyn Surroundings,
    detail: Detail,
) -> BTreeMap<String, Endpoint<'a>> {
    let Ok(mode) = shown.record.host_config.network_mode.parse::<NetworkMode>();
    let Some(own) = mode.network() else { return BTreeMap::new() };
    let own = if own == "default" { "bridge" } else { own };
    let mut networks = BTreeMap::new();
    let wished = shown.record.endpoints.iter().map(|(term, settings)| (term.as_str(), Some(settings)));
    for (term, settings) in wished.chain([(own, None)]) {
        let network = around.network(term);
        let name = network.as_ref().map_or(term, |network| network.name.as_str());
        let id = network.as_ref().filter(|_| shown.was_set_up()).map(|network| network.id.to_string());
        let place =
            networks.entry(name.to_owned()).or_insert_with(|| Endpoint::absent(id.unwrap_or_default()));
        if let Some(settings) = settings {
            place.wish(settings, detail);
        }
    }
    for (name, state) in shown.sandbox.iter().flat_map(|sandbox| &sandbox.endpoints) {
        networks.entry(name.clone()).or_insert_with(|| Endpoint::absent(String::new())).fill(state, detail);
    }
    networks
}

impl<'a> Endpoint<'a> {
    fn absent(network_id: String) -> Self {
        Self {
            ipam: None,
            links: None,
            aliases: None,
            driver_opts: None,
            gw_priority: 0,
            network_id,
            endpoint_id: String::new(),
            address: Address::default(),
            dns_names: None,
        }
    }

    fn wish(&mut self, settings: &'a EndpointSettings, detail: Detail) {
        self.ipam = settings.ipam.as_ref();
        self.gw_priority = settings.gw_priority;
        self.address.mac_address = settings.mac_address.clone().unwrap_or_default();
        if detail == Detail::Full {
            self.links = settings.links.as_deref();
            self.aliases = settings.aliases.as_ref().map(|list| list.iter().map(String::as_str).collect());
            self.driver_opts = settings.driver_opts.as_ref();
        }
    }

    fn fill(&mut self, state: &'a EndpointState, detail: Detail) {
        self.network_id = state.network.to_string();
        self.endpoint_id = state.endpoint.to_string();
        self.address = Address::of(state);
        if detail == Detail::Full && !state.dns_names.is_empty() {
            self.dns_names = Some(&state.dns_names);
        }
    }

    /// Older clients find the container's own names among the aliases of user-defined networks.
    fn add_own_names(&mut self, network: &str, shown: Shown<'a>) {
        if crate::network::is_predefined(network) {
            return;
        }
        let aliases = self.aliases.get_or_insert_default();
        for name in [shown.record.id.short(), shown.record.config.hostname.as_str()] {
            if !aliases.contains(&name) {
                aliases.push(name);
            }
        }
    }
}

impl Address {
    fn of(state: &EndpointState) -> Self {
        Self {
            gateway: text(state.gateway),
            global6: text(state.address6.map(|net| net.addr())),
            prefix6: state.address6.map_or(0, |net| net.prefix_len()),
            address: text(state.address.map(|net| net.addr())),
            prefix: state.address.map_or(0, |net| net.prefix_len()),
            gateway6: text(state.gateway6),
            mac_address: state.mac_address.clone(),
        }
    }
}

fn text(address: Option<impl Display>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

/// One line of `Ports` in a list; a port that is not published has neither `IP` nor `PublicPort`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortView {
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    protocol: &'static str,
}

impl PortView {
    /// The container's number.
    pub(super) fn private(&self) -> u16 {
        self.private_port
    }

    /// The host's number, if it is published.
    pub(super) fn public(&self) -> Option<u16> {
        self.public_port
    }

    /// `tcp`, `udp` or `sctp`.
    pub(super) fn protocol(&self) -> &'static str {
        self.protocol
    }
}

/// The ports of a running container as the list has them.
pub(super) fn ports(shown: Shown<'_>) -> Vec<PortView> {
    let mut list = Vec::new();
    for (port, bindings) in shown.sandbox.iter().flat_map(|sandbox| &sandbox.ports) {
        let line = |ip, public_port| PortView {
            ip,
            private_port: port.port,
            public_port,
            protocol: port.protocol.as_str(),
        };
        match bindings.as_deref() {
            None | Some([]) => list.push(line(None, None)),
            Some(bindings) => list.extend(bindings.iter().map(|b| line(Some(b.host_ip), Some(b.host_port)))),
        }
    }
    list
}
