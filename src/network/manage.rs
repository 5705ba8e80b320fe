//! Making and removing networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};

use super::bridge::OPTION_NAME;
use super::choice::{Taken, first_host};
use super::ipam::{free_subnet, overlap};
use super::model::{Driver, Ipam, Network, Subnet, is_predefined};
use super::options::Labels;
use super::{Inner, InvalidConfig, NetworkError};
use crate::base::id::NetworkId;
use crate::base::time::Timestamp;
use crate::crash_point;
use crate::events::{Event, Subject};

/// A network to be made.
#[derive(Clone, Debug, Default)]
pub struct NetworkSpec {
    pub name: String,
    /// Empty: `bridge`.
    pub driver: String,
    /// `None`: yes.
    pub ipv4: Option<bool>,
    /// `None`: no.
    pub ipv6: Option<bool>,
    pub internal: bool,
    pub attachable: bool,
    pub subnets: Vec<SubnetSpec>,
    pub ipam_options: Labels,
    pub options: Labels,
    pub labels: Labels,
}

/// A subnet as it was asked for; empty texts ask for nothing.
#[derive(Clone, Debug, Default)]
pub struct SubnetSpec {
    pub subnet: String,
    pub range: String,
    pub gateway: String,
    pub auxiliary: BTreeMap<String, String>,
}

impl Inner {
    pub(super) fn create(&self, spec: NetworkSpec) -> Result<Arc<Network>, NetworkError> {
        let network = draft(&spec)?;
        let id = network.id.clone();
        let taken = Taken::read(&self.options.address_pools, &[])
            .map_err(NetworkError::kernel("addresses of the host"))?;
        let network = self.enter(network, taken)?;
        // The record goes first: after a crash no bridge is there that nobody knows of.
        let made = self.store.save(&network).map_err(NetworkError::Record).and_then(|()| {
            crash_point!("network-create-recorded");
            self.bridge(&network)
        });
        if let Err(error) = made {
            self.state().forget(&id);
            let _ = self.tear_down(&network);
            let _ = self.store.remove(&id);
            return Err(error);
        }
        self.report_network("create", &network);
        Ok(network)
    }

    /// The bridge goes before the record: after a crash between both the network still exists, and its bridge is made
    /// again when it is needed.
    pub(super) fn remove(&self, term: &str) -> Result<(), NetworkError> {
        let network = self.resolve(term)?;
        if network.is_predefined() {
            return Err(NetworkError::RemovePredefined(network.name.clone()));
        }
        let forgotten = {
            let mut state = self.state();
            state.check_unused(&network)?;
            state.forget(&network.id)
        };
        let removed = self.tear_down(&network).map_err(NetworkError::kernel("bridge")).and_then(|()| {
            crash_point!("network-remove-bridge-gone");
            self.store.remove(&network.id).map_err(NetworkError::Record)
        });
        match (removed, forgotten) {
            (Err(error), Some(network)) => {
                self.state().add((*network).clone());
                Err(error)
            }
            (removed, _) => {
                self.report_network("destroy", &network);
                removed
            }
        }
    }

    /// Chooses the subnets that were not asked for and enters the network, unless its name or a subnet is in use.
    fn enter(&self, mut network: Network, mut taken: Taken) -> Result<Arc<Network>, NetworkError> {
        let mut state = self.state();
        if state.networks.values().any(|other| other.name == network.name) {
            return Err(NetworkError::NameInUse(network.name));
        }
        let others: Vec<IpNet> =
            state.networks.values().flat_map(|n| n.ipam.subnets.iter().map(|s| s.subnet)).collect();
        let mut asked = network.ipam.subnets.iter().map(|s| s.subnet);
        if asked.any(|subnet| others.iter().any(|other| overlap(other, &subnet))) {
            return Err(NetworkError::PoolOverlap);
        }
        taken.nets.extend(others);
        let has =
            |network: &Network, v6| network.ipam.subnets.iter().any(|s| s.subnet.addr().is_ipv6() == v6);
        if network.ipv4 && !has(&network, false) {
            let pools: Vec<_> = taken.pools.iter().filter(|p| p.base.addr().is_ipv4()).copied().collect();
            let subnet = free_subnet(&pools, &taken.nets).ok_or(NetworkError::NoFreePool)?;
            network.ipam.subnets.insert(0, plain_subnet(subnet));
        }
        if network.ipv6 && !has(&network, true) {
            network.ipam.subnets.push(plain_subnet(local_ipv6(&network.id)));
        }
        let id = network.id.clone();
        state.add(network);
        state.networks.get(&id).cloned().ok_or_else(|| NetworkError::NotFound(id.to_string()))
    }

