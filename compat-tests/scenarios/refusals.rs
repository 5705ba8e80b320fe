//! What `POST /containers/create` refuses, with the status and the words that clients know. Nothing is made of what is
//! refused: no container, no volume.

use regex::Regex;
use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::engine::Engine;
use crate::harness::scenario::{Engines, Setup, scenario};

/// A request beside `Image` and `Cmd`, and the answer: status and message, as a regular expression for all of it.
type Row = (Value, &'static str);

fn host(field: &str, value: Value) -> Value {
    json!({ "HostConfig": { field: value } })
}

fn mount(mount: Value) -> Value {
    host("Mounts", json!([mount]))
}

/// A container in another's network that has wishes of its own.
fn in_other(config: Value, host_config: Value) -> Value {
    let mut body = config;
    body["HostConfig"] = host_config;
    body["HostConfig"]["NetworkMode"] = json!("container:x");
    body
}

fn of_config() -> Vec<Row> {
    vec![
        (json!({ "Env": [""] }), "400 invalid environment variable: "),
        (json!({ "Env": ["=x"] }), "400 invalid environment variable: =x"),
        (
            json!({ "WorkingDir": "x" }),
            "400 the working directory 'x' is invalid, it needs to be an absolute path",
        ),
        (json!({ "StopSignal": "NONSENSE" }), "400 [Ii]nvalid signal: NONSENSE"),
        (json!({ "Healthcheck": { "Interval": 1 } }), "400 Interval in Healthcheck cannot be less than 1ms"),
        (json!({ "Healthcheck": { "Timeout": 1 } }), "400 Timeout in Healthcheck cannot be less than 1ms"),
        (
            json!({ "Healthcheck": { "StartPeriod": 1 } }),
            "400 StartPeriod in Healthcheck cannot be less than 1ms",
        ),
        (json!({ "Healthcheck": { "Retries": -1 } }), "400 Retries in Healthcheck cannot be negative"),
        (json!({ "Image": "nope" }), "404 No such image: nope:latest"),
        (json!({ "Image": "A B" }), "400 invalid reference format: .*"),
    ]
}

fn of_limits() -> Vec<Row> {
    let memory = |config: Value| json!({ "HostConfig": config });
    const MIB: i64 = 1 << 20;
    vec![
        (host("Memory", json!(1)), "400 Minimum memory limit allowed is 6MB"),
        (
            memory(json!({ "Memory": 8 * MIB, "MemorySwap": 7 * MIB })),
            "400 Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            host("MemorySwap", json!(8 * MIB)),
            "400 You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            memory(json!({ "Memory": 8 * MIB, "MemoryReservation": 9 * MIB })),
            "400 Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (host("MemoryReservation", json!(1)), "400 Minimum memory reservation allowed is 6MB"),
        (
            memory(json!({ "NanoCpus": 1_000_000_000, "CpuPeriod": 10_000 })),
            "400 Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            memory(json!({ "NanoCpus": 1_000_000_000, "CpuQuota": 10_000 })),
            "400 Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            host("NanoCpus", json!(1_000_000_000_000_000_i64)),
            r"400 [Rr]ange of CPUs is from 0.01 to \d+.00, as there are only \d+ CPUs available",
        ),
        (
            host("CpuPeriod", json!(1)),
            r"400 CPU cfs period can not be less than 1ms \(i.e. 1000\) or larger than 1s \(i.e. 1000000\)",
        ),
        (host("CpuQuota", json!(1)), r"400 CPU cfs quota can not be less than 1ms \(i.e. 1000\)"),
        (host("CpusetCpus", json!("x")), "400 Invalid value x for cpuset cpus: invalid format: x"),
        (host("CpusetMems", json!("x")), "400 Invalid value x for cpuset mems: invalid format: x"),
        (
            host("CpusetCpus", json!("999")),
            "400 Requested CPUs are not available - requested 999, available: 0.*",
        ),
        (
            host("CpusetMems", json!("999")),
            "400 Requested memory nodes are not available - requested 999, available: 0.*",
        ),
        (
            memory(json!({ "CpuRealtimeRuntime": 2, "CpuRealtimePeriod": 1 })),
            "(400|500) (cpu real-time runtime cannot be higher than cpu real-time period|[Yy]our kernel does not .*)",
        ),
        (
            host("OomScoreAdj", json!(1001)),
            r"400 Invalid value 1001, range for oom score adj is \[-1000, 1000\]",
        ),
        (host("ShmSize", json!(-1)), "400 SHM size can not be less than 0"),
    ]
}

fn of_mounts() -> Vec<Row> {
    vec![
        (host("Binds", json!(["/tmp:/y", "/etc:/y"])), "400 Duplicate mount point: /y"),
        (
            json!({ "HostConfig": { "Binds": ["/tmp:/y"], "Mounts": [{ "Type": "tmpfs", "Target": "/y" }] } }),
            "400 Duplicate mount point: /y",
        ),
        (host("Binds", json!(["a:b:c:d"])), "(400|500) invalid volume specification: 'a:b:c:d'"),
        (host("Binds", json!(["/a:/b:zz"])), "(400|500) invalid mode: zz"),
        (
            host("Binds", json!(["/tmp:/b:nocopy"])),
            "(400|500) invalid volume specification: '/tmp:/b:nocopy': .*field VolumeOptions must not be specified",
        ),
        (host("Binds", json!(["/a:ro"])), "(400|500) invalid volume specification: '/a:ro'"),
        (host("Binds", json!([":/b"])), "(400|500) invalid volume specification: ':/b'"),
        (
            host("Binds", json!(["/a:b"])),
            "(400|500) invalid volume specification: '/a:b': invalid mount config for type \"bind\": \
             invalid mount path: 'b' mount path must be absolute",
        ),
        (
            host("Binds", json!(["/a:/"])),
            "(400|500) invalid volume specification: '/a:/': invalid mount config for type \"bind\": \
             invalid specification: destination can't be '/'",
        ),
        (
            host("Binds", json!(["a!:/b"])),
            r#"400 create a!: "a!" includes invalid characters for a local volume name, .*"#,
        ),
        (
            mount(json!({ "Type": "bind", "Source": "/nope", "Target": "/x" })),
            "400 invalid mount config for type \"bind\": bind source path does not exist: /nope",
        ),
        (
            mount(json!({ "Type": "x", "Target": "/x" })),
            r#"400 invalid mount config for type "x": mount type unknown"#,
        ),
        (
            mount(json!({ "Type": "x", "Target": "" })),
            r#"400 invalid mount config for type "x": field Target must not be empty"#,
        ),
        (mount(json!({ "Target": "/x" })), r#"400 invalid mount config for type "": mount type unknown"#),
        (
            mount(json!({ "Type": "tmpfs" })),
            "400 invalid mount config for type \"tmpfs\": field Target must not be empty",
        ),
        (
            mount(json!({ "Type": "tmpfs", "Target": "/" })),
            "400 invalid mount config for type \"tmpfs\": invalid specification: destination can't be '/'",
        ),
        (
            mount(json!({ "Type": "tmpfs", "Target": "x" })),
            "400 invalid mount config for type \"tmpfs\": invalid mount path: 'x' mount path must be absolute",
        ),
        (
            mount(json!({ "Type": "tmpfs", "Source": "x", "Target": "/x" })),
            "400 invalid mount config for type \"tmpfs\": field Source must not be specified",
        ),
        (
            mount(json!({ "Type": "bind", "Target": "/x" })),
            "400 invalid mount config for type \"bind\": field Source must not be empty",
        ),
        (
            mount(json!({ "Type": "bind", "Source": "a", "Target": "/x" })),
            "400 invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute",
        ),
        (
            mount(json!({ "Type": "bind", "Source": "/tmp", "Target": "/x", "VolumeOptions": {} })),
            "400 invalid mount config for type \"bind\": field VolumeOptions must not be specified",
        ),
        (
            mount(json!({ "Type": "volume", "Target": "/x", "BindOptions": {} })),
            "400 invalid mount config for type \"volume\": field BindOptions must not be specified",
        ),
        (
            mount(
                json!({ "Type": "bind", "Source": "/tmp", "Target": "/x", "BindOptions": { "Propagation": "x" } }),
            ),
            "400 invalid mount config for type \"bind\": invalid propagation mode: x",
        ),
        (
            mount(json!({ "Type": "volume", "Source": "/a", "Target": "/x" })),
            r#"400 create /a: "/a" includes invalid characters for a local volume name, .*"#,
        ),
        (
            host("Tmpfs", json!({ "x": "" })),
            "400 (invalid mount config for type \"tmpfs\": )?invalid mount path: 'x' mount path must be absolute",
        ),
        (
            host("Tmpfs", json!({ "/": "" })),
            "400 (invalid mount config for type \"tmpfs\": )?invalid specification: destination can't be '/'",
        ),
        (host("VolumesFrom", json!(["nope"])), "400 No such container: nope"),
        (host("VolumesFrom", json!(["nope:zz"])), "400 invalid mode: zz"),
    ]
}

fn of_the_rest() -> Vec<Row> {
    let restart = |policy: Value| host("RestartPolicy", policy);
    vec![
        (host("CapAdd", json!(["NONSENSE"])), r#"400 invalid CapAdd: unknown capability: "CAP_NONSENSE""#),
        (host("CapDrop", json!(["NONSENSE"])), r#"400 invalid CapDrop: unknown capability: "CAP_NONSENSE""#),
        (
            json!({ "HostConfig": { "AutoRemove": true, "RestartPolicy": { "Name": "always" } } }),
            "400 can't create 'AutoRemove' container with restart policy",
        ),
        (restart(json!({ "Name": "sometimes" })), "400 invalid restart policy.* 'sometimes'.*"),
        (
            restart(json!({ "Name": "always", "MaximumRetryCount": 1 })),
            "400 (invalid restart policy: )?maximum retry count can.* be used with .*",
        ),
        (
            restart(json!({ "Name": "on-failure", "MaximumRetryCount": -1 })),
            "400 (invalid restart policy: )?maximum retry count cannot be negative",
        ),
        (host("CgroupnsMode", json!("x")), "400 invalid cgroup namespace mode: x"),
        (
            json!({ "HostConfig": { "PortBindings": { "x/tcp": [{ "HostPort": "80" }] } } }),
            r#"400 (invalid JSON: )?invalid port specification: "x.*"#,
        ),
        (
            json!({ "HostConfig": { "PortBindings": { "80/tcp": [{ "HostPort": "x" }] } } }),
            r#"400 invalid port specification: "x""#,
        ),
        (
            json!({ "HostConfig": { "PortBindings": { "80/tcp": [{ "HostPort": "99999" }] } } }),
            r#"400 invalid port specification: "99999""#,
        ),
        (host("Runtime", json!("z")), "400 (unknown or invalid runtime name:|Unknown runtime specified) z"),
        (
            host("LogConfig", json!({ "Type": "z" })),
            "400 error looking up logging plugin z: plugin \"z\" not found",
        ),
        (
            host("LogConfig", json!({ "Type": "json-file", "Config": { "z": "1" } })),
            "400 unknown log opt 'z' for json-file log driver",
        ),
        (
            host("LogConfig", json!({ "Type": "json-file", "Config": { "mode": "x" } })),
            "400 logger: logging mode not supported: x",
        ),
        (
            host("LogConfig", json!({ "Type": "json-file", "Config": { "max-buffer-size": "1m" } })),
            "400 logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (host("ExtraHosts", json!(["z"])), "400 bad format for add-host: \"z\""),
        (host("ExtraHosts", json!(["z:nope"])), "400 invalid IP address in add-host: \"nope\""),
        (host("SecurityOpt", json!(["x"])), "(400|500) invalid --security-opt 1: \"x\""),
        (host("SecurityOpt", json!(["x=y"])), "(400|500) invalid --security-opt 2: \"x=y\""),
        (
            host("SecurityOpt", json!(["no-new-privileges=x"])),
            "(400|500) invalid --security-opt 2: \"no-new-privileges=x\"",
        ),
        (host("Isolation", json!("hyperv")), "(400|500) [Ii]nvalid isolation.* .hyperv.*linux.*"),
        (host("StorageOpt", json!({ "x": "1" })), "(400|500) Unknown option x"),
        (host("Links", json!(["nope:x"])), "400 could not get container for nope: No such container: nope"),
        (host("Links", json!(["a:b:c"])), "(400|500) bad format for links: a:b:c"),
        (host("NetworkMode", json!("container:")), "400 .*invalid container format container:<name\\|id>"),
        (
            json!({ "HostConfig": { "NetworkMode": "host", "Links": ["a:b"] } }),
            "400 conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ),
        (
            json!({ "Hostname": "h", "HostConfig": { "UTSMode": "host" } }),
            "400 conflicting options: hostname and the UTS mode",
        ),
        (
            json!({ "NetworkingConfig": { "EndpointsConfig": { "bridge": { "IPAMConfig": { "IPv4Address": "x" } } } } }),
            "400 (invalid JSON: )?invalid IPv4 address.*",
        ),
    ]
}

fn of_shared_networks() -> Vec<Row> {
    vec![
        (
            in_other(json!({ "Hostname": "h" }), json!({})),
            "400 conflicting options: hostname and the network mode",
        ),
        (
            in_other(json!({ "ExposedPorts": { "80/tcp": {} } }), json!({})),
            "400 conflicting options: port exposing and the container type network mode",
        ),
        (
            in_other(json!({}), json!({ "Links": ["a:b"] })),
            "400 conflicting options: container type network can't be used with links. This would result in undefined behavior",
        ),
        (
            in_other(json!({}), json!({ "Dns": ["192.0.2.1"] })),
            "400 conflicting options: dns and the network mode",
        ),
        (
            in_other(json!({}), json!({ "ExtraHosts": ["a:192.0.2.1"] })),
            "400 conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            in_other(json!({}), json!({ "PortBindings": { "80/tcp": [{}] } })),
            "400 conflicting options: port publishing and the container type network mode",
        ),
        (
            in_other(json!({}), json!({ "PublishAllPorts": true })),
            "400 conflicting options: port publishing and the container type network mode",
        ),
    ]
}

/// What Debian's dockerd lets pass, for its age or because its kernel has no such limit here.
fn of_newer_versions() -> Vec<Row> {
    let long = "h".repeat(65);
    vec![
        (json!({ "Hostname": long }), "400 invalid hostname 'h+': cannot be longer than 64 characters"),
        (
            json!({ "Healthcheck": { "StartInterval": 1 } }),
            "400 StartInterval in Healthcheck cannot be less than 1ms",
        ),
        (host("CpuShares", json!(-1)), r"400 invalid CPU shares \(-1\): value must be a positive integer"),
        (host("IpcMode", json!("x")), "400 invalid IPC mode: x"),
        (host("PidMode", json!("x")), "400 invalid PID mode: x"),
        (host("UTSMode", json!("x")), "400 invalid UTS mode: x"),
        (host("UsernsMode", json!("x")), "400 invalid user namespace mode: x"),
        (host("Tmpfs", json!({ "/x": "nonsense" })), r#"400 invalid tmpfs option \["nonsense"\]"#),
        (
            host("Annotations", json!({ "": "x" })),
            "400 invalid Annotations: the empty string is not permitted as an annotation key",
        ),
        (
            json!({ "NetworkingConfig": { "EndpointsConfig": {
                "bridge": { "IPAMConfig": { "IPv4Address": "192.0.2.1" }, "Aliases": ["a"] } } } }),
            "400 invalid config for network bridge: invalid endpoint settings:\n\
             \\* user-specified IP address is supported on user-defined networks only\n\
             \\* network-scoped aliases are only supported for user-defined networks",
        ),
    ]
}

fn expect(d: &Daemon, rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for (request, expected) in rows {
        let mut body = json!({ "Image": "busybox", "Cmd": ["true"] });
        body.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
        let answer = d.post("/containers/create", &body);
        let status = answer.status();
        let said = if status == 201 { "201".to_owned() } else { format!("{status} {}", answer.message()) };
        if !Regex::new(&format!("^(?s:{expected})$")).unwrap().is_match(&said) {
            wrong.push(format!("{request}: {said:?}, not {expected:?}"));
        }
        // Where rows allow 500, that is what dockerd says by accident.
        if Engine::chosen() == Engine::Slipway && status >= 500 {
            wrong.push(format!("{request}: {status}"));
        }
        let left = d.sh("docker ps -aq; docker volume ls -q").ok();
        if !left.is_empty() {
            wrong.push(format!("{request} left something: {left}"));
            d.sh("docker rm -fv $(docker ps -aq); docker volume rm $(docker volume ls -q)");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

scenario!(bad_configurations_are_refused_whole, |d| { expect(d, of_config()) });

scenario!(bad_limits_are_refused_whole, |d| { expect(d, of_limits()) });

scenario!(bad_mounts_are_refused_whole, |d| { expect(d, of_mounts()) });

scenario!(bad_host_configurations_are_refused_whole, |d| { expect(d, of_the_rest()) });

scenario!(wishes_that_another_container_s_network_cannot_grant_are_refused, |d| {
    expect(d, of_shared_networks());
});

scenario!(
    what_newer_versions_refuse_is_refused_whole,
    Setup { engines: Engines::Slipway, ..Setup::default() },
    |d| { expect(d, of_newer_versions()) }
);
