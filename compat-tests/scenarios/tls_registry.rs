//! Registries over TLS: whom an engine trusts by `/etc/docker/certs.d`, what it shows of itself, and what it says when
//! the connection does not come about.

use serde_json::json;

use crate::harness::certificates::{Pair, Terms};
use crate::harness::daemon::Daemon;
use crate::harness::etc::{Etc, deny_all_names};
use crate::harness::images::{Packing, busybox};
use crate::harness::registry::{Answer, Asked, DebianRegistry, ScriptedRegistry, credentials};
use crate::harness::scenario::{Setup, scenario};

const REGISTRY: &str = "registry.example:5000";
const NAMES: &str = "DNS:registry.example";
const PULL: &str = "docker pull -q registry.example:5000/app:1";
const UNKNOWN_AUTHORITY: &str = "x509: certificate signed by unknown authority";

/// `registry.example` is an address that engines do not trust by itself, as they do loopback.
fn setup() -> Setup {
    Setup::new().without_image().names(&[("10.99.0.1", "registry.example"), ("10.99.0.1", "auth.example")])
}

fn etc(d: &Daemon) -> Etc {
    d.sh("ip address add 10.99.0.1/32 dev lo").ok();
    Etc::of(d)
}

/// A registry at port 5000 that holds `app:1`; without TLS yet.
fn holding(d: &Daemon) -> DebianRegistry<'_> {
    let registry = DebianRegistry::start(d, 5000);
    registry.push("app:1", &busybox(), Packing::Gzip);
    registry
}

fn authority(d: &Daemon) -> Pair {
    Pair::self_signed(d.dir(), "authority", "DNS:authority.example")
}

fn server(authority: &Pair) -> Pair {
    authority.sign(Terms { file: "server", names: NAMES, days: 2 })
}

scenario!(an_authority_in_certs_d_counts_from_the_next_pull_on, setup(), |d| {
    let (etc, authority) = (etc(d), authority(d));
    let _registry = holding(d).over_tls(&server(&authority));
    d.sh(PULL).fails(1, UNKNOWN_AUTHORITY);
    etc.certify("registry.example", "ca.crt", &authority.certificate);
    d.sh(PULL).fails(1, UNKNOWN_AUTHORITY);
    etc.certify(REGISTRY, "ca.crt", &authority.certificate);
    d.sh(PULL).ok();
    etc.take_away(REGISTRY, "ca.crt");
    d.sh(PULL).fails(1, UNKNOWN_AUTHORITY);
});

scenario!(a_self_signed_certificate_is_its_own_authority, setup(), |d| {
    let etc = etc(d);
    let server = Pair::self_signed(d.dir(), "server", NAMES);
    let _registry = holding(d).over_tls(&server);
    d.sh(PULL).fails(1, UNKNOWN_AUTHORITY);
    etc.certify(REGISTRY, "ca.crt", &server.certificate);
    d.sh(PULL).ok();
    // another of the same name is not it
    etc.certify(REGISTRY, "ca.crt", &Pair::self_signed(d.dir(), "other", NAMES).certificate);
    d.sh(PULL).fails(1, UNKNOWN_AUTHORITY);
});

scenario!(a_client_certificate_is_shown_to_registries_that_ask, setup(), |d| {
    let (etc, authority) = (etc(d), authority(d));
    let _registry = holding(d).over_mutual_tls(&server(&authority), &authority.certificate);
    etc.certify(REGISTRY, "ca.crt", &authority.certificate);
    d.sh(PULL).code(1);
    let client = authority.sign(Terms { file: "client", names: "DNS:client.example", days: 2 });
    etc.certify(REGISTRY, "client.cert", &client.certificate);
    d.sh(PULL).fails(1, "missing key client.key for client certificate client.cert");
    etc.certify(REGISTRY, "client.key", &client.key);
    d.sh(PULL).ok();
    etc.take_away(REGISTRY, "client.cert");
    d.sh(PULL).fails(1, "issing client certificate client.cert for key client.key");
});

scenario!(a_client_certificate_is_chosen_by_its_authority, setup(), |d| {
    let (etc, authority) = (etc(d), authority(d));
    let _registry = holding(d).over_mutual_tls(&server(&authority), &authority.certificate);
    etc.certify(REGISTRY, "ca.crt", &authority.certificate);
    let stranger = Pair::self_signed(d.dir(), "stranger", "DNS:stranger.example");
    let known = authority.sign(Terms { file: "known", names: "DNS:known.example", days: 2 });
    for (file, pair) in [("a", &stranger), ("b", &known)] {
        etc.certify(REGISTRY, &format!("{file}.cert"), &pair.certificate);
        etc.certify(REGISTRY, &format!("{file}.key"), &pair.key);
    }
    d.sh(PULL).ok();
});

