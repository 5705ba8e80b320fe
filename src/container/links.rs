//! Legacy links (`--link`): on the default bridge a container learns the names and addresses of others from its hosts
//! file, which follows them, and of their ports and variables from its environment, as they are when it starts. On networks of one's own
//! names do all of this, and clients ask for links there as aliases of the endpoint.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{ContainerError, LookupError};
use super::host_config::HostConfig;
use super::owner::Owner;
use super::parts::Parts;
use super::published::Published;
use super::record::Record;
use super::registry::Containers;
use super::state::{self, Phase};
use super::storage;
use crate::base::id::ContainerId;
use crate::crash_point;
use crate::network::{NetworkMode, Protocol};

/// Containers that use another's network: more than this are a circle.
const MAX_STEPS: usize = 32;
/// How long a container that starts with the daemon waits for those that it is linked to.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where links are made.
const NETWORK: &str = "bridge";
/// Variables of every container, which say nothing of this one.
const UNTOLD: [&str; 2] = ["HOME", "PATH"];

/// A link, checked when its container was created.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    pub container: ContainerId,
    /// Names separated by slashes; the last one is what the container calls the other.
    pub alias: String,
    /// What the other was called when it was linked, with the slash: all that is left of it once it is removed.
    #[serde(default)]
    pub name: String,
}

impl Link {
    fn last_name(&self) -> &str {
        self.alias.rsplit('/').next().unwrap_or(&self.alias)
    }
}

/// Names that containers have from others' links to them: `/PARENT/ALIAS`.
#[derive(Default)]
pub struct LinkNames(HashMap<ContainerId, Vec<String>>);

impl LinkNames {
    /// The names that the links of these containers give.
    pub fn given_by<'a>(parents: impl Iterator<Item = &'a Published>) -> Self {
        let mut names: HashMap<ContainerId, Vec<String>> = HashMap::new();
        for parent in parents {
            for link in &parent.record.links {
                let name = format!("{}/{}", parent.record.name, link.alias);
                names.entry(link.container.clone()).or_default().push(name);
            }
        }
        names.values_mut().for_each(|names| names.sort());
        Self(names)
    }

    /// Those of one container, sorted.
    pub fn of(&self, container: &ContainerId) -> &[String] {
        self.0.get(container).map_or(&[], Vec::as_slice)
    }
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
    NotAttached(ContainerId),
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
            let mut links: Vec<Link> = Vec::new();
            for link in wanted {
                let link = checked(containers, link)?;
                // Without an alias it is the parent's own name, which is taken as the second of two equal ones is.
                if !link.alias.is_empty() && links.iter().all(|earlier| earlier.alias != link.alias) {
                    links.push(link);
                }
            }
            Ok(links)
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
    let name = child.snapshot().record.name.clone();
    Ok(Link { container: child.id().clone(), alias, name })
}

/// `NAME[:ALIAS]`, or `/NAME:/PARENT/ALIAS` as inspect shows it.
///
/// An alias that leads out of its parent would be another container's name, and one with line breaks would write lines
/// of its own into the hosts file: dockerd takes both.
fn parse(link: &str) -> Result<(&str, String), LinkError> {
    if link.is_empty() {
        return Err(LinkError::Empty);
    }
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    let parts = || alias.split('/').filter(|part| !matches!(*part, "" | "."));
    if alias.contains(':') || alias.contains(char::is_control) || parts().any(|part| part == "..") {
        return Err(LinkError::Format(link.to_owned()));
    }
    match name.strip_prefix('/') {
        Some(name) => Ok((name, alias.rsplit('/').next().unwrap_or(alias).to_owned())),
        None => Ok((name, parts().collect::<Vec<_>>().join("/"))),
    }
}

/// `HostConfig.Links` as inspect shows it, each as `/NAME:/PARENT/ALIAS`; `None` without links.
pub fn shown(containers: &Containers, record: &Record) -> Option<Vec<String>> {
    let name = |link: &Link| match containers.find(&link.container) {
        Some(child) => child.snapshot().record.name.clone(),
        None => link.name.clone(),
    };
    let shown = |link| format!("{}:{}/{}", name(link), record.name, link.alias);
    (!record.links.is_empty()).then(|| record.links.iter().map(shown).collect())
}

