//! Pulls from a registry made here, which does what a real one does rarely: asks for tokens, redirects, breaks off
//! and lies.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE};
use serde_json::json;

use super::*;
use crate::events::EventBus;
use crate::registry::manifest::{DOCKER_MANIFEST, OCI_INDEX};
use crate::registry::{Registry, RegistrySettings};

/// What the registry holds and how it behaves.
#[derive(Default)]
struct Shelf {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, (&'static str, Vec<u8>)>,
    /// Where blobs are redirected to.
    elsewhere: Mutex<Option<String>>,
    /// Tokens are asked for, and given for this name and password.
    token_for: Option<&'static str>,
    /// Ranges and authorizations that were sent, by path.
    #[expect(clippy::type_complexity, reason = "path, range and credentials of each request")]
    seen: Mutex<Vec<(String, Option<String>, Option<String>)>>,
    /// The next so many layers break off in the middle.
    cuts: AtomicUsize,
    address: Mutex<String>,
}

async fn serve(shelf: Shelf) -> (String, Arc<Shelf>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    *shelf.address.lock().unwrap() = address.clone();
    let shelf = Arc::new(shelf);
    let router = Router::new().fallback(answer).with_state(shelf.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, shelf)
}

fn reply(status: u16, headers: &[(http::HeaderName, String)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body.into()).unwrap()
}

async fn answer(State(shelf): State<Arc<Shelf>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let header =
        |name| request.headers().get(name).map(|v: &http::HeaderValue| v.to_str().unwrap().to_owned());
    let (range, authorization) = (header(RANGE), header(AUTHORIZATION));
    shelf.seen.lock().unwrap().push((path.clone(), range.clone(), authorization.clone()));
    if path == "/token" {
        let right = shelf.token_for.is_some() && authorization.as_deref() == Some("Basic dTpw");
        let status = if right { 200 } else { 401 };
        return reply(status, &[], r#"{"token":"T"}"#);
    }
    if shelf.token_for.is_some() && authorization.as_deref() != Some("Bearer T") {
        let address = shelf.address.lock().unwrap().clone();
        let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"s\"");
        return reply(401, &[(WWW_AUTHENTICATE, challenge)], "");
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    if let Some((media_type, bytes)) = shelf.manifests.get(last).filter(|_| path.contains("/manifests/")) {
        return reply(200, &[(CONTENT_TYPE, (*media_type).to_owned())], bytes.clone());
    }
    if let Some(elsewhere) = shelf.elsewhere.lock().unwrap().as_ref() {
        return reply(307, &[(LOCATION, format!("http://{elsewhere}{path}"))], "");
    }
    let Some(bytes) = shelf.blobs.get(last) else { return reply(404, &[], "") };
    let start: usize = range.as_deref().map_or(0, |r| r[6..].trim_end_matches('-').parse().unwrap());
    let rest = Bytes::from(bytes[start..].to_vec());
    let status = if range.is_some() { 206 } else { 200 };
    let is_layer = bytes.len() > 1000;
    if is_layer && shelf.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
        let part = rest.slice(..rest.len() / 2);
        let cut = async {
            // A body that fails takes along what the server has not sent yet.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            Err(std::io::Error::other("cut"))
        };
        let pieces = futures_util::stream::iter([Ok(part)]).chain(futures_util::stream::once(cut));
        return reply(status, &[], Body::from_stream(pieces));
    }
    reply(status, &[], rest)
}

/// A shelf with the image `x:1` of one layer under an index with another platform's; the layer can be told to be
/// something else than the configuration says.
fn shelf(layer: &[u8], diff_id: Digest) -> Shelf {
    let mut shelf = Shelf::default();
    let host = Platform::host();
    let config = json!({"architecture": host.architecture, "os": "linux",
                        "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
    .to_string()
    .into_bytes();
    let part = |bytes: &[u8], kind: &str| json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": part(&config, "application/vnd.docker.container.image.v1+json"),
        "layers": [part(layer, "application/vnd.docker.image.rootfs.diff.tar")]})
    .to_string()
    .into_bytes();
    let mut entry = part(&manifest, DOCKER_MANIFEST);
    entry["platform"] = json!(host);
    let mut other = part(b"other", DOCKER_MANIFEST);
    other["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [other, entry]})
        .to_string()
        .into_bytes();
    shelf.manifests.insert(Digest::of(&manifest).to_string(), (DOCKER_MANIFEST, manifest));
    shelf.manifests.insert("1".into(), (OCI_INDEX, index));
    for blob in [layer.to_vec(), config] {
        shelf.blobs.insert(Digest::of(&blob).to_string(), blob);
    }
    shelf
}

fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(100_000);
    header.set_mode(0o644);
    tar.append_data(&mut header, "a", &[7; 100_000][..]).unwrap();
    tar.into_inner().unwrap()
}

fn open() -> (tempfile::TempDir, Arc<Images>) {
    let dir = tempfile::tempdir().unwrap();
    let settings = ImageSettings { max_download_attempts: 1, ..ImageSettings::default() };
    let registry = Registry::new(RegistrySettings::default());
    let images =
        Images::open(dir.path(), &Default::default(), registry, settings, EventBus::default()).unwrap();
    (dir, images)
}

async fn pull(
    images: &Arc<Images>,
    address: &str,
    credentials: Credentials,
) -> (Result<(), ImageError>, Vec<String>) {
    let (send, mut receive) = mpsc::channel(1000);
    let reference = format!("{address}/x:1").parse().unwrap();
    let result = images.pull(PullRequest { reference, credentials, platform: None }, send).await.map(drop);
    let mut words = Vec::new();
    while let Some(message) = receive.recv().await {
        words.extend(message.status.map(|status| status.into_owned()));
    }
    (result, words)
}

fn user() -> Credentials {
    Credentials { username: "u".into(), password: "p".into(), ..Credentials::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_verified_and_unpacked() {
    let layer = layer();
    let (address, _) = serve(shelf(&layer, Digest::of(&layer))).await;
    let (_dir, images) = open();
    let (result, words) = pull(&images, &address, Credentials::default()).await;
    result.unwrap();
    let image = images.resolve(&format!("{address}/x:1")).unwrap();
    assert!(image.chain.iter().all(|chain| images.snapshots().exists(chain)));
    for word in ["Pulling from x", "Pulling fs layer", "Download complete", "Pull complete"] {
        assert!(words.contains(&word.to_owned()), "{words:?}");
    }
    assert_eq!(words.last().unwrap(), &format!("Status: Downloaded newer image for {address}/x:1"));
    let (_, words) = pull(&images, &address, Credentials::default()).await;
    assert!(words.contains(&"Already exists".to_owned()));
    assert_eq!(words.last().unwrap(), &format!("Status: Image is up to date for {address}/x:1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_the_configuration_says_is_never_visible() {
    let layer = layer();
    let (address, _) = serve(shelf(&layer, Digest::of(b"something else"))).await;
    let (_dir, images) = open();
    let (result, _) = pull(&images, &address, Credentials::default()).await;
    assert!(result.unwrap_err().to_string().contains("but the configuration says"));
    assert_eq!(images.state().records().count(), 0);
    assert!(images.snapshots().list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_not_its_digest_is_refused() {
    let layer = layer();
    let mut shelf = shelf(&layer, Digest::of(&layer));
    let mut lie = layer.clone();
    lie[5000] ^= 1;
    shelf.blobs.insert(Digest::of(&layer).to_string(), lie);
    let (address, _) = serve(shelf).await;
    let (_dir, images) = open();
    let (result, _) = pull(&images, &address, Credentials::default()).await;
    result.unwrap_err();
    assert!(!images.contents().contains(&Digest::of(&layer)));
    assert!(images.snapshots().list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_broke_off_is_resumed_by_the_next_pull() {
    let layer = layer();
    let shelf = shelf(&layer, Digest::of(&layer));
    shelf.cuts.store(1, Ordering::SeqCst);
    let (address, shelf) = serve(shelf).await;
    let (_dir, images) = open();
    let (result, _) = pull(&images, &address, Credentials::default()).await;
    assert!(result.unwrap_err().to_string().starts_with("failed to do request"));
    assert!(!images.contents().contains(&Digest::of(&layer)));
    pull(&images, &address, Credentials::default()).await.0.unwrap();
    let seen = shelf.seen.lock().unwrap();
    let ranges: Vec<_> = seen.iter().filter_map(|(_, range, _)| range.clone()).collect();
    assert_eq!(ranges, [format!("bytes={}-", layer.len() / 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_and_never_follows_a_redirect() {
    let layer = layer();
    let mut private = shelf(&layer, Digest::of(&layer));
    let mut store = Shelf::default();
    std::mem::swap(&mut private.blobs, &mut store.blobs);
    private.token_for = Some("u:p");
    let (elsewhere, store) = serve(store).await;
    *private.elsewhere.lock().unwrap() = Some(elsewhere);
    let (address, private) = serve(private).await;
    let (_dir, images) = open();

    let (result, _) = pull(&images, &address, Credentials::default()).await;
    assert!(result.is_err());
    pull(&images, &address, user()).await.0.unwrap();
    assert!(store.seen.lock().unwrap().iter().all(|(_, _, authorization)| authorization.is_none()));
    let tokens = private.seen.lock().unwrap().iter().filter(|(path, ..)| path == "/token").count();
    assert_eq!(tokens, 2, "one for nobody, one for the user");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_pulls_are_one() {
    let layer = layer();
    let (address, shelf) = serve(shelf(&layer, Digest::of(&layer))).await;
    let (_dir, images) = open();
    let pulls = (0..5).map(|_| pull(&images, &address, Credentials::default()));
    for (result, words) in futures_util::future::join_all(pulls).await {
        result.unwrap();
        assert_eq!(words[0], "Pulling from x");
    }
    let name = Digest::of(&layer).to_string();
    assert_eq!(shelf.seen.lock().unwrap().iter().filter(|(path, ..)| path.ends_with(&name)).count(), 1);
}
