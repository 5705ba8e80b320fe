//! Where a sink is: `tcp://HOST:PORT`, `tcp+tls://HOST:PORT`, `udp://HOST:PORT`, `unix:///PATH`, `unixgram:///PATH`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A sink's address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Address {
    Tcp(String),
    Tls(String),
    Udp(String),
    Unix(PathBuf),
    UnixDatagram(PathBuf),
}

/// An address that cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    #[error("unsupported scheme: '{0}'")]
    Scheme(String),
    #[error("invalid address '{0}': expected SCHEME://HOST:PORT or unix:///PATH")]
    Form(String),
    #[error("invalid port in address '{0}'")]
    Port(String),
}

impl Address {
    /// Reads an address; `port` is for one that names none. Without a scheme it is TCP, as the Fluentd driver has it.
    pub fn parse(text: &str, port: u16) -> Result<Self, AddressError> {
        let form = || AddressError::Form(text.to_owned());
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "tcp" | "tcp+tls" | "udp" => {
                let host = rest.trim_end_matches('/');
                if host.is_empty() || host.contains('/') {
                    return Err(form());
                }
                let host = with_port(host, port).ok_or_else(|| AddressError::Port(text.to_owned()))?;
                Ok(match scheme {
                    "tcp" => Self::Tcp(host),
                    "udp" => Self::Udp(host),
                    _ => Self::Tls(host),
                })
            }
            "unix" | "unixgram" if !rest.starts_with('/') => Err(form()),
            "unix" => Ok(Self::Unix(rest.into())),
            "unixgram" => Ok(Self::UnixDatagram(rest.into())),
            _ => Err(AddressError::Scheme(scheme.to_owned())),
        }
    }

    /// Whether every message is a packet of its own.
    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::UnixDatagram(_))
    }
}

fn with_port(host: &str, port: u16) -> Option<String> {
    // An IPv6 address has colons of its own, inside brackets.
    let name_end = host.rfind(']').map_or(0, |at| at + 1);
    match host[name_end..].rsplit_once(':') {
        Some((_, given)) => given.parse::<u16>().ok().map(|_| host.to_owned()),
        None => Some(format!("{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, address) in [
            ("tcp://host", Address::Tcp("host:514".into())),
            ("tcp+tls://host", Address::Tls("host:514".into())),
            ("tcp://host:1", Address::Tcp("host:1".into())),
            ("udp://[::1]:2", Address::Udp("[::1]:2".into())),
            ("udp://[::1]", Address::Udp("[::1]:514".into())),
            ("host:3", Address::Tcp("host:3".into())),
            ("unix:///run/x", Address::Unix("/run/x".into())),
            ("unixgram:///dev/log", Address::UnixDatagram("/dev/log".into())),
        ] {
            assert_eq!(Address::parse(text, 514).as_ref(), Ok(&address), "{text}");
        }
        for bad in ["http://x", "tcp://", "tcp://host:port", "unix://relative", "tcp://a/b"] {
            assert!(Address::parse(bad, 514).is_err(), "{bad}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn a_host_gets_the_port_that_it_lacks(
            host in "[a-z.]{1,9}|\\[[0-9a-f:]{2,9}\\]",
            given in prop::option::of(any::<u16>()),
            port in any::<u16>(),
        ) {
            let text = given.map_or_else(|| host.clone(), |given| format!("{host}:{given}"));
            let whole = format!("{host}:{}", given.unwrap_or(port));
            prop_assert_eq!(Address::parse(&text, port), Ok(Address::Tcp(whole)));
        }

        #[test]
        fn an_address_has_a_host_and_a_port_or_a_path(
            text in "((tcp|tcp[+]tls|udp|unix|unixgram|x)://)?[a-z.\\[\\]:/0-9]{0,12}",
            port in any::<u16>(),
        ) {
            let Ok(address) = Address::parse(&text, port) else { return Ok(()) };
            match &address {
                Address::Tcp(host) | Address::Tls(host) | Address::Udp(host) => {
                    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                    prop_assert!(port.is_some(), "{}", text);
                    let scheme = match address {
                        Address::Tls(_) => "tcp+tls",
                        Address::Udp(_) => "udp",
                        _ => "tcp",
                    };
                    prop_assert_eq!(Address::parse(&format!("{scheme}://{host}"), 9), Ok(address));
                }
                Address::Unix(path) | Address::UnixDatagram(path) => prop_assert!(path.is_absolute()),
            }
        }
    }
}
