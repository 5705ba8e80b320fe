//! Registries inside the sandbox: Debian's docker-registry for real transfers, and a scripted one that answers as
//! the scenario says (tokens, broken-off blobs, wrong content, redirects) and remembers what it was asked.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::certificates::Pair;
use super::daemon::Daemon;
use super::http::{Request, Response};
use super::images::{Image, Packed, Packing, digest};
use super::poll::eventually;
use super::sandbox::children;
use super::wire::{Head, Reader};

/// Debian's docker-registry.
pub struct DebianRegistry<'d> {
    daemon: &'d Daemon,
    port: u16,
    /// The `auth` part of its configuration.
    auth: String,
    process: Child,
}

impl<'d> DebianRegistry<'d> {
    /// Serves 127.0.0.1:`port` in the sandbox.
    pub fn start(daemon: &'d Daemon, port: u16) -> Self {
        Self::start_with(daemon, port, "", String::new())
    }

    /// Asks for user `user` and password `secret`.
    pub fn with_password(daemon: &'d Daemon, port: u16) -> Self {
        // bcrypt of "secret"
        let users = "user:$2b$04$7pMMUYujaE7w0Zp7Yj1HSuBRNceAVwli7Nda3e2tnFIFVb5HAiVmq\n";
        let path = daemon.dir().join("htpasswd");
        fs::write(&path, users).unwrap();
        Self::start_with(
            daemon,
            port,
            "",
            format!("auth:\n  htpasswd:\n    realm: here\n    path: {}\n", path.display()),
        )
    }

    /// Starts again with what it holds, over TLS from now on: nothing can be pushed anymore.
    pub fn over_tls(self, server: &Pair) -> Self {
        let tls = tls_part(server);
        self.again(&tls)
    }

    /// Over TLS to clients only that have a certificate of `authority`.
    pub fn over_mutual_tls(self, server: &Pair, authority: &Path) -> Self {
        let tls = format!("{}    clientcas:\n      - {}\n", tls_part(server), authority.display());
        self.again(&tls)
    }

    fn again(self, tls: &str) -> Self {
        let (daemon, port, auth) = (self.daemon, self.port, self.auth.clone());
        drop(self);
        Self::start_with(daemon, port, tls, auth)
    }

    fn start_with(daemon: &'d Daemon, port: u16, tls: &str, auth: String) -> Self {
        let dir = daemon.dir();
        let path = dir.join(format!("registry-{port}.yml"));
        let store = dir.join(format!("registry-{port}"));
        let configuration = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: \
             0.0.0.0:{port}\n{tls}{auth}",
            store.display(),
        );
        fs::write(&path, configuration).unwrap();
        let log = fs::File::create(dir.join(format!("registry-{port}.log"))).unwrap();
        let mut command = daemon.sandbox().command("docker-registry");
        command.arg("serve").arg(&path).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let registry = Self { daemon, port, auth, process: command.spawn().unwrap() };
        eventually("the registry listens", || {
            daemon.sandbox().in_network(|| TcpStream::connect(("127.0.0.1", port)).is_ok())
        });
        registry
    }

    /// Pushes an image as `name:tag`; the digest of its manifest.
    pub fn push(&self, reference: &str, image: &Image, packing: Packing) -> String {
        self.push_packed(reference, &image.pack(packing))
    }

    /// Pushes an index of images, each of its own architecture.
    pub fn push_index(&self, reference: &str, images: &[Image]) -> String {
        let (name, tag) = reference.split_once(':').unwrap();
        let manifests = images.iter().map(|image| {
            let packed = image.pack(Packing::Gzip);
            let pushed = self.push_packed(&format!("{name}:{}", image.architecture), &packed);
            json!({"mediaType": packed.media_type, "digest": pushed, "size": packed.manifest.len(),
                "platform": {"os": "linux", "architecture": image.architecture}})
        });
        let media = "application/vnd.oci.image.index.v1+json";
        let index =
            json!({"schemaVersion": 2, "mediaType": media, "manifests": manifests.collect::<Vec<_>>()});
        self.put_manifest(name, tag, media, index.to_string().into_bytes())
    }

    pub fn push_packed(&self, reference: &str, packed: &Packed) -> String {
        let (name, tag) = reference.split_once(':').unwrap();
        for blob in &packed.blobs {
            let begun = self.send(Request::new("POST", &format!("/v2/{name}/blobs/uploads/"))).expect(202);
            let location = begun.header("Location").unwrap();
            let path = location.splitn(4, '/').nth(3).unwrap();
            let target = format!("/{path}&digest={}", digest(blob));
            self.send(Request::new("PUT", &target).body("application/octet-stream", blob.clone()))
                .expect(201);
        }
        self.put_manifest(name, tag, &packed.media_type, packed.manifest.clone())
    }

    fn put_manifest(&self, name: &str, tag: &str, media: &str, manifest: Vec<u8>) -> String {
        let digest = digest(&manifest);
        let target = format!("/v2/{name}/manifests/{tag}");
        self.send(Request::new("PUT", &target).body(media, manifest)).expect(201);
        digest
    }

    fn send(&self, request: Request<'_>) -> Response {
        let request = request.header("Authorization", format!("Basic {}", credentials()));
        self.daemon.sandbox().in_network(|| {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            request.send(stream).unwrap()
        })
    }
}

