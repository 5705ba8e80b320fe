//! Connecting and disconnecting a container: the steps, their order, and their undoing.
//!
//! All is decided and reserved before anything is made. Kernel objects have names derived from ids, so that undoing
//! (after a failure here, or by [`recover`](super::recover)) needs nothing but the ids.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use super::files::{Files, Reach};
use super::plan::{Plan, Planned};
use super::{Attached, Inner, NetworkError, NetworkMode, Sandbox, SandboxRequest, link, plan};
use crate::base::id::ContainerId;
use crate::base::sys::netlink::{Family, Socket};
use crate::base::sys::netns;
use crate::crash_point;
use crate::events::{Event, Subject};

impl Inner {
    /// Gives a container its network; when it fails nothing of it is left.
    pub(super) fn connect(&self, request: SandboxRequest) -> Result<Sandbox, NetworkError> {
        if let NetworkMode::Container(target) = &request.mode {
            return self.join(target);
        }
        let plan = self.plan(&request)?;
        let sandbox = self.make(&request, &plan).inspect_err(|_| {
            self.unmake(&request.container, &plan.sandbox());
        })?;
        plan.keep();
        let attached = Attached { name: request.name, sandbox: sandbox.clone() };
        self.state().attached.insert(request.container.clone(), attached);
        self.report("connect", &request.container, &sandbox);
        Ok(sandbox)
    }

    /// Takes everything of a container's network away and gives its addresses and ports back.
    pub(super) fn disconnect(&self, container: &ContainerId, sandbox: &Sandbox) {
        let known = self.state().attached.remove(container);
        let sandbox = known.as_ref().map_or(sandbox, |attached| &attached.sandbox);
        self.unmake(container, sandbox);
        if known.is_some() {
            self.state().release(sandbox);
            self.report("disconnect", container, sandbox);
        }
    }

    fn make(&self, request: &SandboxRequest, plan: &Plan<'_>) -> Result<Sandbox, NetworkError> {
        let mut sandbox = plan.sandbox();
        if request.mode != NetworkMode::Host {
            let made = self.new_netns(&request.container, plan).or_else(|_| {
                // Somebody may have removed a bridge that was in order before: look again, once.
                plan.endpoints.iter().for_each(|e| self.doubt_bridge(&e.network.id));
                self.unmake(&request.container, &sandbox);
                self.new_netns(&request.container, plan)
            });
            sandbox.netns = Some(made?);
        }
        crash_point!("network-netns-made");
        self.write_files(request, plan)?;
        Ok(sandbox)
    }

    /// Removes the kernel objects that a sandbox may have; those that do not exist are no error.
    fn unmake(&self, container: &ContainerId, sandbox: &Sandbox) {
        let links: Vec<_> = sandbox
            .endpoints
            .values()
            .filter(|e| !e.mac_address.is_empty())
            .map(|e| link::delete(&plan::host_end(&e.endpoint)))
            .collect();
        if !links.is_empty() {
            let removed = Socket::open(Family::Route).and_then(|socket| socket.request(links));
            if let Err(error) = removed.or_else(ignore(libc::ENODEV)) {
                tracing::warn!(container = container.as_str(), %error, "veth not removed");
            }
        }
        if let Err(error) = netns::remove(&self.netns_path(container)) {
            tracing::warn!(container = container.as_str(), %error, "network namespace not removed");
        }
    }

    /// The namespace of another container, which stays its owner.
    fn join(&self, target: &str) -> Result<Sandbox, NetworkError> {
        let state = self.state();
        let found = state.attached.iter().find(|(id, a)| id.as_str() == target || a.name == target);
        let (_, owner) = found.ok_or_else(|| NetworkError::NoSuchSandbox(target.to_owned()))?;
        Ok(Sandbox { netns: owner.sandbox.netns.clone(), ..Sandbox::default() })
    }

    fn new_netns(&self, container: &ContainerId, plan: &Plan<'_>) -> Result<PathBuf, NetworkError> {
        let path = self.netns_path(container);
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
        netns::create(&path, populate).map_err(NetworkError::kernel("network namespace"))?;
        Ok(path)
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
        files.write(&request.dir).map_err(NetworkError::kernel("network files"))
    }

    pub(super) fn netns_path(&self, container: &ContainerId) -> PathBuf {
        self.options.netns_dir.join(container.short())
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

/// Makes one error number no error.
fn ignore(errno: i32) -> impl Fn(std::io::Error) -> std::io::Result<()> {
    move |error| if error.raw_os_error() == Some(errno) { Ok(()) } else { Err(error) }
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
            assert_eq!(Host::command("ip -o link show type veth").unwrap(), "");
            let again = networks.inner.connect(request.clone()).unwrap();
            assert_eq!(again.endpoints["bridge"].address, endpoint.address);
            networks.inner.disconnect(&request.container, &again);
        });
    }
}