    fn report_network(&self, action: &str, network: &Network) {
        self.events.publish(
            Event::now(Subject::Network, action, network.id.as_str())
                .with("name", &network.name)
                .with("type", network.driver.as_str()),
        );
    }
}

impl super::State {
    fn forget(&mut self, id: &NetworkId) -> Option<Arc<Network>> {
        self.pools.remove(id);
        self.networks.remove(id)
    }

    fn check_unused(&self, network: &Network) -> Result<(), NetworkError> {
        let endpoints: Vec<_> = self
            .attached
            .values()
            .flat_map(|a| a.sandbox.endpoints.values().map(move |e| (a, e)))
            .filter(|(_, endpoint)| endpoint.network == network.id)
            .map(|(a, endpoint)| format!("name:\"{}\" id:\"{}\"", a.name, endpoint.endpoint.short()))
            .collect();
        match endpoints.as_slice() {
            [] => Ok(()),
            _ => {
                let name = network.name.clone();
                Err(NetworkError::ActiveEndpoints { name, endpoints: endpoints.join(", ") })
            }
        }
    }
}

/// The network as far as the request describes it.
fn draft(spec: &NetworkSpec) -> Result<Network, NetworkError> {
    if is_predefined(&spec.name) {
        return Err(NetworkError::Predefined(spec.name.clone()));
    }
    let driver = match spec.driver.as_str() {
        "" | "default" | "bridge" => Driver::Bridge,
        "host" | "null" => return Err(NetworkError::OneInstance(spec.driver.clone())),
        "overlay" => return Err(NetworkError::NoSwarm),
        other => return Err(NetworkError::UnknownDriver(other.to_owned())),
    };
    let (ipv4, ipv6) = (spec.ipv4.unwrap_or(true), spec.ipv6.unwrap_or(false));
    let mut subnets = spec.subnets.iter().map(|s| subnet(s, ipv6)).collect::<Result<Vec<_>, _>>();
    if let Some(invalid) = invalid_config(spec, ipv4, ipv6) {
        subnets = Err(invalid);
    }
    let mut subnets = subnets.map_err(NetworkError::InvalidConfig)?;
    subnets.retain(|s| ipv4 || s.subnet.addr().is_ipv6());
    subnets.sort_by_key(|s| s.subnet.addr().is_ipv6());
    Ok(Network {
        id: NetworkId::random(),
        name: spec.name.clone(),
        created: Timestamp::now(),
        driver,
        ipv4,
        ipv6,
        internal: spec.internal,
        attachable: spec.attachable,
        ipam: Ipam { options: spec.ipam_options.clone(), subnets },
        options: spec.options.clone(),
        labels: spec.labels.clone(),
    })
}

fn invalid_config(spec: &NetworkSpec, ipv4: bool, ipv6: bool) -> Option<InvalidConfig> {
    let bridge = spec.options.get(OPTION_NAME).filter(|name| name.len() >= libc::IFNAMSIZ);
    match () {
        () if spec.name.trim().is_empty() => Some(InvalidConfig::NoName),
        () if !ipv4 && !ipv6 => Some(InvalidConfig::NoFamily),
        () => bridge.map(|name| InvalidConfig::LongBridgeName(name.clone())),
    }
}

