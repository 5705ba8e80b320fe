//! Who a server proves to be: webpki's judgement, and Go's where dockerd's users rely on that. Three things differ.
//! A certificate that is itself among the roots is good for a server, also if it says to be an authority: that is
//! what `openssl req -x509` makes, and webpki refuses it. A wildcard may stand for all of a domain of one label
//! (`*.lan`). And a wrong name is told before an unknown authority.
//!
//! Revocation is not checked, as with dockerd.

use std::sync::OnceLock;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

/// A certificate that names its host the way that was given up (RFC 6125, 6.4.4).
#[derive(Debug, thiserror::Error)]
#[error("certificate relies on legacy Common Name field, use SANs instead")]
struct LegacyCommonName;

/// The system's authorities, read once as Go does: dockerd too is started again after they have changed.
fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "an authority of the system cannot be read");
        }
        found.certs
    })
}

/// Checks servers against the system's authorities and some more.
#[derive(Debug)]
pub struct Verifier {
    anchors: RootCertStore,
    roots: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Roots that cannot be parsed are good for nothing but servers that show the very same certificate.
    pub fn new(roots: Vec<CertificateDer<'static>>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        let mut anchors = RootCertStore::empty();
        anchors.add_parsable_certificates(system_roots().iter().chain(&roots).cloned());
        Self { anchors, roots, algorithms }
    }

    fn is_root(&self, certificate: &CertificateDer<'_>) -> bool {
        self.roots.iter().chain(system_roots()).any(|root| root == certificate)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate).map_err(in_words_of_version_1)?;
        let (anchors, algorithms) = (&self.anchors, self.algorithms.all);
        let chain =
            verify_server_cert_signed_by_trust_anchor(&parsed, anchors, intermediates, now, algorithms);
        let known = match chain {
            Ok(()) => true,
            Err(error) if is_unknown_authority(&error) => self.is_root(certificate),
            Err(error) => return Err(error),
        };
        match verify_server_name(&parsed, name) {
            Err(error) if !has_short_wildcard(&error, name) => {
                return Err(in_words_of_names(error, certificate, name));
            }
            _ => {}
        }
        if known { Ok(ServerCertVerified::assertion()) } else { Err(CertificateError::UnknownIssuer.into()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// webpki says these of a server's certificate only after it has found it within its validity period. A bad
/// signature is that of another authority of the same name.
fn is_unknown_authority(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)
    ) || is_webpki(error, &webpki::Error::CaUsedAsEndEntity)
}

/// Certificates of version 1 cannot have alternative names.
fn in_words_of_version_1(error: Error) -> Error {
    let version_1 = is_webpki(&error, &webpki::Error::UnsupportedCertVersion);
    if version_1 { legacy_common_name() } else { error }
}

/// Whether among the names that webpki has found not to match is `*.lan` for `a.lan`.
fn has_short_wildcard(error: &Error, name: &ServerName<'_>) -> bool {
    let Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) = error else {
        return false;
    };
    let ServerName::DnsName(host) = name else { return false };
    let Some((_, domain)) = host.as_ref().split_once('.') else { return false };
    let wildcard = format!("DnsName(\"*.{domain}\")");
    !domain.contains('.') && presented.iter().any(|name| name.eq_ignore_ascii_case(&wildcard))
}

/// Go tells apart the certificate that has the right name in the wrong place.
fn in_words_of_names(error: Error, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Error {
    let Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) = &error else {
        return error;
    };
    let parsed = webpki::EndEntityCert::try_from(certificate).ok();
    let common_name = parsed.as_ref().and_then(|parsed| common_name(parsed.subject())).unwrap_or_default();
    let legacy = presented.is_empty() && common_name.eq_ignore_ascii_case(name.to_str().as_bytes());
    if legacy { legacy_common_name() } else { error }
}

/// What follows the attribute type 2.5.4.3 in a subject's DER (RFC 5280, 4.1.2.4).
fn common_name(subject: &[u8]) -> Option<&[u8]> {
    const TYPE: [u8; 5] = [0x06, 3, 0x55, 4, 3];
    let start = subject.windows(TYPE.len()).position(|window| window == TYPE)? + TYPE.len();
    let length = usize::from(*subject.get(start + 1)?);
    subject.get(start + 2..start + 2 + length)
}

fn legacy_common_name() -> Error {
    CertificateError::Other(OtherError(std::sync::Arc::new(LegacyCommonName))).into()
}

