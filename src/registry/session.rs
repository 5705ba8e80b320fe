//! Requests to one repository on behalf of one user: finds the endpoint that answers, proves who we are when asked,
//! follows redirects without taking credentials along.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use oci_distribution::errors::OciEnvelope;
use reqwest::{Client, Response, Url};

use super::auth::{
    self, Authorization, Challenge, Credentials, Purpose, TokenAnswer, TokenKey, TokenRequest,
};
use super::error::RegistryError;
use super::manifest::{ACCEPTED, DOCUMENT_LIMIT, Descriptor};
use super::reference::Reference;
use super::settings::{Endpoint, Role, Trust};
use super::{Registry, reason, words};
use crate::base::digest::Digest;

const REDIRECT_LIMIT: usize = 10;
/// How much of an error's body is read.
const ERROR_LIMIT: u64 = 64 << 10;
/// How much of a token server's answer is read.
const TOKEN_LIMIT: u64 = 1 << 20;

type Result<T> = std::result::Result<T, RegistryError>;

/// Access to one repository.
#[derive(Debug)]
pub struct Session {
    registry: Arc<Registry>,
    reference: Reference,
    credentials: Credentials,
    endpoints: Vec<Endpoint>,
    /// The endpoint that gave the manifest is the first to be asked for its blobs.
    preferred: Mutex<usize>,
}

/// A document as the registry gave it.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub digest: Digest,
}

/// A blob on its way.
#[derive(Debug)]
pub struct BlobStream {
    /// Where it starts: what was asked for, or 0 if the server does not resume.
    pub offset: u64,
    response: Response,
    url: String,
}

impl BlobStream {
    /// The next bytes; nothing at the end.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>> {
        let url = &self.url;
        self.response.chunk().await.map_err(|e| RegistryError::Request {
            method: "Get",
            url: url.clone(),
            reason: reason(&e),
        })
    }
}

impl Session {
    pub(super) fn new(registry: Arc<Registry>, reference: Reference, credentials: Credentials) -> Self {
        let endpoints = registry.settings().endpoints(reference.domain());
        Self { registry, reference, credentials, endpoints, preferred: Mutex::new(0) }
    }

    /// The whole name, for messages.
    pub fn name(&self) -> String {
        self.reference.to_string()
    }

    /// What the reference stands for: by its digest if it has one, else by its tag. Verified against the digest
    /// that was asked for and the one that the registry names.
    pub async fn resolve(&self) -> Result<Fetched> {
        let version = match self.reference.digest() {
            Some(digest) => digest.to_string(),
            None => self.reference.tag().unwrap_or(super::reference::DEFAULT_TAG).to_owned(),
        };
        let wanted = self.reference.digest();
        self.document("manifests", &version, wanted).await.map_err(|error| match error {
            RegistryError::Request { .. } | RegistryError::Status { .. } => {
                RegistryError::Resolve { reference: self.reference.to_string(), source: Box::new(error) }
            }
            other => other,
        })
    }

