//! Networks as `GET /networks` and `GET /networks/{id}` show them.
//!
//! Go clients parse addresses strictly: a gateway is a bare address, a subnet a prefix, a member's address a prefix,
//! and what there is not is an empty text.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::versions::{ApiVersion, Feature};
use crate::base::time::Timestamp;
use crate::network::{Labels, Member, Network, SubnetUsage};

/// A network.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkView {
    name: String,
    id: String,
    created: Timestamp,
    scope: &'static str,
    driver: &'static str,
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: IpamView,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<BTreeMap<String, MemberView>>,
    options: Labels,
    labels: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusView>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamView {
    driver: &'static str,
    /// Null unless the network was made with some.
    options: Option<Labels>,
    config: Vec<SubnetView>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SubnetView {
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MemberView {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4: String,
    #[serde(rename = "IPv6Address")]
    ipv6: String,
}

#[derive(Serialize)]
struct StatusView {
    #[serde(rename = "IPAM")]
    ipam: IpamStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamStatus {
    subnets: BTreeMap<String, SubnetStatus>,
}

#[derive(Serialize)]
struct SubnetStatus {
    #[serde(rename = "IPsInUse")]
    in_use: u64,
    #[serde(rename = "DynamicIPsAvailable")]
    available: u64,
}

/// An element of `GET /networks`; with its members where the version shows them there.
pub fn list(network: &Network, members: Vec<Member>, version: ApiVersion) -> NetworkView {
    let mut view = base(network, version);
    view.containers = match () {
        () if version.has(Feature::NetworkStatus) => None,
        () if version.has(Feature::NetworkListWithoutContainers) => Some(BTreeMap::new()),
        () => Some(containers(members)),
    };
    view
}

/// `GET /networks/{id}`
pub fn inspect(
    network: &Network,
    members: Vec<Member>,
    usage: Vec<SubnetUsage>,
    version: ApiVersion,
) -> NetworkView {
    let mut view = base(network, version);
    view.containers = Some(containers(members));
    if version.has(Feature::NetworkStatus) {
        let status = |u: &SubnetUsage| {
            (u.subnet.to_string(), SubnetStatus { in_use: u.in_use, available: u.available })
        };
        view.status = Some(StatusView { ipam: IpamStatus { subnets: usage.iter().map(status).collect() } });
    }
    view
}

fn base(network: &Network, version: ApiVersion) -> NetworkView {
    NetworkView {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: network.created,
        scope: "local",
        driver: network.driver.as_str(),
        enable_ipv4: version.has(Feature::EnableIpv4).then_some(network.ipv4),
        enable_ipv6: network.ipv6,
        ipam: IpamView {
            driver: "default",
            options: (!network.is_predefined()).then(|| network.ipam.options.clone()),
            config: network.ipam.subnets.iter().map(subnet).collect(),
        },
        internal: network.internal,
        attachable: network.attachable,
        ingress: false,
        config_from: ConfigFrom { network: "" },
        config_only: false,
        containers: None,
        options: network.options.clone(),
        labels: network.labels.clone(),
        status: None,
    }
}

fn subnet(subnet: &crate::network::Subnet) -> SubnetView {
    SubnetView {
        subnet: subnet.subnet.to_string(),
        range: subnet.range.map(|range| range.to_string()),
        gateway: subnet.gateway.map(|ip| ip.to_string()),
        auxiliary: subnet.auxiliary.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
    }
}

fn containers(members: Vec<Member>) -> BTreeMap<String, MemberView> {
    let view = |member: Member| {
        let endpoint = member.endpoint;
        let view = MemberView {
            name: member.name,
            endpoint: endpoint.endpoint.to_string(),
            mac_address: endpoint.mac_address,
            ipv4: endpoint.address.map(|net| net.to_string()).unwrap_or_default(),
            ipv6: endpoint.address6.map(|net| net.to_string()).unwrap_or_default(),
        };
        (member.container.to_string(), view)
    };
    members.into_iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{ContainerId, EndpointId, NetworkId};
    use crate::network::{Driver, EndpointState, Ipam, Subnet};

    fn network() -> Network {
        let subnet = Subnet {
            subnet: "172.17.0.0/16".parse().unwrap(),
            range: None,
            gateway: Some("172.17.0.1".parse().unwrap()),
            auxiliary: BTreeMap::new(),
        };
        Network {
            id: NetworkId::random(),
            name: "bridge".into(),
            created: Timestamp::now(),
            driver: Driver::Bridge,
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            ipam: Ipam { options: Labels::new(), subnets: vec![subnet] },
            options: Labels::new(),
            labels: Labels::new(),
        }
    }

    fn member(network: &Network) -> Member {
        let endpoint = EndpointState {
            network: network.id.clone(),
            endpoint: EndpointId::random(),
            address: Some("172.17.0.2/16".parse().unwrap()),
            gateway: Some("172.17.0.1".parse().unwrap()),
            address6: None,
            gateway6: None,
            mac_address: "02:42:ac:11:00:02".into(),
            default_route: true,
            dns_names: Vec::new(),
        };
        Member { container: ContainerId::random(), name: "web".into(), endpoint }
    }

    #[test]
    fn addresses_have_the_form_that_strict_clients_parse() {
        let network = network();
        let view = inspect(&network, vec![member(&network)], Vec::new(), ApiVersion::NEWEST);
        let json = serde_json::to_value(view).unwrap();
        assert_eq!(
            json["IPAM"]["Config"][0],
            serde_json::json!({"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"})
        );
        let member = json["Containers"].as_object().unwrap().values().next().unwrap();
        assert_eq!((&member["IPv4Address"], &member["IPv6Address"]), (&"172.17.0.2/16".into(), &"".into()));
    }

    #[test]
    fn versions_differ_in_what_lists_hold() {
        let network = network();
        let shown =
            |minor| serde_json::to_value(list(&network, vec![member(&network)], ApiVersion::of_minor(minor)));
        assert_eq!(shown(27).unwrap()["Containers"].as_object().unwrap().len(), 1);
        assert_eq!(shown(44).unwrap()["Containers"], serde_json::json!({}));
        assert!(shown(44).unwrap().get("EnableIPv4").is_none());
        assert!(shown(52).unwrap().get("Containers").is_none());
        assert_eq!(shown(52).unwrap()["EnableIPv4"], true);
    }
}
