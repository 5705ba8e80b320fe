//! What our tables say: `ip slipway` and `ip6 slipway`.
//!
//! The rules are few and do not depend on containers; a published port is one element of a map. In `forward` a
//! packet to a bridge is let through if it belongs to a known connection, comes from the same bridge (unless the
//! network forbids it) or was addressed to a published port; anything else towards a bridge is dropped, so networks
//! are isolated from each other and containers cannot be reached around their published ports. Rules of the host's
//! administrator go into the chain `DOCKER-USER`, which is made once and never touched again.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::publish::Publication;
use super::nft::{
    AddressField, CT_ESTABLISHED, CT_RELATED, Direction, Expr, Family, Hook, Is, Map, REG, Table, Verdict,
};
use crate::base::sys::netlink::Message;

pub(super) const TABLE4: Table = Table { family: Family::V4, name: "slipway" };
pub(super) const TABLE6: Table = Table { family: Family::V6, name: "slipway" };

/// Ports published on all addresses: protocol and port → container address and port.
const ANY_ADDRESS: &str = "published";
/// Ports published on one address: address, protocol and port → container address and port.
const ONE_ADDRESS: &str = "published-on";
/// Rules of the host's administrator.
const USER: &str = "DOCKER-USER";

const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const POSTROUTING: &str = "postrouting";
pub(super) const FORWARD: &str = "forward";
const GUARD: &str = "guard";
const OURS: [&str; 5] = [PREROUTING, OUTPUT, POSTROUTING, FORWARD, GUARD];

/// A bridge with its rules' parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::network) struct Bridge {
    pub name: String,
    pub subnet4: Option<IpNet>,
    pub subnet6: Option<IpNet>,
    pub masquerade: bool,
    pub icc: bool,
    pub internal: bool,
}

impl Bridge {
    /// The bridge's subnet in a family.
    pub(super) fn subnet(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => self.subnet4,
            Family::V6 => self.subnet6,
        }
    }
}

/// What happens to packets that pass through the host between interfaces that are none of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::network) enum Transit {
    /// Nothing of our business.
    Allowed,
    /// Forwarding was off before we needed it: the host must not become a router for others.
    Forbidden,
}

/// The messages that bring a table to its right state, whatever it was before; elements of maps are kept.
pub(super) fn lay_down(table: Table, bridges: &[Bridge], transit: Transit) -> Vec<Message> {
    let mut messages =
        vec![table.ensure(), table.ensure_map(any_address(table)), table.ensure_map(one_address(table))];
    messages.push(table.ensure_chain(USER, None));
    for (chain, hook) in hooks(transit) {
        messages.push(table.ensure_chain(chain, Some(hook)));
    }
    messages.extend(OURS.map(|chain| table.flush_chain(chain)));
    for chain in [PREROUTING, OUTPUT] {
        messages.extend(translation(table).map(|rule| table.rule(chain, &rule)));
    }
    if table.family == Family::V4 {
        messages.push(table.rule(GUARD, &LOOPBACK_FROM_OUTSIDE));
    }
    messages.push(table.rule(FORWARD, &[Expr::Jump(USER)]));
    let bridges: Vec<_> = bridges.iter().filter(|b| b.subnet(table.family).is_some()).collect();
    for bridge in &bridges {
        messages.extend(towards(bridge).map(|rule| table.rule(FORWARD, &rule)));
    }
    for bridge in &bridges {
        messages.push(table.rule(FORWARD, &from(bridge)));
        messages.extend(source_translation(table, bridge));
    }
    messages
}