scenario!(a_certificate_counts_for_its_names_and_its_time, setup(), |d| {
    let (etc, authority) = (etc(d), authority(d));
    etc.certify(REGISTRY, "ca.crt", &authority.certificate);
    etc.certify("10.99.0.1:5000", "ca.crt", &authority.certificate);
    let other = Terms { file: "other", names: "DNS:a.example,DNS:b.example", days: 2 };
    let registry = holding(d).over_tls(&authority.sign(other));
    d.sh(PULL).fails(1, "x509: certificate is valid for a.example, b.example, not registry.example");
    d.sh("docker pull -q 10.99.0.1:5000/app:1")
        .fails(1, "x509: cannot validate certificate for 10.99.0.1 because it doesn't contain any IP SANs");
    let registry = registry.over_tls(&authority.sign(Terms { file: "expired", names: NAMES, days: -1 }));
    d.sh(PULL).fails(1, "x509: certificate has expired or is not yet valid");
    let both = Terms { file: "both", names: "DNS:*.example,IP:10.99.0.1", days: 2 };
    let _registry = registry.over_tls(&authority.sign(both));
    d.sh(PULL).ok();
    d.sh("docker pull -q 10.99.0.1:5000/app:1").ok();
});

scenario!(
    an_insecure_registry_may_show_any_certificate_or_none,
    setup().flags(&["--insecure-registry", REGISTRY]),
    |d| {
        let _etc = etc(d);
        let registry = holding(d);
        d.sh(PULL).ok();
        let other = Pair::self_signed(d.dir(), "other", "DNS:other.example");
        let _registry = registry.over_tls(&other);
        d.sh(PULL).ok();
        d.sh("docker pull -q 10.99.0.1:5000/app:1").fails(1, "x509: ");
    }
);

scenario!(connections_that_do_not_come_about_are_told_in_go_s_words, setup(), |d| {
    let _etc = etc(d);
    deny_all_names(d);
    let unknown = d.sh("docker pull nowhere.example/app:1");
    unknown.fails(1, "dial tcp: lookup nowhere.example");
    // Go also says which server it asked, if it did so itself
    unknown.fails(1, ": no such host");
    d.sh("docker pull registry.example:5999/app:1")
        .fails(1, "dial tcp 10.99.0.1:5999: connect: connection refused");
    d.sh("docker pull 10.99.0.1:5999/app:1").fails(1, "dial tcp 10.99.0.1:5999: connect: connection refused");
    let _registry = holding(d);
    d.sh(PULL).fails(1, "http: server gave HTTP response to HTTPS client");
});

scenario!(login_trusts_whom_pulls_trust, setup(), |d| {
    let (etc, authority) = (etc(d), authority(d));
    let registry = DebianRegistry::with_password(d, 5000);
    registry.push("app:1", &busybox(), Packing::Gzip);
    let _registry = registry.over_tls(&server(&authority));
    let login = "echo secret | docker login -u user --password-stdin registry.example:5000";
    let refused = d.sh(login);
    refused.fails(1, UNKNOWN_AUTHORITY);
    refused.fails(1, "Error response from daemon: Get \"https://registry.example:5000/v2/\": ");
    etc.certify(REGISTRY, "ca.crt", &authority.certificate);
    assert!(d.sh(login).ok().contains("Login Succeeded"));
    d.sh(PULL).ok();
});

scenario!(the_token_server_is_trusted_by_the_registry_s_certificates, setup(), |d| {
    let (etc, authority) = (etc(d), authority(d));
    let names = "DNS:registry.example,DNS:auth.example";
    let server = authority.sign(Terms { file: "server", names, days: 2 });
    let tokens = |asked: &Asked| {
        let given = asked.head.header("authorization").unwrap_or("");
        Some(if given == format!("Basic {}", credentials()) {
            Answer::json(200, json!({"token": "t0ken", "expires_in": 300}))
        } else {
            Answer::json(401, json!({"details": "incorrect username or password"}))
        })
    };
    let _tokens = ScriptedRegistry::start_with_tls(d, "10.99.0.1:5001", &server, Box::new(tokens));
    let guarded = |asked: &Asked| {
        let challenge = r#"Bearer realm="https://auth.example:5001/token",service="here""#;
        let refused = Answer::json(401, json!({"errors": [{"code": "UNAUTHORIZED"}]}));
        let given = asked.head.header("authorization").unwrap_or("");
        (given != "Bearer t0ken").then(|| refused.header("WWW-Authenticate", challenge))
    };
    let registry = ScriptedRegistry::start_with_tls(d, "10.99.0.1:5000", &server, Box::new(guarded));
    registry.hold("app:1", busybox().pack(Packing::Gzip));
    etc.certify(REGISTRY, "ca.crt", &authority.certificate);
    d.sh("echo secret | docker login -u user --password-stdin registry.example:5000").ok();
    d.sh(PULL).ok();
});
