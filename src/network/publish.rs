//! Published ports: which host port a request gets, and the socket that holds it.
//!
//! A port is held by a listening (or bound) socket that nobody reads: it keeps other programs from taking the port,
//! and the container's shim keeps it when the daemon dies. Packets never reach it, because the packet filter sends
//! them on before they are delivered; but where host and container have no IP version in common, which the packet
//! filter cannot translate, and the shim carries the traffic ([`Publication::relay`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen, setsockopt,
    socket, sockopt,
};

use super::PublishError;
use super::port::{ContainerPort, HostPorts, PortBinding, PortMap, PortRequest, Protocol};
use crate::runtime::protocol::{Relay, RelayProtocol};

/// How often another port is tried when one of a range turns out to be held by somebody else.
const ATTEMPTS: usize = 10;
/// Used where the kernel does not tell its range.
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// A published port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Publication {
    pub protocol: Protocol,
    pub host: SocketAddr,
    pub container: SocketAddr,
}

impl Publication {
    /// False if the packet filter can serve this port: it translates addresses of one version.
    pub fn crosses_versions(&self) -> bool {
        self.host.is_ipv4() != self.container.is_ipv4()
    }

    /// How the shim serves this port.
    pub fn relay(&self) -> Option<Relay> {
        let protocol = match self.protocol {
            Protocol::Tcp => RelayProtocol::Tcp,
            Protocol::Udp => RelayProtocol::Udp,
            Protocol::Sctp => return None,
        };
        Some(Relay { protocol, host: self.host, container: self.container })
    }
}

/// The container's addresses on the network through which its ports are published.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    /// Where ports are published when the request names no address.
    pub default_binding: Option<IpAddr>,
    /// Whether ports are published on addresses of the IP version that the container lacks.
    pub relays: bool,
    /// Whether the host has `::1`.
    pub loopback6: bool,
}

impl Target {
    /// The container's address at which a port on `host` is served: of the same version if it has one.
    fn behind(&self, host: IpAddr, protocol: Protocol) -> Option<IpAddr> {
        let (v4, v6) = (self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6));
        let (same, other) = if host.is_ipv4() { (v4, v6) } else { (v6, v4) };
        same.or(other.filter(|_| self.relays && protocol != Protocol::Sctp))
    }
}

/// Requests that must get the same host port: they differ in the host's address only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Group {
    container: ContainerPort,
    host: HostPorts,
    addresses: Vec<IpAddr>,
}

/// Sorts requests into groups: exact ports first, so that no range takes them. Addresses at which the container cannot
/// be served are left out.
pub(super) fn groups(requests: &[PortRequest], target: Target) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for request in requests {
        let addresses = host_addresses(request, target);
        let same = groups.iter_mut().find(|g| (g.container, g.host) == (request.container, request.host));
        match same {
            Some(group) => group.addresses.extend(addresses),
            None => groups.push(Group { container: request.container, host: request.host, addresses }),
        }
    }
    for group in &mut groups {
        group.addresses.sort();
        group.addresses.dedup();
    }
    groups.retain(|group| !group.addresses.is_empty());
    groups.sort_by_key(|group| (Reverse(is_exact(group.host)), group.container, group.host));
    groups
}

fn is_exact(ports: HostPorts) -> bool {
    matches!(ports, HostPorts::Range { first, last } if first == last)
}

/// Without an address in the request: all of IPv4, and all of IPv6 if the container has that. If it has not, then the
/// host's own loopback, so that `localhost` works whatever it resolves to; the world's IPv6 clients would appear in
/// the container under the host's address, and so get in only where the request says so.
fn host_addresses(request: &PortRequest, target: Target) -> Vec<IpAddr> {
    let default = target.default_binding.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut addresses = vec![request.host_ip.unwrap_or(default)];
    if request.host_ip.is_none() && default == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        match target.v6 {
            Some(_) => addresses.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            None if target.loopback6 => addresses.push(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            None => {}
        }
    }
    addresses.retain(|ip| target.behind(*ip, request.container.protocol).is_some());
    addresses
}

/// Whether the host has `::1` (proc_net: an address in hexadecimal begins each line).
pub(super) fn has_loopback6() -> bool {
    let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    addresses.lines().any(|line| line.starts_with("00000000000000000000000000000001 "))
}

