//! Specifications against what dockerd gives to runc, one aspect per table.

use serde_json::{Value, json};

use super::*;
use crate::base::time::Timestamp;
use crate::container::config::ContainerConfig;
use crate::container::host_config::{HostConfig, MountType};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn digest() -> crate::base::digest::Digest {
    format!("sha256:{}", "1".repeat(64)).parse().unwrap()
}

fn record(config: &Value, host_config: &Value) -> Record {
    let config: ContainerConfig = serde_json::from_value(config.clone()).unwrap();
    let mut host_config: HostConfig = serde_json::from_value(host_config.clone()).unwrap();
    host_config.shm_size = 64 << 20;
    Record {
        id: ID.parse().unwrap(),
        name: "/x".to_owned(),
        created: Timestamp::UNSET,
        image: digest(),
        manifest: digest(),
        chain: vec![],
        platform: "linux/amd64".to_owned(),
        args: vec!["sh".to_owned()],
        config,
        host_config,
        endpoints: BTreeMap::new(),
        mounts: vec![],
        links: vec![],
        size_limit: None,
    }
}

fn bind(destination: &str, propagation: &str) -> Prepared {
    let point = MountPoint {
        kind: MountType::Bind,
        name: String::new(),
        source: "/src".into(),
        destination: destination.to_owned(),
        driver: String::new(),
        mode: String::new(),
        rw: false,
        propagation: propagation.to_owned(),
        subpath: String::new(),
        options: vec![],
        recursive: true,
        anonymous: false,
        read_only: crate::container::record::ReadOnly::default(),
        image: None,
    };
    Prepared { source: point.source.clone(), point }
}

fn built_with(record: &Record, uid: u32, mounts: Vec<Prepared>, defaults: &Defaults) -> Value {
    let ids = IdMaps::default();
    serde_json::to_value(build(&input(record, uid, mounts, defaults, &ids)).unwrap()).unwrap()
}

fn input<'a>(
    record: &'a Record,
    uid: u32,
    mounts: Vec<Prepared>,
    defaults: &'a Defaults,
    ids: &'a IdMaps,
) -> SpecInput<'a> {
    SpecInput {
        record,
        user: ResolvedUser { uid, gid: uid, groups: vec![], home: "/home".to_owned() },
        rootfs: "/rootfs".into(),
        netns: Some(Path::new("/run/netns/x")),
        userns: None,
        ids,
        shared: BTreeMap::new(),
        shm: None,
        mounts,
        files: vec![("/etc/hosts", "/files/hosts".into())],
        init: None,
        devices: vec![],
        defaults,
        kernel: "6.1.0",
        links: vec![],
        edits: Default::default(),
    }
}

fn built(config: Value, host_config: Value) -> Value {
    built_with(&record(&config, &host_config), 0, vec![], &Defaults::default())
}

#[test]
fn a_limit_of_a_block_device_that_is_not_there_is_refused() {
    for field in ["BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteIOps"] {
        let host_config = json!({ field: [{ "Path": "/dev/none such", "Rate": 1, "Weight": 10 }] });
        let refused = limits(&serde_json::from_value(host_config).unwrap()).unwrap_err();
        assert_eq!(refused.to_string(), "stat /dev/none such: no such file or directory", "{field}");
    }
}

#[test]
fn the_host_name_is_left_out_where_the_namespace_is_the_hosts() {
    let config = json!({ "Hostname": "web", "Domainname": "example.org" });
    let own = built(config.clone(), json!({}));
    assert_eq!((&own["hostname"], &own["domainname"]), (&json!("web"), &json!("example.org")));
    let hosts = built(config, json!({ "UTSMode": "host" }));
    assert_eq!((hosts.get("hostname"), hosts.get("domainname")), (None, None));
}