fn hooks(transit: Transit) -> [(&'static str, Hook); 5] {
    let hook = |kind, number, priority| Hook { kind, number, priority, policy: Verdict::Accept };
    let policy = if transit == Transit::Forbidden { Verdict::Drop } else { Verdict::Accept };
    [
        (GUARD, hook("filter", libc::NF_INET_PRE_ROUTING, -300)),
        (PREROUTING, hook("nat", libc::NF_INET_PRE_ROUTING, -100)),
        (OUTPUT, hook("nat", libc::NF_INET_LOCAL_OUT, -100)),
        (POSTROUTING, hook("nat", libc::NF_INET_POST_ROUTING, 100)),
        (FORWARD, Hook { policy, ..hook("filter", libc::NF_INET_FORWARD, 0) }),
    ]
}

/// Bridges accept packets for 127/8 (`route_localnet`, for `curl localhost:PORT` on the host), and translation happens
/// before the kernel would drop such packets: nothing that comes from a wire may be addressed to the loopback.
const LOOPBACK_FROM_OUTSIDE: [Expr<'static>; 3] = [
    Expr::Interface(Direction::In, Is::Different, "lo"),
    Expr::InPrefix(AddressField::Destination, &[127, 0, 0, 0], 8),
    Expr::Verdict(Verdict::Drop),
];

/// Sends what is addressed to a published port of this host to its container.
fn translation(table: Table) -> [Vec<Expr<'static>>; 2] {
    let words = table.family.address_length() / 4;
    let translate = Expr::Translate { address: REG, port: REG + words };
    let one = vec![
        Expr::Local(AddressField::Destination),
        Expr::LoadDestination(REG),
        Expr::LoadProtocol(REG + words),
        Expr::LoadPort(REG + words + 1),
        Expr::LookUp(ONE_ADDRESS),
        translate,
    ];
    let any = vec![
        Expr::Local(AddressField::Destination),
        Expr::LoadProtocol(REG),
        Expr::LoadPort(REG + 1),
        Expr::LookUp(ANY_ADDRESS),
        translate,
    ];
    [one, any]
}

fn towards(bridge: &Bridge) -> impl Iterator<Item = Vec<Expr<'_>>> {
    let out = Expr::Interface(Direction::Out, Is::Equal, &bridge.name);
    let same = Expr::Interface(Direction::In, Is::Equal, &bridge.name);
    let among = if bridge.icc { Verdict::Accept } else { Verdict::Drop };
    let published =
        (!bridge.internal).then(|| vec![out, Expr::CtDestinationTranslated, Expr::Verdict(Verdict::Accept)]);
    [
        Some(vec![out, Expr::CtState(CT_ESTABLISHED | CT_RELATED), Expr::Verdict(Verdict::Accept)]),
        Some(vec![out, same, Expr::Verdict(among)]),
        published,
        Some(vec![out, Expr::Verdict(Verdict::Drop)]),
    ]
    .into_iter()
    .flatten()
}

fn from(bridge: &Bridge) -> Vec<Expr<'_>> {
    let verdict = if bridge.internal { Verdict::Drop } else { Verdict::Accept };
    vec![Expr::Interface(Direction::In, Is::Equal, &bridge.name), Expr::Verdict(verdict)]
}

fn source_translation(table: Table, bridge: &Bridge) -> Vec<Message> {
    let Some(subnet) = bridge.subnet(table.family) else { return Vec::new() };
    let network = octets(subnet.network());
    let out = |is| Expr::Interface(Direction::Out, is, &bridge.name);
    let own = Expr::InPrefix(AddressField::Source, &network, subnet.prefix_len());
    let loopback = Expr::InPrefix(AddressField::Source, &[127, 0, 0, 0], 8);
    let mut rules = Vec::new();
    if table.family == Family::V4 {
        // A container could not answer 127.0.0.1.
        rules.push(table.rule(POSTROUTING, &[out(Is::Equal), loopback, Expr::Masquerade]));
    }
    // A neighbour's answer to a neighbour would go straight there, past the translation.
    let hairpin = [out(Is::Equal), own, Expr::CtDestinationTranslated, Expr::Masquerade];
    rules.push(table.rule(POSTROUTING, &hairpin));
    if bridge.masquerade && !bridge.internal {
        rules.push(table.rule(POSTROUTING, &[own, out(Is::Different), Expr::Masquerade]));
    }
    rules
}

/// The map in which a publication is, with its key and its value.
pub(super) fn element(publication: &Publication) -> (Table, &'static str, Vec<u8>, Vec<u8>) {
    let table = if publication.host.is_ipv4() { TABLE4 } else { TABLE6 };
    let (name, mut key) = match publication.host.ip() {
        ip if ip.is_unspecified() => (ANY_ADDRESS, Vec::new()),
        ip => (ONE_ADDRESS, octets(ip)),
    };
    key.extend([publication.protocol.number(), 0, 0, 0]);
    key.extend(port(publication.host.port()));
    let mut data = octets(publication.container.ip());
    data.extend(port(publication.container.port()));
    (table, name, key, data)
}

/// Removes all publications.
pub(super) fn unpublish_all(table: Table) -> [Message; 2] {
    [ANY_ADDRESS, ONE_ADDRESS].map(|map| table.flush_map(map))
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Network byte order, filled up to a register.
fn port(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [high, low, 0, 0]
}

/// `enum datatypes` of the nft tool, and how it joins them.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_SERVICE: u32 = 13;

fn joined(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, one| all << 6 | one)
}

fn any_address(table: Table) -> Map {
    map(table, ANY_ADDRESS, joined(&[TYPE_PROTOCOL, TYPE_SERVICE]), 8)
}

fn one_address(table: Table) -> Map {
    let key = joined(&[type_of(table), TYPE_PROTOCOL, TYPE_SERVICE]);
    map(table, ONE_ADDRESS, key, table.family.address_length() + 8)
}

fn map(table: Table, name: &'static str, key_type: u32, key_length: u32) -> Map {
    let data_type = joined(&[type_of(table), TYPE_SERVICE]);
    Map { name, key_type, key_length, data_type, data_length: table.family.address_length() + 4 }
}

fn type_of(table: Table) -> u32 {
    match table.family {
        Family::V4 => TYPE_IPV4,
        Family::V6 => TYPE_IPV6,
    }
}
