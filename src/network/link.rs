//! Links, addresses and routes: rtnetlink messages (rtnetlink(7), linux/if_link.h) and what is read from the answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;

use crate::base::sys::netlink::{self, ACK, CREATE, DUMP, EXCL, Message, Reply, Socket};

const IFF_UP: u32 = libc::IFF_UP as u32;
/// Inside `IFLA_INFO_DATA` of a veth: the description of the other end (linux/veth.h).
const VETH_INFO_PEER: u16 = 1;
const LOOPBACK: u32 = 1;

/// A hardware address.
pub(super) type Mac = [u8; 6];

/// A network interface as the kernel lists it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// `bridge`, `veth`, …; empty for hardware.
    pub kind: String,
}

/// An address with the interface that has it.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub index: u32,
    pub net: IpNet,
}

/// A pair of interfaces: the host's end, which is a port of a bridge, and the container's.
pub(super) struct Veth<'a> {
    pub host_name: &'a str,
    /// Index of the bridge.
    pub bridge: u32,
    pub mtu: u32,
    pub netns: BorrowedFd<'a>,
    pub name: &'a str,
    pub mac: Mac,
}

/// Makes a veth whose other end is born in its namespace with its final name.
pub(super) fn new_veth(veth: &Veth<'_>) -> Message {
    Message::new(libc::RTM_NEWLINK, CREATE | EXCL | ACK, &ifinfo(0, IFF_UP))
        .text(libc::IFLA_IFNAME, veth.host_name)
        .number(libc::IFLA_MTU, veth.mtu)
        .number(libc::IFLA_MASTER, veth.bridge)
        .nest(libc::IFLA_LINKINFO, |m| {
            m.text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    // Not up: the kernel brings it up before the two ends know each other (ENOTCONN).
                    m.raw(&ifinfo(0, 0))
                        .text(libc::IFLA_IFNAME, veth.name)
                        .number(libc::IFLA_MTU, veth.mtu)
                        .attr(libc::IFLA_ADDRESS, &veth.mac)
                        .number(libc::IFLA_NET_NS_FD, veth.netns.as_raw_fd() as u32)
                })
            })
        })
}

/// How a port of a bridge differs from a plain one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct PortFlags {
    /// Frames may leave by the port that they came in by.
    pub hairpin: bool,
    /// Reaches no other port that is isolated.
    pub isolated: bool,
}

/// Sets the flags of a bridge's port.
pub(super) fn set_port(name: &str, flags: PortFlags) -> Message {
    const SLAVE_KIND: u16 = 4;
    const SLAVE_DATA: u16 = 5;
    const MODE: u16 = 4;
    const ISOLATED: u16 = 33;
    Message::new(libc::RTM_NEWLINK, ACK, &ifinfo(0, 0)).text(libc::IFLA_IFNAME, name).nest(
        libc::IFLA_LINKINFO,
        |m| {
            m.text(SLAVE_KIND, "bridge").nest(SLAVE_DATA, |m| {
                m.attr(MODE, &[flags.hairpin.into()]).attr(ISOLATED, &[flags.isolated.into()])
            })
        },
    )
}

/// Makes a bridge, up.
pub(super) fn new_bridge(name: &str, mac: Mac, mtu: Option<u32>) -> Message {
    let message = Message::new(libc::RTM_NEWLINK, CREATE | EXCL | ACK, &ifinfo(0, IFF_UP))
        .text(libc::IFLA_IFNAME, name)
        .attr(libc::IFLA_ADDRESS, &mac)
        .nest(libc::IFLA_LINKINFO, |m| m.text(libc::IFLA_INFO_KIND, "bridge"));
    match mtu {
        Some(mtu) => message.number(libc::IFLA_MTU, mtu),
        None => message,
    }
}

/// Removes links by name: all at once, since each removal would wait for the kernel's readers (10 to 30 ms) on its
/// own. Names that do not exist are no error.
pub(super) fn delete(socket: &Socket, names: &[String]) -> io::Result<()> {
    if let [name] = names {
        let delete = Message::new(libc::RTM_DELLINK, ACK, &ifinfo(0, 0)).text(libc::IFLA_IFNAME, name);
        return socket.request(vec![delete]).or_else(ignore_missing);
    }
    for name in names {
        let mark = Message::new(libc::RTM_NEWLINK, ACK, &ifinfo(0, 0)).text(libc::IFLA_IFNAME, name);
        socket.request(vec![mark.number(libc::IFLA_GROUP, DOOMED)]).or_else(ignore_missing)?;
    }
    let delete = Message::new(libc::RTM_DELLINK, ACK, &ifinfo(0, 0)).number(libc::IFLA_GROUP, DOOMED);
    socket.request(vec![delete]).or_else(ignore_missing)
}

/// The group (ip-link(8)) into which links are put to be removed together; nobody else has a use for this number.
const DOOMED: u32 = u32::from_be_bytes(*b"slip");

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ENODEV) { Ok(()) } else { Err(error) }
}