#[test]
fn namespaces_follow_the_modes() {
    let kinds = |host_config: Value| -> Vec<String> {
        let spec = built(json!({}), host_config);
        let list = spec["linux"]["namespaces"].as_array().unwrap();
        list.iter().map(|namespace| namespace["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(json!({})), ["mount", "network", "uts", "pid", "ipc"]);
    assert_eq!(kinds(json!({ "PidMode": "host", "IpcMode": "host" })), ["mount", "network", "uts"]);
    assert_eq!(
        kinds(json!({ "CgroupnsMode": "private", "UTSMode": "host" })),
        ["mount", "network", "pid", "ipc", "cgroup"]
    );
}

#[test]
fn privileges_are_roots_alone_and_no_new_ones_only_where_asked() {
    let plain = record(&json!({}), &json!({}));
    let root = built_with(&plain, 0, vec![], &Defaults::default());
    let user = built_with(&plain, 1000, vec![], &Defaults::default());
    let caps = |spec: &Value, set: &str| spec["process"]["capabilities"][set].as_array().unwrap().len();
    assert_eq!((caps(&root, "bounding"), caps(&root, "effective"), caps(&root, "permitted")), (14, 14, 14));
    // Empty and not absent: an absent set is left as it is.
    assert_eq!((caps(&user, "bounding"), caps(&user, "effective"), caps(&user, "permitted")), (14, 0, 0));
    assert_eq!((caps(&root, "inheritable"), caps(&root, "ambient")), (0, 0));
    assert_eq!(root["process"].get("noNewPrivileges"), None);
    let asked = built(json!({}), json!({ "SecurityOpt": ["no-new-privileges"] }));
    assert_eq!(asked["process"]["noNewPrivileges"], true);
}

#[test]
fn a_privileged_container_has_no_filter_no_masks_and_writable_cgroups() {
    let spec = built(json!({}), json!({ "Privileged": true }));
    let linux = &spec["linux"];
    assert_eq!(
        (linux.get("seccomp"), linux.get("maskedPaths"), linux.get("readonlyPaths")),
        (None, None, None)
    );
    for (destination, readonly) in [("/sys", false), ("/sys/fs/cgroup", false)] {
        assert_eq!(options(&spec, destination).contains(&"ro".to_owned()), readonly, "{destination}");
    }
    let plain = built(json!({}), json!({}));
    assert!(plain["linux"]["seccomp"].is_object());
    assert!(options(&plain, "/sys/fs/cgroup").contains(&"ro".to_owned()));
}

fn options(spec: &Value, destination: &str) -> Vec<String> {
    let mounts = spec["mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["destination"] == destination).unwrap();
    mount["options"].as_array().unwrap().iter().map(|option| option.as_str().unwrap().to_owned()).collect()
}

#[test]
fn mounts_come_after_those_they_lie_in_and_replace_the_systems() {
    let record = record(&json!({}), &json!({ "Tmpfs": { "/run": "size=1m" } }));
    let binds = vec![bind("/a/b/c", "rprivate"), bind("/a", "rprivate"), bind("/dev/shm", "rprivate")];
    let spec = built_with(&record, 0, binds, &Defaults::default());
    let all = spec["mounts"].as_array().unwrap();
    let at = |destination: &str| {
        let matching = all.iter().enumerate().filter(|(_, mount)| mount["destination"] == destination);
        let places: Vec<usize> = matching.map(|(place, _)| place).collect();
        assert_eq!(places.len(), 1, "{destination}");
        places[0]
    };
    assert!(at("/a") < at("/a/b/c") && at("/dev") < at("/dev/shm") && at("/proc") < at("/run"));
    assert_eq!(options(&spec, "/a"), ["rbind", "rprivate", "rro", "ro"]);
    assert_eq!(options(&spec, "/run"), ["noexec", "nosuid", "nodev", "size=1m"]);
}

#[test]
fn the_root_propagates_what_binds_ask_for() {
    let record = record(&json!({}), &json!({}));
    for (propagation, root) in
        [("rprivate", None), ("private", None), ("rslave", Some("rslave")), ("rshared", Some("shared"))]
    {
        let spec = built_with(&record, 0, vec![bind("/a", propagation)], &Defaults::default());
        assert_eq!(spec["linux"].get("rootfsPropagation").and_then(Value::as_str), root, "{propagation}");
    }
}

#[test]
fn cgroups_lie_where_monitoring_looks_for_them() {
    let systemd = Defaults { systemd_cgroup: true, ..Defaults::default() };
    for (defaults, parent, expected) in [
        (&Defaults::default(), "", format!("/docker/{ID}")),
        (&Defaults::default(), "/mine", format!("/mine/{ID}")),
        (&systemd, "", format!("system.slice:docker:{ID}")),
        (&systemd, "my.slice", format!("my.slice:docker:{ID}")),
    ] {
        let record = record(&json!({}), &json!({ "CgroupParent": parent }));
        assert_eq!(cgroups_path(&record, defaults).unwrap(), expected);
    }
    assert!(cgroups_path(&record(&json!({}), &json!({ "CgroupParent": "mine" })), &systemd).is_err());
}

#[test]
fn a_variable_has_the_place_of_who_named_it_first() {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let exec = |record: &Record, config: Value| {
        let (defaults, ids) = (Defaults::default(), IdMaps::default());
        let input = input(record, 0, vec![], &defaults, &ids);
        exec_process(&input, &serde_json::from_value(config).unwrap()).unwrap().env().clone().unwrap()
    };
    for (config, own, of_exec) in [
        (
            json!({ "Tty": true, "Env": ["A=1", "B"] }),
            vec![path, "HOSTNAME=web", "TERM=xterm", "A=1", "HOME=/home"],
            vec![path, "HOSTNAME=web", "A=2", "C=", "HOME=/home"],
        ),
        (
            json!({ "Env": ["HOME=", "X=1"] }),
            vec![path, "HOSTNAME=web", "HOME=/home", "X=1"],
            vec![path, "HOSTNAME=web", "HOME=/home", "X=1", "C=", "A=2"],
        ),
        (
            json!({ "Env": ["HOME=/x", "PATH=/bin"] }),
            vec!["PATH=/bin", "HOSTNAME=web", "HOME=/x"],
            vec!["PATH=/bin", "HOSTNAME=web", "HOME=/x", "C=", "A=2"],
        ),
        (
            json!({ "Env": ["A=1", "PATH=/a", "HOSTNAME", "PATH=/b", "A=2", "HOME=/x", "B=A=", "A=3="] }),
            vec!["PATH=/b", "HOME=/x", "B=A=", "A=3="],
            vec!["PATH=/b", "HOME=/x", "B=A=", "A=2", "C="],
        ),
    ] {
        let mut all = json!({ "Hostname": "web" });
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        assert_eq!(built(all.clone(), json!({}))["process"]["env"], json!(own), "{config}");
        let record = record(&all, &json!({}));
        assert_eq!(exec(&record, json!({ "Env": ["A=1", "C=", "Z", "A=2"] })), of_exec, "{config}");
    }
    let terminal = exec(&record(&json!({ "Hostname": "web" }), &json!({})), json!({ "Tty": true }));
    assert_eq!(terminal[2], "TERM=xterm");
}

#[test]
fn limits_are_written_as_cgroup_v1_names_them() {
    let spec = built(
        json!({}),
        json!({ "Memory": 67_108_864, "MemorySwap": -1, "NanoCpus": 1_500_000_000_i64, "PidsLimit": 100,
                "CpusetCpus": "0", "Ulimits": [{ "Name": "nofile", "Soft": 10, "Hard": -1 }] }),
    );
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["memory"], json!({ "limit": 67_108_864, "swap": -1 }));
    assert_eq!(resources["cpu"], json!({ "period": 100_000, "quota": 150_000, "cpus": "0" }));
    assert_eq!(resources["pids"]["limit"], 100);
    let rlimits = &spec["process"]["rlimits"];
    assert_eq!(*rlimits, json!([{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": u64::MAX }]));
}

#[test]
fn a_user_namespace_is_joined_and_makes_no_devices() {
    let (record, defaults) = (record(&json!({}), &json!({})), Defaults::default());
    let map = IdMap::of(&[(100_000, 1000), (5000, 10)]).unwrap();
    let ids = IdMaps { users: map.clone(), groups: map };
    let device = HostDevice {
        source: "/dev/zero".to_owned(),
        path: "/dev/other".to_owned(),
        kind: DeviceKind::Character,
        major: 1,
        minor: 5,
        mode: 0o666,
        uid: 0,
        gid: 0,
        access: "rwm".to_owned(),
    };
    let own = SpecInput { devices: vec![device], ..input(&record, 0, vec![], &defaults, &ids) };
    let joined =
        SpecInput { userns: Some(Path::new("/run/netns/x-user")), devices: own.devices.clone(), ..own };
    let spec = serde_json::to_value(build(&joined).unwrap()).unwrap();
    let linux = &spec["linux"];
    assert_eq!(linux["namespaces"][1], json!({ "type": "user", "path": "/run/netns/x-user" }));
    let mappings = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 },
                          { "containerID": 1000, "hostID": 5000, "size": 10 }]);
    assert_eq!((&linux["uidMappings"], &linux["gidMappings"]), (&mappings, &mappings));
    assert_eq!(linux["devices"], json!([]));
    let mounts = spec["mounts"].as_array().unwrap();
    let bound = mounts.iter().find(|mount| mount["destination"] == "/dev/other").unwrap();
    assert_eq!((&bound["source"], &bound["type"]), (&json!("/dev/zero"), &json!("bind")));
    // Its access is the same as anywhere.
    assert!(linux["resources"]["devices"].to_string().contains("\"minor\":5"));
    assert_eq!(linux["sysctl"].get("net.ipv4.ping_group_range"), None);
}
