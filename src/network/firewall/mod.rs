//! The packet filter: two tables of our own (`ip slipway`, `ip6 slipway`), spoken to by netlink.
//!
//! Rules are laid down when a bridge appears; a container that publishes ports costs one transaction with one element
//! for each. Tables of others are never changed, except as [`iptables`] says.

mod conntrack;
mod iptables;
mod nft;
mod rules;

use std::io;

pub(super) use rules::{Bridge, Transit};

use super::publish::Publication;
use crate::base::sys::netlink::{self, Message, Socket};

/// The packet filter of the daemon's namespace.
pub(super) struct Firewall {
    socket: Socket,
}

impl Firewall {
    /// Opens a socket; changes nothing.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open(netlink::Family::Netfilter)? })
    }

    /// Makes the rules say what they should for these bridges and publications, whatever was there before.
    /// `transit` is that of IPv4 and that of IPv6.
    pub fn lay_down(
        &self,
        bridges: &[Bridge],
        published: &[Publication],
        transit: [Transit; 2],
    ) -> io::Result<()> {
        let mut messages = Vec::new();
        for (table, transit) in [rules::TABLE4, rules::TABLE6].into_iter().zip(transit) {
            if table == rules::TABLE4 || bridges.iter().any(|b| b.subnet6.is_some()) {
                messages.extend(rules::lay_down(table, bridges, transit));
                messages.extend(rules::unpublish_all(table));
            }
        }
        messages.extend(published.iter().map(add));
        self.socket.request(nft::transaction(messages))?;
        for family in [nft::Family::V4, nft::Family::V6] {
            if let Err(error) = iptables::let_through(&self.socket, family, bridges) {
                tracing::warn!(?family, %error, "containers may be cut off by iptables");
            }
        }
        Ok(())
    }

    fn is_laid_down(&self) -> io::Result<bool> {
        match self.socket.query(rules::TABLE4.get_chain(rules::FORWARD)) {
            Ok(found) => Ok(!found.is_empty()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Opens the ways to published ports, all or none. `NotFound` if somebody removed our tables.
    pub fn publish(&self, publications: &[Publication]) -> io::Result<()> {
        if publications.is_empty() {
            return Ok(());
        }
        self.socket.request(nft::transaction(publications.iter().map(add).collect()))?;
        conntrack::forget(publications);
        Ok(())
    }

    /// Closes the ways to published ports. Those that do not exist are no error.
    pub fn withdraw(&self, publications: &[Publication]) -> io::Result<()> {
        if publications.is_empty() {
            return Ok(());
        }
        self.remove(publications)?;
        conntrack::forget(publications);
        Ok(())
    }

    fn remove(&self, publications: &[Publication]) -> io::Result<()> {
        let all = publications.iter().map(remove).collect();
        match self.socket.request(nft::transaction(all)) {
            // One that is missing fails the transaction: take each on its own.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                publications.iter().try_for_each(|one| {
                    match self.socket.request(nft::transaction(vec![remove(one)])) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                        other => other,
                    }
                })
            }
            other => other,
        }
    }
}

/// Hears of changes to the packet filter.
pub(super) struct Watch {
    socket: Socket,
}

impl Watch {
    /// Hears of the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::listen(netlink::Family::Netfilter, nft::GROUPS)? })
    }

    /// Returns when a table or chain of ours may have been removed.
    pub fn wait_for_loss(&self) -> io::Result<()> {
        loop {
            match self.socket.hear() {
                Ok(heard) if heard.iter().any(|reply| nft::is_loss(reply, rules::TABLE4.name)) => {
                    return Ok(());
                }
                Ok(_) => {}
                // Too much at once, of our own making too: see what there is.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    if !Firewall::open()?.is_laid_down()? {
                        return Ok(());
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }
}

fn add(publication: &Publication) -> Message {
    let (table, map, key, data) = rules::element(publication);
    table.add_element(map, &key, &data)
}

fn remove(publication: &Publication) -> Message {
    let (table, map, key, _) = rules::element(publication);
    table.delete_element(map, &key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sys::netns;

    #[test]
    fn rules_are_accepted_by_the_kernel_and_read_back_by_nft() {
        let dir = tempfile::tempdir().unwrap();
        let listed = netns::create(&dir.path().join("ns"), || {
            let bridge = Bridge {
                name: "docker0".into(),
                subnet4: Some("172.17.0.0/16".parse().unwrap()),
                subnet6: Some("fd00::/64".parse().unwrap()),
                masquerade: true,
                icc: true,
                internal: false,
            };
            let firewall = Firewall::open()?;
            firewall.lay_down(std::slice::from_ref(&bridge), &[], [Transit::Forbidden; 2])?;
            firewall.lay_down(&[bridge], &[], [Transit::Forbidden; 2])?;
            std::process::Command::new("nft").args(["list", "ruleset"]).output()
        });
        netns::remove(&dir.path().join("ns")).unwrap();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        for (rule, times) in [
            ("policy drop", 2),
            ("oifname \"docker0\" ct status dnat accept", 2),
            ("ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade", 1),
            ("ip6 saddr fd00::/64 oifname != \"docker0\" masquerade", 1),
            ("fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published-on", 2),
            ("fib daddr type local dnat ip6 to meta l4proto . th dport map @published", 2),
            ("iifname != \"lo\" ip daddr 127.0.0.0/8 drop", 1),
        ] {
            let found = listed
                .lines()
                .filter(|l| l.contains(rule) && !l.contains("@published-on") | rule.contains("-on"));
            assert_eq!(found.count(), times, "{rule}\n{listed}");
        }
    }
}
