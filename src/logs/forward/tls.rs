//! TLS to a syslog server. Errors are in the words of Go's TLS, as dockerd has them.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde::{Deserialize, Serialize};

use crate::base::errno::reason;
use crate::base::tls::verifier::{Unverified, Verifier};
use crate::base::tls::{certificates, identity, words};

/// How long a server may take to see the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection past its handshake.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Whom to trust and what to show. Files are read when a connection is made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tls {
    /// Authorities beside the system's.
    pub authorities: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Whether any server will do.
    pub unverified: bool,
}

impl Tls {
    /// TLS 1.2 and newer with these files.
    pub fn config(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let verifier: Arc<dyn ServerCertVerifier> = match self.unverified {
            true => Arc::new(Unverified(algorithms)),
            false => Arc::new(Verifier::new(self.roots()?, algorithms)),
        };
        let resolver = match (&self.certificate, &self.key) {
            (None, None) => None,
            (certificate, key) => {
                let wrong =
                    |reason: String| io::Error::other(format!("could not load X509 key pair: {reason}"));
                let read = |file: &Option<PathBuf>| {
                    let file = file.as_deref().unwrap_or(Path::new(""));
                    std::fs::read(file).map_err(|error| wrong(unreadable(file, &error)))
                };
                let pair = identity(&read(certificate)?, &read(key)?, &provider).map_err(wrong)?;
                Some(rustls::sign::SingleCertAndKey::from(pair))
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Ok(match resolver {
            Some(pair) => builder.with_client_cert_resolver(Arc::new(pair)),
            None => builder.with_no_client_auth(),
        })
    }

    fn roots(&self) -> io::Result<Vec<rustls::pki_types::CertificateDer<'static>>> {
        let Some(file) = &self.authorities else { return Ok(vec![]) };
        let pem = std::fs::read(file).map_err(|error| {
            io::Error::other(format!("could not read CA certificate {file:?}: {}", unreadable(file, &error)))
        })?;
        let roots = certificates(&pem);
        if roots.is_empty() {
            return Err(io::Error::other(format!("failed to append certificates from PEM file: {file:?}")));
        }
        Ok(roots)
    }
}

fn unreadable(file: &Path, error: &io::Error) -> String {
    format!("open {}: {}", file.display(), reason(error))
}

/// Makes a connection to `host`, a name or address with its port, a secure one. The socket has timeouts.
pub fn handshake(host: &str, mut socket: TcpStream, config: ClientConfig) -> io::Result<TlsStream> {
    let (name, _) = host.rsplit_once(':').unwrap_or((host, ""));
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let server = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), server).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(|error| told(name, error))?;
    }
    Ok(StreamOwned::new(connection, socket))
}

fn told(name: &str, error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(tls) => io::Error::other(words::of(name, tls)),
        None => error,
    }
}

/// Says goodbye. What the server has sent is read first: a socket with unread data is reset when it is closed, and
/// what was sent last might never be seen.
pub fn close(stream: &mut TlsStream) {
    stream.conn.send_close_notify();
    let _ = stream.conn.complete_io(&mut stream.sock);
    let _ = stream.sock.shutdown(Shutdown::Write);
    let _ = stream.sock.set_read_timeout(Some(FAREWELL));
    while stream.sock.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_there_are_named_as_dockerd_does() {
        let file = |name: &str| Some(PathBuf::from(name));
        let none = Tls { authorities: file("/nonexistent/ca"), ..Tls::default() };
        let text = none.config().unwrap_err().to_string();
        assert_eq!(
            text,
            "could not read CA certificate \"/nonexistent/ca\": open /nonexistent/ca: no such file or directory"
        );
        let unverified = Tls { unverified: true, ..none };
        unverified.config().expect("nobody's authority is asked for");
        let pair =
            Tls { certificate: file("/nonexistent/cert"), key: file("/nonexistent/key"), ..Tls::default() };
        let text = pair.config().unwrap_err().to_string();
        assert_eq!(text, "could not load X509 key pair: open /nonexistent/cert: no such file or directory");
        let dir = tempfile::tempdir().unwrap();
        let junk = dir.path().join("junk");
        std::fs::write(&junk, "junk").unwrap();
        let text = Tls { authorities: Some(junk), ..Tls::default() }.config().unwrap_err().to_string();
        assert!(text.starts_with("failed to append certificates from PEM file: "), "{text}");
    }
}
