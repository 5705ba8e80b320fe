//! Connecting and disconnecting a container: the steps, their order, and their undoing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::{
    Attached, Driver, EndpointState, Inner, LiveSandbox, Network, NetworkError, NetworkMode, Sandbox,
    SandboxRequest,
};
use crate::base::id::{ContainerId, EndpointId};
use crate::base::sys::netns;
use crate::events::{Event, Subject};

impl Inner {
    pub(super) fn connect(&self, request: SandboxRequest) -> Result<Sandbox, NetworkError> {
        let sandbox = match &request.mode {
            NetworkMode::Host => self.plain("host", None)?,
            NetworkMode::None => {
                let path = self.new_netns(&request.container)?;
                self.plain("none", Some(path))?
            }
            NetworkMode::Container(target) => return self.join(target),
            NetworkMode::Bridge => return Err(NetworkError::BridgeDisabled),
            NetworkMode::User(name) => return Err(NetworkError::NotFound(name.clone())),
        };
        let attached = Attached { name: request.name, sandbox: sandbox.clone() };
        self.state().attached.insert(request.container.clone(), attached);
        self.report("connect", &request.container, &sandbox);
        Ok(sandbox)
    }

    pub(super) fn disconnect(&self, container: &ContainerId, sandbox: &Sandbox) {
        let known = self.state().attached.remove(container);
        if let Err(error) = netns::remove(&self.netns_path(container)) {
            tracing::warn!(container = container.as_str(), %error, "network namespace not removed");
        }
        if known.is_some() {
            self.report("disconnect", container, sandbox);
        }
    }

    pub(super) fn recover(&self, live: Vec<LiveSandbox>) -> Result<(), NetworkError> {
        let mut state = self.state();
        for LiveSandbox { container, name, sandbox } in live {
            state.attached.insert(container, Attached { name, sandbox });
        }
        Ok(())
    }

    /// A sandbox on `host` or `none`: an endpoint without addresses.
    fn plain(&self, network: &str, netns: Option<PathBuf>) -> Result<Sandbox, NetworkError> {
        let network = self.resolve(network)?;
        let endpoints = BTreeMap::from([(network.name.clone(), bare_endpoint(&network))]);
        Ok(Sandbox { netns, endpoints, ..Sandbox::default() })
    }

    /// The namespace of another container, which stays its owner.
    fn join(&self, target: &str) -> Result<Sandbox, NetworkError> {
        let state = self.state();
        let found = state.attached.iter().find(|(id, a)| id.as_str() == target || a.name == target);
        let (_, owner) = found.ok_or_else(|| NetworkError::NoSuchSandbox(target.to_owned()))?;
        Ok(Sandbox { netns: owner.sandbox.netns.clone(), ..Sandbox::default() })
    }

    fn new_netns(&self, container: &ContainerId) -> Result<PathBuf, NetworkError> {
        let path = self.netns_path(container);
        fs::create_dir_all(&self.options.netns_dir)
            .map_err(NetworkError::kernel("network namespace directory"))?;
        netns::create(&path, || Ok(())).map_err(NetworkError::kernel("network namespace"))?;
        Ok(path)
    }

    fn netns_path(&self, container: &ContainerId) -> PathBuf {
        self.options.netns_dir.join(container.short())
    }

    fn report(&self, action: &str, container: &ContainerId, sandbox: &Sandbox) {
        for (name, endpoint) in &sandbox.endpoints {
            let driver = self.state().networks.get(&endpoint.network).map_or(Driver::Null, |n| n.driver);
            self.events.publish(
                Event::now(Subject::Network, action, endpoint.network.as_str())
                    .with("container", container.as_str())
                    .with("name", name)
                    .with("type", driver.as_str()),
            );
        }
    }
}

fn bare_endpoint(network: &Network) -> EndpointState {
    EndpointState {
        network: network.id.clone(),
        endpoint: EndpointId::random(),
        address: None,
        gateway: None,
        address6: None,
        gateway6: None,
        mac_address: String::new(),
        dns_names: Vec::new(),
    }
}
