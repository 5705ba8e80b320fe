//! TLS towards servers as Go has it: whom it trusts, what it shows, and how it says what went wrong.

pub mod verifier;
pub mod words;

use rustls::InconsistentKeys;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// The certificates in PEM text. What is no certificate ends them, as with Go's `AppendCertsFromPEM`.
pub fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).map_while(Result::ok).collect()
}

/// A certificate (its chain after it) with its key, both PEM; Go's words where they do not fit.
pub fn identity(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = certificates(chain);
    if chain.is_empty() {
        return Err("tls: failed to find any PEM data in certificate input".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "tls: failed to find any PEM data in key input".to_owned())?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| format!("tls: {error}"))?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("tls: private key does not match public key".to_owned())
        }
        // Other errors say that it is a certificate of version 1, which is the server's to judge.
        _ => Ok(identity),
    }
}