/// Which host ports our containers have, and where the search for a free one goes on.
#[derive(Default)]
pub(super) struct PortTable {
    taken: BTreeMap<(Protocol, u16), Vec<IpAddr>>,
    last: HashMap<(Protocol, u16, u16), u16>,
}

impl PortTable {
    /// Takes a port on all `addresses` at once.
    pub fn take(
        &mut self,
        protocol: Protocol,
        addresses: &[IpAddr],
        host: HostPorts,
        ephemeral: &Ephemeral,
    ) -> Result<u16, PublishError> {
        let (first, last) = match host {
            HostPorts::Any => ephemeral.range,
            HostPorts::Range { first, last } => (first, last),
        };
        if first == last
            && let Some(ip) = addresses.iter().find(|ip| self.is_taken(protocol, first, **ip))
        {
            return Err(PublishError::Allocated { ip: *ip, port: first });
        }
        let before = self.last.get(&(protocol, first, last)).copied().unwrap_or(last);
        let order = (before..=last).skip(1).chain(first..=before);
        let usable = |port: &u16| host != HostPorts::Any || !ephemeral.reserved.contains(port);
        let free = |port: &u16| addresses.iter().all(|ip| !self.is_taken(protocol, *port, *ip));
        let port = order.filter(usable).find(free).ok_or(PublishError::Exhausted)?;
        self.last.insert((protocol, first, last), port);
        self.taken.entry((protocol, port)).or_default().extend(addresses);
        Ok(port)
    }

    /// Takes exactly this: for containers that run already.
    pub fn take_over(&mut self, protocol: Protocol, host: SocketAddr) {
        self.taken.entry((protocol, host.port())).or_default().push(host.ip());
    }

    /// Gives a port on one address back.
    pub fn release(&mut self, protocol: Protocol, host: SocketAddr) {
        if let Some(addresses) = self.taken.get_mut(&(protocol, host.port())) {
            addresses.retain(|ip| *ip != host.ip());
            if addresses.is_empty() {
                self.taken.remove(&(protocol, host.port()));
            }
        }
    }

    /// All addresses of the host conflict with each of its addresses of the same family.
    fn is_taken(&self, protocol: Protocol, port: u16, ip: IpAddr) -> bool {
        let taken = self.taken.get(&(protocol, port)).into_iter().flatten();
        taken
            .filter(|other| other.is_ipv4() == ip.is_ipv4())
            .any(|other| *other == ip || other.is_unspecified() || ip.is_unspecified())
    }
}

/// The ports from which the kernel chooses too.
pub(super) struct Ephemeral {
    range: (u16, u16),
    /// Ports that nobody may be given without asking for them.
    reserved: Vec<u16>,
}