fn subnet(spec: &SubnetSpec, ipv6: bool) -> Result<Subnet, InvalidConfig> {
    if spec.subnet.is_empty() {
        return Err(InvalidConfig::NoSubnet);
    }
    let subnet: IpNet = spec.subnet.parse().map_err(|_| InvalidConfig::Subnet(spec.subnet.clone()))?;
    if subnet != subnet.trunc() {
        return Err(InvalidConfig::HostBits { subnet, network: subnet.trunc() });
    }
    if subnet.addr().is_ipv6() && !ipv6 {
        return Err(InvalidConfig::DisabledFamily(subnet));
    }
    let within = |text: &str| text.parse::<IpAddr>().ok().filter(|ip| subnet.contains(ip));
    let gateway = match spec.gateway.as_str() {
        "" => first_host(subnet).addr(),
        // A gateway may come with the length of its subnet.
        text => within(text.split('/').next().unwrap_or(text))
            .ok_or_else(|| InvalidConfig::Gateway(text.to_owned(), subnet))?,
    };
    let range = match spec.range.as_str() {
        "" => None,
        text => {
            let range = text.parse::<IpNet>().ok().filter(|range| subnet.contains(range));
            Some(range.ok_or_else(|| InvalidConfig::IpRange(text.to_owned(), subnet))?.trunc())
        }
    };
    let auxiliary = spec.auxiliary.iter().map(|(name, text)| match within(text) {
        Some(ip) => Ok((name.clone(), ip)),
        None => Err(InvalidConfig::Auxiliary(text.clone(), subnet)),
    });
    Ok(Subnet { subnet, range, gateway: Some(gateway), auxiliary: auxiliary.collect::<Result<_, _>>()? })
}

fn plain_subnet(subnet: IpNet) -> Subnet {
    Subnet { subnet, range: None, gateway: Some(first_host(subnet).addr()), auxiliary: BTreeMap::new() }
}

/// A unique local /64 (RFC 4193) made from the network's random id.
fn local_ipv6(id: &NetworkId) -> IpNet {
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    let digits = id.as_str().as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    octets[1..8]
        .iter_mut()
        .zip(digits)
        .for_each(|(to, pair)| *to = u8::from_str_radix(pair, 16).unwrap_or_default());
    IpNet::V6(Ipv6Net::new_assert(octets.into(), 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_subnet(subnet: &str, range: &str, gateway: &str) -> Result<Network, String> {
        let subnet = SubnetSpec {
            subnet: subnet.into(),
            range: range.into(),
            gateway: gateway.into(),
            ..Default::default()
        };
        draft(&NetworkSpec { name: "n".into(), subnets: vec![subnet], ..Default::default() })
            .map_err(|e| e.to_string())
    }

    #[test]
    fn subnets_are_checked_in_dockerds_words() {
        for (subnet, range, gateway, error) in [
            ("10.0.0.1/24", "", "", "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
            ("x", "", "", "invalid subnet x: invalid CIDR block notation"),
            ("10.0.0.0/24", "10.0.1.0/25", "", "invalid ip-range 10.0.1.0/25: parent subnet is 10.0.0.0/24"),
            ("10.0.0.0/24", "", "10.0.1.1", "invalid gateway 10.0.1.1: parent subnet is 10.0.0.0/24"),
            ("", "", "", "every ipam-config entry must have a subnet"),
        ] {
            let expected = format!("invalid network config:\n{error}");
            assert_eq!(with_subnet(subnet, range, gateway).unwrap_err(), expected);
        }
        let network = with_subnet("10.0.0.0/24", "10.0.0.128/25", "").unwrap();
        assert_eq!(network.ipam.subnets[0].gateway.unwrap().to_string(), "10.0.0.1");
    }

    #[test]
    fn predefined_names_and_foreign_drivers_are_refused() {
        let refused = |name: &str, driver: &str| {
            let spec = NetworkSpec { name: name.into(), driver: driver.into(), ..Default::default() };
            draft(&spec).unwrap_err().to_string()
        };
        assert_eq!(refused("host", ""), "operation is not permitted on predefined host network ");
        assert_eq!(refused("n", "null"), "only one instance of \"null\" network is allowed");
        assert!(refused("n", "overlay").starts_with("This node is not a swarm manager."));
        assert_eq!(refused("n", "x"), "could not find plugin x in v1 plugin registry: plugin not found");
    }
}
