//! The ports that `EXPOSE` names: written like those that are published, of which only the container's matter.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// What is no port, in dockerd's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPort {
    #[error("no port specified: {0}<empty>")]
    Missing(String),
    #[error("invalid proto: {0}")]
    Protocol(String),
    #[error("invalid IP address: {0}")]
    Address(String),
    #[error("invalid containerPort: {0}")]
    Container(String),
    #[error("invalid hostPort: {0}")]
    Host(String),
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges { container: String, host: String },
}

/// `[[IP:]HOST:]PORTS[/PROTOCOL]` as one `80/tcp` for each port.
pub(super) fn exposed(text: &str) -> Result<impl Iterator<Item = String>, InvalidPort> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let (host, address) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(InvalidPort::Missing(text.to_owned()));
    }
    let protocol = match protocol.to_ascii_lowercase() {
        none if none.is_empty() => "tcp".to_owned(),
        known if matches!(known.as_str(), "tcp" | "udp" | "sctp") => known,
        other => return Err(InvalidPort::Protocol(other)),
    };
    let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !plain.is_empty() && plain.parse::<IpAddr>().is_err() {
        return Err(InvalidPort::Address(address.to_owned()));
    }
    let ports = range(port).ok_or_else(|| InvalidPort::Container(port.to_owned()))?;
    if !host.is_empty() {
        let hosts = range(host).ok_or_else(|| InvalidPort::Host(host.to_owned()))?;
        if ports.len() != 1 && ports.len() != hosts.len() {
            return Err(InvalidPort::Ranges { container: port.to_owned(), host: host.to_owned() });
        }
    }
    Ok(ports.map(move |port| format!("{port}/{protocol}")))
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // Signs are none of a number here.
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_container_s_ports_are_told() {
        for (text, ports) in [
            ("80", &["80/tcp"] as &[&str]),
            ("53/UDP", &["53/udp"]),
            ("80-82/sctp", &["80/sctp", "81/sctp", "82/sctp"]),
            ("8080:80", &["80/tcp"]),
            ("8000-8010:80", &["80/tcp"]),
            ("127.0.0.1::80/", &["80/tcp"]),
            ("[::1]:8080:80", &["80/tcp"]),
        ] {
            assert_eq!(exposed(text).unwrap().collect::<Vec<_>>(), ports, "{text}");
        }
        for (text, words) in [
            ("/tcp", "no port specified: /tcp<empty>"),
            ("80/x", "invalid proto: x"),
            ("x", "invalid containerPort: x"),
            ("+80", "invalid containerPort: +80"),
            ("65536", "invalid containerPort: 65536"),
            ("9-8", "invalid containerPort: 9-8"),
            ("x:80", "invalid hostPort: x"),
            ("x:1:80", "invalid IP address: x"),
            ("1-2:80-82", "invalid ranges specified for container and host Ports: 80-82 and 1-2"),
        ] {
            assert_eq!(exposed(text).err().unwrap().to_string(), words, "{text}");
        }
    }
}
