//! Connecting and disconnecting a container: the steps, their order, and their undoing.
//!
//! All is decided and reserved before anything is made. Kernel objects have names derived from ids, so that undoing
//! (after a failure here, or by [`recover`](super::recover)) needs nothing but the ids.

use std::collections::{BTreeMap, hash_map::Entry};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Files, Reach};
use super::plan::{Plan, Planned};
use super::{
    Attached, Inner, NetworkError, NetworkMode, PublishError, Sandbox, SandboxRequest, UserNamespace, link,
    plan, publish,
};
use crate::base::id::{ContainerId, EndpointId};
use crate::base::sys::netlink::{Family, Socket};
use crate::base::sys::netns;
use crate::base::sys::userns::Of;
use crate::crash_point;
use crate::events::{Event, Subject};

/// What the name of a user namespace has more than that of its network namespace.
pub(super) const USERNS: &str = "-user";

impl Inner {
    /// Gives a container its network; when it fails nothing of it is left.
    pub(super) fn connect(&self, request: SandboxRequest) -> Result<Sandbox, NetworkError> {
        if let NetworkMode::Container(target) = &request.mode {
            return self.join(target, &request.user);
        }
        let plan = self.plan(&request)?;
        self.announce(&request, &plan.sandbox)?;
        self.make(&request, &plan).inspect_err(|_| {
            self.state().attached.remove(&request.container);
            self.unmake(&request.container, &plan.sandbox);
        })?;
        let sandbox = plan.keep();
        self.spread_names(&sandbox);
        self.report("connect", &request.container, &sandbox);
        Ok(sandbox)
    }

    /// Takes everything of a container's network away and gives its addresses and ports back.
    pub(super) fn disconnect(self: &Arc<Self>, container: &ContainerId, sandbox: &Sandbox) {
        let known = self.state().attached.remove(container);
        let is_known = known.is_some();
        let sandbox = known.map_or_else(|| sandbox.clone(), |attached| attached.sandbox);
        self.close(container, &sandbox);
        if is_known {
            let mut state = self.state();
            plan::publications(&sandbox).iter().for_each(|p| state.ports.release(p.protocol, p.host));
            drop(state);
            self.spread_names(&sandbox);
            self.report("disconnect", container, &sandbox);
        }
        if plan::host_ends(&sandbox).next().is_some() {
            self.bury(sandbox);
        }
    }

    /// Enters the container among the attached ones before anything is made for it: rules that are laid down anew
    /// meanwhile must hold its ports.
    fn announce(&self, request: &SandboxRequest, sandbox: &Sandbox) -> Result<(), NetworkError> {
        match self.state().attached.entry(request.container.clone()) {
            Entry::Occupied(_) => Err(NetworkError::AlreadyConnected(request.container.clone())),
            Entry::Vacant(place) => {
                place.insert(Attached { name: request.name.clone(), sandbox: sandbox.clone() });
                Ok(())
            }
        }
    }

    fn make(&self, request: &SandboxRequest, plan: &Plan<'_>) -> Result<(), NetworkError> {
        if let Some(path) = &plan.sandbox.netns {
            self.new_netns(path, &request.user, plan).or_else(|_| {
                // Somebody may have removed a bridge that was in order before: look again, once.
                plan.endpoints.iter().for_each(|e| self.doubt_bridge(&e.network.id));
                self.unmake(&request.container, &plan.sandbox);
                self.new_netns(path, &request.user, plan)
            })?;
        }
        crash_point!("network-netns-made");
        self.open_ports(request, plan)?;
        crash_point!("network-ports-open");
        self.write_files(request, plan)
    }

    fn open_ports(&self, request: &SandboxRequest, plan: &Plan<'_>) -> Result<(), NetworkError> {
        let published = self.options.bridge.firewall && !plan.ports.is_empty();
        let done = if published { self.publish(&plan.publications()) } else { Ok(()) };
        let failed = |cause| {
            let main = plan.endpoints.iter().find(|e| e.state.default_route);
            let endpoint = main.map_or_else(EndpointId::random, |e| e.state.endpoint.clone());
            NetworkError::Publish { name: request.name.clone(), endpoint, cause }
        };
        done.map_err(PublishError::Firewall).and_then(|()| publish::guard(&plan.ports)).map_err(failed)
    }

    /// Undoes [`make`](Self::make), as far as it got.
    fn unmake(&self, container: &ContainerId, sandbox: &Sandbox) {
        self.close(container, sandbox);
        let names: Vec<_> = plan::host_ends(sandbox).collect();
        if !names.is_empty() {
            let removed = Socket::open(Family::Route).and_then(|socket| link::delete(&socket, &names));
            removed.unwrap_or_else(|error| warn(container, "interfaces", &error));
        }
    }

    /// Closes the ways to published ports and lets go of the namespace.
    fn close(&self, container: &ContainerId, sandbox: &Sandbox) {
        let withdrawn = self.withdraw(&plan::publications(sandbox));
        withdrawn.unwrap_or_else(|error| warn(container, "published ports", &error));
        crash_point!("network-ports-closed");
        let removed = netns::remove(&self.netns_path(container))
            .and_then(|()| netns::remove(&self.userns_path(container)));
        removed.unwrap_or_else(|error| warn(container, "network namespace", &error));
    }

