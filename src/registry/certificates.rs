//! What the operator put beside a registry's name in `/etc/docker/certs.d/HOST[:PORT]/`, by dockerd's rules: `*.crt`
//! are authorities beside the system's, `NAME.cert` with `NAME.key` is a certificate to show when the registry asks
//! for one. Makes the TLS side of a client of it; connects nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};

use super::settings::Trust;
use crate::base::digest::Digest;
use crate::base::tls::verifier::{Unverified, Verifier};
use crate::base::tls::{certificates, identity};

/// The files of one registry, by name.
#[derive(Default)]
pub struct Certificates(BTreeMap<String, Vec<u8>>);

impl Certificates {
    /// Reads a directory; one that does not exist is empty.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let unreadable = |path: &Path, error: Error| format!("cannot read {}: {error}", path.display());
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            entries => entries.map_err(|error| unreadable(directory, error))?,
        };
        let mut files = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(|error| unreadable(directory, error))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if [".crt", ".cert", ".key"].iter().any(|suffix| name.ends_with(suffix)) {
                files.insert(name.to_owned(), fs::read(&path).map_err(|error| unreadable(&path, error))?);
            }
        }
        Ok(Self(files))
    }

    /// Another one for other files or other content.
    pub fn fingerprint(&self) -> Digest {
        let mut all = Vec::new();
        for (name, content) in &self.0 {
            for part in [name.as_bytes(), content] {
                all.extend(part.len().to_le_bytes());
                all.extend(part);
            }
        }
        Digest::of(&all)
    }

    /// TLS 1.2 and newer with these certificates.
    pub fn client_config(&self, trust: Trust) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identities = Identities(self.identities(&provider)?);
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous();
        let builder = match trust {
            Trust::Verified => {
                let verifier = Verifier::new(self.roots(), algorithms);
                builder.with_custom_certificate_verifier(Arc::new(verifier))
            }
            Trust::Insecure => builder.with_custom_certificate_verifier(Arc::new(Unverified(algorithms))),
        };
        Ok(builder.with_client_cert_resolver(Arc::new(identities)))
    }

    /// What is no certificate is passed over, as Go's `AppendCertsFromPEM` does.
    fn roots(&self) -> Vec<CertificateDer<'static>> {
        let files = self.0.iter().filter(|(name, _)| name.ends_with(".crt"));
        files.flat_map(|(_, pem)| certificates(pem)).collect()
    }

    fn identities(&self, provider: &CryptoProvider) -> Result<Vec<Arc<CertifiedKey>>, String> {
        let mut identities = Vec::new();
        for (name, content) in &self.0 {
            if let Some(stem) = name.strip_suffix(".cert") {
                let key_name = format!("{stem}.key");
                let key = self.0.get(&key_name).ok_or_else(|| {
                    format!(
                        "missing key {key_name} for client certificate {name}. CA certificates must use the \
                         extension .crt"
                    )
                })?;
                let identity = identity(content, key, provider);
                identities.push(Arc::new(identity.map_err(|reason| format!("{name}: {reason}"))?));
            } else if let Some(stem) = name.strip_suffix(".key")
                && !self.0.contains_key(&format!("{stem}.cert"))
            {
                return Err(format!("missing client certificate {stem}.cert for key {name}"));
            }
        }
        Ok(identities)
    }
}

/// Certificates to choose from when a server asks for one.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identities {
    /// The first that one of the named authorities has signed, as Go does; without such a one the first that the
    /// server can check.
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = || self.0.iter().filter(|identity| identity.key.choose_scheme(schemes).is_some());
        usable().find(|identity| is_signed_by(identity, authorities)).or_else(|| usable().next()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// `authorities` are DER-encoded names; webpki gives an issuer's without the head of the sequence.
fn is_signed_by(identity: &CertifiedKey, authorities: &[&[u8]]) -> bool {
    identity
        .cert
        .iter()
        .filter_map(|der| webpki::EndEntityCert::try_from(der).ok())
        .any(|certificate| authorities.iter().any(|authority| authority.ends_with(certificate.issuer())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: [(&str, &str); 2] = [
        ("cert", include_str!("../base/tls/testdata/self-signed.pem")),
        ("key", include_str!("../base/tls/testdata/self-signed.key")),
    ];

    fn made(files: &[(&str, &str)]) -> Certificates {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        Certificates::read(directory.path()).unwrap()
    }

    fn error(files: &[(&str, &str)]) -> String {
        made(files).client_config(Trust::Verified).unwrap_err()
    }

    #[test]
    fn a_directory_that_is_not_there_is_empty() {
        let none = Certificates::read(Path::new("/nonexistent/certs.d/host")).unwrap();
        assert!(
            none.client_config(Trust::Verified).unwrap().client_auth_cert_resolver.has_certs().eq(&false)
        );
        assert_eq!(none.fingerprint(), made(&[("README", "not a certificate")]).fingerprint());
    }

    #[test]
    fn halves_of_pairs_are_refused_in_dockerd_s_words() {
        let [(_, certificate), (_, key)] = PAIR;
        assert_eq!(
            error(&[("client.cert", certificate)]),
            "missing key client.key for client certificate client.cert. CA certificates must use the extension .crt"
        );
        assert_eq!(error(&[("a.key", key)]), "missing client certificate a.cert for key a.key");
    }

    #[test]
    fn pairs_that_do_not_fit_are_refused_in_go_s_words() {
        let [(_, certificate), (_, key)] = PAIR;
        let other = include_str!("../base/tls/testdata/other.key");
        for (certificate, key, expected) in [
            (certificate, other, "a.cert: tls: private key does not match public key"),
            ("", key, "a.cert: tls: failed to find any PEM data in certificate input"),
            (certificate, "", "a.cert: tls: failed to find any PEM data in key input"),
        ] {
            assert_eq!(error(&[("a.cert", certificate), ("a.key", key)]), expected);
        }
    }

    #[test]
    fn a_pair_is_shown_to_servers_that_ask() {
        let [(_, certificate), (_, key)] = PAIR;
        let pair = made(&[("a.cert", certificate), ("a.key", key), ("junk.crt", "junk")]);
        let config = pair.client_config(Trust::Verified).unwrap();
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let resolver = &config.client_auth_cert_resolver;
        assert!(resolver.resolve(&[], &schemes).is_some());
        assert!(resolver.resolve(&[], &[SignatureScheme::ED25519]).is_none());
    }

    #[test]
    fn other_content_has_another_fingerprint() {
        let first = made(&[("a.crt", "1")]);
        assert_eq!(first.fingerprint(), made(&[("a.crt", "1")]).fingerprint());
        for other in [("a.crt", "2"), ("b.crt", "1")] {
            assert_ne!(first.fingerprint(), made(&[other]).fingerprint());
        }
    }
}
