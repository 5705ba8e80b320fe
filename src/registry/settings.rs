//! Where a registry is asked and how far it is trusted: insecure registries, mirrors, certificates.

use std::net::IpAddr;
use std::path::PathBuf;

use super::reference::DEFAULT_DOMAIN;

/// The host that serves what is named `docker.io`.
const HUB: &str = "registry-1.docker.io";

/// What the operator configured.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// `host`, `host:port` or a network in CIDR form: certificates are not checked there and plain HTTP will do.
    pub insecure: Vec<String>,
    /// Base URLs that are asked for images of Docker Hub before it is.
    pub mirrors: Vec<String>,
    /// `/etc/docker/certs.d`: a directory for each `host:port` with `*.crt` (roots), `*.cert` and `*.key` (client).
    pub certificates: PathBuf,
    pub proxies: Proxies,
}

/// Proxies on the way to registries; what is absent is taken from the environment (`HTTP_PROXY` and so on).
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    /// Hosts that are spoken to directly: names, domains, addresses and networks, with commas between.
    pub none: Option<String>,
}

impl Proxies {
    /// Those to use, by scheme of the request, and the exceptions.
    pub fn in_force(&self) -> Self {
        let variable = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| std::env::var(name).ok());
            found.filter(|value| !value.is_empty())
        };
        Self {
            http: self.http.clone().or_else(|| variable(["HTTP_PROXY", "http_proxy"])),
            https: self.https.clone().or_else(|| variable(["HTTPS_PROXY", "https_proxy"])),
            none: self.none.clone().or_else(|| variable(["NO_PROXY", "no_proxy"])),
        }
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            mirrors: Vec::new(),
            certificates: "/etc/docker/certs.d".into(),
            proxies: Proxies::default(),
        }
    }
}

/// How a host may be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// HTTPS with a certificate that is checked.
    Verified,
    /// HTTPS with any certificate, else plain HTTP.
    Insecure,
}

/// One place to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `host` or `host:port`.
    pub host: String,
    /// What comes before `/v2/`: empty, or `/` and more for a mirror below a path.
    pub prefix: String,
    pub trust: Trust,
    pub role: Role,
}

/// Whose place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The registry that the name says: gets the user's credentials.
    Origin,
    /// Somebody else's copy: never sees them.
    Mirror,
}

impl RegistrySettings {
    /// Where images of `domain` are asked for, in this order.
    pub fn endpoints(&self, domain: &str) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        if domain == DEFAULT_DOMAIN {
            endpoints.extend(self.mirrors.iter().filter_map(|url| self.mirror(url)));
        }
        let host = if domain == DEFAULT_DOMAIN { HUB } else { domain };
        let trust = self.trust(host);
        endpoints.push(Endpoint { host: host.to_owned(), prefix: String::new(), trust, role: Role::Origin });
        endpoints
    }

    fn mirror(&self, url: &str) -> Option<Endpoint> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let trust = if scheme == "http" { Trust::Insecure } else { self.trust(host) };
        (!host.is_empty()).then(|| Endpoint { host: host.to_owned(), prefix, trust, role: Role::Mirror })
    }

    /// Loopback is insecure without being told, as with dockerd.
    fn trust(&self, host: &str) -> Trust {
        let name = host_name(host);
        let address: Option<IpAddr> = name.parse().ok();
        let listed = self.insecure.iter().any(|entry| {
            let entry = entry.trim_end_matches('/');
            entry == host || entry == name || address.is_some_and(|address| in_network(entry, address))
        });
        if listed || is_loopback(host) { Trust::Insecure } else { Trust::Verified }
    }
}

/// True for this machine itself.
fn is_loopback(host: &str) -> bool {
    let name = host_name(host);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host without its port and brackets.
pub fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn in_network(network: &str, address: IpAddr) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> RegistrySettings {
        RegistrySettings {
            insecure: ["plain.example:5000", "lab.example", "10.1.0.0/16"].map(str::to_owned).to_vec(),
            mirrors: ["https://mirror.example/", "http://127.0.0.1:5001/hub/"].map(str::to_owned).to_vec(),
            ..RegistrySettings::default()
        }
    }

    #[test]
    fn loopback_and_listed_hosts_are_insecure() {
        for (host, trust) in [
            ("127.0.0.1:5000", Trust::Insecure),
            ("127.9.9.9", Trust::Insecure),
            ("localhost:1", Trust::Insecure),
            ("[::1]:5000", Trust::Insecure),
            ("plain.example:5000", Trust::Insecure),
            ("plain.example:5001", Trust::Verified),
            ("lab.example:77", Trust::Insecure),
            ("10.1.2.3:5000", Trust::Insecure),
            ("10.2.0.1", Trust::Verified),
            ("localhost.example", Trust::Verified),
        ] {
            assert_eq!(settings().trust(host), trust, "{host}");
        }
    }

    #[test]
    fn mirrors_are_asked_before_docker_hub_and_for_nothing_else() {
        let endpoints = settings().endpoints("docker.io");
        let places: Vec<_> = endpoints.iter().map(|e| (e.host.as_str(), e.prefix.as_str(), e.role)).collect();
        assert_eq!(
            places,
            [
                ("mirror.example", "", Role::Mirror),
                ("127.0.0.1:5001", "/hub", Role::Mirror),
                (HUB, "", Role::Origin)
            ]
        );
        assert_eq!(settings().endpoints("quay.example").len(), 1);
    }
}