/// Below `http` in the configuration.
fn tls_part(server: &Pair) -> String {
    let (certificate, key) = (server.certificate.display(), server.key.display());
    format!("  tls:\n    certificate: {certificate}\n    key: {key}\n")
}

/// `user:secret` in base64.
pub fn credentials() -> &'static str {
    "dXNlcjpzZWNyZXQ="
}

impl Drop for DebianRegistry<'_> {
    fn drop(&mut self) {
        // The registry itself is a child of the command that entered the sandbox and ends with it.
        for pid in children(self.process.id()) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
        let _ = self.process.wait();
    }
}

/// What was asked of a scripted registry.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub head: Head,
}

/// What a scripted registry answers.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    pub cut: Option<usize>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn json(status: u16, body: Value) -> Self {
        Self::new(status, body.to_string()).header("Content-Type", "application/json")
    }

    fn write(&self, method: &str, stream: &mut impl Write) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len());
        stream.write_all(head.as_bytes())?;
        let sent = self.cut.unwrap_or(self.body.len());
        if method != "HEAD" {
            stream.write_all(&self.body[..sent])?;
        }
        stream.flush()
    }
}

/// Called before the usual answer is made; `None` leaves it to that.
pub type Script = dyn Fn(&Asked) -> Option<Answer> + Send + Sync;

#[derive(Default)]
struct Shelf {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, (String, Vec<u8>)>,
}