    /// All tags of the repository.
    pub async fn tags(&self) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let response = self.get("tags", "list", &HeaderMap::new()).await?;
        let bytes = bounded(response, DOCUMENT_LIMIT).await?;
        let tags: Tags = serde_json::from_slice(&bytes)
            .map_err(|_| RegistryError::Answer("the list of tags is not JSON"))?;
        Ok(tags.tags.unwrap_or_default())
    }

    /// A manifest by its digest.
    pub async fn manifest(&self, digest: &Digest) -> Result<Fetched> {
        self.document("manifests", &digest.to_string(), Some(digest)).await
    }

    /// A blob, from `offset` on if the server can do that.
    pub async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            headers.insert(RANGE, header(&format!("bytes={offset}-"))?);
        }
        let found = self.get("blobs", &blob.digest.to_string(), &headers).await;
        let response = match found {
            Err(error @ (RegistryError::NotFound { .. } | RegistryError::Denied { .. }))
                if blob.is_foreign() =>
            {
                self.foreign(blob, &headers).await.unwrap_or(Err(error))?
            }
            other => other?,
        };
        let offset = if response.status() == StatusCode::PARTIAL_CONTENT { offset } else { 0 };
        let url = response.url().to_string();
        Ok(BlobStream { offset, response, url })
    }

    async fn document(&self, kind: &str, version: &str, wanted: Option<&Digest>) -> Result<Fetched> {
        let mut headers = HeaderMap::new();
        for accepted in ACCEPTED {
            headers.append(ACCEPT, HeaderValue::from_static(accepted));
        }
        headers.append(ACCEPT, HeaderValue::from_static("*/*"));
        let response = self.get(kind, version, &headers).await?;
        let text = |name: &str| {
            response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned).unwrap_or_default()
        };
        let media_type = text(CONTENT_TYPE.as_str());
        let named = text("docker-content-digest").parse::<Digest>().ok();
        let bytes = bounded(response, DOCUMENT_LIMIT).await?;
        let digest = Digest::of(&bytes);
        match wanted.copied().or(named) {
            Some(expected) if expected != digest => Err(RegistryError::Mismatch { expected, actual: digest }),
            _ => Ok(Fetched { bytes, media_type, digest }),
        }
    }

    /// Asks one endpoint after the other; what counts in the end is the origin's word.
    async fn get(&self, kind: &str, version: &str, headers: &HeaderMap) -> Result<Response> {
        let preferred = *self.preferred.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = RegistryError::Answer("no registry to ask");
        for (n, endpoint) in self.endpoints.iter().enumerate().skip(preferred) {
            let path = format!("{}/v2/{}/{kind}/{version}", endpoint.prefix, self.reference.path());
            match self.ask(endpoint, &path, headers).await {
                Ok(response) => {
                    *self.preferred.lock().unwrap_or_else(PoisonError::into_inner) = n;
                    return Ok(response);
                }
                Err(error) => {
                    if endpoint.role == Role::Mirror {
                        tracing::info!(mirror = endpoint.host, %error, "a mirror did not help");
                    }
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn ask(&self, endpoint: &Endpoint, path: &str, headers: &HeaderMap) -> Result<Response> {
        let client = self.registry.clients.get(&self.registry.settings(), &endpoint.host, endpoint.trust)?;
        let anonymous = Credentials::default();
        let credentials = match endpoint.role {
            Role::Origin => &self.credentials,
            Role::Mirror => &anonymous,
        };
        let scope = format!("repository:{}:pull", self.reference.path());
        let asker = Asker { registry: &self.registry, client, endpoint, credentials, scope };
        let response = asker.get(path, headers).await?;
        self.checked(response).await
    }

    /// Blobs that registries need not have are at the addresses in their descriptor. No credentials go there.
    async fn foreign(&self, blob: &Descriptor, headers: &HeaderMap) -> Option<Result<Response>> {
        for url in blob.urls.iter().filter_map(|url| Url::parse(url).ok()) {
            let Some(host) = authority(&url) else { continue };
            let trust = Trust::Verified;
            let Ok(client) = self.registry.clients.get(&self.registry.settings(), &host, trust) else {
                continue;
            };
            let response = follow(&client, url, headers, None).await;
            if let Ok(response) = response
                && response.status().is_success()
            {
                return Some(Ok(response));
            }
        }
        None
    }

    async fn checked(&self, response: Response) -> Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = response.url().to_string();
        let message = error_message(response).await;
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { reference: self.reference.to_string() },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                RegistryError::Denied { name: self.reference.familiar_name(), message }
            }
            StatusCode::TOO_MANY_REQUESTS => RegistryError::TooManyRequests { message },
            _ => RegistryError::Status { method: "GET", url, status, message },
        })
    }
}

/// One exchange with one endpoint, authentication included.
pub(super) struct Asker<'a> {
    pub registry: &'a Registry,
    pub client: Client,
    pub endpoint: &'a Endpoint,
    pub credentials: &'a Credentials,
    /// What a token is asked for where the challenge does not say.
    pub scope: String,
}

