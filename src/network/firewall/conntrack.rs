//! Forgets connections that would keep a UDP client from reaching a container.
//!
//! The kernel translates by what it remembers of a flow, and a UDP flow lives as long as its client keeps sending: to
//! the host before a port was published, or to the last container that had it. Messages as in
//! linux/netfilter/nfnetlink_conntrack.h.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::Publication;
use crate::base::sys::netlink::{self, ACK, DUMP, Family, Message, Reply, Socket};
use crate::network::Protocol;

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IPV4_DESTINATION: u16 = 2;
const IPV6_DESTINATION: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;

/// Forgets UDP flows to these ports; other protocols end their connections themselves. A failure costs clients that
/// sent before some seconds, so no container fails for it.
pub(super) fn forget(publications: &[Publication]) {
    if let Err(error) = try_forget(publications) {
        tracing::warn!(%error, "old UDP flows to published ports may linger");
    }
}

fn try_forget(publications: &[Publication]) -> io::Result<()> {
    let udp: Vec<_> = publications.iter().filter(|p| p.protocol == Protocol::Udp).collect();
    if udp.is_empty() {
        return Ok(());
    }
    let socket = Socket::open(Family::Netfilter)?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let flows = match socket.query(Message::new(GET, DUMP, &[family as u8, 0, 0, 0])) {
            // A kernel without connection tracking by netlink, or that has nothing tracked in this family.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => continue,
            other => other?,
        };
        for flow in flows {
            let Some(tuple) = flow.payload.get(4..).and_then(|b| netlink::attribute(b, TUPLE_ORIGINAL))
            else {
                continue;
            };
            let concerned = destination(tuple).is_some_and(|to| udp.iter().any(|p| is_for(p.host, to)));
            if concerned {
                delete(&socket, &flow, tuple)?;
            }
        }
    }
    Ok(())
}

fn delete(socket: &Socket, flow: &Reply, tuple: &[u8]) -> io::Result<()> {
    let family = flow.payload.first().copied().unwrap_or_default();
    let delete = Message::new(DELETE, ACK, &[family, 0, 0, 0]).nest(TUPLE_ORIGINAL, |m| m.raw(tuple));
    match socket.request(vec![delete]) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Where a flow's first packet was addressed to, if it is UDP.
fn destination(tuple: &[u8]) -> Option<SocketAddr> {
    let ip = netlink::attribute(tuple, TUPLE_IP)?;
    let protocol = netlink::attribute(tuple, TUPLE_PROTOCOL)?;
    if netlink::attribute(protocol, PROTOCOL_NUMBER)? != [Protocol::Udp.number()] {
        return None;
    }
    let v4 =
        netlink::attribute(ip, IPV4_DESTINATION).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from);
    let v6 = || {
        netlink::attribute(ip, IPV6_DESTINATION).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from)
    };
    let port = netlink::attribute(protocol, DESTINATION_PORT)?.try_into().ok()?;
    Some(SocketAddr::new(v4.or_else(v6)?, u16::from_be_bytes(port)))
}

fn is_for(host: SocketAddr, to: SocketAddr) -> bool {
    host.port() == to.port()
        && host.is_ipv4() == to.is_ipv4()
        && (host.ip().is_unspecified() || host.ip() == to.ip())
}
