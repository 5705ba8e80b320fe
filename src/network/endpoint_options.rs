//! What the bridge driver takes from `DriverOpts` of an endpoint: the interface's name and its sysctls. Others are for
//! other drivers and are passed over, as dockerd does.

use std::fs;
use std::io;

use super::options::Labels;
use super::plan::VETH_PREFIX;

const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const INTERFACE: &str = "com.docker.network.endpoint.ifname";
/// Stands for the interface's name, which its user does not know.
const PLACEHOLDER: &str = "IFNAME";
/// Bytes (`IFNAMSIZ` without its NUL).
const LONGEST_NAME: usize = 15;

/// An option that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOption {
    #[error("invalid sysctl {0:?} in {SYSCTLS}: it must have the form net.X.Y.{PLACEHOLDER}.Z=VALUE")]
    Sysctl(String),
    #[error("invalid interface name {0:?} in {INTERFACE}")]
    Interface(String),
}

/// The options of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EndpointOptions {
    pub interface: Option<String>,
    /// `net/X/Y`, `Z` and the value.
    sysctls: Vec<(String, String, String)>,
}

impl EndpointOptions {
    /// Reads them.
    pub fn read(options: &Labels) -> Result<Self, InvalidOption> {
        let given = |key| options.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let sysctls = given(SYSCTLS).into_iter().flat_map(|text| text.split(','));
        let sysctls = sysctls.map(|one| sysctl(one).ok_or_else(|| InvalidOption::Sysctl(one.to_owned())));
        let interface = given(INTERFACE).map(|name| match is_name(name) {
            true => Ok(name.to_owned()),
            false => Err(InvalidOption::Interface(name.to_owned())),
        });
        Ok(Self { interface: interface.transpose()?, sysctls: sysctls.collect::<Result<_, _>>()? })
    }

    /// Sets the sysctls of `interface` in the caller's network namespace.
    pub fn apply(&self, interface: &str) -> io::Result<()> {
        for (group, name, value) in &self.sysctls {
            fs::write(format!("/proc/sys/{group}/{interface}/{name}"), value).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("{}.{interface}.{name}: {error}", group.replace('/', ".")),
                )
            })?;
        }
        Ok(())
    }
}

fn sysctl(text: &str) -> Option<(String, String, String)> {
    let (key, value) = text.trim().split_once('=')?;
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let parts: Vec<_> = key.split('.').filter(word).collect();
    let [net @ "net", family, kind, PLACEHOLDER, name] = parts[..] else { return None };
    (key.split('.').count() == parts.len())
        .then(|| (format!("{net}/{family}/{kind}"), name.to_owned(), value.to_owned()))
}

/// What the kernel takes as a name, and is not one of ours.
fn is_name(name: &str) -> bool {
    let fits =
        (1..=LONGEST_NAME).contains(&name.len()) && !matches!(name, "." | ".." | "lo" | "all" | "default");
    fits && !name.starts_with(VETH_PREFIX)
        && !name.contains(|c: char| c == '/' || c == ':' || !c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<EndpointOptions, InvalidOption> {
        EndpointOptions::read(&[(key.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn sysctls_are_of_the_interface_and_nothing_else() {
        let read_one = |text| read(SYSCTLS, text).map(|options| options.sysctls);
        let expected = ("net/ipv4/conf".to_owned(), "log_martians".to_owned(), "1".to_owned());
        assert_eq!(read_one("net.ipv4.conf.IFNAME.log_martians=1").unwrap(), [expected]);
        assert_eq!(read_one("net.ipv4.conf.IFNAME.a=1,net.ipv6.conf.IFNAME.b=0").unwrap().len(), 2);
        assert_eq!(read_one("").unwrap(), []);
        for bad in [
            "net.ipv4.conf.IFNAME.log_martians",
            "net.ipv4.conf.eth0.log_martians=1",
            "net.ipv4.ip_forward=1",
            "kernel.a.b.IFNAME.c=1",
            "net.ipv4.conf.IFNAME.../../x=1",
            "net.ipv4..IFNAME.x=1",
            "net.ipv4.conf.IFNAME.x=1,",
        ] {
            assert!(read_one(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_what_the_kernel_takes() {
        assert_eq!(read(INTERFACE, "lan0").unwrap().interface.as_deref(), Some("lan0"));
        for bad in ["lo", "a/b", "..", "a name", "sixteen-letters-", "veth12", "a:b"] {
            assert!(read(INTERFACE, bad).is_err(), "{bad}");
        }
    }
}
