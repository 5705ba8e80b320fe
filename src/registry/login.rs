//! `docker login`: are these credentials any good?

use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::auth::{Credentials, Purpose};
use super::error::RegistryError;
use super::reference::DEFAULT_DOMAIN;
use super::session::{Asker, error_message};
use super::settings::Role;
use super::{Registry, session};

/// What a registry said to credentials that it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// To be kept in place of the password; empty if the registry gives none.
    pub identity_token: String,
}

impl Registry {
    /// Checks `credentials` with the registry at `address` (a host, or a URL as `docker login` gives it; empty for
    /// Docker Hub).
    pub async fn login(
        self: &Arc<Self>,
        address: &str,
        credentials: &Credentials,
    ) -> Result<Login, RegistryError> {
        let domain = domain(address);
        let endpoints = self.settings().endpoints(&domain);
        let endpoint = endpoints
            .iter()
            .find(|endpoint| endpoint.role == Role::Origin)
            .ok_or_else(|| RegistryError::Address(address.to_owned()))?;
        let client = self.clients.get(&self.settings(), &endpoint.host, endpoint.trust)?;
        let asker = Asker { registry: self, client, endpoint, credentials, scope: String::new() };
        asker.login().await.map_err(|error| match error {
            RegistryError::Request { method, url, reason } => RegistryError::Login { method, url, reason },
            other => other,
        })
    }
}

impl Asker<'_> {
    async fn login(&self) -> Result<Login, RegistryError> {
        let none = HeaderMap::new();
        let first = self.send("/v2/", &none, None).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return self.accepted(first, String::new()).await;
        }
        let challenges = session::challenges(&first);
        let answer = self.authorization(&challenges, Purpose::Login, "/v2/").await?;
        let Some((authorization, answer)) = answer else { return self.accepted(first, String::new()).await };
        let identity_token = answer.map(|answer| answer.refresh_token).unwrap_or_default();
        let second = self.send("/v2/", &none, Some(authorization)).await?;
        self.accepted(second, identity_token).await
    }

    async fn accepted(
        &self,
        response: reqwest::Response,
        identity_token: String,
    ) -> Result<Login, RegistryError> {
        let (status, url) = (response.status(), response.url().to_string());
        match status {
            status if status.is_success() => Ok(Login { identity_token }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(RegistryError::Unauthorized { url, message: error_message(response).await })
            }
            status => {
                let message = error_message(response).await;
                Err(RegistryError::Status { method: "GET", url, status, message })
            }
        }
    }
}

/// `https://index.docker.io/v1/` is how the CLI writes Docker Hub.
fn domain(address: &str) -> String {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    match host {
        "" | "index.docker.io" | "docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_addresses_are_read_as_the_cli_writes_them() {
        for (address, expected) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("http://host.example:1/v2/", "host.example:1"),
        ] {
            assert_eq!(domain(address), expected);
        }
    }
}