impl Asker<'_> {
    /// The answer to a GET, whatever its status; a first 401 is answered if that is possible.
    pub async fn get(&self, path: &str, headers: &HeaderMap) -> Result<Response> {
        let known = self.registry.known_challenges(self.endpoint);
        let authorization = match known {
            Some(challenges) => self.authorization(&challenges, Purpose::Pull, path).await?.map(|(a, _)| a),
            None => None,
        };
        let response = self.send(path, headers, authorization.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = challenges(&response);
        self.registry.remember_challenges(self.endpoint, &challenges);
        if let Some(key) = challenges.iter().find_map(|c| self.key(c)) {
            self.registry.tokens.forget(&key);
        }
        match self.authorization(&challenges, Purpose::Pull, path).await? {
            Some((fresh, _)) if Some(&fresh) != authorization.as_ref() => {
                self.send(path, headers, Some(fresh)).await
            }
            _ => Ok(response),
        }
    }

    /// Answers a challenge; the token server's whole answer comes along where it was asked. What it refuses is told
    /// of the path that the token was for.
    pub async fn authorization(
        &self,
        challenges: &[Challenge],
        purpose: Purpose,
        path: &str,
    ) -> Result<Option<(Authorization, Option<TokenAnswer>)>> {
        if let Some(authorization) = auth::direct(challenges, self.credentials) {
            return Ok(Some((authorization, None)));
        }
        let Some((key, realm)) = challenges.iter().find_map(|c| Some((self.key(c)?, realm(c)?))) else {
            return Ok(None);
        };
        if purpose == Purpose::Pull
            && let Some(token) = self.registry.tokens.get(&key)
        {
            return Ok(Some((token, None)));
        }
        let request = TokenRequest::new(self.credentials, &key.service, &key.scope, purpose);
        let answer = self.token(realm, request).await.map_err(|error| match error {
            RegistryError::Unauthorized { message, .. } => {
                RegistryError::Unauthorized { url: self.address(path), message }
            }
            other => other,
        })?;
        let token = self.registry.tokens.keep(key, &answer);
        Ok(token.map(|token| (token, Some(answer))))
    }

    /// The address as it was spoken to last.
    fn address(&self, path: &str) -> String {
        let host = &self.endpoint.host;
        let plain = self.endpoint.trust == Trust::Insecure && self.registry.speaks_plain(host);
        format!("{}://{host}{path}", if plain { "http" } else { "https" })
    }

    fn key(&self, challenge: &Challenge) -> Option<TokenKey> {
        let Challenge::Bearer { realm, service, scope } = challenge else { return None };
        let scope = if scope.is_empty() { self.scope.clone() } else { scope.clone() };
        let (realm, service) = (realm.clone(), service.clone());
        Some(TokenKey { realm, service, scope, credentials: self.credentials.clone() })
    }

    /// Secrets go to a token server over TLS only, unless the registry itself is trusted without. The certificates
    /// of the registry count for it, as with dockerd: one authority often signs both.
    async fn token(&self, realm: Url, request: TokenRequest) -> Result<TokenAnswer> {
        if realm.scheme() != "https" && self.endpoint.trust != Trust::Insecure {
            return Err(RegistryError::Answer("the token server is not reached over TLS"));
        }
        let response = match request {
            TokenRequest::Get { query, authorization } => {
                let mut url = realm;
                url.query_pairs_mut().extend_pairs(query);
                follow(&self.client, url, &HeaderMap::new(), authorization).await?
            }
            TokenRequest::Post { form } => {
                let body = Url::parse_with_params("form:", form).ok();
                let body = body.and_then(|u| u.query().map(str::to_owned)).unwrap_or_default();
                let request = self.client.post(realm.clone()).body(body);
                let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
                request.send().await.map_err(|e| failed("Post", &realm, &e))?
            }
        };
        let status = response.status();
        if !status.is_success() {
            let url = response.url().to_string();
            let message = error_message(response).await;
            return Err(match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                    RegistryError::Unauthorized { url, message }
                }
                StatusCode::TOO_MANY_REQUESTS => RegistryError::TooManyRequests { message },
                _ => RegistryError::Status { method: "GET", url, status, message },
            });
        }
        let bytes = bounded(response, TOKEN_LIMIT).await?;
        serde_json::from_slice(&bytes)
            .map_err(|_| RegistryError::Answer("the token server's answer is not JSON"))
    }

    /// Sends a GET over the scheme that works: HTTPS first, and plain HTTP where that is allowed.
    pub(super) async fn send(
        &self,
        path: &str,
        headers: &HeaderMap,
        authorization: Option<Authorization>,
    ) -> Result<Response> {
        let host = &self.endpoint.host;
        let send = async |scheme: &str| {
            let text = format!("{scheme}://{host}{path}");
            let url = Url::parse(&text).map_err(|_| RegistryError::Address(host.clone()))?;
            follow(&self.client, url, headers, authorization.clone()).await
        };
        if self.endpoint.trust == Trust::Verified {
            return send("https").await;
        }
        if self.registry.speaks_plain(host) {
            let response = send("http").await;
            if !is_bad_request(&response) {
                self.registry.remember_plain(host, response.is_ok());
                return response;
            }
        }
        let failed = match send("https").await {
            Err(error @ RegistryError::Request { .. }) => error,
            other => {
                self.registry.remember_plain(host, false);
                return other;
            }
        };
        let response = send("http").await;
        let speaks_tls = is_bad_request(&response) && !says_plain(&failed);
        self.registry.remember_plain(host, response.is_ok() && !speaks_tls);
        if speaks_tls { Err(failed) } else { response }
    }
}

