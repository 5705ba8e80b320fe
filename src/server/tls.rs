//! TLS for TCP listeners, with the options dockerd has.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::StartError;
use crate::config::{Clients, Tls};

/// Loads certificate, key and, where clients are verified, the authority that signs theirs. TLS 1.2 and newer.
pub fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>, StartError> {
    let missing = || StartError::KeyPair("no certificate and key were given or found".to_owned());
    let certificate = tls.certificate.as_deref().ok_or_else(missing)?;
    let key = tls.key.as_deref().ok_or_else(missing)?;
    let chain = certificates(certificate).map_err(|reason| pair(certificate, reason))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| pair(key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match tls.clients {
        Clients::Anyone => builder.with_no_client_auth(),
        Clients::Verified => {
            let roots = Arc::new(roots(&tls.authority)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| authority(&tls.authority, e.to_string()))?)
        }
    };
    Ok(Arc::new(builder.with_single_cert(chain, key_der)?))
}

fn roots(path: &Path) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path).map_err(|reason| authority(path, reason))? {
        roots.add(certificate).map_err(|e| authority(path, e.to_string()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())?;
    pem.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

fn pair(path: &Path, reason: String) -> StartError {
    StartError::KeyPair(format!("{}: {reason}", path.display()))
}

fn authority(path: &Path, reason: String) -> StartError {
    StartError::Authority { path: path.to_owned(), reason }
}
