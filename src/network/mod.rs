//! Networks: which exist, who is attached to them, and how a container gets its interfaces, addresses, names and
//! published ports.
//!
//! The kernel is spoken to by netlink in this process; no helper program runs and nothing is synced to disk while a
//! container starts or stops. What must survive the daemon is either in a network's durable record or in the
//! container's own ([`Sandbox`]); every kernel object has a name derived from an id, and [`Networks::recover`]
//! removes those that no running container owns. Host ports are held by sockets that the container's shim keeps.
//!
//! There is no proxy process for ports: the kernel's own address translation serves every path, so a container always
//! sees the real address of its client.

mod bridge;
mod choice;
mod connect;
mod endpoint_options;
mod error;
mod files;
mod firewall;
mod ipam;
#[cfg(test)]
mod kernel_tests;
mod link;
mod mac;
mod manage;
mod model;
mod names;
mod options;
mod plan;
mod port;
mod publish;
mod reaper;
mod recover;
mod sandbox;
mod store;
#[cfg(test)]
mod testing;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

pub use error::{AmbiguousOn, InvalidConfig, NetworkError, PublishError};
pub use ipam::SubnetUsage;
pub use manage::{NetworkSpec, SubnetSpec};
pub use model::{Driver, Ipam, Network, Subnet, is_predefined};
pub use options::{AddressPool, BridgeOptions, DnsOptions, Labels, Options};
pub use port::{ContainerPort, HostPorts, InvalidPort, PortBinding, PortMap, PortRequest, Protocol};
pub use sandbox::{
    EndpointIpam, EndpointRequest, EndpointSettings, EndpointState, LiveSandbox, NetworkMode, Sandbox,
    SandboxRequest, UserNamespace,
};

use crate::base::id::{ContainerId, NetworkId};
use crate::base::time::Timestamp;
use crate::events::{Event, EventBus, Subject};
use bridge::Fabric;
use choice::Taken;
use ipam::Pool;
use publish::PortTable;
use reaper::Reaper;
use store::Store;

/// All networks of this daemon. Clones share them.
#[derive(Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

struct Inner {
    /// For threads that must not keep the networks alive.
    myself: Weak<Inner>,
    options: Options,
    events: EventBus,
    store: Store,
    state: Mutex<State>,
    /// Held while a bridge is set up, which happens once.
    fabric: Mutex<Fabric>,
    reaper: Reaper,
    pruning: tokio::sync::Mutex<()>,
    /// Held while `hosts` files are rewritten.
    names: Mutex<()>,
}

/// Held for look-ups and book-keeping only, never across a system call that can wait.
#[derive(Default)]
struct State {
    networks: BTreeMap<NetworkId, Arc<Network>>,
    /// Of each network with addresses, one pool for each of its subnets.
    pools: HashMap<NetworkId, Vec<Pool>>,
    ports: PortTable,
    attached: HashMap<ContainerId, Attached>,
}

/// A container that has a network, or is being given one.
#[derive(Clone)]
struct Attached {
    name: String,
    sandbox: Sandbox,
}

/// A container as `network inspect` lists it.
#[derive(Clone, Debug)]
pub struct Member {
    pub container: ContainerId,
    pub name: String,
    pub endpoint: EndpointState,
}

impl Networks {
    /// Reads the records and makes sure of the predefined networks. Changes no kernel object: the default bridge is
    /// set up when a container first needs it.
    pub fn open(options: Options, events: EventBus) -> Result<Self, NetworkError> {
        let store = Store::open(&options.state_dir).map_err(NetworkError::Record)?;
        let mut networks = store.load().map_err(NetworkError::Record)?;
        for (name, driver) in [("bridge", Driver::Bridge), ("host", Driver::Host), ("none", Driver::Null)] {
            let known = networks.iter().position(|n| n.name == name).map(|at| networks.swap_remove(at));
            let record = known.clone().unwrap_or_else(|| predefined(name, driver));
            let network = match driver {
                Driver::Bridge if options.bridge.disabled => continue,
                Driver::Bridge => {
                    let others: Vec<_> = networks.iter().collect();
                    let taken = Taken::read(&options.address_pools, &others)
                        .map_err(NetworkError::kernel("addresses of the host"))?;
                    choice::default_bridge(record, &options.bridge, &taken)?
                }
                Driver::Host | Driver::Null => record,
            };
            if known.as_ref() != Some(&network) {
                store.save(&network).map_err(NetworkError::Record)?;
            }
            networks.push(network);
        }
        let mut state = State::default();
        networks.into_iter().for_each(|network| state.add(network));
        let (state, fabric, reaper) = (Mutex::new(state), Mutex::default(), Reaper::default());
        let pruning = tokio::sync::Mutex::default();
        let inner = Arc::new_cyclic(|myself| {
            let myself = myself.clone();
            Inner { myself, options, events, store, state, fabric, reaper, pruning, names: Mutex::default() }
        });
        Ok(Self { inner })
    }

