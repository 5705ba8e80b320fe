//! What went wrong on the network, in the words of Go's net/http, which users and scripts know from dockerd.

use std::error::Error;
use std::io;

use reqwest::Url;
use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// Why a request got no answer.
pub fn of(url: &Url, error: &reqwest::Error) -> String {
    let causes = || causes(error);
    if let Some(tls) = causes().find_map(find::<rustls::Error>) {
        return tls_words(url, tls);
    }
    if causes().any(|cause| cause.to_string().contains("dns error")) {
        return format!("dial tcp: lookup {}: {}", host(url), lookup(causes()));
    }
    if error.is_timeout() {
        return match error.is_connect() {
            true => format!("dial tcp {}: i/o timeout", address(url)),
            false => "net/http: timeout awaiting response headers".to_owned(),
        };
    }
    match causes().find_map(find::<io::Error>) {
        Some(refused) if error.is_connect() && refused.raw_os_error().is_some() => {
            format!("dial tcp {}: connect: {}", address(url), errno_words(refused))
        }
        _ => super::reason(error),
    }
}

/// What led to an error, one after the other.
fn causes(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'_ (dyn Error + 'static)| (*cause).source())
}

/// An error of a type, itself or inside I/O errors, which do not give what they hold as their source.
fn find<'a, T: Error + 'static>(cause: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let inside = || cause.downcast_ref::<io::Error>()?.get_ref().and_then(|held| find(held));
    inside().or_else(|| cause.downcast_ref())
}

/// Go knows one answer of the resolver by name.
fn lookup<'a>(causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let last = causes.last().map(ToString::to_string).unwrap_or_default();
    let words = last.rsplit(": ").next().unwrap_or_default();
    match words {
        "Name or service not known" | "No address associated with hostname" => "no such host".to_owned(),
        words => words.to_owned(),
    }
}

/// The kernel's words as Go writes them: in small letters, without the number.
fn errno_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

fn address(url: &Url) -> String {
    format!("{}:{}", host(url), url.port_or_known_default().unwrap_or_default())
}

fn tls_words(url: &Url, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(certificate) => {
            format!("tls: failed to verify certificate: x509: {}", certificate_words(host(url), certificate))
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_words(*alert)),
        other => format!("tls: {other}"),
    }
}

fn certificate_words(host: &str, error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForName => format!("certificate is not valid for {host}"),
        CertificateError::NotValidForNameContext { presented, .. } => name_words(host, presented),
        other => other.to_string(),
    }
}

/// `presented` are names as `DnsName("a")` and `IpAddress(1.2.3.4)`.
fn name_words(host: &str, presented: &[String]) -> String {
    let ip_wanted = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    let kind = if ip_wanted { "IpAddress(" } else { "DnsName(" };
    let names = presented.iter().filter_map(|name| name.strip_prefix(kind)?.strip_suffix(')'));
    let names: Vec<_> = names.map(|name| name.trim_matches('"')).collect();
    match (names.is_empty(), ip_wanted) {
        (true, true) => {
            format!("cannot validate certificate for {host} because it doesn't contain any IP SANs")
        }
        (true, false) => {
            format!("certificate is not valid for any names, but wanted to match {host}")
        }
        (false, _) => format!("certificate is valid for {}, not {host}", names.join(", ")),
    }
}

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "bad certificate".to_owned(),
        AlertDescription::CertificateRequired => "certificate required".to_owned(),
        AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
        AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
        AlertDescription::ProtocolVersion => "protocol version not supported".to_owned(),
        other => format!("alert({})", u8::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reason_of(url: &str) -> String {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = Url::parse(url).unwrap();
        let error = client.get(url.clone()).send().await.unwrap_err();
        of(&url, &error)
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_refuses_the_connection() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        for scheme in ["http", "https"] {
            let words = reason_of(&format!("{scheme}://127.0.0.1:{port}/v2/")).await;
            assert_eq!(words, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
        }
    }

    #[tokio::test]
    async fn a_server_of_plain_http_is_told_from_other_failures() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        });
        let words = reason_of(&format!("https://{address}/v2/")).await;
        server.join().unwrap();
        assert_eq!(words, "http: server gave HTTP response to HTTPS client");
    }

    #[test]
    fn names_that_do_not_match_are_told_as_go_does() {
        let presented = [r#"DnsName("a.example")"#, r#"DnsName("b.example")"#, "IpAddress(10.0.0.1)"];
        let presented = presented.map(str::to_owned);
        for (host, presented, expected) in [
            ("c.example", &presented[..], "certificate is valid for a.example, b.example, not c.example"),
            ("10.0.0.2", &presented, "certificate is valid for 10.0.0.1, not 10.0.0.2"),
            (
                "10.0.0.2",
                &presented[..2],
                "cannot validate certificate for 10.0.0.2 because it doesn't contain any IP SANs",
            ),
            ("c", &[], "certificate is not valid for any names, but wanted to match c"),
        ] {
            assert_eq!(name_words(host, presented), expected);
        }
    }
}