impl Ephemeral {
    /// Reads the kernel's range and its exceptions.
    pub fn read() -> Self {
        let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        Self {
            range: parse_range(&read("ip_local_port_range")).unwrap_or(EPHEMERAL),
            reserved: parse_list(&read("ip_local_reserved_ports")),
        }
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(|n| n.parse().ok());
    let (first, last) = (numbers.next()??, numbers.next()??);
    (first > 0 && first <= last).then_some((first, last))
}

/// `1234,8000-8010`.
fn parse_list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// A port that is taken, with the sockets that hold it.
#[derive(Debug)]
pub(super) struct Held {
    pub publications: Vec<Publication>,
    pub sockets: Vec<OwnedFd>,
}

/// Takes a port for a group from the table and from the kernel. A port that somebody else holds is passed over when
/// the request leaves a choice.
pub(super) fn hold(
    table: impl Fn(&mut dyn FnMut(&mut PortTable)),
    group: &Group,
    target: Target,
    ephemeral: &Ephemeral,
) -> Result<Held, PublishError> {
    let protocol = group.container.protocol;
    let mut attempt = 0;
    loop {
        let mut taken = Err(PublishError::Exhausted);
        table(&mut |table| taken = table.take(protocol, &group.addresses, group.host, ephemeral));
        let port = taken?;
        let hosts: Vec<_> = group.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        match hosts.iter().map(|host| bound_socket(protocol, *host)).collect::<Result<Vec<_>, _>>() {
            Ok(sockets) => {
                let publications =
                    hosts.iter().filter_map(|host| publication(group, target, *host)).collect();
                return Ok(Held { publications, sockets: sockets.into_iter().flatten().collect() });
            }
            Err(error) => {
                table(&mut |table| hosts.iter().for_each(|host| table.release(protocol, *host)));
                attempt += 1;
                if is_exact(group.host) || attempt == ATTEMPTS {
                    return Err(error);
                }
            }
        }
    }
}

fn publication(group: &Group, target: Target, host: SocketAddr) -> Option<Publication> {
    let protocol = group.container.protocol;
    let container = SocketAddr::new(target.behind(host.ip(), protocol)?, group.container.port);
    Some(Publication { protocol, host, container })
}

/// `None` where the kernel has no sockets of this protocol: then nobody else can take the port either.
fn bound_socket(protocol: Protocol, host: SocketAddr) -> Result<Option<OwnedFd>, PublishError> {
    let failed = |source| PublishError::Bind { ip: host.ip(), port: host.port(), protocol, source };
    match open_bound(protocol, host) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) if protocol == Protocol::Sctp => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

fn open_bound(protocol: Protocol, host: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if host.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, number)?;
    if protocol == Protocol::Tcp {
        // Connections of the port's last owner may still be closing.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    if host.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(host))?;
    Ok(fd)
}

/// Has the sockets listen: without that another socket could be bound beside them. Call when the packet filter knows
/// the ports, so that no connection is ever accepted here.
pub(super) fn guard(held: &[Held]) -> Result<(), PublishError> {
    for held in held {
        let connected =
            held.publications.iter().zip(&held.sockets).filter(|(p, _)| p.protocol != Protocol::Udp);
        for (publication, socket) in connected {
            let failed = |source| PublishError::Bind {
                ip: publication.host.ip(),
                port: publication.host.port(),
                protocol: publication.protocol,
                source,
            };
            listen(socket, Backlog::MAXCONN).map_err(failed)?;
        }
    }
    Ok(())
}

/// `NetworkSettings.Ports`: what is published, and null for what is only exposed.
pub(super) fn port_map(
    exposed: &[ContainerPort],
    publications: impl Iterator<Item = Publication>,
) -> PortMap {
    let mut map: PortMap = exposed.iter().map(|port| (*port, None)).collect();
    for publication in publications {
        let port = ContainerPort { port: publication.container.port(), protocol: publication.protocol };
        let binding = PortBinding { host_ip: publication.host.ip(), host_port: publication.host.port() };
        map.entry(port).or_default().get_or_insert_default().push(binding);
    }
    map
}

/// The publications that a port map stands for.
pub(super) fn publications(map: &PortMap, target: Target) -> Vec<Publication> {
    let bindings = map.iter().flat_map(|(port, bindings)| bindings.iter().flatten().map(move |b| (port, b)));
    bindings
        .filter_map(|(port, binding)| {
            let group = Group { container: *port, host: HostPorts::Any, addresses: Vec::new() };
            publication(&group, target, SocketAddr::new(binding.host_ip, binding.host_port))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPHEMERAL: Ephemeral = Ephemeral { range: (100, 103), reserved: Vec::new() };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn request(container: &str, host_ip: &str, host: &str) -> PortRequest {
        let host_ip = (!host_ip.is_empty()).then(|| ip(host_ip));
        PortRequest { container: container.parse().unwrap(), host_ip, host: host.parse().unwrap() }
    }

    fn v4() -> Target {
        Target {
            v4: Some("172.17.0.2".parse().unwrap()),
            v6: None,
            default_binding: None,
            relays: true,
            loopback6: true,
        }
    }

    #[test]
    fn one_port_conflicts_with_the_same_address_and_with_all_addresses() {
        let mut table = PortTable::default();
        let mut take = |address: &str, protocol| {
            let exact = HostPorts::Range { first: 80, last: 80 };
            table.take(protocol, &[ip(address)], exact, &EPHEMERAL).map_err(|e| e.to_string())
        };
        assert_eq!(take("127.0.0.1", Protocol::Tcp), Ok(80));
        assert_eq!(take("127.0.0.2", Protocol::Tcp), Ok(80));
        assert_eq!(take("::", Protocol::Tcp), Ok(80));
        assert_eq!(take("0.0.0.0", Protocol::Udp), Ok(80));
        assert_eq!(
            take("0.0.0.0", Protocol::Tcp).unwrap_err(),
            "Bind for 0.0.0.0:80 failed: port is already allocated"
        );
        assert!(take("127.0.0.1", Protocol::Udp).is_err());
    }

    #[test]
    fn ephemeral_ports_are_given_in_turn_and_reserved_ones_never() {
        let mut table = PortTable::default();
        let ephemeral = Ephemeral { range: (100, 103), reserved: vec![101] };
        let any = [ip("0.0.0.0")];
        let take = |table: &mut PortTable| table.take(Protocol::Tcp, &any, HostPorts::Any, &ephemeral).ok();
        assert_eq!([take(&mut table), take(&mut table)], [Some(100), Some(102)]);
        table.release(Protocol::Tcp, SocketAddr::new(any[0], 100));
        assert_eq!([take(&mut table), take(&mut table), take(&mut table)], [Some(103), Some(100), None]);
    }

    #[test]
    fn requests_that_differ_in_the_address_share_a_port_and_exact_ports_come_first() {
        let requests = [
            request("80/tcp", "127.0.0.1", ""),
            request("81/tcp", "", "8081"),
            request("80/tcp", "10.0.0.1", ""),
            request("80/tcp", "::1", ""),
        ];
        let groups = groups(&requests, v4());
        let shown: Vec<_> = groups.iter().map(|g| (g.container.port, g.addresses.clone())).collect();
        assert_eq!(
            shown,
            [(81, vec![ip("0.0.0.0"), ip("::1")]), (80, vec![ip("10.0.0.1"), ip("127.0.0.1"), ip("::1")]),]
        );
    }

    #[test]
    fn all_addresses_means_both_families_where_the_container_has_both() {
        let both = Target { v6: Some("fd00::2".parse().unwrap()), ..v4() };
        let addresses = |target| groups(&[request("80", "", "80")], target)[0].addresses.clone();
        assert_eq!(addresses(both), [ip("0.0.0.0"), ip("::")]);
        assert_eq!(addresses(Target { default_binding: Some(ip("127.0.0.1")), ..both }), [ip("127.0.0.1")]);
    }

    #[test]
    fn a_version_that_the_container_lacks_is_relayed_for_the_host_and_where_it_is_asked_for() {
        let addresses = |request, target| groups(&[request], target).pop().map(|group| group.addresses);
        let (ours, all) = (Some(vec![ip("0.0.0.0"), ip("::1")]), Some(vec![ip("0.0.0.0")]));
        assert_eq!(addresses(request("80", "", "80"), v4()), ours);
        assert_eq!(addresses(request("80", "", "80"), Target { loopback6: false, ..v4() }), all);
        assert_eq!(addresses(request("80", "::", "80"), v4()), Some(vec![ip("::")]));
        assert_eq!(addresses(request("80/sctp", "", "80"), v4()), all);
        let without = Target { relays: false, ..v4() };
        assert_eq!(addresses(request("80", "", "80"), without), all);
        assert_eq!(addresses(request("80", "::", "80"), without), None);
    }

    #[test]
    fn a_port_map_names_the_publications_it_was_made_from() {
        let publication = Publication {
            protocol: Protocol::Tcp,
            host: "0.0.0.0:8080".parse().unwrap(),
            container: "172.17.0.2:80".parse().unwrap(),
        };
        let map = port_map(&["80".parse().unwrap(), "81".parse().unwrap()], [publication].into_iter());
        assert_eq!(map[&"81".parse().unwrap()], None);
        assert_eq!(publications(&map, v4()), [publication]);
    }

    #[test]
    fn lists_of_reserved_ports_hold_ranges() {
        assert_eq!(parse_list("1,5-7\n"), [1, 5, 6, 7]);
        assert!(parse_list("\n").is_empty());
        assert_eq!(parse_range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(parse_range(""), None);
    }
}