/// A registry that answers as told.
pub struct ScriptedRegistry {
    shelf: Arc<Mutex<Shelf>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl ScriptedRegistry {
    /// Serves `address` (like `127.0.0.1:5001`) in the sandbox until the process ends.
    pub fn start(daemon: &Daemon, address: &str, script: Box<Script>) -> Self {
        Self::listen(daemon, address, script, |stream| stream)
    }

    /// The same over TLS.
    pub fn start_with_tls(daemon: &Daemon, address: &str, server: &Pair, script: Box<Script>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_file_iter(&server.certificate).unwrap().map(Result::unwrap);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect(), PrivateKeyDer::from_pem_file(&server.key).unwrap());
        let config = Arc::new(config.unwrap());
        Self::listen(daemon, address, script, move |stream| {
            StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream)
        })
    }

    fn listen<S: Read + Write + Send + 'static>(
        daemon: &Daemon,
        address: &str,
        script: Box<Script>,
        accept: impl Fn(TcpStream) -> S + Send + 'static,
    ) -> Self {
        let listener = daemon.sandbox().in_network(|| TcpListener::bind(address).unwrap());
        let (shelf, asked) = (Arc::new(Mutex::new(Shelf::default())), Arc::default());
        let registry = Self { shelf: Arc::clone(&shelf), asked: Arc::clone(&asked) };
        let script: Arc<Script> = Arc::from(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (stream, shelf, asked) = (accept(stream), shelf.clone(), asked.clone());
                let script = script.clone();
                std::thread::spawn(move || serve(stream, &shelf, &asked, &*script));
            }
        });
        registry
    }

    /// Holds an image as `name:tag`; the digest of its manifest.
    pub fn hold(&self, reference: &str, packed: Packed) -> String {
        let mut shelf = self.shelf.lock().unwrap();
        shelf.blobs.extend(packed.blobs.into_iter().map(|blob| (digest(&blob), blob)));
        let digest = digest(&packed.manifest);
        let (name, tag) = reference.split_once(':').unwrap();
        for last in [tag, &digest] {
            shelf
                .manifests
                .insert(format!("{name}/{last}"), (packed.media_type.clone(), packed.manifest.clone()));
        }
        digest
    }

    /// Puts other bytes under a digest.
    pub fn forge(&self, digest: &str, bytes: Vec<u8>) {
        self.shelf.lock().unwrap().blobs.insert(digest.to_owned(), bytes);
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many times blobs were asked for.
    pub fn blob_requests(&self) -> usize {
        self.asked().iter().filter(|asked| asked.method == "GET" && asked.target.contains("/blobs/")).count()
    }
}

fn serve(mut stream: impl Read + Write, shelf: &Mutex<Shelf>, asked: &Mutex<Vec<Asked>>, script: &Script) {
    let mut reader = Reader::new();
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        // The beginning of TLS: refused at once, as servers do that do not speak it.
        if buffer[0] == 0x16 {
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
            return;
        }
        if let Some(request) = reader.feed(&buffer[..count], Head::request_framing).pop() {
            let (method, target) = request.head.request_line();
            let now =
                Asked { method: method.to_owned(), target: target.to_owned(), head: request.head.clone() };
            asked.lock().unwrap().push(now.clone());
            let answer = script(&now).unwrap_or_else(|| usual(&now, &shelf.lock().unwrap()));
            let _ = answer.write(method, &mut stream);
            return;
        }
    }
}

/// What a registry that behaves answers (distribution-spec, "Pull").
fn usual(asked: &Asked, shelf: &Shelf) -> Answer {
    let path = asked.target.split('?').next().unwrap_or("");
    let Some(path) = path.strip_prefix("/v2/") else { return Answer::new(404, "") };
    if path.is_empty() {
        return Answer::json(200, json!({}));
    }
    if let Some((name, reference)) = path.split_once("/manifests/") {
        return match shelf.manifests.get(&format!("{name}/{reference}")) {
            Some((media, manifest)) => Answer::new(200, manifest.clone())
                .header("Content-Type", media)
                .header("Docker-Content-Digest", digest(manifest)),
            None => Answer::json(
                404,
                json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}),
            ),
        };
    }
    let blob = path.rsplit_once("/blobs/").and_then(|(_, digest)| shelf.blobs.get(digest));
    blob.map_or(Answer::json(404, json!({"errors": [{"code": "BLOB_UNKNOWN"}]})), |blob| ranged(asked, blob))
}

fn ranged(asked: &Asked, blob: &[u8]) -> Answer {
    let start = asked.head.header("range").and_then(|range| range.strip_prefix("bytes="));
    let start = start.and_then(|range| range.split('-').next()).and_then(|start| start.parse::<usize>().ok());
    match start {
        Some(start) if start < blob.len() => Answer::new(206, &blob[start..])
            .header("Content-Range", format!("bytes {start}-{}/{}", blob.len() - 1, blob.len())),
        _ => Answer::new(200, blob),
    }
}