    /// Finds a network by full id, then exact name, then unique prefix of an id.
    pub fn resolve(&self, term: &str) -> Result<Arc<Network>, NetworkError> {
        self.inner.resolve(term)
    }

    /// All networks.
    pub fn list(&self) -> Vec<Arc<Network>> {
        self.inner.state().networks.values().cloned().collect()
    }

    /// The containers attached to a network, for `network inspect`.
    pub fn members(&self, id: &NetworkId) -> Vec<Member> {
        let state = self.inner.state();
        let attached = state.attached.iter();
        attached
            .flat_map(|(container, a)| {
                a.sandbox.endpoints.values().map(move |endpoint| (container, a, endpoint))
            })
            .filter(|(_, _, endpoint)| endpoint.network == *id)
            .map(|(container, a, endpoint)| Member {
                container: container.clone(),
                name: a.name.clone(),
                endpoint: endpoint.clone(),
            })
            .collect()
    }

    /// Makes a network, durable before this returns.
    pub async fn create(&self, spec: NetworkSpec) -> Result<Arc<Network>, NetworkError> {
        self.blocking(move |inner| inner.create(spec)).await
    }

    /// Removes a network that no running container is attached to.
    pub async fn remove(&self, term: &str) -> Result<(), NetworkError> {
        let term = term.to_owned();
        self.blocking(move |inner| inner.remove(&term)).await
    }

    /// Removes the networks that nobody uses, as far as `wanted` says; returns their names.
    pub async fn prune(&self, wanted: impl Fn(&Network) -> bool) -> Result<Vec<String>, NetworkError> {
        let _one_at_a_time = self.inner.pruning.try_lock().map_err(|_| NetworkError::PruneRunning)?;
        let mut removed = Vec::new();
        for network in self.list().into_iter().filter(|n| !n.is_predefined() && wanted(n)) {
            match self.remove(network.id.as_str()).await {
                Ok(()) => removed.push(network.name.clone()),
                Err(NetworkError::ActiveEndpoints { .. } | NetworkError::NotFound(_)) => {}
                Err(error) => tracing::warn!(network = network.name, %error, "network not pruned"),
            }
        }
        self.inner.events.publish(Event::now(Subject::Network, "prune", "").with("reclaimed", "0"));
        Ok(removed)
    }

    /// How many addresses of each subnet are in use, and how many are left to be given.
    pub fn usage(&self, id: &NetworkId) -> Vec<SubnetUsage> {
        let state = self.inner.state();
        state.pools.get(id).into_iter().flatten().map(Pool::usage).collect()
    }

    /// Takes over the sandboxes of containers that run, and removes kernel objects that none of them owns. Call once,
    /// before the first [`connect`](Self::connect).
    pub async fn recover(&self, live: Vec<LiveSandbox>) -> Result<(), NetworkError> {
        self.blocking(move |inner| inner.recover(live)).await
    }

