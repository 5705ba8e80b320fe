//! Registries: names of images, documents that describe them, and the HTTP protocol that hands them out
//! (OCI distribution-spec). Stores nothing on disk; knows no local image.
//!
//! oci-distribution gives the media types and error documents. The protocol is done here on reqwest: resumed
//! downloads, mirrors, fall back to plain HTTP, and credentials that never follow a redirect are beyond that client.

pub mod auth;
mod certificates;
mod clients;
mod error;
mod login;
pub mod manifest;
pub mod platform;
pub mod reference;
mod session;
pub mod settings;
mod words;

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use auth::{Challenge, Tokens};
use clients::Clients;
use settings::Endpoint;

pub use auth::Credentials;
pub use error::RegistryError;
pub use login::Login;
pub use platform::Platform;
pub use reference::{AnyReference, InvalidReference, Reference};
pub use session::{BlobStream, Fetched, Session};
pub use settings::{Proxies, RegistrySettings};

/// What is known of the registries spoken to so far: connections, tokens, what they ask for.
#[derive(Debug)]
pub struct Registry {
    settings: RwLock<Arc<RegistrySettings>>,
    clients: Clients,
    tokens: Tokens,
    /// Hosts that turned out to speak plain HTTP.
    plain: Mutex<HashSet<String>>,
    /// What each endpoint asked for last, so that later requests bring it along.
    challenges: Mutex<HashMap<Endpoint, Vec<Challenge>>>,
}

impl Registry {
    /// Nothing is connected before it is needed.
    pub fn new(settings: RegistrySettings) -> Arc<Self> {
        Arc::new(Self {
            settings: RwLock::new(Arc::new(settings)),
            clients: Clients::default(),
            tokens: Tokens::default(),
            plain: Mutex::default(),
            challenges: Mutex::default(),
        })
    }

    /// Takes over what the operator has changed; sessions that are open keep what they began with where it matters.
    pub fn reconfigure(&self, settings: RegistrySettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<RegistrySettings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Access to the repository of `reference` for one user.
    pub fn session(self: &Arc<Self>, reference: &Reference, credentials: Credentials) -> Session {
        Session::new(self.clone(), reference.clone(), credentials)
    }

    fn speaks_plain(&self, host: &str) -> bool {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    fn remember_plain(&self, host: &str, works: bool) {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if works {
            plain.insert(host.to_owned());
        } else {
            plain.remove(host);
        }
    }

    fn known_challenges(&self, endpoint: &Endpoint) -> Option<Vec<Challenge>> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint).cloned()
    }

    /// The scope is left out: it is another for each repository.
    fn remember_challenges(&self, endpoint: &Endpoint, challenges: &[Challenge]) {
        let general = challenges.iter().cloned().map(|challenge| match challenge {
            Challenge::Bearer { realm, service, .. } => {
                Challenge::Bearer { realm, service, scope: String::new() }
            }
            Challenge::Basic => Challenge::Basic,
        });
        let mut known = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(endpoint.clone(), general.collect());
    }
}

/// An error with its causes in one line, as Go would write it.
fn reason(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
