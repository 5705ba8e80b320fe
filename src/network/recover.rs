//! After a restart of the daemon: what running containers have is taken over, what nobody owns is removed.

use std::collections::HashSet;
use std::fs;
use std::io;

use super::connect::USERNS;
use super::link::{self, Link};
use super::{Attached, Inner, LiveSandbox, NetworkError, State, plan};
use crate::base::sys::netlink::{Family, Socket};
use crate::base::sys::netns;
use crate::crash_point;

impl Inner {
    pub(super) fn recover(&self, live: Vec<LiveSandbox>) -> Result<(), NetworkError> {
        let containers: HashSet<_> = live.iter().map(|one| one.container.short().to_owned()).collect();
        let ends: HashSet<_> = live.iter().flat_map(|one| plan::host_ends(&one.sandbox)).collect();
        {
            let mut state = self.state();
            live.into_iter().for_each(|one| state.take_over(one));
        }
        let socket = Socket::open(Family::Route).map_err(NetworkError::kernel("netlink"))?;
        let links = link::list(&socket).map_err(NetworkError::kernel("interfaces of the host"))?;
        let bridges = self.adopt_bridges(&links).map_err(NetworkError::kernel("bridges"))?;
        crash_point!("network-bridges-adopted");
        let stray = links.into_iter().filter(|link| is_ours(link, &bridges) && !ends.contains(&link.name));
        let stray: Vec<_> = stray.map(|link| link.name).collect();
        if !stray.is_empty() {
            link::delete(&socket, &stray).map_err(NetworkError::kernel("stray interfaces"))?;
        }
        self.sweep_namespaces(&containers).map_err(NetworkError::kernel("stray network namespaces"))
    }

    fn sweep_namespaces(&self, live: &HashSet<String>) -> io::Result<()> {
        let entries = match fs::read_dir(&self.options.netns_dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_suffix(USERNS).unwrap_or(&name);
            if !name.starts_with('.') && !live.contains(owner) {
                netns::remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl State {
    fn take_over(&mut self, live: LiveSandbox) {
        for endpoint in live.sandbox.endpoints.values() {
            for ip in plan::addresses(endpoint) {
                let pools = self.pools.get_mut(&endpoint.network).into_iter().flatten();
                let taken =
                    pools.filter(|pool| pool.subnet().contains(&ip)).find_map(|pool| pool.take(ip).ok());
                if taken.is_none() {
                    tracing::warn!(container = live.container.as_str(), %ip, "address of a running container not held");
                }
            }
        }
        for publication in plan::publications(&live.sandbox) {
            self.ports.take_over(publication.protocol, publication.host);
        }
        self.attached.insert(live.container, Attached { name: live.name, sandbox: live.sandbox });
    }
}

/// Ours by its name and by the bridge that it is plugged into. Other engines' names are shorter.
fn is_ours(link: &Link, bridges: &[u32]) -> bool {
    let digits = link.name.strip_prefix(plan::VETH_PREFIX);
    let named =
        digits.is_some_and(|d| d.len() == plan::VETH_DIGITS && d.bytes().all(|b| b.is_ascii_hexdigit()));
    named && link.kind == "veth" && link.master.is_some_and(|master| bridges.contains(&master))
}
