//! Pulling: from Debian's registry as everybody does, and from registries that misbehave.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::harness::images::{Image, Layer, Packing, busybox, digest};
use crate::harness::registry::{Answer, Asked, DebianRegistry, ScriptedRegistry, credentials};
use crate::harness::scenario::{Setup, scenario};

/// busybox under a layer of its own, so that an image has several.
fn layered() -> Image {
    let text = "some text to fill a layer with\n".repeat(40_000);
    busybox().layer(Layer::new().file("etc/top", 0o644, b"top\n")).layer(Layer::new().file(
        "big",
        0o644,
        text.as_bytes(),
    ))
}

fn usual(_: &Asked) -> Option<Answer> {
    None
}

scenario!(a_pulled_image_runs, Setup::new().without_image(), |d| {
    let registry = DebianRegistry::start(d, 5000);
    let pushed = registry.push("app:1", &layered(), Packing::Gzip);
    let told = d.sh("docker pull 127.0.0.1:5000/app:1").ok();
    for text in [
        "1: Pulling from app",
        "Pull complete",
        &format!("Digest: {pushed}"),
        "Status: Downloaded newer image for 127.0.0.1:5000/app:1",
        "127.0.0.1:5000/app:1",
    ] {
        assert!(told.contains(text), "{text} in {told}");
    }
    assert_eq!(d.sh("docker run --rm 127.0.0.1:5000/app:1 cat /etc/top").ok(), "top");
    assert_eq!(
        d.sh("docker image inspect -f '{{index .RepoDigests 0}}' 127.0.0.1:5000/app:1").ok(),
        format!("127.0.0.1:5000/app@{pushed}")
    );
    let again = d.sh("docker pull 127.0.0.1:5000/app:1").ok();
    assert!(again.contains("Status: Image is up to date for 127.0.0.1:5000/app:1"), "{again}");
    assert_eq!(d.sh(&format!("docker run --rm 127.0.0.1:5000/app@{pushed} true")).code, 0);
});

scenario!(run_pulls_what_is_missing, Setup::new().without_image(), |d| {
    let registry = DebianRegistry::start(d, 5000);
    registry.push("app:latest", &busybox(), Packing::Gzip);
    let ended = d.sh("docker run --rm 127.0.0.1:5000/app echo hi");
    assert_eq!(ended.ok(), "hi");
    assert!(ended.stderr.contains("Unable to find image '127.0.0.1:5000/app:latest' locally"), "{ended}");
    d.sh("docker run --rm 127.0.0.1:5000/nothing true").code(125);
});

scenario!(layers_may_be_plain_gzip_or_docker_s, Setup::new().without_image(), |d| {
    let registry = DebianRegistry::start(d, 5000);
    registry.push("plain:1", &busybox(), Packing::Plain);
    registry.push("gzip:1", &busybox(), Packing::Gzip);
    for name in ["plain", "gzip"] {
        assert_eq!(d.sh(&format!("docker run --rm 127.0.0.1:5000/{name}:1 echo {name}")).ok(), name);
    }
});

// dockerd 20.10 knows no zstd.
scenario!(layers_may_be_zstd, Setup::new().without_image().slipway_only(), |d| {
    let registry = DebianRegistry::start(d, 5000);
    registry.push("zstd:1", &layered(), Packing::Zstd);
    assert_eq!(d.sh("docker run --rm 127.0.0.1:5000/zstd:1 cat /etc/top").ok(), "top");
});

scenario!(an_index_gives_the_image_of_this_machine, Setup::new().without_image(), |d| {
    let registry = DebianRegistry::start(d, 5000);
    let mut foreign = Image::new("foreign", vec![Layer::new().file("foreign", 0o644, b"").tar()]);
    foreign.architecture = "s390x".to_owned();
    let index = registry.push_index("multi:1", &[foreign, busybox()]);
    let told = d.sh("docker pull 127.0.0.1:5000/multi:1").ok();
    assert!(told.contains(&format!("Digest: {index}")), "{told}");
    assert_eq!(d.sh("docker run --rm 127.0.0.1:5000/multi:1 echo native").ok(), "native");
    assert_eq!(d.sh("docker image inspect -f '{{.Architecture}}' 127.0.0.1:5000/multi:1").ok(), "amd64");
    d.sh("docker pull -q --platform linux/s390x 127.0.0.1:5000/multi:1").ok();
    d.sh("docker pull --platform linux/riscv64 127.0.0.1:5000/multi:1").code(1);
});

