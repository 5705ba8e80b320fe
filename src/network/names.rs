//! Names of containers on user-defined networks: lines at the end of each member's `hosts`, kept up to date while
//! members come and go.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Inner, Sandbox, State, files, plan};
use crate::base::id::{ContainerId, NetworkId};

/// Everything below is ours to rewrite.
const HEADING: &str = "# Containers on the same networks\n";

impl Inner {
    /// Brings the `hosts` of all members of a sandbox's networks up to date.
    pub(super) fn spread_names(&self, sandbox: &Sandbox) {
        if sandbox.endpoints.values().all(|e| e.dns_names.is_empty()) {
            return;
        }
        let _one_writer = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changes: Vec<_> = {
            let state = self.state();
            let concerned = state.attached.iter().filter(|(_, a)| shares_network(&a.sandbox, sandbox));
            concerned
                .filter_map(|(id, a)| Some((a.sandbox.files.clone()?, neighbours(&state, id, &a.sandbox))))
                .collect()
        };
        for (dir, lines) in changes {
            if let Err(error) = files::replace_tail(&dir.join("hosts"), HEADING, &lines) {
                tracing::warn!(dir = %dir.display(), %error, "names of containers not written");
            }
        }
    }
}

fn shares_network(a: &Sandbox, b: &Sandbox) -> bool {
    let named = |s: &Sandbox| {
        s.endpoints.values().filter(|e| !e.dns_names.is_empty()).map(|e| e.network.clone()).collect()
    };
    let (a, b): (Vec<_>, Vec<_>) = (named(a), named(b));
    a.iter().any(|network| b.contains(network))
}

/// A line for each address of each other container on the networks of `own`.
fn neighbours(state: &State, container: &ContainerId, own: &Sandbox) -> String {
    let mut lines: Vec<(IpAddr, String)> = Vec::new();
    for (other, attached) in &state.attached {
        let shared = |network: &NetworkId| {
            own.endpoints.values().any(|e| e.network == *network && !e.dns_names.is_empty())
        };
        let endpoints =
            attached.sandbox.endpoints.values().filter(|e| other != container && shared(&e.network));
        for endpoint in endpoints {
            lines.extend(plan::addresses(endpoint).map(|ip| (ip, endpoint.dns_names.join(" "))));
        }
    }
    lines.sort();
    let mut text = String::new();
    for (ip, names) in lines {
        let _ = writeln!(text, "{ip}\t{names}");
    }
    text
}
