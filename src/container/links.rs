//! Legacy links (`--link`): on the default bridge a container learns the names and addresses of others from its hosts
//! file, which follows them, and of their ports and variables from its environment, as they are when it starts. On networks of one's own
//! names do all of this, and clients ask for links there as aliases of the endpoint.

use std::cmp::Reverse;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{ContainerError, LookupError};
use super::host_config::HostConfig;
use super::parts::Parts;
use super::published::Published;
use super::record::Record;
use super::registry::Containers;
use crate::base::id::ContainerId;
use crate::network::{NetworkMode, Protocol};

/// Containers that use another's network: more than this are a circle.
const MAX_STEPS: usize = 32;
/// Where links are made.
const NETWORK: &str = "bridge";
/// Variables of every container, which say nothing of this one.
const UNTOLD: [&str; 2] = ["HOME", "PATH"];

/// A link, checked when its container was created.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    pub container: ContainerId,
    pub alias: String,
}

/// A link that cannot be, in dockerd's words.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("empty string specified for links")]
    Empty,
    #[error("bad format for links: {0}")]
    Format(String),
    #[error("could not get container for {name}: {source}")]
    Container { name: String, source: LookupError },
    #[error(
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
    )]
    Host,
    #[error(
        "conflicting options: container type network can't be used with links. This would result in undefined behavior"
    )]
    OthersNetwork,
    #[error("cannot link to a non running container: {child} AS {link}")]
    NotRunning { child: String, link: String },
    #[error("container {0} not attached to default bridge network")]
    NotAttached(String),
}

impl From<LinkError> for ContainerError {
    fn from(error: LinkError) -> Self {
        Self::bad_request(&error)
    }
}

/// The links in `HostConfig.Links`.
pub fn resolve(containers: &Containers, host_config: Option<&HostConfig>) -> Result<Vec<Link>, LinkError> {
    let Some(host_config) = host_config else { return Ok(Vec::new()) };
    let wanted = host_config.links.as_deref().unwrap_or_default();
    let Ok(mode) = host_config.network_mode.parse::<NetworkMode>();
    match mode {
        _ if wanted.is_empty() => Ok(Vec::new()),
        NetworkMode::Host => Err(LinkError::Host),
        NetworkMode::Container(_) => Err(LinkError::OthersNetwork),
        NetworkMode::Bridge | NetworkMode::None => {
            wanted.iter().map(|link| checked(containers, link)).collect()
        }
        NetworkMode::User(_) => Ok(Vec::new()),
    }
}

fn checked(containers: &Containers, link: &str) -> Result<Link, LinkError> {
    let (name, alias) = parse(link)?;
    let found = |name: &str| {
        let handle = containers.resolve(name);
        handle.map_err(|source| LinkError::Container { name: name.to_owned(), source })
    };
    let mut child = found(name)?;
    for _ in 0..MAX_STEPS {
        let record = child.snapshot().record.clone();
        match record.host_config.network_mode.strip_prefix("container:") {
            Some(owner) => child = found(owner)?,
            None if record.host_config.network_mode == "host" => return Err(LinkError::Host),
            None => break,
        }
    }
    Ok(Link { container: child.id().clone(), alias: alias.to_owned() })
}

/// `NAME[:ALIAS]`, or `/NAME:/PARENT/ALIAS` as inspect shows it.
fn parse(link: &str) -> Result<(&str, &str), LinkError> {
    if link.is_empty() {
        return Err(LinkError::Empty);
    }
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    if alias.contains(':') {
        return Err(LinkError::Format(link.to_owned()));
    }
    match name.strip_prefix('/') {
        Some(name) => Ok((name, alias.rsplit('/').next().unwrap_or(alias))),
        None => Ok((name, alias)),
    }
}

/// Links as inspect shows them: `/NAME:/PARENT/ALIAS`.
pub fn shown(containers: &Containers, links: &[Link], parent: &str) -> Vec<String> {
    let name = |link: &Link| Some(containers.find(&link.container)?.snapshot().record.name.clone());
    links.iter().filter_map(|link| Some(format!("{}:{parent}/{}", name(link)?, link.alias))).collect()
}