/// How servers that speak TLS answer plain HTTP, among others.
fn is_bad_request(response: &Result<Response>) -> bool {
    response.as_ref().is_ok_and(|response| response.status() == StatusCode::BAD_REQUEST)
}

fn says_plain(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Request { reason, .. } if reason == words::PLAIN_ANSWER)
}

/// Sends a GET and follows redirects. The authorization goes to the first host alone: scheme, name and port must
/// all stay the same for it to be sent again.
async fn follow(
    client: &Client,
    first: Url,
    headers: &HeaderMap,
    authorization: Option<Authorization>,
) -> Result<Response> {
    let mut url = first.clone();
    for _ in 0..REDIRECT_LIMIT {
        let mut request = client.request(Method::GET, url.clone()).headers(headers.clone());
        if let Some(Authorization(value)) = &authorization
            && url.origin() == first.origin()
        {
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(|e| failed("Get", &url, &e))?;
        let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
        match (response.status().is_redirection(), location) {
            (true, Some(location)) => {
                let next = url.join(location).ok().filter(|next| allowed(&url, next));
                url = next.ok_or(RegistryError::Answer("a redirect leads where it must not"))?;
            }
            _ => return Ok(response),
        }
    }
    Err(RegistryError::Answer("too many redirects"))
}

/// A redirect may not leave HTTP, nor take TLS away.
fn allowed(from: &Url, to: &Url) -> bool {
    matches!((from.scheme(), to.scheme()), (_, "https") | ("http", "http"))
}

pub(super) fn challenges(response: &Response) -> Vec<Challenge> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
    headers.filter_map(|value| value.to_str().ok()).flat_map(Challenge::parse).collect()
}

fn realm(challenge: &Challenge) -> Option<Url> {
    match challenge {
        Challenge::Bearer { realm, .. } => Url::parse(realm).ok(),
        Challenge::Basic => None,
    }
}

fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| RegistryError::Answer("a header cannot be written"))
}

fn failed(method: &'static str, url: &Url, error: &reqwest::Error) -> RegistryError {
    RegistryError::Request { method, url: url.to_string(), reason: words::of(url, error) }
}

async fn bounded(mut response: Response, limit: u64) -> Result<Vec<u8>> {
    let url = response.url().clone();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| failed("Get", &url, &e))? {
        if bytes.len() as u64 + chunk.len() as u64 > limit {
            return Err(RegistryError::TooLarge { what: url.to_string(), limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The registry's own words, or the status' usual ones.
pub(super) async fn error_message(response: Response) -> String {
    let status = response.status();
    let usual = || status.canonical_reason().unwrap_or("unknown error").to_owned();
    let Ok(bytes) = bounded(response, ERROR_LIMIT).await else { return usual() };
    if let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(&bytes) {
        let messages: Vec<_> =
            envelope.errors.iter().map(|e| e.message.as_str()).filter(|m| !m.is_empty()).collect();
        if !messages.is_empty() {
            return messages.join("; ");
        }
    }
    #[derive(serde::Deserialize)]
    struct Details {
        details: String,
    }
    serde_json::from_slice::<Details>(&bytes).map(|d| d.details).unwrap_or_else(|_| usual())
}
