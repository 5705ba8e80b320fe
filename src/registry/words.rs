//! What went wrong on the network, in the words of Go's net/http, which users and scripts know from dockerd.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use chrono::{DateTime, SecondsFormat};
use reqwest::Url;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// The server does not speak TLS.
pub const PLAIN_ANSWER: &str = "http: server gave HTTP response to HTTPS client";

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
            true => format!("dial tcp {}: i/o timeout", address(url, causes())),
            false => "net/http: timeout awaiting response headers".to_owned(),
        };
    }
    match causes().find_map(find::<io::Error>) {
        Some(refused) if error.is_connect() && refused.raw_os_error().is_some() => {
            format!("dial tcp {}: connect: {}", address(url, causes()), errno_words(refused))
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

/// What was dialled. Which of a name's addresses that was, hyper tells in one place only: how its error is printed for
/// debugging, `ConnectError("tcp connect error", 192.0.2.1:443, …)`.
fn address<'a>(url: &Url, mut causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let dialled = causes.find_map(|cause| {
        let printed = format!("{cause:?}");
        let mut fields = printed.strip_prefix("ConnectError(")?.split(", ");
        fields.nth(1)?.parse::<SocketAddr>().ok()
    });
    let named = || format!("{}:{}", host(url), url.port_or_known_default().unwrap_or_default());
    dialled.map_or_else(named, |address| address.to_string())
}

fn tls_words(url: &Url, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(certificate) => {
            format!("tls: failed to verify certificate: x509: {}", certificate_words(host(url), certificate))
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => PLAIN_ANSWER.to_owned(),
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_words(*alert)),
        other => format!("tls: {other}"),
    }
}

const OUT_OF_TIME: &str = "certificate has expired or is not yet valid";

fn certificate_words(host: &str, error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::NotValidYet => OUT_OF_TIME.to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("{OUT_OF_TIME}: current time {} is after {}", moment(time), moment(not_after))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("{OUT_OF_TIME}: current time {} is before {}", moment(time), moment(not_before))
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".to_owned()
        }
        CertificateError::NotValidForName => format!("certificate is not valid for {host}"),
        CertificateError::NotValidForNameContext { presented, .. } => name_words(host, presented),
        other => other.to_string(),
    }
}

/// RFC 3339, without fractions.
fn moment(time: &UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let date = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    date.map(|date| date.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default()
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
        AlertDescription::AccessDenied => "access denied".to_owned(),
        AlertDescription::BadCertificate => "bad certificate".to_owned(),
        AlertDescription::CertificateExpired => "expired certificate".to_owned(),
        AlertDescription::CertificateRequired => "certificate required".to_owned(),
        AlertDescription::CertificateRevoked => "revoked certificate".to_owned(),
        AlertDescription::CertificateUnknown => "unknown certificate".to_owned(),
        AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
        AlertDescription::InternalError => "internal error".to_owned(),
        AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
        AlertDescription::UnrecognisedName => "unrecognized name".to_owned(),
        AlertDescription::UnsupportedCertificate => "unsupported certificate".to_owned(),
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

    fn free_address() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_refuses_the_connection() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = free_address();
        for scheme in ["http", "https"] {
            let words = reason_of(&format!("{scheme}://{address}/v2/")).await;
            assert_eq!(words, format!("dial tcp {address}: connect: connection refused"));
        }
    }

    #[tokio::test]
    async fn a_name_is_told_by_the_address_that_was_dialled() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = free_address();
        let client = reqwest::Client::builder().no_proxy().resolve("registry.example", address);
        let url = Url::parse(&format!("https://registry.example:{}/v2/", address.port())).unwrap();
        let error = client.build().unwrap().get(url.clone()).send().await.unwrap_err();
        assert_eq!(of(&url, &error), format!("dial tcp {address}: connect: connection refused"));
    }

    #[test]
    fn a_certificate_out_of_time_is_told_with_both_times() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let expired =
            CertificateError::ExpiredContext { time: at(1_700_000_000), not_after: at(1_600_000_000) };
        assert_eq!(
            certificate_words("a", &expired),
            "certificate has expired or is not yet valid: current time 2023-11-14T22:13:20Z is after \
             2020-09-13T12:26:40Z"
        );
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