scenario!(a_missing_tag_and_a_missing_registry_are_told, Setup::new().without_image(), |d| {
    let registry = DebianRegistry::start(d, 5000);
    registry.push("app:1", &busybox(), Packing::Gzip);
    d.sh("docker pull 127.0.0.1:5000/app:2").fails(1, "not found");
    d.sh("docker pull 127.0.0.1:5999/app:1").fails(1, "dial tcp 127.0.0.1:5999: connect: connection refused");
    d.sh("docker pull 127.0.0.1:5000/Upper").fails(1, "must be lowercase");
});

scenario!(a_registry_with_a_password, Setup::new().without_image(), |d| {
    let registry = DebianRegistry::with_password(d, 5000);
    registry.push("app:1", &busybox(), Packing::Gzip);
    assert_eq!(d.sh("docker pull 127.0.0.1:5000/app:1").code, 1);
    d.sh("echo wrong | docker login -u user --password-stdin 127.0.0.1:5000").code(1);
    assert!(
        d.sh("echo secret | docker login -u user --password-stdin 127.0.0.1:5000")
            .ok()
            .contains("Login Succeeded")
    );
    d.sh("docker pull -q 127.0.0.1:5000/app:1").ok();
    assert_eq!(d.sh("docker run --rm 127.0.0.1:5000/app:1 echo in").ok(), "in");
});

scenario!(a_registry_with_tokens, Setup::new().without_image(), |d| {
    let script = |asked: &Asked| {
        let authorization = asked.head.header("authorization").unwrap_or("").to_owned();
        if asked.target.starts_with("/token") {
            let good = authorization == format!("Basic {}", credentials());
            return Some(if good {
                Answer::json(200, json!({"token": "t0ken", "expires_in": 300}))
            } else {
                Answer::json(401, json!({"details": "incorrect username or password"}))
            });
        }
        let challenge = r#"Bearer realm="http://127.0.0.1:5001/token",service="here""#;
        let refused = Answer::json(
            401,
            json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}),
        );
        (authorization != "Bearer t0ken").then(|| refused.header("WWW-Authenticate", challenge))
    };
    let registry = ScriptedRegistry::start(d, "127.0.0.1:5001", Box::new(script));
    registry.hold("app:1", busybox().pack(Packing::Gzip));
    // at once: the CLI would ask for a name if it were told 401
    let refused = "v2/app/manifests/1\": unauthorized: incorrect username or password";
    d.sh("timeout 20 docker pull 127.0.0.1:5001/app:1").fails(1, refused);
    d.sh("echo wrong | docker login -u user --password-stdin 127.0.0.1:5001")
        .fails(1, "v2/\": unauthorized: incorrect username or password");
    d.sh("echo secret | docker login -u user --password-stdin 127.0.0.1:5001").ok();
    d.sh("docker pull -q 127.0.0.1:5001/app:1").ok();
    let scoped = registry.asked().iter().any(|asked| {
        asked.target.starts_with("/token")
            && (asked.target.contains("repository%3Aapp%3Apull")
                || asked.target.contains("repository:app:pull"))
    });
    assert!(scoped, "the token is asked for the repository");
});

scenario!(
    a_mirror_serves_what_it_has,
    Setup::new().without_image().flags(&["--registry-mirror", "http://127.0.0.1:5001"]),
    |d| {
        let mirror = ScriptedRegistry::start(d, "127.0.0.1:5001", Box::new(usual));
        mirror.hold("library/app:latest", busybox().pack(Packing::Gzip));
        d.sh("docker pull -q app").ok();
        assert_eq!(d.sh("docker images --format '{{.Repository}}:{{.Tag}}'").ok(), "app:latest");
    }
);