/// Whether rustls passes on this error of webpki, for which it has no word of its own.
fn is_webpki(error: &Error, wanted: &webpki::Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(held))) = error else { return false };
    held.downcast_ref() == Some(wanted)
}

/// Takes any certificate, whatever its version and key: for servers that the operator called insecure.
#[derive(Debug)]
pub struct Unverified(pub WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// `openssl req -x509 -addext subjectAltName=DNS:registry.example`: its own authority, CA:TRUE, 2025 to 2125.
    const SELF_SIGNED: &str = include_str!("testdata/self-signed.pem");
    /// The same without the extension, CN=registry.example.
    const WITHOUT_NAMES: &str = include_str!("testdata/without-names.pem");
    /// Version 1.
    const OLD: &str = include_str!("testdata/version-1.pem");
    /// Of an authority, for server.example.
    const SERVER: &str = include_str!("testdata/server.pem");
    const AUTHORITY: &str = include_str!("testdata/authority.pem");
    /// Another authority of the same name.
    const NAMESAKE: &str = include_str!("testdata/namesake.pem");

    /// Its own authority, for *.lan.
    const WILDCARD: &str = include_str!("testdata/wildcard.pem");

    const YEAR: u64 = 365 * 86400;

    /// `years` after 1970.
    fn judged(roots: &[&str], server: &str, name: &str, years: u64) -> Result<(), String> {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        let roots = roots.iter().map(|pem| der(pem)).collect();
        let verifier = Verifier::new(roots, provider.signature_verification_algorithms);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(years * YEAR));
        let verified = verifier.verify_server_cert(&der(server), &[], &name, &[], now);
        verified.map(drop).map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(held))) => held.to_string(),
            Error::InvalidCertificate(error) => format!("{error:?}"),
            error => error.to_string(),
        })
    }

    #[track_caller]
    fn refused(verdict: Result<(), String>, word: &str) {
        let error = verdict.unwrap_err();
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn a_server_may_show_one_of_the_roots_itself() {
        assert_eq!(judged(&[SELF_SIGNED], SELF_SIGNED, "registry.example", 60), Ok(()));
        // also one that another has signed
        assert_eq!(judged(&[SERVER], SERVER, "server.example", 60), Ok(()));
    }

    #[test]
    fn name_and_time_count_for_roots_too() {
        refused(judged(&[SELF_SIGNED], SELF_SIGNED, "other.example", 60), "NotValidForNameContext");
        refused(judged(&[SELF_SIGNED], SELF_SIGNED, "registry.example", 200), "ExpiredContext");
        refused(judged(&[SELF_SIGNED], SELF_SIGNED, "registry.example", 50), "NotValidYetContext");
    }

    #[test]
    fn an_unknown_authority_is_called_so_whatever_the_certificate_says_to_be() {
        refused(judged(&[], SELF_SIGNED, "registry.example", 60), "UnknownIssuer");
        refused(judged(&[AUTHORITY], SELF_SIGNED, "registry.example", 60), "UnknownIssuer");
        refused(judged(&[SELF_SIGNED], SERVER, "server.example", 60), "UnknownIssuer");
        refused(judged(&[NAMESAKE], SERVER, "server.example", 60), "UnknownIssuer");
    }

    #[test]
    fn an_authority_s_certificates_are_for_their_names() {
        assert_eq!(judged(&[NAMESAKE, AUTHORITY], SERVER, "server.example", 60), Ok(()));
        refused(judged(&[AUTHORITY], SERVER, "registry.example", 60), "NotValidForNameContext");
        // as Go does: the name before the authority, time before both
        refused(judged(&[], SERVER, "registry.example", 60), "NotValidForNameContext");
        refused(judged(&[], SERVER, "registry.example", 200), "ExpiredContext");
    }

    #[test]
    fn a_wildcard_may_be_for_a_domain_of_one_label() {
        assert_eq!(judged(&[WILDCARD], WILDCARD, "registry.lan", 60), Ok(()));
        for other in ["lan", "a.registry.lan", "registry.wan", "10.0.0.1"] {
            refused(judged(&[WILDCARD], WILDCARD, other, 60), "NotValidForNameContext");
        }
    }

    #[test]
    fn common_names_name_no_host_anymore() {
        for old in [WITHOUT_NAMES, OLD] {
            refused(judged(&[old], old, "registry.example", 60), "legacy Common Name");
        }
        refused(judged(&[WITHOUT_NAMES], WITHOUT_NAMES, "other.example", 60), "NotValidForNameContext");
    }
}
