//! HTTP clients, one for each host and trust, with the certificates that the operator put there for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, NoProxy, Proxy};

use super::certificates::Certificates;
use super::error::RegistryError;
use super::settings::{Proxies, RegistrySettings, Trust};
use crate::base::digest::Digest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that sends nothing for so long has gone.
const READ_TIMEOUT: Duration = Duration::from_secs(90);
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// This machine itself: no proxy is used for it, as Go has it.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// The clients made so far, each with the fingerprint of the certificates that it was made with.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<(String, Trust), (Digest, Client)>>);

impl Clients {
    /// The client for a host. Its directory is read each time: what changes there counts at once, as with dockerd.
    pub fn get(
        &self,
        settings: &RegistrySettings,
        host: &str,
        trust: Trust,
    ) -> Result<Client, RegistryError> {
        let certificates =
            Certificates::read(&settings.certificates.join(host)).map_err(RegistryError::Certificates)?;
        let fingerprint = certificates.fingerprint();
        let key = (host.to_owned(), trust);
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made_with, client)) = clients.get(&key)
            && *made_with == fingerprint
        {
            return Ok(client.clone());
        }
        let client = build(settings, &certificates, trust)?;
        clients.insert(key, (fingerprint, client.clone()));
        Ok(client)
    }
}

fn build(
    settings: &RegistrySettings,
    certificates: &Certificates,
    trust: Trust,
) -> Result<Client, RegistryError> {
    let tls = certificates.client_config(trust).map_err(RegistryError::Certificates)?;
    let builder = Client::builder()
        .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        // Followed by hand, so that credentials stay with the host they are for.
        .redirect(Policy::none())
        // One connection for each layer: a single HTTP/2 connection's window would throttle them all.
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .no_proxy();
    let builder = proxied(builder, &settings.proxies.in_force()).map_err(RegistryError::Proxy)?;
    builder.build().map_err(|error| RegistryError::Certificates(super::reason(&error)))
}

fn proxied(mut builder: ClientBuilder, proxies: &Proxies) -> Result<ClientBuilder, String> {
    let direct = NoProxy::from_string(&match &proxies.none {
        Some(none) => format!("{LOOPBACK},{none}"),
        None => LOOPBACK.to_owned(),
    });
    let http = proxies.http.as_deref().map(Proxy::http);
    let https = proxies.https.as_deref().map(Proxy::https);
    for proxy in [http, https].into_iter().flatten() {
        let proxy = proxy.map_err(|error| super::reason(&error))?;
        builder = builder.proxy(proxy.no_proxy(direct.clone()));
    }
    Ok(builder)
}
