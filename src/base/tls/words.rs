//! Why a TLS handshake failed, in the words of Go's crypto/tls, which users and scripts know from dockerd.

use chrono::{DateTime, SecondsFormat};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

/// What went wrong with the peer that was called `host`.
pub fn of(host: &str, error: &Error) -> String {
    match error {
        Error::InvalidCertificate(certificate) => {
            format!("tls: failed to verify certificate: x509: {}", certificate_words(host, certificate))
        }
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_words(*alert)),
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
