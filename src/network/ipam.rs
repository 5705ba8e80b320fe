//! Which addresses of a subnet are taken. Pure book-keeping: the truth across restarts is in the records of running
//! containers, from which [`Pool::take`] rebuilds it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::model::Subnet;
use super::options::AddressPool;

/// The addresses of one subnet.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    subnet: IpNet,
    range: IpNet,
    taken: BTreeSet<u128>,
}

/// How much of a subnet is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubnetUsage {
    pub subnet: IpNet,
    /// Addresses that nobody else can have, the network's own among them.
    pub in_use: u64,
    /// Addresses left in the range from which they are given.
    pub available: u64,
}

/// Why an address was not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    Taken,
    OutOfRange,
    Exhausted,
}

impl Pool {
    /// A pool without the addresses that no container may have: network, broadcast, gateway and auxiliary ones.
    pub fn new(subnet: &Subnet) -> Self {
        let mut pool = Self {
            subnet: subnet.subnet,
            range: subnet.range.unwrap_or(subnet.subnet),
            taken: BTreeSet::new(),
        };
        pool.taken.insert(number(subnet.subnet.network()));
        if subnet.subnet.addr().is_ipv4() && subnet.subnet.prefix_len() < 31 {
            pool.taken.insert(number(subnet.subnet.broadcast()));
        }
        pool.taken.extend(subnet.gateway.map(number));
        pool.taken.extend(subnet.auxiliary.values().copied().map(number));
        pool
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Takes the lowest free address of the range, as dockerd does.
    pub fn take_free(&mut self) -> Result<IpAddr, Refused> {
        let (first, last) = (number(self.range.network()), number(self.range.broadcast()));
        let mut free = first;
        for taken in self.taken.range(first..=last) {
            if *taken > free {
                break;
            }
            free = taken.saturating_add(1);
        }
        if free > last {
            return Err(Refused::Exhausted);
        }
        self.taken.insert(free);
        Ok(address(free, self.subnet))
    }

    /// Takes one particular address of the subnet.
    pub fn take(&mut self, ip: IpAddr) -> Result<(), Refused> {
        if !self.subnet.contains(&ip) {
            return Err(Refused::OutOfRange);
        }
        if self.taken.insert(number(ip)) { Ok(()) } else { Err(Refused::Taken) }
    }

    /// How much is in use.
    pub fn usage(&self) -> SubnetUsage {
        let (first, last) = (number(self.range.network()), number(self.range.broadcast()));
        let size = (last - first).saturating_add(1);
        let available = size.saturating_sub(self.taken.range(first..=last).count() as u128);
        SubnetUsage {
            subnet: self.subnet,
            in_use: self.taken.len() as u64,
            available: u64::try_from(available).unwrap_or(u64::MAX),
        }
    }

    /// Gives an address back.
    pub fn release(&mut self, ip: IpAddr) {
        self.taken.remove(&number(ip));
    }
}

/// The first subnet of `pools` that overlaps nothing in `used`.
pub(super) fn free_subnet(pools: &[AddressPool], used: &[IpNet]) -> Option<IpNet> {
    pools.iter().find_map(|pool| {
        let mut subnets = pool.base.subnets(pool.size).ok()?;
        subnets.find(|subnet| !used.iter().any(|other| overlap(subnet, other)))
    })
}

/// True if both have an address in common.
pub(super) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Docker's pools, and then /24 subnets of 10/8 when those are used up, so that networks do not end at about 30.
pub(super) fn default_pools() -> Vec<AddressPool> {
    let pool = |a, b, prefix, size| AddressPool {
        base: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix)),
        size,
    };
    vec![
        pool(172, 17, 16, 16),
        pool(172, 18, 16, 16),
        pool(172, 19, 16, 16),
        pool(172, 20, 14, 16),
        pool(172, 24, 14, 16),
        pool(172, 28, 14, 16),
        pool(192, 168, 16, 20),
        pool(10, 128, 9, 24),
    ]
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(number: u128, family: IpNet) -> IpAddr {
    match family {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str, range: Option<&str>, gateway: &str) -> Pool {
        Pool::new(&Subnet {
            subnet: subnet.parse().unwrap(),
            range: range.map(|r| r.parse().unwrap()),
            gateway: Some(gateway.parse().unwrap()),
            auxiliary: Default::default(),
        })
    }

    #[test]
    fn the_lowest_free_address_is_given() {
        let mut pool = pool("10.0.0.0/29", None, "10.0.0.1");
        let mut take = || pool.take_free().map(|ip| ip.to_string());
        let taken: Vec<_> = std::iter::from_fn(|| take().ok()).collect();
        assert_eq!(taken, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(pool.take_free(), Err(Refused::Exhausted));
        pool.release("10.0.0.4".parse().unwrap());
        assert_eq!(pool.take_free().unwrap().to_string(), "10.0.0.4");
    }

    #[test]
    fn a_range_limits_what_is_given_but_not_what_can_be_asked_for() {
        let mut pool = pool("10.0.0.0/24", Some("10.0.0.8/30"), "10.0.0.1");
        assert_eq!(pool.take_free().unwrap().to_string(), "10.0.0.8");
        assert_eq!(pool.take("10.0.0.99".parse().unwrap()), Ok(()));
        assert_eq!(pool.take("10.0.0.99".parse().unwrap()), Err(Refused::Taken));
        assert_eq!(pool.take("10.0.1.1".parse().unwrap()), Err(Refused::OutOfRange));
    }

    #[test]
    fn ipv6_subnets_have_no_broadcast_address() {
        let mut pool = pool("fd00::/126", None, "fd00::1");
        let taken: Vec<_> = std::iter::from_fn(|| pool.take_free().ok()).map(|ip| ip.to_string()).collect();
        assert_eq!(taken, ["fd00::2", "fd00::3"]);
    }

    #[test]
    fn subnets_that_overlap_routes_are_passed_over() {
        let free = |used: &[&str]| {
            let used: Vec<IpNet> = used.iter().map(|u| u.parse().unwrap()).collect();
            free_subnet(&default_pools(), &used).unwrap().to_string()
        };
        assert_eq!(free(&[]), "172.17.0.0/16");
        assert_eq!(free(&["172.17.5.0/24"]), "172.18.0.0/16");
        assert_eq!(free(&["172.16.0.0/12"]), "192.168.0.0/20");
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/16"]), "10.128.0.0/24");
    }
}