/// Brings a link up.
pub(super) fn set_up(index: u32) -> Message {
    Message::new(libc::RTM_NEWLINK, ACK, &ifinfo(index, IFF_UP))
}

/// Brings the loopback interface up; it is always the first of its namespace.
pub(super) fn loopback_up() -> Message {
    set_up(LOOPBACK)
}

/// Gives a link an address. IPv6 addresses skip duplicate detection, as dockerd has it: the address is ours to give.
pub(super) fn add_address(index: u32, net: IpNet) -> Message {
    let flags = if net.addr().is_ipv6() { libc::IFA_F_NODAD as u8 } else { 0 };
    let mut fixed = [family(net.addr()), net.prefix_len(), flags, 0, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    let message = Message::new(libc::RTM_NEWADDR, CREATE | EXCL | ACK, &fixed)
        .attr(libc::IFA_LOCAL, &octets(net.addr()))
        .attr(libc::IFA_ADDRESS, &octets(net.addr()));
    match net.broadcast() {
        IpAddr::V4(broadcast) if net.prefix_len() < 31 => {
            message.attr(libc::IFA_BROADCAST, &broadcast.octets())
        }
        _ => message,
    }
}

/// Routes everything through `gateway`.
pub(super) fn default_route(index: u32, gateway: IpAddr) -> Message {
    let fixed = [
        family(gateway),
        0,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_BOOT,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    Message::new(libc::RTM_NEWROUTE, CREATE | ACK, &fixed)
        .attr(libc::RTA_GATEWAY, &octets(gateway))
        .number(libc::RTA_OIF, index)
}

/// The link of this name.
pub(super) fn find(socket: &Socket, name: &str) -> io::Result<Option<Link>> {
    let query = Message::new(libc::RTM_GETLINK, ACK, &ifinfo(0, 0)).text(libc::IFLA_IFNAME, name);
    match socket.query(query) {
        Ok(replies) => Ok(replies.iter().find_map(link)),
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(e) => Err(e),
    }
}

/// All links.
pub(super) fn list(socket: &Socket) -> io::Result<Vec<Link>> {
    let replies = socket.query(Message::new(libc::RTM_GETLINK, DUMP, &ifinfo(0, 0)))?;
    Ok(replies.iter().filter_map(link).collect())
}

/// All addresses of both families.
pub(super) fn addresses(socket: &Socket) -> io::Result<Vec<Address>> {
    let replies = socket.query(Message::new(libc::RTM_GETADDR, DUMP, &[0; 8]))?;
    Ok(replies.iter().filter_map(address).collect())
}

/// The destinations of all unicast routes of the main table, except default routes.
pub(super) fn routes(socket: &Socket) -> io::Result<Vec<IpNet>> {
    let replies = socket.query(Message::new(libc::RTM_GETROUTE, DUMP, &[0; 12]))?;
    Ok(replies.iter().filter_map(route).collect())
}

fn link(reply: &Reply) -> Option<Link> {
    let body = reply.payload.get(16..).filter(|_| reply.kind == libc::RTM_NEWLINK)?;
    let info = netlink::attribute(body, libc::IFLA_LINKINFO).unwrap_or_default();
    let flags = netlink::number(&reply.payload[8..12])?;
    Some(Link {
        index: netlink::number(&reply.payload[4..8])?,
        name: netlink::text(netlink::attribute(body, libc::IFLA_IFNAME)?),
        up: flags & IFF_UP != 0,
        master: netlink::attribute(body, libc::IFLA_MASTER).and_then(netlink::number),
        kind: netlink::attribute(info, libc::IFLA_INFO_KIND).map(netlink::text).unwrap_or_default(),
    })
}

fn address(reply: &Reply) -> Option<Address> {
    let body = reply.payload.get(8..).filter(|_| reply.kind == libc::RTM_NEWADDR)?;
    let value =
        netlink::attribute(body, libc::IFA_LOCAL).or_else(|| netlink::attribute(body, libc::IFA_ADDRESS))?;
    Some(Address {
        index: netlink::number(&reply.payload[4..8])?,
        net: IpNet::new(ip(value)?, reply.payload[1]).ok()?,
    })
}

fn route(reply: &Reply) -> Option<IpNet> {
    let body = reply.payload.get(12..).filter(|_| reply.kind == libc::RTM_NEWROUTE)?;
    let (prefix, table, kind) = (reply.payload[1], reply.payload[4], reply.payload[7]);
    if table != libc::RT_TABLE_MAIN || kind != libc::RTN_UNICAST || prefix == 0 {
        return None;
    }
    IpNet::new(ip(netlink::attribute(body, libc::RTA_DST)?)?, prefix).ok()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
        _ => None,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// `struct ifinfomsg`: any family and type; sets the flags given and no others.
fn ifinfo(index: u32, flags: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&flags.to_ne_bytes());
    fixed
}
