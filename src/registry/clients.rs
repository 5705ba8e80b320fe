//! HTTP clients, one for each host and trust, with the certificates that the operator put there for it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy};

use super::error::RegistryError;
use super::settings::{Proxies, RegistrySettings, Trust, is_loopback};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that sends nothing for so long has gone.
const READ_TIMEOUT: Duration = Duration::from_secs(90);
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// The clients made so far.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<(String, Trust), Client>>);

impl Clients {
    /// The client for a host.
    pub fn get(
        &self,
        settings: &RegistrySettings,
        host: &str,
        trust: Trust,
    ) -> Result<Client, RegistryError> {
        let key = (host.to_owned(), trust);
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = build(settings, host, trust)?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn build(settings: &RegistrySettings, host: &str, trust: Trust) -> Result<Client, RegistryError> {
    // ring, explicitly: without a choice rustls would panic. An error says that the choice was made before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = settings.certificates.join(host);
    let failed = |reason: String| RegistryError::Certificates { directory: directory.clone(), reason };
    let builder = Client::builder()
        .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
        // Followed by hand, so that credentials stay with the host they are for.
        .redirect(Policy::none())
        // One connection for each layer: a single HTTP/2 connection's window would throttle them all.
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT);
    let builder = if is_loopback(host) {
        builder.no_proxy()
    } else {
        proxied(builder.no_proxy(), &settings.proxies.in_force()).map_err(RegistryError::Proxy)?
    };
    let builder = match trust {
        Trust::Verified => builder,
        Trust::Insecure => builder.tls_danger_accept_invalid_certs(true),
    };
    certificates(builder, &directory).map_err(&failed)?.build().map_err(|e| failed(super::reason(&e)))
}

fn proxied(mut builder: ClientBuilder, proxies: &Proxies) -> Result<ClientBuilder, String> {
    let direct = proxies.none.as_deref().and_then(NoProxy::from_string);
    let http = proxies.http.as_deref().map(Proxy::http);
    let https = proxies.https.as_deref().map(Proxy::https);
    for proxy in [http, https].into_iter().flatten() {
        let proxy = proxy.map_err(|error| super::reason(&error))?;
        builder = builder.proxy(proxy.no_proxy(direct.clone()));
    }
    Ok(builder)
}

/// dockerd's rules: `*.crt` are roots beside the system's, `NAME.cert` needs `NAME.key`.
fn certificates(mut builder: ClientBuilder, directory: &Path) -> Result<ClientBuilder, String> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(builder) };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => {
                let roots = Certificate::from_pem_bundle(&read(&path)?).map_err(|e| super::reason(&e))?;
                builder = builder.tls_certs_merge(roots);
            }
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(format!(
                        "missing key {} for client certificate {}: CA certificates must use the extension .crt",
                        key.display(),
                        path.display()
                    ));
                }
                let pair = [read(&path)?, b"\n".to_vec(), read(&key)?].concat();
                builder = builder.identity(Identity::from_pem(&pair).map_err(|e| super::reason(&e))?);
            }
            Some("key") if !path.with_extension("cert").exists() => {
                return Err(format!("missing client certificate for key {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(builder)
}