/// Lines for the hosts file, each as `ALIAS NAMES:ADDRESS`. Links to containers that were removed are none any more.
pub(super) fn hosts(containers: &Containers, record: &Record) -> Result<Vec<String>, LinkError> {
    let mut lines = Vec::new();
    for link in &record.links {
        let Some(child) = containers.find(&link.container).map(|handle| handle.snapshot()) else { continue };
        let name = child.record.name.clone();
        if !child.is_running() {
            return Err(LinkError::NotRunning {
                child: name,
                link: format!("{}/{}", record.name, link.alias),
            });
        }
        let address = address(&child).ok_or(LinkError::NotAttached(name))?;
        lines.push(format!("{}:{address}", names(link, &child)));
    }
    Ok(lines)
}

fn names(link: &Link, child: &Published) -> String {
    let mut names = vec![link.alias.as_str(), &child.record.config.hostname];
    names.extend(Some(child.record.plain_name()).filter(|name| *name != link.alias));
    names.join(" ")
}

/// Tells the running containers that are linked to `child` where it is now. Its variables stay what they were when they
/// started.
pub(super) fn spread_address(parts: &Arc<Parts>, child: &Published) {
    let Some(address) = address(child) else { return };
    let mut changes = Vec::new();
    for handle in parts.containers.all() {
        let parent = handle.snapshot();
        let Some(sandbox) = parent.sandbox.clone().filter(|_| !parent.record.links.is_empty()) else {
            continue;
        };
        let links = parent.record.links.iter().filter(|link| link.container == child.record.id);
        changes.extend(links.map(|link| (sandbox.clone(), names(link, child))));
    }
    if changes.is_empty() {
        return;
    }
    let parts = parts.clone();
    tokio::task::spawn_blocking(move || {
        for (sandbox, names) in changes {
            if let Err(error) = parts.networks.readdress(&sandbox, &names, address.into()) {
                tracing::warn!(names, %error, "the address of a linked container is not written");
            }
        }
    });
}

fn address(child: &Published) -> Option<std::net::Ipv4Addr> {
    child.sandbox.as_ref()?.endpoints.get(NETWORK)?.address.map(|net| net.addr())
}

/// The variables that tell of the linked containers which run.
pub(super) fn environment(containers: &Containers, record: &Record) -> Vec<String> {
    let mut all = Vec::new();
    for link in &record.links {
        let Some(child) = containers.find(&link.container).map(|handle| handle.snapshot()) else { continue };
        let Some(address) = address(&child) else { continue };
        let prefix = link.alias.to_uppercase().replace('-', "_");
        let mut ports: Vec<_> = child.record.config.ports().into_iter().collect();
        // TCP before the others of the same number.
        ports.sort_by_key(|port| (port.port, Reverse(port.protocol == Protocol::Tcp)));
        let url =
            |port: &crate::network::ContainerPort| format!("{}://{address}:{}", port.protocol, port.port);
        all.extend(ports.first().map(|port| format!("{prefix}_PORT={}", url(port))));
        for port in &ports {
            let protocol = port.protocol.to_string();
            let name = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
            all.push(format!("{name}={}", url(port)));
            all.push(format!("{name}_ADDR={address}"));
            all.push(format!("{name}_PORT={}", port.port));
            all.push(format!("{name}_PROTO={protocol}"));
        }
        all.push(format!("{prefix}_NAME={}/{}", record.name, link.alias));
        let own = child.record.config.env.iter().flatten().filter(|entry| entry.contains('='));
        let told = own.filter(|entry| !UNTOLD.iter().any(|name| entry.split('=').next() == Some(name)));
        all.extend(told.map(|entry| format!("{prefix}_ENV_{entry}")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_name_and_perhaps_an_alias() {
        for (text, name, alias) in [
            ("db", "db", "db"),
            ("db:base", "db", "base"),
            ("/db:/web/base", "db", "base"),
            ("/db", "db", "db"),
        ] {
            assert_eq!(parse(text).unwrap(), (name, alias), "{text}");
        }
        assert_eq!(parse("").unwrap_err().to_string(), "empty string specified for links");
        assert_eq!(parse("a:b:c").unwrap_err().to_string(), "bad format for links: a:b:c");
    }
}
