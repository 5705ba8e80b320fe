//! Why a network operation failed, in dockerd's words where clients match on them.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::port::Protocol;
use crate::base::errno::in_gos_words;
use crate::base::id::{ContainerId, EndpointId};

/// Why an operation on networks failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("network {0} not found")]
    NotFound(String),
    #[error("network {term} is ambiguous ({matches} matches found {on})")]
    Ambiguous { term: String, matches: usize, on: AmbiguousOn },
    #[error("network with name {0} already exists")]
    NameInUse(String),
    #[error("operation is not permitted on predefined {0} network ")]
    Predefined(String),
    #[error("{0} is a pre-defined network and cannot be removed")]
    RemovePredefined(String),
    #[error("error while removing network: network {name} has active endpoints ({endpoints})")]
    ActiveEndpoints { name: String, endpoints: String },
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlap,
    #[error("all predefined address pools have been fully subnetted")]
    NoFreePool,
    #[error("no available IPv4 addresses on this network's address pools: {network} ({id})")]
    NoFreeAddress { network: String, id: String },
    #[error("Address already in use")]
    AddressInUse,
    #[error("invalid address {address}: it does not belong to any of this network's subnets")]
    AddressOutOfRange { address: IpAddr },
    #[error("conflicting options: the default bridge network is disabled")]
    BridgeDisabled,
    #[error("could not find plugin {0} in v1 plugin registry: plugin not found")]
    UnknownDriver(String),
    #[error("invalid network config:\n{0}")]
    InvalidConfig(InvalidConfig),
    #[error("bad format for add-host: {0:?}")]
    BadExtraHost(String),
    #[error("unable to derive the IP value for host-gateway")]
    NoHostGateway,
    #[error("address {0}: invalid MAC address")]
    InvalidMac(String),
    /// An address that no interface can have.
    #[error(
        "failed to add interface {interface} to sandbox: error setting interface {interface:?} MAC to {mac:?}: {}",
        in_gos_words(nix::errno::Errno::EADDRNOTAVAIL)
    )]
    GroupMac { interface: String, mac: String },
    #[error("invalid link-local IP address: {0}")]
    NotLinkLocal(IpAddr),
    #[error(transparent)]
    EndpointOption(#[from] super::endpoint_options::InvalidOption),
    #[error("cannot join network of a non running container: {0}")]
    NoSuchSandbox(String),
    #[error(
        "cannot join the network of container {0}, which is in the host's user namespace: run this container with \
         --userns=host too"
    )]
    ForeignUsers(String),
    #[error("container {0} already has a network")]
    AlreadyConnected(ContainerId),
    #[error("driver failed programming external connectivity on endpoint {name} ({endpoint}): {cause}")]
    Publish { name: String, endpoint: EndpointId, cause: PublishError },
    #[error("only one instance of \"{0}\" network is allowed")]
    OneInstance(String),
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node \
         to swarm and try again."
    )]
    NoSwarm,
    #[error("a prune operation is already running")]
    PruneRunning,
    #[error("slipway does not support {0} yet")]
    Unsupported(&'static str),
    /// The kernel refused a step.
    #[error("{step}: {source}")]
    Kernel { step: &'static str, source: io::Error },
    /// A record on disk could not be read or written.
    #[error("network record: {0}")]
    Record(#[source] io::Error),
}

/// What of a network the search term matched more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmbiguousOn {
    Name,
    IdPrefix,
}

impl std::fmt::Display for AmbiguousOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Name => "on name",
            Self::IdPrefix => "based on ID prefix",
        })
    }
}

/// What is wrong with the description of a new network.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    #[error("network name must not be empty")]
    NoName,
    #[error("invalid subnet {0}: invalid CIDR block notation")]
    Subnet(String),
    #[error("invalid subnet {subnet}: it should be {network}")]
    HostBits { subnet: IpNet, network: IpNet },
    #[error("invalid gateway {0}: parent subnet is {1}")]
    Gateway(String, IpNet),
    #[error("invalid ip-range {0}: parent subnet is {1}")]
    IpRange(String, IpNet),
    #[error("invalid auxiliary address {0}: parent subnet is {1}")]
    Auxiliary(String, IpNet),
    #[error("every ipam-config entry must have a subnet")]
    NoSubnet,
    #[error("invalid subnet {0}: IPv6 is disabled for this network")]
    DisabledFamily(IpNet),
    #[error("IPv4 or IPv6 must be enabled")]
    NoFamily,
    #[error("bridge name {0:?} is longer than 15 bytes")]
    LongBridgeName(String),
}

/// Why a port could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("Bind for {ip}:{port} failed: port is already allocated")]
    Allocated { ip: IpAddr, port: u16 },
    #[error("failed to bind host port {ip}:{port}/{protocol}: {}", in_gos_words(*.source))]
    Bind { ip: IpAddr, port: u16, protocol: Protocol, source: nix::errno::Errno },
    #[error("all ports are allocated")]
    Exhausted,
    #[error("packet filter: {0}")]
    Firewall(#[source] io::Error),
}

impl NetworkError {
    /// Says which step the kernel refused: for `map_err`.
    pub(super) fn kernel(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { step, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients and tools match on these texts.
    #[test]
    fn texts_are_dockerds() {
        let endpoint = EndpointId::random();
        let cause = PublishError::Allocated { ip: "0.0.0.0".parse().unwrap(), port: 80 };
        let publish = NetworkError::Publish { name: "web".into(), endpoint: endpoint.clone(), cause };
        for (error, text) in [
            (NetworkError::NotFound("x".into()), "network x not found".to_owned()),
            (NetworkError::NameInUse("x".into()), "network with name x already exists".into()),
            (
                publish,
                format!(
                    "driver failed programming external connectivity on endpoint web ({endpoint}): \
                     Bind for 0.0.0.0:80 failed: port is already allocated"
                ),
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_port_held_by_another_process_is_named_as_dockerd_names_it() {
        let ip = "0.0.0.0".parse().unwrap();
        let source = nix::errno::Errno::EADDRINUSE;
        let error = PublishError::Bind { ip, port: 80, protocol: Protocol::Tcp, source };
        assert_eq!(error.to_string(), "failed to bind host port 0.0.0.0:80/tcp: address already in use");
    }
}