    /// The namespace of another container, which stays its owner.
    fn join(&self, target: &str, user: &UserNamespace) -> Result<Sandbox, NetworkError> {
        let state = self.state();
        let found = state.attached.iter().find(|(id, a)| id.as_str() == target || a.name == target);
        let (_, owner) = found.ok_or_else(|| NetworkError::NoSuchSandbox(target.to_owned()))?;
        let userns = match (user, &owner.sandbox.userns) {
            (UserNamespace::Host, _) => None,
            (_, Some(path)) => Some(path.clone()),
            (_, None) => return Err(NetworkError::ForeignUsers(target.to_owned())),
        };
        Ok(Sandbox { netns: owner.sandbox.netns.clone(), userns, ..Sandbox::default() })
    }

    fn new_netns(&self, path: &Path, user: &UserNamespace, plan: &Plan<'_>) -> Result<(), NetworkError> {
        fs::create_dir_all(&self.options.netns_dir)
            .map_err(NetworkError::kernel("network namespace directory"))?;
        let mut bridges = Vec::new();
        for endpoint in &plan.endpoints {
            bridges.push(if endpoint.has_interface() { Some(self.bridge(&endpoint.network)?) } else { None });
        }
        let host = Socket::open(Family::Route).map_err(NetworkError::kernel("netlink"))?;
        let populate = || {
            let inside = Socket::open(Family::Route)?;
            let mut changes = vec![link::loopback_up()];
            if !plan.has_ipv6() {
                plan::disable_ipv6()?;
            }
            for (endpoint, bridge) in plan.endpoints.iter().zip(&bridges) {
                if let Some(bridge) = bridge {
                    changes.extend(endpoint.plug_in(&host, &inside, *bridge)?);
                }
            }
            inside.request(changes)
        };
        let of = match user {
            UserNamespace::Host => {
                return netns::create(path, populate).map_err(NetworkError::kernel("network namespace"));
            }
            UserNamespace::Own(ids) => Of::New(ids),
            UserNamespace::Of { path, .. } => Of::Existing(path),
        };
        netns::create_owned(of, path, &userns_path(path), populate)
            .map_err(NetworkError::kernel("user and network namespace"))
    }

    fn write_files(&self, request: &SandboxRequest, plan: &Plan<'_>) -> Result<(), NetworkError> {
        let addresses: Vec<IpAddr> = plan.endpoints.iter().flat_map(Planned::addresses).collect();
        let reach = match () {
            () if request.mode == NetworkMode::Host => Reach::Host,
            () if plan.has_ipv6() => Reach::V4AndV6,
            () => Reach::V4,
        };
        let files = Files {
            hostname: &request.hostname,
            domainname: &request.domainname,
            addresses: &addresses,
            extra: &plan.extra_hosts,
            dns: &request.dns.clone().or(&self.options.dns),
            reach,
        };
        files.write(&request.dir, request.user.ids().root()).map_err(NetworkError::kernel("network files"))
    }

    pub(super) fn netns_path(&self, container: &ContainerId) -> PathBuf {
        self.options.netns_dir.join(container.short())
    }

    pub(super) fn userns_path(&self, container: &ContainerId) -> PathBuf {
        userns_path(&self.netns_path(container))
    }

    fn report(&self, action: &str, container: &ContainerId, sandbox: &Sandbox) {
        let networks: BTreeMap<_, _> = {
            let state = self.state();
            let ids = sandbox.endpoints.values().map(|e| e.network.clone());
            ids.filter_map(|id| Some((id.clone(), state.networks.get(&id)?.driver))).collect()
        };
        for (name, endpoint) in &sandbox.endpoints {
            let driver = networks.get(&endpoint.network).map_or("", |driver| driver.as_str());
            self.events.publish(
                Event::now(Subject::Network, action, endpoint.network.as_str())
                    .with("container", container.as_str())
                    .with("name", name)
                    .with("type", driver),
            );
        }
    }
}

/// Beside the network namespace that it owns.
fn userns_path(netns: &Path) -> PathBuf {
    let mut path = netns.as_os_str().to_owned();
    path.push(USERNS);
    path.into()
}

fn warn(container: &ContainerId, what: &str, error: &io::Error) {
    tracing::warn!(container = container.as_str(), what, %error, "not removed");
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Host, request};
    use super::*;

    #[test]
    fn a_container_on_the_default_bridge_reaches_the_host_and_leaves_nothing() {
        let host = Host::new();
        host.run(|networks| {
            let request = request(host.dir(), NetworkMode::Bridge);
            let sandbox = networks.inner.connect(request.clone()).unwrap();
            let endpoint = &sandbox.endpoints["bridge"];
            assert_eq!(endpoint.address.unwrap().to_string(), "172.17.0.2/16");
            assert_eq!(endpoint.mac_address, "02:42:ac:11:00:02");
            let inside = netns::open(sandbox.netns.as_ref().unwrap()).unwrap();
            let show = "busybox ping -q -c1 -W5 172.17.0.1; ip -o addr; ip route";
            let shown = netns::enter(&inside, || Host::command(show)).unwrap();
            for expected in
                ["1 packets received", "127.0.0.1/8", "172.17.0.2/16", "default via 172.17.0.1 dev eth0"]
            {
                assert!(shown.contains(expected), "{expected}: {shown}");
            }
            assert!(!shown.contains("inet6 fe80"), "{shown}");
            let hosts = fs::read_to_string(host.dir().join("hosts")).unwrap();
            assert!(hosts.ends_with("172.17.0.2\tweb\n"), "{hosts}");
            drop(inside);
            networks.inner.disconnect(&request.container, &sandbox);
            networks.inner.settle();
            assert_eq!(Host::command("ip -o link show type veth").unwrap(), "");
            let again = networks.inner.connect(request.clone()).unwrap();
            assert_eq!(again.endpoints["bridge"].address, endpoint.address);
            networks.inner.disconnect(&request.container, &again);
        });
    }
}