    /// Gives a container its network: namespace, interfaces, addresses, files, published ports. Undone if the caller
    /// stops waiting.
    pub async fn connect(&self, request: SandboxRequest) -> Result<Sandbox, NetworkError> {
        let (reply, result) = oneshot::channel();
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || {
            let container = request.container.clone();
            let connected = inner.connect(request);
            if let Err(Ok(sandbox)) = reply.send(connected) {
                inner.disconnect(&container, &sandbox);
            }
        });
        result.await.unwrap_or_else(|_| Err(worker_lost()))
    }

    /// Takes a container's network away. What is already gone is no error. The interface itself disappears a little
    /// later (10 to 30 ms); [`settle`](Self::settle) waits for that.
    pub async fn disconnect(&self, container: &ContainerId, sandbox: &Sandbox) {
        let (container, sandbox) = (container.clone(), sandbox.clone());
        let done = self.blocking(move |inner| {
            inner.disconnect(&container, &sandbox);
            Ok(())
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "a container's network could not be taken away");
        }
    }

    /// Waits until everything that was disconnected is gone from the kernel.
    pub async fn settle(&self) {
        let settled = self.blocking(|inner| {
            inner.settle();
            Ok(())
        });
        if let Err(error) = settled.await {
            tracing::error!(%error, "interfaces may be left");
        }
    }

    /// Gives the line whose names begin with these, in the hosts file of a sandbox, another address. Blocks.
    pub fn readdress(
        &self,
        sandbox: &Sandbox,
        names: &str,
        address: std::net::IpAddr,
    ) -> std::io::Result<()> {
        let _one_writer = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(dir) = &sandbox.files else { return Ok(()) };
        files::readdress(&dir.join("hosts"), names, address)
    }

    /// Takes the line whose names begin with these out of the hosts file of a sandbox. Blocks.
    pub fn forget_host(&self, sandbox: &Sandbox, names: &str) -> std::io::Result<()> {
        let _one_writer = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(dir) = &sandbox.files else { return Ok(()) };
        files::forget(&dir.join("hosts"), names)
    }

    /// Follows a container's new name, without the leading slash.
    pub fn rename(&self, container: &ContainerId, name: &str) {
        if let Some(attached) = self.inner.state().attached.get_mut(container) {
            attached.name = name.to_owned();
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.unwrap_or_else(|_| Err(worker_lost()))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fabric(&self) -> MutexGuard<'_, Fabric> {
        self.fabric.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, term: &str) -> Result<Arc<Network>, NetworkError> {
        let state = self.state();
        let matching = |test: &dyn Fn(&Network) -> bool| -> Vec<_> {
            state.networks.values().filter(|n| test(n)).cloned().collect()
        };
        let only = |mut found: Vec<Arc<Network>>, on| match found.len() {
            0 => None,
            1 => found.pop().map(Ok),
            matches => Some(Err(NetworkError::Ambiguous { term: term.to_owned(), matches, on })),
        };
        only(matching(&|n| n.id.as_str() == term), AmbiguousOn::IdPrefix)
            .or_else(|| only(matching(&|n| n.name == term), AmbiguousOn::Name))
            .or_else(|| {
                let found = matching(&|n| !term.is_empty() && n.id.as_str().starts_with(term));
                only(found, AmbiguousOn::IdPrefix)
            })
            .unwrap_or_else(|| Err(NetworkError::NotFound(term.to_owned())))
    }
}

impl State {
    fn add(&mut self, network: Network) {
        let pools = network.ipam.subnets.iter().map(Pool::new).collect();
        self.pools.insert(network.id.clone(), pools);
        self.networks.insert(network.id.clone(), Arc::new(network));
    }
}

fn predefined(name: &str, driver: Driver) -> Network {
    Network {
        id: NetworkId::random(),
        name: name.to_owned(),
        created: Timestamp::now(),
        driver,
        ipv4: true,
        ipv6: false,
        internal: false,
        attachable: false,
        ipam: Ipam::default(),
        options: Labels::new(),
        labels: Labels::new(),
    }
}

/// A worker thread panicked: a bug, reported as a failed operation rather than a dead daemon.
fn worker_lost() -> NetworkError {
    NetworkError::Kernel { step: "network worker", source: std::io::Error::other("it ended unexpectedly") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &std::path::Path) -> Options {
        Options {
            state_dir: dir.join("state"),
            netns_dir: dir.join("netns"),
            bridge: BridgeOptions::default(),
            dns: DnsOptions::default(),
            host_gateway: Vec::new(),
            address_pools: Vec::new(),
        }
    }

    #[test]
    fn predefined_networks_keep_their_ids() {
        let dir = tempfile::tempdir().unwrap();
        let ids = || {
            let networks = Networks::open(options(dir.path()), EventBus::default()).unwrap();
            ["bridge", "host", "none"].map(|name| networks.resolve(name).unwrap().id.clone())
        };
        assert_eq!(ids(), ids());
    }

    #[test]
    fn networks_are_found_by_id_name_and_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let networks = Networks::open(options(dir.path()), EventBus::default()).unwrap();
        let host = networks.resolve("host").unwrap();
        assert_eq!(networks.resolve(host.id.as_str()).unwrap().name, "host");
        assert_eq!(networks.resolve(host.id.short()).unwrap().name, "host");
        assert!(matches!(networks.resolve("nowhere"), Err(NetworkError::NotFound(_))));
        assert!(matches!(networks.resolve(""), Err(NetworkError::NotFound(_))));
    }
}
