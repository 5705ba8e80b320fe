//! Operations of the tag Network.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::filters::{Filters, Patterns};
use crate::api::moment;
use crate::api::respond;
use crate::api::spec::params;
use crate::api::versions::Feature;
use crate::api::view;
use crate::base::time::Timestamp;
use crate::network::{Labels, Network, NetworkError, NetworkSpec, Networks, SubnetSpec};

/// `GET /networks`
pub async fn list(call: Call<params::NetworkList>) -> Outcome {
    let filters = &call.params.filters;
    filters.allow(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let dangling = filters.boolean("dangling")?;
    if filters.values("type").any(|kind| !matches!(kind, "builtin" | "custom")) {
        return Err(filters.invalid("type").into());
    }
    let networks = &call.engine.networks;
    let (names, ids) = (filters.patterns("name"), filters.patterns("id"));
    let listed: Vec<_> = networks
        .list()
        .iter()
        .filter(|network| matches(network, filters, &names, &ids))
        .filter(|network| dangling.is_none_or(|wanted| is_dangling(networks, network) == wanted))
        .map(|network| view::network::list(network, networks.members(&network.id), call.version))
        .collect();
    Ok(respond::json(StatusCode::OK, &listed))
}

fn matches(network: &Network, filters: &Filters, names: &Patterns, ids: &Patterns) -> bool {
    let kind = if network.is_predefined() { "builtin" } else { "custom" };
    filters.exact("driver", network.driver.as_str())
        && filters.exact("scope", "local")
        && filters.exact("type", kind)
        && names.matches(&network.name)
        && ids.matches(network.id.as_str())
        && filters.labels("label", |key| network.labels.get(key).map(String::as_str))
}

/// Nobody uses it, and it could be removed.
fn is_dangling(networks: &Networks, network: &Network) -> bool {
    !network.is_predefined() && networks.members(&network.id).is_empty()
}

/// `GET /networks/{id}`
pub async fn inspect(call: Call<params::NetworkInspect>) -> Outcome {
    let networks = &call.engine.networks;
    let not_found = || NetworkError::NotFound(call.params.id.clone());
    if call.params.scope.as_deref().is_some_and(|scope| !matches!(scope, "" | "local")) {
        return Err(not_found().into());
    }
    let network = networks.resolve(&call.params.id)?;
    let (members, usage) = (networks.members(&network.id), networks.usage(&network.id));
    Ok(respond::json(StatusCode::OK, &view::network::inspect(&network, members, usage, call.version)))
}

/// The body of `POST /networks/create`; `null` is the same as absent everywhere.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    name: Option<String>,
    driver: Option<String>,
    scope: Option<String>,
    internal: Option<bool>,
    attachable: Option<bool>,
    ingress: Option<bool>,
    config_only: Option<bool>,
    config_from: Option<ConfigFrom>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<IpamBody>,
    options: Option<Labels>,
    labels: Option<Labels>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigFrom {
    network: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct IpamBody {
    driver: Option<String>,
    options: Option<Labels>,
    config: Option<Vec<SubnetBody>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct SubnetBody {
    subnet: Option<String>,
    #[serde(rename = "IPRange")]
    range: Option<String>,
    gateway: Option<String>,
    auxiliary_addresses: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
    warning: &'static str,
}

/// `POST /networks/create`
pub async fn create(mut call: Call<params::NetworkCreate>) -> Outcome {
    let body: CreateBody = call.json().await?;
    check_supported(&body)?;
    let ipam = body.ipam.unwrap_or_default();
    let mut options = body.options.unwrap_or_default();
    let driver = body.driver.unwrap_or_default();
    let defaults =
        call.engine.config.default_network_opts.get(if driver.is_empty() { "bridge" } else { &driver });
    for (key, value) in defaults.into_iter().flatten() {
        options.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let spec = NetworkSpec {
        name: body.name.unwrap_or_default(),
        driver,
        ipv4: body.enable_ipv4.filter(|_| call.version.has(Feature::EnableIpv4)),
        ipv6: body.enable_ipv6,
        internal: body.internal.unwrap_or_default(),
        attachable: body.attachable.unwrap_or_default(),
        subnets: ipam.config.into_iter().flatten().map(subnet).collect(),
        ipam_options: ipam.options.unwrap_or_default(),
        options,
        labels: body.labels.unwrap_or_default(),
    };
    let network = call.engine.networks.create(spec).await?;
    Ok(respond::json(StatusCode::CREATED, &Created { id: network.id.to_string(), warning: "" }))
}

fn check_supported(body: &CreateBody) -> Result<(), NetworkError> {
    let from = body.config_from.as_ref().and_then(|from| from.network.as_deref()).unwrap_or_default();
    let ipam = body.ipam.as_ref().and_then(|ipam| ipam.driver.as_deref()).unwrap_or_default();
    match () {
        () if body.config_only == Some(true) || !from.is_empty() => {
            Err(NetworkError::Unsupported("configuration-only networks"))
        }
        () if body.ingress == Some(true) || body.scope.as_deref() == Some("swarm") => {
            Err(NetworkError::NoSwarm)
        }
        () if !matches!(ipam, "" | "default") => Err(NetworkError::UnknownDriver(ipam.to_owned())),
        () => Ok(()),
    }
}

fn subnet(body: SubnetBody) -> SubnetSpec {
    SubnetSpec {
        subnet: body.subnet.unwrap_or_default(),
        range: body.range.unwrap_or_default(),
        gateway: body.gateway.unwrap_or_default(),
        auxiliary: body.auxiliary_addresses.unwrap_or_default(),
    }
}

/// `DELETE /networks/{id}`
pub async fn delete(call: Call<params::NetworkDelete>) -> Outcome {
    call.engine.networks.remove(&call.params.id).await?;
    Ok(respond::no_content())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    networks_deleted: Option<Vec<String>>,
}

/// `POST /networks/prune`
pub async fn prune(call: Call<params::NetworkPrune>) -> Outcome {
    let filters = &call.params.filters;
    filters.allow(&["label", "label!", "until"])?;
    let until = match filters.single("until")? {
        Some(text) => Some(moment::before(text, Timestamp::now()).map_err(ApiError::from)?),
        None => None,
    };
    let wanted = |network: &Network| {
        let label = |key: &str| network.labels.get(key).map(String::as_str);
        until.is_none_or(|until| network.created < until)
            && filters.labels("label", label)
            && filters.without_labels("label!", label)
    };
    let removed = call.engine.networks.prune(wanted).await?;
    let networks_deleted = (!removed.is_empty()).then_some(removed);
    Ok(respond::json(StatusCode::OK, &Pruned { networks_deleted }))
}