/// Forgets links to containers that were removed before the daemon started, as dockerd does: until then they keep
/// their container from starting without what it counts on.
pub fn forget_removed(record: &mut Record, exists: impl Fn(&ContainerId) -> bool) {
    record.links.retain(|link| exists(&link.container));
}

/// Takes the link away that `term` names as `PARENT/ALIAS`, and nothing of the container that it leads to. As for
/// dockerd, an alias of several names stays: all but its last one would be a container's.
pub async fn remove(containers: &Containers, term: &str) -> Result<(), ContainerError> {
    containers.resolve(term)?;
    let name = term.strip_prefix('/').unwrap_or(term);
    let (parent, alias) = name.rsplit_once('/').ok_or(ContainerError::OwnName)?;
    if parent.contains('/') {
        return Err(ContainerError::LinkParent { parent: parent.to_owned(), name: name.to_owned() });
    }
    containers.resolve(parent)?.unlink(alias.to_owned()).await
}

impl Owner {
    /// A client that gets no answer, because the daemon is killed here, finds the link and can ask again.
    pub(super) async fn unlink(&mut self, alias: &str) -> Result<(), ContainerError> {
        let mut record = (*self.now.record).clone();
        let Some(place) = record.links.iter().position(|link| link.alias == alias) else {
            let name = format!("{}/{alias}", record.plain_name());
            return Err(LookupError::NotFound(name).into());
        };
        let link = record.links.remove(place);
        // Only a record of an earlier release has them there too.
        record.host_config.links = None;
        self.forget_address(&link).await?;
        crash_point!("container-link-forgotten");
        storage::save_record(&self.parts.paths, &record)
            .await
            .map_err(|source| self.io("saving its record", source))?;
        self.now.record = Arc::new(record);
        self.publish();
        Ok(())
    }

    async fn forget_address(&self, link: &Link) -> Result<(), ContainerError> {
        let child = self.parts.containers.find(&link.container).map(|handle| handle.snapshot());
        let (Some(sandbox), Some(child)) = (self.now.sandbox.clone(), child) else { return Ok(()) };
        let (parts, names) = (self.parts.clone(), known_names(link, &child));
        let written = tokio::task::spawn_blocking(move || parts.networks.forget_host(&sandbox, &names)).await;
        let written = written.unwrap_or_else(|lost| Err(std::io::Error::other(lost)));
        written.map_err(|source| self.io("writing its hosts file", source))
    }
}

/// The links that do something: on the default bridge only.
fn used(record: &Record) -> &[Link] {
    let Ok(mode) = record.host_config.network_mode.parse::<NetworkMode>();
    match mode {
        NetworkMode::Bridge => &record.links,
        NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::User(_) => &[],
    }
}

/// Lines for the hosts file, each as `ALIAS NAMES:ADDRESS`.
pub(super) fn hosts(containers: &Containers, record: &Record) -> Result<Vec<String>, LinkError> {
    let mut lines = Vec::new();
    for link in used(record) {
        let child = containers.find(&link.container).map(|handle| handle.snapshot());
        let name = child.as_ref().map_or(&link.name, |child| &child.record.name).clone();
        let Some(child) = child.filter(|child| child.is_running()) else {
            return Err(LinkError::NotRunning {
                child: name,
                link: format!("{}/{}", record.name, link.alias),
            });
        };
        let address = address(&child).ok_or_else(|| LinkError::NotAttached(link.container.clone()))?;
        lines.push(format!("{}:{address}", names(link, &child)));
    }
    Ok(lines)
}