scenario!(
    an_insecure_registry_must_be_named,
    Setup::new().without_image().flags(&["--insecure-registry", "10.99.0.0/24"]),
    |d| {
        d.sh("ip address add 10.99.0.1/32 dev lo; ip address add 10.99.1.1/32 dev lo").ok();
        let registry = DebianRegistry::start(d, 5000);
        registry.push("app:1", &busybox(), Packing::Gzip);
        d.sh("docker pull -q 10.99.0.1:5000/app:1").ok();
        d.sh("docker pull -q 10.99.1.1:5000/app:1")
            .fails(1, "http: server gave HTTP response to HTTPS client");
    }
);

// dockerd 20.10 takes proxies from its environment alone.
scenario!(
    a_proxy_is_asked_unless_the_host_is_excepted,
    Setup::new().without_image().slipway_only().file(json!({
        "insecure-registries": ["10.99.0.0/16"],
        "proxies": {"http-proxy": "http://127.0.0.1:3128", "no-proxy": "10.99.2.0/24"},
    })),
    |d| {
        d.sh("for net in 1 2; do ip address add 10.99.$net.1/32 dev lo; done").ok();
        let registry = DebianRegistry::start(d, 5000);
        registry.push("app:1", &busybox(), Packing::Gzip);
        let proxy = d.sh_running(
            "exec python3 -u -c '
import http.server, urllib.request, urllib.error
class Proxy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.request.Request(self.path, method=self.command, headers=dict(self.headers))
        try: answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked)
        except urllib.error.HTTPError as error: answer = error
        self.send_response(answer.status)
        for name, value in answer.headers.items(): self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.read())
    do_HEAD = do_GET
    def log_message(self, *words): print(self.path, flush=True)
print(\"listening\", flush=True)
http.server.ThreadingHTTPServer((\"127.0.0.1\", 3128), Proxy).serve_forever()
'",
        );
        proxy.shows("listening");
        d.sh("docker pull -q 10.99.2.1:5000/app:1").ok();
        assert!(!proxy.output().contains("10.99.2.1"), "{}", proxy.output());
        d.sh("docker rmi 10.99.2.1:5000/app:1").ok();
        d.sh("docker pull -q 10.99.1.1:5000/app:1").ok();
        assert!(proxy.output().contains("http://10.99.1.1:5000/v2/app/blobs/"), "{}", proxy.output());
    }
);

scenario!(a_blob_that_breaks_off_is_taken_up_again, Setup::new().without_image(), |d| {
    let broken = AtomicBool::new(false);
    let packed = layered().pack(Packing::Plain);
    let (large, bytes) = (digest(&packed.blobs[1]), packed.blobs[1].clone());
    let script = move |asked: &Asked| {
        let first = asked.target.ends_with(&large) && !broken.swap(true, Ordering::SeqCst);
        first.then(|| Answer { cut: Some(bytes.len() / 2), ..Answer::new(200, bytes.clone()) })
    };
    let registry = ScriptedRegistry::start(d, "127.0.0.1:5001", Box::new(script));
    registry.hold("app:1", packed);
    d.sh("docker pull -q 127.0.0.1:5001/app:1").ok();
    assert_eq!(d.sh("docker run --rm 127.0.0.1:5001/app:1 cat /etc/top").ok(), "top");
});

scenario!(content_that_is_not_what_its_digest_says_is_refused, Setup::new().without_image(), |d| {
    let registry = ScriptedRegistry::start(d, "127.0.0.1:5001", Box::new(usual));
    let packed = layered().pack(Packing::Gzip);
    let layer = digest(&packed.blobs[2]);
    registry.hold("layer:1", packed);
    registry.forge(&layer, Packing::Gzip.pack(&Layer::new().file("etc/top", 0o644, b"evil\n").tar()));
    d.sh("docker pull 127.0.0.1:5001/layer:1").code(1);
    let packed = busybox().with("Labels", json!({"a": "b"})).pack(Packing::Gzip);
    let configuration = digest(&packed.blobs[0]);
    registry.hold("config:1", packed);
    registry.forge(&configuration, busybox().with("Cmd", json!(["evil"])).configuration());
    d.sh("docker pull 127.0.0.1:5001/config:1").code(1);
    assert_eq!(d.sh("docker images -qa").ok(), "");
});

scenario!(
    a_document_that_is_manifest_and_index_at_once_is_refused,
    Setup::new().without_image().slipway_only(),
    |d| {
        let registry = ScriptedRegistry::start(d, "127.0.0.1:5001", Box::new(usual));
        let mut packed = busybox().pack(Packing::Gzip);
        let mut manifest: serde_json::Value = serde_json::from_slice(&packed.manifest).unwrap();
        manifest["manifests"] = json!([]);
        packed.manifest = manifest.to_string().into_bytes();
        registry.hold("both:1", packed);
        d.sh("docker pull 127.0.0.1:5001/both:1").code(1);
    }
);

scenario!(credentials_do_not_follow_a_redirect_to_another_host, Setup::new().without_image(), |d| {
    let elsewhere = ScriptedRegistry::start(d, "127.0.0.2:5002", Box::new(usual));
    elsewhere.hold("app:1", busybox().pack(Packing::Gzip));
    let script = |asked: &Asked| {
        if asked.head.header("authorization").is_none() {
            let challenge = Answer::json(401, json!({"errors": [{"code": "UNAUTHORIZED"}]}));
            return Some(challenge.header("WWW-Authenticate", "Basic realm=\"here\""));
        }
        asked.target.contains("/blobs/").then(|| {
            Answer::new(307, "").header("Location", format!("http://127.0.0.2:5002{}", asked.target))
        })
    };
    let registry = ScriptedRegistry::start(d, "127.0.0.1:5001", Box::new(script));
    registry.hold("app:1", busybox().pack(Packing::Gzip));
    d.sh("echo secret | docker login -u user --password-stdin 127.0.0.1:5001 && docker pull -q 127.0.0.1:5001/app:1").ok();
    assert!(elsewhere.blob_requests() >= 2);
    assert!(elsewhere.asked().iter().all(|asked| asked.head.header("authorization").is_none()));
});

scenario!(layers_that_are_here_are_not_fetched_again, Setup::new().without_image(), |d| {
    let registry = ScriptedRegistry::start(d, "127.0.0.1:5001", Box::new(usual));
    registry.hold("one:1", layered().pack(Packing::Gzip));
    registry.hold("two:1", layered().layer(Layer::new().file("more", 0o644, b"more")).pack(Packing::Gzip));
    d.sh("docker pull -q 127.0.0.1:5001/one:1").ok();
    let before = registry.blob_requests();
    let told = d.sh("docker pull 127.0.0.1:5001/two:1").ok();
    assert!(told.contains("Already exists"), "{told}");
    // the new configuration and the new layer
    assert_eq!(registry.blob_requests() - before, 2);
});

scenario!(equal_pulls_at_once_fetch_once, Setup::new().without_image(), |d| {
    let registry = ScriptedRegistry::start(d, "127.0.0.1:5001", Box::new(usual));
    registry.hold("app:1", layered().pack(Packing::Gzip));
    d.sh("for i in 1 2 3 4; do docker pull -q 127.0.0.1:5001/app:1 & done; wait; docker image inspect 127.0.0.1:5001/app:1").ok();
    let layers = registry
        .asked()
        .iter()
        .filter(|asked| asked.target.contains("/blobs/"))
        .map(|asked| asked.target.clone())
        .collect::<Vec<_>>();
    let unique: std::collections::BTreeSet<_> = layers.iter().collect();
    assert!(layers.len() <= unique.len() + 4, "{layers:?}");
});
