//! Rows of networks, execs and updates.

use serde_json::{Value, json};

use super::limits::changeable;
use super::{NOT_ON_DOCKERD, Row, row};

pub fn of_networks() -> Vec<Row> {
    let endpoint = |fields, network: &str, settings: Value, script, prints| {
        let networks = json!({ "EndpointsConfig": { network: settings } });
        row(
            fields,
            json!({ "HostConfig": { "NetworkMode": network }, "NetworkingConfig": networks }),
            script,
            prints,
        )
    };
    vec![
        endpoint(
            "NetworkingConfig.EndpointsConfig NetworkingConfig.EndpointsConfig.MacAddress",
            "bridge",
            json!({ "MacAddress": "02:42:ac:11:00:99" }),
            "cat /sys/class/net/eth0/address",
            "02:42:ac:11:00:99",
        )
        .since(44),
        endpoint(
            "NetworkingConfig.EndpointsConfig.IPAMConfig NetworkingConfig.EndpointsConfig.IPAMConfig.IPv4Address \
             NetworkingConfig.EndpointsConfig.IPAMConfig.IPv6Address",
            "own",
            json!({ "IPAMConfig": { "IPv4Address": "198.51.100.77", "IPv6Address": "fd00:77::77" } }),
            "ip addr show eth0 | grep -o -e '198.51.100.77/24' -e 'fd00:77::77/64'",
            "198.51.100.77/24\nfd00:77::77/64",
        ),
        endpoint(
            "NetworkingConfig.EndpointsConfig.Aliases",
            "own",
            json!({ "Aliases": ["known"] }),
            "HOST: docker run --rm --network own busybox ping -c 1 -W 5 known >/dev/null && echo reached",
            "reached",
        ),
        endpoint(
            "NetworkingConfig.EndpointsConfig.IPAMConfig.LinkLocalIPs",
            "own",
            json!({ "IPAMConfig": { "LinkLocalIPs": ["169.254.34.68"] } }),
            "ip addr show eth0 | grep -o '169.254.34.68/[0-9]*'",
            "169.254.34.68/16",
        ),
        endpoint(
            "NetworkingConfig.EndpointsConfig.DriverOpts",
            "own",
            json!({ "DriverOpts": { "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1" } }),
            "cat /proc/sys/net/ipv4/conf/eth0/log_martians",
            "1",
        )
        .since(46),
        row(
            "NetworkingConfig.EndpointsConfig.GwPriority",
            json!({ "HostConfig": { "NetworkMode": "own" },
                    "NetworkingConfig": { "EndpointsConfig": { "own": {}, "second": { "GwPriority": 9 } } } }),
            "ip route | grep default | cut -d ' ' -f 3",
            "203.0.113.1",
        )
        .since(48),
    ]
}

/// Execs in a container that runs; the script is their command.
pub fn of_execs() -> Vec<Row> {
    vec![
        row("ContainerExec.Cmd ContainerExec.AttachStdout", json!({}), "echo there", "there"),
        row(
            "ContainerExec.AttachStderr",
            json!({ "AttachStdout": false, "AttachStderr": true }),
            "echo out; echo there >&2",
            "there",
        ),
        row("ContainerExec.User", json!({ "User": "12:34" }), "id -u; id -g", "12\n34"),
        row("ContainerExec.Env", json!({ "Env": ["A=b c"] }), "echo $A", "b c"),
        row("ContainerExec.WorkingDir", json!({ "WorkingDir": "/etc" }), "pwd", "/etc"),
        row(
            "ContainerExec.Tty ExecStart.Tty",
            json!({ "Tty": true }),
            "test -t 1 && echo terminal",
            "terminal",
        ),
        row(
            "ContainerExec.Privileged",
            json!({ "Privileged": true }),
            "grep CapEff /proc/self/status | cut -f 2",
            "000001ff[0-9a-f]{8}",
        )
        .since(NOT_ON_DOCKERD),
        row(
            "ContainerExec.ConsoleSize ExecStart.ConsoleSize",
            json!({ "Tty": true, "ConsoleSize": [33, 77] }),
            "stty size",
            "33 77",
        )
        .since(42),
    ]
}

/// Updates of a container that runs.
pub fn of_updates() -> Vec<Row> {
    let changeable = changeable().into_iter().map(|limit| {
        let since = if limit.name.starts_with("BlkioDevice") { 55 } else { 24 };
        row(
            format!("ContainerUpdate.{}", limit.name),
            json!({ limit.name: limit.value }),
            limit.script,
            limit.prints,
        )
        .since(since)
    });
    let others = vec![
        row(
            "ContainerUpdate.Memory ContainerUpdate.MemorySwap",
            json!({ "Memory": 67_108_864, "MemorySwap": -1 }),
            "cg memory.limit_in_bytes memory.max",
            "67108864",
        ),
        row("ContainerUpdate.CpuQuota", json!({ "CpuQuota": 20_000 }), "cg cpu.cfs_quota_us cpu.max", "20000|20000 50000"),
        row(
            "ContainerUpdate.BlkioWeightDevice ContainerUpdate.BlkioWeightDevice.Path \
             ContainerUpdate.BlkioWeightDevice.Weight",
            json!({ "BlkioWeightDevice": [{ "Path": "{disk}", "Weight": 300 }] }),
            "cat /sys/fs/cgroup/blkio/blkio.bfq.weight_device /sys/fs/cgroup/io.*weight 2>/dev/null | tail -1",
            // Which scheduler a disk has is not ours to choose.
            r"\d+:\d+ (300|2930)|.*operation not supported.*",
        )
        .since(55),
        row(
            "ContainerUpdate.RestartPolicy ContainerUpdate.RestartPolicy.Name \
             ContainerUpdate.RestartPolicy.MaximumRetryCount",
            json!({ "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 } }),
            "HOST: docker inspect -f '{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}' row",
            "on-failure:3",
        ),
    ];
    changeable.chain(others).collect()
}
