//! Ports of containers and of the host, as the API writes them: `80/tcp`, `8000-8010`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not `PORT` or `PORT/PROTOCOL`.
#[derive(Debug, thiserror::Error)]
#[error("invalid port specification: {0:?}")]
pub struct InvalidPort(String);

/// A transport protocol that has ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl FromStr for Protocol {
    type Err = InvalidPort;
    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(InvalidPort(text.to_owned())),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A port inside a container: `80/tcp`; a bare number means tcp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerPort {
    pub port: u16,
    pub protocol: Protocol,
}

impl FromStr for ContainerPort {
    type Err = InvalidPort;
    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let invalid = || InvalidPort(text.to_owned());
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let port = digits(number).ok_or_else(invalid)?;
        Ok(Self { port, protocol: protocol.parse().map_err(|_| invalid())? })
    }
}

impl TryFrom<String> for ContainerPort {
    type Error = InvalidPort;
    fn try_from(text: String) -> Result<Self, InvalidPort> {
        text.parse()
    }
}

impl From<ContainerPort> for String {
    fn from(port: ContainerPort) -> String {
        port.to_string()
    }
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// Which host ports a request accepts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HostPorts {
    /// Any free one of the ephemeral range (`""` and `"0"` on the wire).
    Any,
    /// Any free one between both, inclusive; equal for one exact port.
    Range { first: u16, last: u16 },
}

impl FromStr for HostPorts {
    type Err = InvalidPort;
    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let invalid = || InvalidPort(text.to_owned());
        let number = |part: &str| digits(part).ok_or_else(invalid);
        if text.is_empty() || text == "0" {
            return Ok(Self::Any);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first == 0 || last < first { Err(invalid()) } else { Ok(Self::Range { first, last }) }
    }
}

/// A number of digits alone, as dockerd takes it: Rust's own parser allows a sign.
fn digits(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// One port to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortRequest {
    pub container: ContainerPort,
    /// `None`: the daemon's default binding address, normally all addresses of the host.
    pub host_ip: Option<IpAddr>,
    pub host: HostPorts,
}

/// Where a published port is reached on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortBinding {
    #[serde(rename = "HostIp")]
    pub host_ip: IpAddr,
    #[serde(rename = "HostPort", with = "as_text")]
    pub host_port: u16,
}

/// `NetworkSettings.Ports`: `None` (null on the wire) for a port that is exposed but not published.
pub type PortMap = BTreeMap<ContainerPort, Option<Vec<PortBinding>>>;

/// Ports are strings in Docker's JSON.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(port: &u16, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(port)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ports_default_to_tcp_and_print_their_protocol() {
        for (text, shown) in [("80", "80/tcp"), ("53/UDP", "53/udp"), ("9/sctp", "9/sctp")] {
            assert_eq!(text.parse::<ContainerPort>().unwrap().to_string(), shown);
        }
        for bad in ["", "/tcp", "x", "70000", "80/icmp", "80/", "80-81/tcp", "+80"] {
            assert!(bad.parse::<ContainerPort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_ports_are_any_one_or_a_range() {
        let range = |first, last| HostPorts::Range { first, last };
        for (text, parsed) in [
            ("", HostPorts::Any),
            ("0", HostPorts::Any),
            ("8080", range(8080, 8080)),
            ("8000-8010", range(8000, 8010)),
        ] {
            assert_eq!(text.parse::<HostPorts>().unwrap(), parsed, "{text}");
        }
        for bad in ["a", "10-5", "0-5", "1-", "65536", "+80", "1-+2"] {
            assert!(bad.parse::<HostPorts>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_port_map_is_written_as_inspect_shows_it() {
        let mut map = PortMap::new();
        let binding = PortBinding { host_ip: "0.0.0.0".parse().unwrap(), host_port: 8080 };
        map.insert("80".parse().unwrap(), Some(vec![binding]));
        map.insert("81".parse().unwrap(), None);
        let json = r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"81/tcp":null}"#;
        assert_eq!(serde_json::to_string(&map).unwrap(), json);
        assert_eq!(serde_json::from_str::<PortMap>(json).unwrap(), map);
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_port_survives_being_written(port in any::<u16>(), protocol in "(tcp|UDP|Sctp)") {
            let read: ContainerPort = format!("{port}/{protocol}").parse().unwrap();
            prop_assert_eq!(read.port, port);
            prop_assert_eq!(read.to_string(), format!("{port}/{}", protocol.to_lowercase()));
            prop_assert_eq!(read.to_string().parse::<ContainerPort>().unwrap(), read);
        }

        #[test]
        fn a_range_is_taken_if_it_begins_above_zero_and_does_not_end_before(
            first in prop_oneof![0..70_000u32, 0..3u32, 65_533..65_538u32],
            last in prop_oneof![0..70_000u32, 0..3u32, 65_533..65_538u32],
        ) {
            let read = format!("{first}-{last}").parse::<HostPorts>();
            prop_assert_eq!(read.is_ok(), first > 0 && first <= last && last <= 65_535);
            if let Ok(read) = read {
                prop_assert_eq!(read, HostPorts::Range { first: first as u16, last: last as u16 });
            }
        }

        #[test]
        fn only_digits_are_numbers(text in "[0-9+ -]{0,6}(/[a-z]{0,4})?") {
            let number = text.split('/').next().unwrap();
            if text.parse::<ContainerPort>().is_ok() {
                prop_assert!(number.bytes().all(|byte| byte.is_ascii_digit()));
            }
            if text.parse::<HostPorts>().is_ok() {
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'));
            }
        }
    }
}