/// Waits until the linked containers run, as far as they start with the daemon too: without them a start fails.
pub(super) async fn await_others(containers: &Containers, record: &Record) {
    let others = async {
        for child in used(record).iter().filter_map(|link| containers.find(&link.container)) {
            // One that goes meanwhile is not waited for.
            let _ = child.watch().wait_for(|now| is_ready(now) || stays_down(now)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, others).await.is_err() {
        tracing::warn!(container = %record.id, "what it is linked to does not start");
    }
}

/// A state of before a power cut says that there is a process, but knows of no network.
fn is_ready(now: &Published) -> bool {
    now.is_running() && now.sandbox.is_some()
}

fn stays_down(now: &Published) -> bool {
    match now.state.phase {
        Phase::Created | Phase::Removing | Phase::Dead => true,
        Phase::Exited => !state::starts_with_daemon(&now.state, now.record.restart_rule()),
        Phase::Starting | Phase::Running | Phase::Paused | Phase::Restarting => false,
    }
}

/// What a line of the hosts file begins with, after the address: it stays when the other container gets another name.
fn known_names(link: &Link, child: &Published) -> String {
    format!("{} {}", link.last_name(), child.record.config.hostname)
}

fn names(link: &Link, child: &Published) -> String {
    let mut names = known_names(link, child);
    let own = child.record.plain_name();
    if own != link.last_name() {
        names = format!("{names} {own}");
    }
    names
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
        changes.extend(links.map(|link| (sandbox.clone(), known_names(link, child))));
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
    for link in used(record) {
        let Some(child) = containers.find(&link.container).map(|handle| handle.snapshot()) else { continue };
        let Some(address) = address(&child) else { continue };
        let prefix = link.last_name().to_uppercase().replace('-', "_");
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

    fn container(name: &str, links: &[Link]) -> Published {
        let digest = crate::base::digest::Digest::of(b"");
        let record = serde_json::json!({
            "id": ContainerId::random(), "name": name, "created": crate::base::time::Timestamp::now(),
            "image": digest, "manifest": digest, "chain": [], "platform": "linux", "args": [], "config": {},
            "host_config": {}, "endpoints": {}, "mounts": [], "links": links,
        });
        let record = serde_json::from_value(record).unwrap();
        Published::at_rest(Arc::new(record), state::State::default())
    }

    #[test]
    fn only_what_may_come_up_is_waited_for_until_it_has_an_address() {
        let in_phase = |phase, policy: &str| {
            let mut now = container("/one", &[]);
            let mut record = (*now.record).clone();
            record.host_config.restart_policy.name = policy.to_owned();
            now.record = Arc::new(record);
            (now.state.phase, now.state.started_at) = (phase, crate::base::time::Timestamp::now());
            now
        };
        for (phase, policy, expected) in [
            (Phase::Created, "always", true),
            (Phase::Removing, "always", true),
            (Phase::Dead, "always", true),
            (Phase::Exited, "no", true),
            (Phase::Exited, "always", false),
            (Phase::Restarting, "always", false),
            (Phase::Starting, "no", false),
            (Phase::Running, "no", false),
        ] {
            assert_eq!(stays_down(&in_phase(phase, policy)), expected, "{phase:?} {policy}");
        }
        // As it is on disk after a power cut: its network is made by its start.
        assert!(!is_ready(&in_phase(Phase::Running, "always")));
    }

    #[test]
    fn a_linked_container_has_a_name_of_each_parent_s_link_in_order() {
        let (one, other) = (ContainerId::random(), ContainerId::random());
        let parent = |name: &str, links: &[(&ContainerId, &str)]| {
            let link = |&(container, alias): &(&ContainerId, &str)| Link {
                container: container.clone(),
                alias: alias.to_owned(),
                name: String::new(),
            };
            container(name, &links.iter().map(link).collect::<Vec<_>>())
        };
        let parents =
            [parent("/web", &[(&one, "z"), (&one, "a/b"), (&other, "a")]), parent("/app", &[(&one, "z")])];
        let names = LinkNames::given_by(parents.iter());
        assert_eq!(names.of(&one), ["/app/z", "/web/a/b", "/web/z"]);
        assert_eq!(names.of(&other), ["/web/a"]);
        assert!(names.of(&ContainerId::random()).is_empty());
    }

    #[test]
    fn a_link_is_a_name_and_perhaps_an_alias() {
        for (text, name, alias) in [
            ("db", "db", "db"),
            ("db:base", "db", "base"),
            ("/db:/web/base", "db", "base"),
            ("/db", "db", "db"),
            ("db:/base", "db", "base"),
            ("db:a/./b/", "db", "a/b"),
            ("web/db", "web/db", "web/db"),
            ("db:a b", "db", "a b"),
            ("db:", "db", ""),
            ("db:.", "db", ""),
            ("/db:/web/", "db", ""),
        ] {
            assert_eq!(parse(text).unwrap(), (name, alias.to_owned()), "{text}");
        }
        assert_eq!(parse("").unwrap_err().to_string(), "empty string specified for links");
        for bad in ["a:b:c", "db:..", "db:../web", "db:a/../../web", "/db:/..", "db:a\n192.0.2.1\tb"] {
            assert_eq!(parse(bad).unwrap_err().to_string(), format!("bad format for links: {bad}"));
        }
    }
}
