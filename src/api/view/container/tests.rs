//! Views of containers against the specification of each version, and selections as tables.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::api::conformance;
use crate::api::filters::Filters;
use crate::api::spec::params;
use crate::api::versions::ApiVersion;
use crate::base::id::{ContainerId, EndpointId, NetworkId};
use crate::container::config::ContainerConfig;
use crate::container::host_config::{HostConfig, LogConfig, MountType, RestartPolicy};
use crate::container::record::{MountPoint, ReadOnly};
use crate::network::{Driver, EndpointSettings, EndpointState, Ipam, PortBinding};

struct Fixed;

fn network(name: &str) -> Network {
    Network {
        id: if name == "bridge" { "b".repeat(64) } else { "c".repeat(64) }.parse().unwrap(),
        name: name.to_owned(),
        created: at(0),
        driver: Driver::Bridge,
        ipv4: true,
        ipv6: false,
        internal: false,
        attachable: false,
        ipam: Ipam::default(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

impl Surroundings for Fixed {
    fn now(&self) -> Timestamp {
        at(100)
    }

    fn network(&self, term: &str) -> Option<Arc<Network>> {
        let name = if term.starts_with("cc") || term == "mine" { "mine" } else { "bridge" };
        matches!(term, "bridge" | "mine" | "cc").then(|| Arc::new(network(name)))
    }

    fn image(&self, reference: &str) -> Option<Digest> {
        (reference == "busybox").then(|| digest('1'))
    }

    fn manifest(&self, _: &Record) -> Option<Descriptor> {
        Some(Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest('2'), 500))
    }

    fn links(&self, record: &Record) -> Option<Vec<String>> {
        (record.name == "/linked").then(|| vec!["/web:/linked/al".to_owned()])
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn digest(letter: char) -> Digest {
    format!("sha256:{}", letter.to_string().repeat(64)).parse().unwrap()
}

fn record(name: &str) -> Record {
    let config = ContainerConfig {
        hostname: "aaaaaaaaaaaa".to_owned(),
        image: "busybox".to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        ..ContainerConfig::default()
    };
    let host_config = HostConfig {
        network_mode: "bridge".to_owned(),
        cgroupns_mode: "private".to_owned(),
        log_config: LogConfig { driver: "json-file".to_owned(), ..LogConfig::default() },
        restart_policy: RestartPolicy { name: "no".to_owned(), ..RestartPolicy::default() },
        ..HostConfig::default()
    };
    let volume = MountPoint {
        kind: MountType::Volume,
        name: "data".to_owned(),
        source: "/v/data/_data".into(),
        destination: "/data".to_owned(),
        driver: "local".to_owned(),
        mode: "z".to_owned(),
        rw: true,
        propagation: String::new(),
        subpath: String::new(),
        options: vec![],
        recursive: true,
        anonymous: false,
        read_only: ReadOnly::default(),
        image: None,
    };
    Record {
        id: "a".repeat(64).parse().unwrap(),
        name: format!("/{name}"),
        created: at(10),
        image: digest('1'),
        manifest: digest('2'),
        chain: vec![],
        platform: "linux/amd64".to_owned(),
        args: ["sh", "-c", "echo hi"].map(str::to_owned).into(),
        config,
        host_config,
        endpoints: BTreeMap::new(),
        mounts: vec![volume],
        links: vec![],
        size_limit: None,
    }
}

fn running() -> State {
    State { phase: Phase::Running, pid: Some(42), started_at: at(40), ..State::default() }
}

fn sandbox(name: &str) -> Sandbox {
    let endpoint = EndpointState {
        network: network(name).id,
        endpoint: EndpointId::random(),
        address: Some("172.17.0.2/16".parse().unwrap()),
        gateway: Some("172.17.0.1".parse().unwrap()),
        address6: None,
        gateway6: None,
        mac_address: "02:42:ac:11:00:02".to_owned(),
        default_route: true,
        dns_names: vec![],
    };
    let binding = PortBinding { host_ip: "0.0.0.0".parse().unwrap(), host_port: 8080 };
    let ports = [("80/tcp", Some(vec![binding])), ("81/udp", None)];
    Sandbox {
        netns: Some("/run/x".into()),
        userns: None,
        endpoints: BTreeMap::from([(name.to_owned(), endpoint)]),
        ports: ports.map(|(port, bindings)| (port.parse().unwrap(), bindings)).into(),
        files: None,
        port_sockets: vec![],
        relays: vec![],
    }
}

fn inspected(shown: Shown<'_>, minor: u16) -> Value {
    let place = Place {
        dir: Path::new("/var/c"),
        rootfs: Path::new("/run/c/rootfs"),
        log: Some(Path::new("/var/c/x-json.log")),
        execs: &[],
        size: None,
        app_armor_profile: None,
    };
    serde_json::to_value(inspect(shown, &place, &Fixed, ApiVersion::of_minor(minor))).unwrap()
}

#[test]
fn inspect_and_list_fit_the_specification_of_every_version() {
    let (record, up, sandbox) = (record("web"), running(), sandbox("bridge"));
    let created = State::default();
    for minor in 24..=55 {
        let version = ApiVersion::of_minor(minor);
        for shown in [
            Shown { record: &record, state: &up, sandbox: Some(&sandbox) },
            Shown { record: &record, state: &created, sandbox: None },
        ] {
            let body = inspected(shown, minor).to_string();
            let found = conformance::validate_operation("ContainerInspect", version, 200, body.as_bytes());
            assert_eq!(found, [], "{minor}");
            let size = Some(Size { writable: 1, total: 2 });
            let body = serde_json::to_vec(&[summary(shown, &[], size, &Fixed, version)]).unwrap();
            let found = conformance::validate_operation("ContainerList", version, 200, &body);
            assert_eq!(found, [], "{minor}");
        }
    }
}

#[test]
fn a_running_container_shows_its_addresses_and_ports() {
    let (record, state, sandbox) = (record("web"), running(), sandbox("bridge"));
    let shown = Shown { record: &record, state: &state, sandbox: Some(&sandbox) };
    let value = inspected(shown, 55);
    let settings = &value["NetworkSettings"];
    assert_eq!(settings["Networks"]["bridge"]["IPAddress"], "172.17.0.2");
    assert_eq!(settings["Networks"]["bridge"]["IPPrefixLen"], 16);
    assert_eq!(settings["Networks"]["bridge"]["Aliases"], Value::Null);
    assert_eq!((&settings["IPAddress"], &settings["Gateway"]), (&json!("172.17.0.2"), &json!("172.17.0.1")));
    assert_eq!(settings["Ports"]["80/tcp"], json!([{ "HostIp": "0.0.0.0", "HostPort": "8080" }]));
    assert_eq!(settings["Ports"]["81/udp"], Value::Null);
    assert_eq!((&value["Path"], &value["Args"]), (&json!("sh"), &json!(["-c", "echo hi"])));
    assert_eq!(value["State"]["Status"], "running");
    let listed = serde_json::to_value(summary(shown, &[], None, &Fixed, ApiVersion::NEWEST)).unwrap();
    assert_eq!(listed["Command"], "sh -c 'echo hi'");
    let links = ["/app/db", "/zoo/db"].map(str::to_owned);
    let listed_linked =
        serde_json::to_value(summary(shown, &links, None, &Fixed, ApiVersion::NEWEST)).unwrap();
    assert_eq!(listed_linked["Names"], json!(["/app/db", "/web", "/zoo/db"]));
    assert_eq!(value["HostConfig"]["Links"], Value::Null);
    let linked = Record { name: "/linked".to_owned(), ..record.clone() };
    let value = inspected(Shown { record: &linked, ..shown }, 55);
    assert_eq!(value["HostConfig"]["Links"], json!(["/web:/linked/al"]));
    assert_eq!((&listed["Status"], &listed["Names"]), (&json!("Up About a minute"), &json!(["/web"])));
    assert_eq!(
        listed["Ports"],
        json!([
            { "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp" },
            { "PrivatePort": 81, "Type": "udp" },
        ])
    );
}

#[test]
fn a_stopped_container_keeps_its_networks_without_addresses() {
    let mut record = record("web");
    record.endpoints.insert("cc".to_owned(), EndpointSettings::default());
    let state = State { phase: Phase::Exited, finished_at: at(50), ..running() };
    let value = inspected(Shown { record: &record, state: &state, sandbox: None }, 55);
    let settings = &value["NetworkSettings"];
    assert_eq!(settings["Ports"], json!({}));
    assert_eq!((&settings["SandboxID"], &settings["SandboxKey"]), (&json!(""), &json!("")));
    // A network that was asked for by its id is listed by its name.
    assert_eq!(settings["Networks"]["mine"]["NetworkID"], "c".repeat(64));
    assert_eq!(settings["Networks"]["bridge"]["IPAddress"], "");
    assert_eq!(settings["Networks"].as_object().unwrap().len(), 2);
}

#[test]
fn aliases_have_the_short_id_for_clients_before_1_45() {
    let mut record = record("web");
    record.host_config.network_mode = "mine".to_owned();
    let (state, sandbox) = (running(), sandbox("mine"));
    let shown = Shown { record: &record, state: &state, sandbox: Some(&sandbox) };
    let aliases = |minor| inspected(shown, minor)["NetworkSettings"]["Networks"]["mine"]["Aliases"].clone();
    assert_eq!(aliases(44), json!(["aaaaaaaaaaaa"]));
    assert_eq!(aliases(45), Value::Null);
}

#[test]
fn a_list_shows_the_digest_once_the_name_stands_for_another_image() {
    let mut record = record("web");
    let listed = |record: &Record| {
        let shown = Shown { record, state: &running(), sandbox: None };
        serde_json::to_value(summary(shown, &[], None, &Fixed, ApiVersion::NEWEST)).unwrap()["Image"].clone()
    };
    assert_eq!(listed(&record), "busybox");
    record.image = digest('9');
    assert_eq!(listed(&record), json!(digest('9')));
}

fn selection(params: params::ContainerList) -> Result<Selection, crate::api::error::ApiError> {
    Selection::read(&params, |term| match term {
        "web" => Ok(at(10)),
        other => Err(crate::api::error::ApiError::not_found(format!("No such container: {other}"))),
    })
}

fn asked(filters: &str) -> params::ContainerList {
    let filters = Filters::parse(filters).unwrap();
    params::ContainerList { all: false, before: None, filters, limit: None, since: None, size: false }
}

#[test]
fn filters_select_as_dockerd_does() {
    let web = record("web");
    let mut old = record("old");
    old.id = ContainerId::random();
    old.created = at(5);
    old.config.labels.clear();
    old.image = digest('3');
    old.mounts.clear();
    old.host_config.network_mode = "mine".to_owned();
    let (up, connected) = (running(), sandbox("bridge"));
    let ended = State { phase: Phase::Exited, exit_code: 3, finished_at: at(50), ..running() };
    let both = [
        Shown { record: &old, state: &ended, sandbox: None },
        Shown { record: &web, state: &up, sandbox: Some(&connected) },
    ];
    let network: NetworkId = "c".repeat(64).parse().unwrap();
    let by_network = format!(r#"{{"network":["{}"]}}"#, &network.as_str()[..10]);
    for (filters, all, expected) in [
        ("{}", false, &["/web"][..]),
        ("{}", true, &["/web", "/old"]),
        (r#"{"status":["exited"]}"#, false, &["/old"]),
        (r#"{"status":["exited","running"]}"#, false, &["/web", "/old"]),
        (r#"{"exited":["3"]}"#, true, &["/old"]),
        (r#"{"exited":["0"]}"#, true, &[]),
        (r#"{"name":["^/web$"]}"#, true, &["/web"]),
        (r#"{"name":["^old$"]}"#, true, &["/old"]),
        (r#"{"name":["e"]}"#, true, &["/web"]),
        (r#"{"id":["aaa"]}"#, true, &["/web"]),
        (r#"{"label":["team=a"]}"#, true, &["/web"]),
        (r#"{"label":["team=b"]}"#, true, &[]),
        (r#"{"since":["web"]}"#, true, &[]),
        (r#"{"before":["web"]}"#, true, &["/old"]),
        (r#"{"ancestor":["busybox"]}"#, true, &["/web"]),
        (r#"{"ancestor":["unknown"]}"#, true, &[]),
        (r#"{"volume":["data"]}"#, true, &["/web"]),
        (r#"{"volume":["/data"]}"#, true, &["/web"]),
        (r#"{"network":["mine"]}"#, true, &["/old"]),
        (by_network.as_str(), true, &["/old"]),
        (r#"{"expose":["70-90/tcp"]}"#, true, &["/web"]),
        (r#"{"expose":["80/udp"]}"#, true, &[]),
        (r#"{"expose":["81/udp"]}"#, true, &["/web"]),
        (r#"{"publish":["80"]}"#, true, &[]),
        (r#"{"publish":["8000-8090"]}"#, true, &["/web"]),
        (r#"{"publish":["80"],"expose":["80"]}"#, true, &["/web"]),
        (r#"{"health":["none"]}"#, true, &["/web", "/old"]),
        (r#"{"is-task":["true"]}"#, true, &[]),
    ] {
        let selection = selection(params::ContainerList { all, ..asked(filters) }).unwrap();
        let names: Vec<&str> = selection
            .of(both.into_iter().map(|one| (one, ())), &Fixed)
            .iter()
            .map(|(s, ())| s.record.name.as_str())
            .collect();
        assert_eq!(names, expected, "{filters}");
    }
    let newest = selection(params::ContainerList { limit: Some(1), ..asked("{}") }).unwrap();
    assert_eq!(newest.of(both.into_iter().map(|one| (one, ())), &Fixed).len(), 1);
}

#[test]
fn bad_filters_are_refused() {
    for (filters, status, message) in [
        (r#"{"foo":["x"]}"#, 400, "invalid filter 'foo'"),
        (r#"{"status":["x"]}"#, 400, "invalid filter 'status=[x]'"),
        (r#"{"exited":["x"]}"#, 400, "invalid filter 'exited=[x]'"),
        (r#"{"expose":["x"]}"#, 400, "invalid filter 'expose=[x]'"),
        (r#"{"health":["x"]}"#, 400, "invalid filter 'health=[x]'"),
        (r#"{"since":["nobody"]}"#, 404, "No such container: nobody"),
    ] {
        let error = selection(asked(filters)).err().unwrap();
        assert_eq!((error.status.as_u16(), error.message.as_str()), (status, message), "{filters}");
    }
}
