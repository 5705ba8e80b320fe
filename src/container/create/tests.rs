use super::*;
use crate::base::host::CgroupVersion;
use crate::container::config::Empty;

pub(super) fn defaults() -> CreateDefaults {
    CreateDefaults {
        log_driver: "json-file".to_owned(),
        log_opts: BTreeMap::new(),
        shm_size: 64 << 20,
        ipc_mode: "private".to_owned(),
        cgroupns_mode: "host".to_owned(),
        runtime: "runc".to_owned(),
        runtimes: vec!["runc".to_owned()],
        systemd_cgroup: false,
        remapped: false,
        data_root: "/var/lib/docker".into(),
        can_limit_size: false,
        size_limit: 0,
    }
}

fn try_with(json: &str, image: &RunConfig) -> Result<Checked, Invalid> {
    let body: CreateBody = serde_json::from_str(json).unwrap();
    prepare(body, Some(image), &defaults(), &Host::detect(), "0123456789ab", vec![])
}

fn image() -> RunConfig {
    RunConfig {
        cmd: Some(vec!["sh".to_owned()]),
        env: vec!["PATH=/bin".to_owned(), "A=image".to_owned()],
        ..RunConfig::default()
    }
}

#[test]
fn a_privileged_container_has_the_host_s_cgroups_on_v1_alone() {
    let mode = |version, default: &str, host_config: &str| {
        let mut host = Host::detect();
        host.cgroups.version = version;
        let defaults = CreateDefaults { cgroupns_mode: default.to_owned(), ..defaults() };
        let body = serde_json::from_str(&format!(r#"{{"Image":"x","HostConfig":{host_config}}}"#)).unwrap();
        let checked = prepare(body, Some(&image()), &defaults, &host, "0123456789ab", vec![]).unwrap();
        checked.host_config.cgroupns_mode
    };
    let (v1, v2) = (CgroupVersion::V1, CgroupVersion::V2);
    for (version, default, host_config, expected) in [
        (v1, "private", r#"{"Privileged":true}"#, "host"),
        (v2, "private", r#"{"Privileged":true}"#, "private"),
        (v2, "host", r#"{"Privileged":true}"#, "host"),
        (v2, "private", r#"{"Privileged":true,"CgroupnsMode":"host"}"#, "host"),
        (v1, "private", "{}", "private"),
    ] {
        assert_eq!(mode(version, default, host_config), expected, "{version:?} {default} {host_config}");
    }
}

#[test]
fn the_default_network_is_called_by_its_name() {
    let body = r#"{"Image":"x","HostConfig":{"NetworkMode":"default"},
        "NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":null}}}}"#;
    let checked = try_with(body, &image()).unwrap();
    assert_eq!(checked.endpoints.keys().collect::<Vec<_>>(), ["bridge"]);
}

#[test]
fn nothing_said_gives_dockerds_defaults() {
    let checked = try_with(r#"{"Image":"x","Labels":null,"HostConfig":null}"#, &image()).unwrap();
    assert_eq!(checked.args, ["sh"]);
    assert_eq!(checked.config.hostname, "0123456789ab");
    let host = serde_json::to_value(&checked.host_config).unwrap();
    for (key, value) in [
        ("NetworkMode", serde_json::json!("bridge")),
        ("RestartPolicy", serde_json::json!({"Name": "no", "MaximumRetryCount": 0})),
        ("LogConfig", serde_json::json!({"Type": "json-file", "Config": {}})),
        ("ShmSize", serde_json::json!(67_108_864)),
        ("IpcMode", serde_json::json!("private")),
        ("ConsoleSize", serde_json::json!([0, 0])),
        ("PortBindings", serde_json::json!({})),
        ("Binds", serde_json::Value::Null),
        ("PidsLimit", serde_json::Value::Null),
    ] {
        assert_eq!(host[key], value, "{key}");
    }
    let config = serde_json::to_value(&checked.config).unwrap();
    assert_eq!(config["Labels"], serde_json::json!({}));
    assert_eq!(config["Volumes"], serde_json::Value::Null);
}

#[test]
fn the_images_word_counts_where_the_container_has_none() {
    let image = RunConfig {
        entrypoint: Some(vec!["/entry".to_owned()]),
        user: "app".to_owned(),
        volumes: ["/data".to_owned()].into(),
        ..image()
    };
    let checked = try_with(r#"{"Env":["A=own","B=1"]}"#, &image).unwrap();
    assert_eq!(checked.args, ["/entry", "sh"]);
    assert_eq!(checked.config.user, "app");
    assert_eq!(checked.config.env.unwrap(), ["A=own", "B=1", "PATH=/bin"]);
    assert_eq!(checked.config.volumes.unwrap(), BTreeMap::from([("/data".to_owned(), Empty {})]));
    assert!(checked.mounts[0].anonymous);
    assert_eq!(try_with(r#"{"Cmd":["ls"]}"#, &image).unwrap().args, ["/entry", "ls"]);
    assert_eq!(try_with(r#"{"Entrypoint":["/own"]}"#, &image).unwrap().args, ["/own"]);
    assert_eq!(try_with(r#"{"Entrypoint":[""],"Cmd":["ls"]}"#, &image).unwrap().args, ["ls"]);
    assert_eq!(try_with(r#"{"Entrypoint":"one","Cmd":"two"}"#, &image).unwrap().args, ["one", "two"]);
}

#[test]
fn what_dockerd_refuses_is_refused_in_its_words() {
    for (body, text) in [
        (r#"{"Env":["=x"]}"#, "invalid environment variable: =x"),
        (r#"{"WorkingDir":"a"}"#, "the working directory 'a' is invalid, it needs to be an absolute path"),
        (r#"{"StopSignal":"FOO"}"#, "invalid signal: FOO"),
        (r#"{"Healthcheck":{"Interval":1}}"#, "Interval in Healthcheck cannot be less than 1ms"),
        (r#"{"HostConfig":{"Memory":1}}"#, "Minimum memory limit allowed is 6MB"),
        (
            r#"{"HostConfig":{"MemorySwap":99999999}}"#,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            r#"{"HostConfig":{"RestartPolicy":{"Name":"x"}}}"#,
            "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            r#"{"HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}"#,
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            r#"{"HostConfig":{"NanoCpus":1,"CpuQuota":1}}"#,
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (r#"{"HostConfig":{"CpusetCpus":"a"}}"#, "Invalid value a for cpuset cpus: invalid format: a"),
        (r#"{"HostConfig":{"CapAdd":["FOO"]}}"#, "invalid CapAdd: unknown capability: \"CAP_FOO\""),
        (r#"{"HostConfig":{"Runtime":"z"}}"#, "unknown or invalid runtime name: z"),
        (r#"{"HostConfig":{"ExtraHosts":["z"]}}"#, "bad format for add-host: \"z\""),
        (
            r#"{"HostConfig":{"OomScoreAdj":1001}}"#,
            "Invalid value 1001, range for oom score adj is [-1000, 1000]",
        ),
        (r#"{"HostConfig":{"IpcMode":"x"}}"#, "invalid IPC mode: x"),
        (
            r#"{"Hostname":"h","HostConfig":{"NetworkMode":"container:x"}}"#,
            "conflicting options: hostname and the network mode",
        ),
        (r#"{"HostConfig":{"Binds":["/a:/y","/b:/y"]}}"#, "Duplicate mount point: /y"),
        (r#"{"HostConfig":{"Binds":["/a:/b:zz"]}}"#, "invalid mode: zz"),
        (r#"{"HostConfig":{"Binds":["a:b:c:d"]}}"#, "invalid volume specification: 'a:b:c:d'"),
        (
            r#"{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/no/such","Target":"/x"}]}}"#,
            "invalid mount config for type \"bind\": bind source path does not exist: /no/such",
        ),
        (
            r#"{"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"10.0.0.1"},"Aliases":["a"]}}}}"#,
            "invalid config for network bridge: invalid endpoint settings:\n* user-specified IP address is supported on user-defined networks only\n* network-scoped aliases are only supported for user-defined networks",
        ),
    ] {
        assert_eq!(try_with(body, &image()).unwrap_err().message, text, "{body}");
    }
    assert_eq!(try_with("{}", &RunConfig::default()).unwrap_err().message, "no command specified");
}

#[test]
fn short_and_long_mounts_come_to_the_same() {
    let body = r#"{"HostConfig":{"Binds":["/tmp:/a:ro,rslave","v:/b","/c/../d"],
        "Mounts":[{"Type":"volume","Source":"w","Target":"/e","ReadOnly":true},
                  {"Type":"tmpfs","Target":"/f","TmpfsOptions":{"SizeBytes":1024,"Mode":448}}]}}"#;
    let mounts = try_with(body, &image()).unwrap().mounts;
    let seen: Vec<_> =
        mounts.iter().map(|m| (m.destination.as_str(), m.name.as_str(), m.rw, m.anonymous)).collect();
    assert_eq!(
        seen,
        [
            ("/a", "", false, false),
            ("/b", "v", true, false),
            ("/d", "", true, true),
            ("/e", "w", false, false),
            ("/f", "", true, false)
        ]
    );
    assert_eq!(mounts[0].propagation, "rslave");
    assert_eq!(mounts[4].options, ["mode=700", "size=1024"]);
}

#[test]
fn a_bind_that_shows_the_daemon_s_files_lets_go_of_mounts() {
    let bind = |spec: &str| {
        let body = serde_json::json!({ "HostConfig": { "Binds": [spec] } }).to_string();
        try_with(&body, &image()).map(|checked| checked.mounts[0].propagation.clone())
    };
    for (spec, propagation) in [
        ("/:/host", "rslave"),
        ("/var/lib:/host:ro", "rslave"),
        ("/var/lib/docker/volumes:/v", "rslave"),
        ("/var/lib:/host:rshared", "rshared"),
        ("/var/lib/docker2:/v", "rprivate"),
        ("/var/lib/docker2:/v:slave", "slave"),
    ] {
        assert_eq!(bind(spec).unwrap(), propagation, "{spec}");
    }
    let refused = bind("/var:/v:ro,private").unwrap_err().message;
    assert_eq!(
        refused,
        "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within \
         the daemon root, daemon root: \"/var/lib/docker\", bind mount source: \"/var\", propagation: \"private\""
    );
}

#[test]
fn volumes_of_an_image_stay_in_the_container() {
    let hostile =
        RunConfig { volumes: ["../../../etc".to_owned(), "/a/../../b".to_owned()].into(), ..image() };
    let mounts = try_with("{}", &hostile).unwrap().mounts;
    assert_eq!(mounts.iter().map(|m| m.destination.as_str()).collect::<Vec<_>>(), ["/b", "/etc"]);
}

#[test]
fn remapped_containers_share_nothing_with_the_host() {
    let remapped = CreateDefaults { remapped: true, ..defaults() };
    let refused = |host_config: &str| {
        let body = format!(r#"{{"Image": "x", "Cmd": ["a"], "HostConfig": {{{host_config}}}}}"#);
        let body: CreateBody = serde_json::from_str(&body).unwrap();
        let prepared =
            prepare(body, Some(&RunConfig::default()), &remapped, &Host::detect(), "0123456789ab", vec![]);
        prepared.err().map(|error| error.message)
    };
    for (host_config, words) in [
        (
            r#""Privileged": true"#,
            "privileged mode is incompatible with user namespaces.  You must run the container in the host \
             namespace when running privileged mode",
        ),
        (
            r#""NetworkMode": "host""#,
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (r#""PidMode": "host""#, "cannot share the host PID namespace when user namespaces are enabled"),
    ] {
        assert_eq!(refused(host_config).as_deref(), Some(words));
        assert_eq!(refused(&format!(r#"{host_config}, "UsernsMode": "host""#)), None, "{host_config}");
    }
    assert_eq!(refused(""), None);
}
