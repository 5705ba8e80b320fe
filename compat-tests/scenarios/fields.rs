//! Every field of the specification that a container or an exec can be given, and the effect it has.
//!
//! A row is a request with one field, a line that runs in the container it makes, and what that prints. The last test
//! walks the specification: a field without a row stands in [`ELSEWHERE`], with the scenario that shows its effect, or
//! in [`WITHOUT_EFFECT`], with the reason.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::engine::Engine;
use crate::harness::scenario::{Setup, scenario};

/// The newest version that Debian's dockerd speaks.
const DOCKERD: u16 = 41;
/// For what its runtime cannot do on test machines, which withhold some capabilities.
const NOT_ON_DOCKERD: u16 = 99;
/// Reads a file of the container's own group: its name on cgroup v1, its name on v2.
const PRELUDE: &str = r#"cg() { cat /sys/fs/cgroup/*/"$1" /sys/fs/cgroup/"$2" 2>/dev/null | head -1; }; "#;

struct Row {
    /// The fields that it is about.
    fields: &'static str,
    /// The API version that has them.
    since: u16,
    request: Value,
    script: &'static str,
    /// What the script prints, as a regular expression for all of it.
    prints: &'static str,
}

fn row(fields: &'static str, request: Value, script: &'static str, prints: &'static str) -> Row {
    Row { fields, since: 24, request, script, prints }
}

impl Row {
    fn since(self, since: u16) -> Self {
        Self { since, ..self }
    }
}

fn of_config() -> Vec<Row> {
    vec![
        row("ContainerConfig.Hostname", json!({ "Hostname": "web" }), "hostname", "web"),
        row(
            "ContainerConfig.Domainname",
            json!({ "Hostname": "web", "Domainname": "example.org" }),
            "cat /proc/sys/kernel/domainname; hostname -f",
            "example.org\nweb.example.org",
        ),
        row("ContainerConfig.User", json!({ "User": "12:34" }), "id -u; id -g", "12\n34"),
        row("ContainerConfig.Tty", json!({ "Tty": true }), "test -t 1 && echo terminal", "terminal"),
        row(
            "ContainerConfig.Env",
            json!({ "Env": ["A=b c", "EMPTY="] }),
            "echo $A; env | grep EMPTY",
            "b c\nEMPTY=",
        ),
        row("ContainerConfig.Cmd", json!({ "Cmd": ["echo", "a word"] }), "", "a word"),
        row(
            "ContainerConfig.Entrypoint",
            json!({ "Entrypoint": ["echo", "first"], "Cmd": ["second"] }),
            "",
            "first second",
        ),
        row(
            "ContainerConfig.Image",
            json!({ "Image": "busybox:latest" }),
            "test -x /bin/busybox && echo there",
            "there",
        ),
        row("ContainerConfig.WorkingDir", json!({ "WorkingDir": "/a/new/one" }), "pwd", "/a/new/one"),
        row(
            "ContainerConfig.Volumes",
            json!({ "Volumes": { "/data": {} } }),
            "grep -c ' /data ' /proc/mounts",
            "1",
        ),
        row(
            "ContainerConfig.NetworkDisabled",
            json!({ "NetworkDisabled": true }),
            "ls /sys/class/net | grep -v -e lo -e tunl -e sit -e ip6 -e gre -e erspan | wc -l",
            "0",
        ),
        row(
            "ContainerConfig.ExposedPorts HostConfig.PublishAllPorts",
            json!({ "ExposedPorts": { "80/tcp": {} }, "HostConfig": { "PublishAllPorts": true } }),
            "HOST: docker port row | grep -c '^80/tcp -> 0.0.0.0:[0-9]'",
            "1",
        ),
        row(
            "ContainerConfig.Labels",
            json!({ "Labels": { "a": "b" } }),
            "HOST: docker ps -q --filter label=a=b | wc -l",
            "1",
        ),
        row(
            "ContainerConfig.OnBuild",
            json!({ "OnBuild": ["RUN true"] }),
            "HOST: docker inspect -f '{{.Config.OnBuild}}' row",
            r"\[RUN true\]",
        ),
        row(
            "ContainerConfig.Shell ContainerConfig.Healthcheck ContainerConfig.Healthcheck.Test \
             ContainerConfig.Healthcheck.Interval",
            json!({ "Shell": ["sh", "-xc"], "Healthcheck": { "Test": ["CMD-SHELL", "echo probed"], "Interval": 100_000_000 } }),
            "HOST: sleep 1; docker inspect -f '{{(index .State.Health.Log 0).Output}}' row",
            "(?s:.*)\\+ echo probed(?s:.*)",
        ),
        row(
            "ContainerConfig.Healthcheck.Timeout ContainerConfig.Healthcheck.Retries",
            json!({ "Healthcheck": { "Test": ["CMD", "sleep", "9"], "Interval": 100_000_000, "Timeout": 100_000_000,
                                     "Retries": 1 } }),
            "HOST: sleep 2; docker inspect -f '{{.State.Health.Status}}' row",
            "unhealthy",
        ),
        row(
            "ContainerConfig.Healthcheck.StartPeriod",
            json!({ "Healthcheck": { "Test": ["CMD", "false"], "Interval": 100_000_000, "StartPeriod": 60_000_000_000u64,
                                     "Retries": 1 } }),
            "HOST: sleep 1; docker inspect -f '{{.State.Health.Status}}' row",
            "starting",
        ),
        row(
            "ContainerConfig.Healthcheck.StartInterval",
            json!({ "Healthcheck": { "Test": ["CMD", "true"], "Interval": 60_000_000_000u64,
                                     "StartPeriod": 60_000_000_000u64, "StartInterval": 100_000_000 } }),
            "HOST: sleep 1; docker inspect -f '{{.State.Health.Status}}' row",
            "healthy",
        )
        .since(44),
        row(
            "ContainerConfig.StopSignal ContainerConfig.StopTimeout",
            json!({ "StopSignal": "SIGUSR1", "StopTimeout": 1, "Cmd": ["sh", "-c", "trap 'echo told' USR1; while :; do sleep 0.1; done"] }),
            "HOST: sleep 0.5; docker stop row; docker logs row; docker inspect -f '{{.State.ExitCode}}' row",
            "row\ntold\n137",
        ),
    ]
}

fn of_limits() -> Vec<Row> {
    let host = |field: &'static str, value: Value, script, prints| {
        let (_, name) = field.rsplit_once('.').unwrap();
        row(field, json!({ "HostConfig": { name: value } }), script, prints)
    };
    let throttled = |field: &'static str, value: Value, script, prints| {
        host(field, json!([{ "Path": "{disk}", "Rate": value }]), script, prints)
    };
    vec![
        host("HostConfig.CpuShares", json!(300), "cg cpu.shares cpu.weight", "300|39"),
        host("HostConfig.Memory", json!(67_108_864), "cg memory.limit_in_bytes memory.max", "67108864"),
        host(
            "HostConfig.MemoryReservation",
            json!(33_554_432),
            "cg memory.soft_limit_in_bytes memory.low",
            "33554432",
        ),
        row(
            "HostConfig.MemorySwap",
            json!({ "HostConfig": { "Memory": 67_108_864, "MemorySwap": 100_663_296 } }),
            "cg memory.memsw.limit_in_bytes memory.swap.max",
            "100663296|33554432",
        ),
        // Version 2 has none; it is discarded with a warning.
        host("HostConfig.MemorySwappiness", json!(7), "cg memory.swappiness none", "7|"),
        host("HostConfig.NanoCpus", json!(500_000_000), "cg cpu.cfs_quota_us cpu.max", "50000|50000 100000"),
        host("HostConfig.CpuPeriod", json!(50_000), "cg cpu.cfs_period_us cpu.max", "50000|max 50000"),
        host("HostConfig.CpuQuota", json!(20_000), "cg cpu.cfs_quota_us cpu.max", "20000|20000 100000"),
        host("HostConfig.CpusetCpus", json!("0"), "cg cpuset.cpus cpuset.cpus", "0"),
        host("HostConfig.CpusetMems", json!("0"), "cg cpuset.mems cpuset.mems", "0"),
        host("HostConfig.PidsLimit", json!(77), "cg pids.max pids.max", "77"),
        host("HostConfig.OomKillDisable", json!(true), "cg memory.oom_control none", "oom_kill_disable 1|"),
        host(
            "HostConfig.BlkioWeight",
            json!(300),
            "cg blkio.bfq.weight io.weight",
            "300|default 2930|(default )?100",
        ),
        row(
            "HostConfig.BlkioWeightDevice HostConfig.BlkioWeightDevice.Path HostConfig.BlkioWeightDevice.Weight",
            json!({ "HostConfig": { "BlkioWeightDevice": [{ "Path": "{disk}", "Weight": 300 }] } }),
            "cat /sys/fs/cgroup/blkio/blkio.bfq.weight_device /sys/fs/cgroup/io.*weight 2>/dev/null | tail -1",
            r"\d+:\d+ (300|2930)|.*",
        ),
        throttled(
            "HostConfig.BlkioDeviceReadBps",
            json!(1_048_576),
            "cg blkio.throttle.read_bps_device io.max",
            r"\d+:\d+ (1048576|rbps=1048576 .*)",
        ),
        throttled(
            "HostConfig.BlkioDeviceWriteBps",
            json!(1_048_577),
            "cg blkio.throttle.write_bps_device io.max",
            r"\d+:\d+ (1048577|.*wbps=1048577 .*)",
        ),
        throttled(
            "HostConfig.BlkioDeviceReadIOps",
            json!(111),
            "cg blkio.throttle.read_iops_device io.max",
            r"\d+:\d+ (111|.*riops=111 .*)",
        ),
        throttled(
            "HostConfig.BlkioDeviceWriteIOps",
            json!(112),
            "cg blkio.throttle.write_iops_device io.max",
            r"\d+:\d+ (112|.*wiops=112)",
        ),
        row(
            "HostConfig.Ulimits HostConfig.Ulimits.Name HostConfig.Ulimits.Soft HostConfig.Ulimits.Hard",
            json!({ "HostConfig": { "Ulimits": [{ "Name": "nofile", "Soft": 123, "Hard": 456 }] } }),
            "ulimit -Sn; ulimit -Hn",
            "123\n456",
        ),
        host("HostConfig.OomScoreAdj", json!(321), "cat /proc/self/oom_score_adj", "321"),
        host("HostConfig.ShmSize", json!(1_048_576), "df -k /dev/shm | awk 'NR == 2 { print $2 }'", "1024"),
        row(
            "HostConfig.CgroupParent HostConfig.CgroupnsMode",
            json!({ "HostConfig": { "CgroupParent": "/fields", "CgroupnsMode": "host" } }),
            "grep -o '/fields/[0-9a-f]\\{8\\}' /proc/self/cgroup | cut -c 1-8 | sort -u",
            "/fields/",
        )
        .since(41),
    ]
}

fn of_namespaces() -> Vec<Row> {
    let host = |field: &'static str, value: Value, script, prints| {
        let (_, name) = field.rsplit_once('.').unwrap();
        row(field, json!({ "HostConfig": { name: value } }), script, prints)
    };
    vec![
        host("HostConfig.PidMode", json!("host"), "test $$ -gt 5 && echo many", "many"),
        host("HostConfig.IpcMode", json!("none"), "grep -c ' /dev/shm ' /proc/mounts", "0"),
        host("HostConfig.UTSMode", json!("host"), "HOST: test \"$(docker exec row hostname)\" = \"$(hostname)\" && echo same", "same"),
        host("HostConfig.Init", json!(true), "cat /proc/1/comm", "docker-init"),
        host("HostConfig.NetworkMode", json!("host"), "HOST: test \"$(docker exec row ls /sys/class/net)\" = \"$(ls /sys/class/net)\" && echo same", "same"),
        row(
            "HostConfig.PortBindings HostConfig.PortBindings.HostIp HostConfig.PortBindings.HostPort",
            json!({ "ExposedPorts": { "80/tcp": {} }, "HostConfig": { "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "8123" }] } } }),
            "HOST: docker port row",
            "80/tcp -> 127.0.0.1:8123",
        ),
        host("HostConfig.Dns", json!(["192.0.2.1"]), "grep nameserver /etc/resolv.conf", "nameserver 192.0.2.1"),
        host("HostConfig.DnsOptions", json!(["ndots:7"]), "grep options /etc/resolv.conf", "options ndots:7"),
        host("HostConfig.DnsSearch", json!(["example.org"]), "grep search /etc/resolv.conf", "search example.org"),
        host("HostConfig.ExtraHosts", json!(["there:192.0.2.7"]), "grep there /etc/hosts", "192.0.2.7\tthere"),
        host("HostConfig.GroupAdd", json!(["4321"]), "id -G | tr ' ' '\n' | grep 4321", "4321"),
        host("HostConfig.Sysctls", json!({ "net.ipv4.ip_default_ttl": "77" }), "cat /proc/sys/net/ipv4/ip_default_ttl", "77"),
        host("HostConfig.CapAdd", json!(["SYS_TIME"]), "grep CapEff /proc/self/status | cut -f 2", "00000000aa0425fb"),
        host("HostConfig.CapDrop", json!(["ALL"]), "grep CapEff /proc/self/status | cut -f 2", "0000000000000000"),
        host("HostConfig.Privileged", json!(true), "mkdir /mnt; mount -t tmpfs none /mnt && echo may", "may")
            .since(NOT_ON_DOCKERD),
        host("HostConfig.SecurityOpt", json!(["no-new-privileges"]), "grep NoNewPrivs /proc/self/status | cut -f 2", "1"),
        host("HostConfig.ReadonlyRootfs", json!(true), "touch /x 2>&1 | grep -o 'Read-only file system'", "Read-only file system"),
        host("HostConfig.MaskedPaths", json!(["/etc/passwd"]), "wc -c </etc/passwd", "0"),
        host("HostConfig.ReadonlyPaths", json!(["/tmp"]), "touch /tmp/x 2>&1 | grep -o 'Read-only file system'", "Read-only file system"),
        host("HostConfig.Runtime", json!("runc"), "HOST: docker inspect -f '{{.HostConfig.Runtime}}' row", "runc"),
        host("HostConfig.AutoRemove", json!(true), "HOST: docker stop -t 0 row; sleep 1; docker ps -aq --filter name=row | wc -l", "row\n0"),
        row(
            "HostConfig.RestartPolicy HostConfig.RestartPolicy.Name HostConfig.RestartPolicy.MaximumRetryCount",
            json!({ "Cmd": ["false"], "HostConfig": { "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 1 } } }),
            "HOST: sleep 3; docker inspect -f '{{.RestartCount}} {{.State.Status}}' row",
            "1 exited",
        ),
        row(
            "HostConfig.LogConfig HostConfig.LogConfig.Type HostConfig.LogConfig.Config",
            json!({ "Cmd": ["sh", "-c", "seq 3000"], "HostConfig": { "LogConfig": { "Type": "json-file", "Config": { "max-size": "10k" } } } }),
            "HOST: sleep 1; test $(docker logs row | wc -l) -lt 3000 && echo cut",
            "cut",
        ),
        row(
            "HostConfig.ConsoleSize",
            json!({ "Tty": true, "HostConfig": { "ConsoleSize": [33, 77] } }),
            "stty size",
            "33 77",
        )
        .since(42),
        row(
            "HostConfig.Devices HostConfig.Devices.PathOnHost HostConfig.Devices.PathInContainer \
             HostConfig.Devices.CgroupPermissions",
            json!({ "HostConfig": { "Devices": [{ "PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/messages", "CgroupPermissions": "w" }] } }),
            "test -c /dev/messages && : >/dev/messages && echo written; cat </dev/messages 2>&1 | grep -o 'not permitted'; : </dev/messages",
            "written\n(?s:.*)not permitted",
        ),
        row(
            "HostConfig.DeviceCgroupRules",
            json!({ "HostConfig": { "DeviceCgroupRules": ["b *:* r"] } }),
            "mknod /tmp/disk b $(cat /sys/block/*/dev | head -1 | tr : ' '); : </tmp/disk && echo readable; : >>/tmp/disk",
            "readable\n.*not permitted",
        ),
        row(
            "HostConfig.Annotations",
            json!({ "HostConfig": { "Annotations": { "org.example.note": "seen" } } }),
            "HOST: grep -ho '\"org.example.note\": *\"seen\"' {dir}/exec/containers/*/config.json | tr -d ' '",
            "\"org.example.note\":\"seen\"",
        )
        .since(43),
        row(
            "HostConfig.Links",
            json!({ "HostConfig": { "Links": ["other:known"] } }),
            "env | grep KNOWN_NAME",
            "KNOWN_NAME=/row/known",
        ),
        host("HostConfig.VolumesFrom", json!(["other"]), "cat /shared/file", "of the other"),
        host(
            "HostConfig.StorageOpt",
            json!({ "size": "1g" }),
            "true",
            ".*--storage-opt is supported only for overlay over xfs with 'pquota' mount option.*",
        ),
        host("HostConfig.Isolation", json!("default"), "echo runs", "runs"),
    ]
}

fn of_mounts() -> Vec<Row> {
    let mount = |fields, mount: Value, script, prints| {
        row(fields, json!({ "HostConfig": { "Mounts": [mount] } }), script, prints)
    };
    let bind = |fields, options: Value, script, prints| {
        let bind =
            json!({ "Type": "bind", "Source": "{dir}/source", "Target": "/x", "BindOptions": options });
        row(fields, json!({ "HostConfig": { "Mounts": [bind] } }), script, prints)
    };
    vec![
        row("HostConfig.Binds", json!({ "HostConfig": { "Binds": ["{dir}/source:/x:ro"] } }), "cat /x/file", "of the host"),
        row(
            "HostConfig.Tmpfs",
            json!({ "HostConfig": { "Tmpfs": { "/t": "size=1m" } } }),
            "df -k /t | awk 'NR == 2 { print $2 }'",
            "1024",
        ),
        row(
            "HostConfig.VolumeDriver",
            json!({ "Volumes": { "/v": {} }, "HostConfig": { "VolumeDriver": "local" } }),
            "HOST: docker inspect -f '{{(index .Mounts 0).Driver}}' row",
            "local",
        ),
        mount(
            "HostConfig.Mounts HostConfig.Mounts.Type HostConfig.Mounts.Source HostConfig.Mounts.Target \
             HostConfig.Mounts.ReadOnly",
            json!({ "Type": "bind", "Source": "{dir}/source", "Target": "/x", "ReadOnly": true }),
            "cat /x/file; touch /x/y 2>&1 | grep -o 'Read-only file system'",
            "of the host\nRead-only file system",
        ),
        mount(
            "HostConfig.Mounts.Consistency",
            json!({ "Type": "bind", "Source": "{dir}/source", "Target": "/x", "Consistency": "cached" }),
            "cat /x/file",
            "of the host",
        ),
        mount(
            "HostConfig.Mounts.TmpfsOptions HostConfig.Mounts.TmpfsOptions.SizeBytes \
             HostConfig.Mounts.TmpfsOptions.Mode",
            json!({ "Type": "tmpfs", "Target": "/x", "TmpfsOptions": { "SizeBytes": 1_048_576, "Mode": 0o750 } }),
            "df -k /x | awk 'NR == 2 { print $2 }'; stat -c %a /x",
            "1024\n750",
        ),
        mount(
            "HostConfig.Mounts.TmpfsOptions.Options",
            json!({ "Type": "tmpfs", "Target": "/x", "TmpfsOptions": { "Options": [["exec"]] } }),
            "cp /bin/busybox /x/true; /x/true && echo runs",
            "runs",
        )
        .since(46),
        bind(
            "HostConfig.Mounts.BindOptions HostConfig.Mounts.BindOptions.Propagation",
            json!({ "Propagation": "rslave" }),
            "grep ' /x ' /proc/self/mountinfo | grep -c 'master:'",
            "1",
        ),
        bind(
            "HostConfig.Mounts.BindOptions.NonRecursive",
            json!({ "NonRecursive": true }),
            "ls /x/below",
            "",
        )
        .since(40),
        mount(
            "HostConfig.Mounts.BindOptions.CreateMountpoint",
            json!({ "Type": "bind", "Source": "{dir}/made", "Target": "/x", "BindOptions": { "CreateMountpoint": true } }),
            "test -d /x && echo made",
            "made",
        )
        .since(42),
        mount(
            "HostConfig.Mounts.BindOptions.ReadOnlyNonRecursive",
            json!({ "Type": "bind", "Source": "{dir}/source", "Target": "/x", "ReadOnly": true,
                    "BindOptions": { "ReadOnlyNonRecursive": true, "Propagation": "rprivate" } }),
            "touch /x/below/written && echo written",
            "written",
        )
        .since(44),
        mount(
            "HostConfig.Mounts.BindOptions.ReadOnlyForceRecursive",
            json!({ "Type": "bind", "Source": "{dir}/source", "Target": "/x", "ReadOnly": true,
                    "BindOptions": { "ReadOnlyForceRecursive": true, "Propagation": "rprivate" } }),
            "touch /x/below/again 2>&1 | grep -o 'Read-only file system'",
            "Read-only file system",
        )
        .since(44),
        mount(
            "HostConfig.Mounts.VolumeOptions HostConfig.Mounts.VolumeOptions.Labels \
             HostConfig.Mounts.VolumeOptions.DriverConfig HostConfig.Mounts.VolumeOptions.DriverConfig.Name \
             HostConfig.Mounts.VolumeOptions.DriverConfig.Options",
            json!({ "Type": "volume", "Source": "labelled", "Target": "/x", "VolumeOptions": { "Labels": { "a": "b" },
                    "DriverConfig": { "Name": "local", "Options": { "type": "tmpfs", "device": "tmpfs", "o": "size=1m" } } } }),
            "HOST: docker exec row df -k /x | awk 'NR == 2 { print $2 }'; docker volume ls -q --filter label=a=b --filter driver=local",
            "1024\nlabelled",
        ),
        mount(
            "HostConfig.Mounts.VolumeOptions.NoCopy",
            json!({ "Type": "volume", "Source": "empty", "Target": "/etc", "VolumeOptions": { "NoCopy": true } }),
            "test -e /etc/passwd || echo empty",
            "empty",
        ),
        mount(
            "HostConfig.Mounts.VolumeOptions.Subpath",
            json!({ "Type": "volume", "Source": "parts", "Target": "/x", "VolumeOptions": { "Subpath": "a/b" } }),
            "cat /x/file",
            "of the part",
        )
        .since(45),
    ]
}

fn of_networks() -> Vec<Row> {
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
fn of_execs() -> Vec<Row> {
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
fn of_updates() -> Vec<Row> {
    let update = |field: &'static str, value: Value, script, prints| {
        let (_, name) = field.rsplit_once('.').unwrap();
        row(field, json!({ name: value }), script, prints)
    };
    let throttled = |field: &'static str, value: Value, script, prints| {
        update(field, json!([{ "Path": "{disk}", "Rate": value }]), script, prints).since(55)
    };
    vec![
        update("ContainerUpdate.CpuShares", json!(300), "cg cpu.shares cpu.weight", "300|39"),
        row(
            "ContainerUpdate.Memory ContainerUpdate.MemorySwap",
            json!({ "Memory": 67_108_864, "MemorySwap": -1 }),
            "cg memory.limit_in_bytes memory.max",
            "67108864",
        ),
        update(
            "ContainerUpdate.MemoryReservation",
            json!(33_554_432),
            "cg memory.soft_limit_in_bytes memory.low",
            "33554432",
        ),
        update("ContainerUpdate.CpuPeriod", json!(50_000), "cg cpu.cfs_period_us cpu.max", "50000|max 50000"),
        update("ContainerUpdate.CpuQuota", json!(20_000), "cg cpu.cfs_quota_us cpu.max", "20000|20000 50000"),
        update("ContainerUpdate.CpusetCpus", json!("0"), "cg cpuset.cpus cpuset.cpus", "0"),
        update("ContainerUpdate.CpusetMems", json!("0"), "cg cpuset.mems cpuset.mems", "0"),
        update("ContainerUpdate.PidsLimit", json!(77), "cg pids.max pids.max", "77"),
        update("ContainerUpdate.BlkioWeight", json!(300), "cg blkio.bfq.weight io.weight", "300|default 2930|(default )?100"),
        row(
            "ContainerUpdate.BlkioWeightDevice ContainerUpdate.BlkioWeightDevice.Path \
             ContainerUpdate.BlkioWeightDevice.Weight",
            json!({ "BlkioWeightDevice": [{ "Path": "{disk}", "Weight": 300 }] }),
            "cat /sys/fs/cgroup/blkio/blkio.bfq.weight_device /sys/fs/cgroup/io.*weight 2>/dev/null | tail -1",
            // Which scheduler a disk has is not ours to choose.
            r"\d+:\d+ (300|2930)|.*operation not supported.*",
        )
        .since(55),
        throttled(
            "ContainerUpdate.BlkioDeviceReadBps",
            json!(1_048_576),
            "cg blkio.throttle.read_bps_device io.max",
            r"\d+:\d+ (1048576|rbps=1048576 .*)",
        ),
        throttled(
            "ContainerUpdate.BlkioDeviceWriteBps",
            json!(1_048_577),
            "cg blkio.throttle.write_bps_device io.max",
            r"\d+:\d+ (1048577|.*wbps=1048577 .*)",
        ),
        throttled(
            "ContainerUpdate.BlkioDeviceReadIOps",
            json!(111),
            "cg blkio.throttle.read_iops_device io.max",
            r"\d+:\d+ (111|.*riops=111 .*)",
        ),
        throttled(
            "ContainerUpdate.BlkioDeviceWriteIOps",
            json!(112),
            "cg blkio.throttle.write_iops_device io.max",
            r"\d+:\d+ (112|.*wiops=112)",
        ),
        row(
            "ContainerUpdate.RestartPolicy ContainerUpdate.RestartPolicy.Name \
             ContainerUpdate.RestartPolicy.MaximumRetryCount",
            json!({ "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 } }),
            "HOST: docker inspect -f '{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}' row",
            "on-failure:3",
        ),
    ]
}

/// What the rows need of the host: directories, a disk's node, another container, volumes.
fn prepare(d: &Daemon) {
    let dir = d.dir().display();
    d.sh(&format!(
        "mkdir -p {dir}/source && mount --bind {dir}/source {dir}/source && mount --make-shared {dir}/source \
         && mkdir {dir}/source/below && echo of the host >{dir}/source/file && mount -t tmpfs none {dir}/source/below \
         && echo below >{dir}/source/below/file && disk=$(cat /sys/block/*/dev | head -1) \
         && mknod {dir}/disk b ${{disk%:*}} ${{disk#*:}}"
    ))
    .ok();
    d.sh("docker run -d --name other -v /shared busybox sh -c 'echo of the other >/shared/file; sleep 1000'")
        .ok();
    d.sh("docker run --rm -v parts:/v busybox sh -c 'mkdir -p /v/a/b; echo of the part >/v/a/b/file'").ok();
}

fn clean_up(d: &Daemon) {
    d.sh("docker rm -fv other row >/dev/null 2>&1; true").ok();
    d.sh(&format!("umount -R {}/source", d.dir().display())).ok();
}

/// Tries each row and compares.
fn expect(d: &Daemon, rows: &[Row], try_out: impl Fn(&Daemon, &Row) -> String) {
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|row| Engine::chosen() == Engine::Slipway || row.since <= DOCKERD) {
        let printed = try_out(d, row);
        let all = Regex::new(&format!("^(?:{})$", row.prints)).unwrap();
        if !all.is_match(printed.trim_end()) {
            wrong.push(format!("{}: printed {printed:?}, not {:?}", row.fields, row.prints));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A row's text with the places of this run.
fn filled(d: &Daemon, text: &str) -> String {
    let dir = d.dir().display().to_string();
    text.replace("{disk}", &format!("{dir}/disk")).replace("{dir}", &dir)
}

fn request(d: &Daemon, row: &Row) -> Value {
    serde_json::from_str(&filled(d, &row.request.to_string())).unwrap()
}

/// Makes a container of the row.
fn created(d: &Daemon, row: &Row) -> String {
    let printed = of_a_new_container(d, row);
    d.sh("docker rm -fv row >/dev/null 2>&1; true").ok();
    printed
}

fn of_a_new_container(d: &Daemon, row: &Row) -> String {
    let (mut request, script) = (request(d, row), filled(d, row.script));
    let of_host = script.strip_prefix("HOST: ");
    if request.get("Image").is_none() {
        request["Image"] = json!("busybox");
    }
    if request.get("Cmd").is_none() {
        let script = of_host.map_or_else(|| format!("{PRELUDE}{script}"), |_| "sleep 1000".to_owned());
        request["Cmd"] = json!(["sh", "-c", script]);
    }
    let created = d.post("/containers/create?name=row", &request);
    if created.status() != 201 {
        return created.text();
    }
    let started = d.post("/containers/row/start", &Value::Null);
    if started.status() != 204 {
        return started.text();
    }
    match of_host {
        Some(script) => d.sh(script).stdout,
        None => d.sh("docker wait row >/dev/null; docker logs row 2>&1").stdout.replace('\r', ""),
    }
}

/// Adds the row's process to the container `row`.
fn executed(d: &Daemon, row: &Row) -> String {
    let mut request = request(d, row);
    request["Cmd"] = json!(["sh", "-c", row.script]);
    if request.get("AttachStdout").is_none() {
        request["AttachStdout"] = json!(true);
    }
    let tty = request.get("Tty").cloned().unwrap_or(json!(false));
    let size = request.get("ConsoleSize").cloned().unwrap_or(Value::Null);
    let exec = d.post("/containers/row/exec", &request).expect(201).json();
    let target = format!("/exec/{}/start", exec["Id"].as_str().unwrap());
    let printed = d.post(&target, &json!({ "Tty": tty, "ConsoleSize": size })).expect(200).text();
    // Frames of streams have a header; none here is longer than its last byte tells.
    let headers = Regex::new("[\u{0}-\u{2}]\u{0}{6}.").unwrap();
    headers.replace_all(&printed.replace('\r', ""), "").into_owned()
}

/// Changes the container `row`.
fn updated(d: &Daemon, row: &Row) -> String {
    let answer = d.post("/containers/row/update", &request(d, row));
    if answer.status() != 200 {
        return answer.text();
    }
    match row.script.strip_prefix("HOST: ") {
        Some(script) => d.sh(script).stdout,
        None => d.sh(&format!("docker exec row sh -c '{PRELUDE}{}'", row.script)).stdout,
    }
}

scenario!(what_the_configuration_of_a_container_says_is_done, |d| {
    expect(d, &of_config(), created);
});

scenario!(what_limits_a_container_is_given_it_has, |d| {
    prepare(d);
    expect(d, &of_limits(), created);
    clean_up(d);
});

scenario!(what_of_the_host_a_container_is_given_it_has, |d| {
    prepare(d);
    expect(d, &of_namespaces(), created);
    clean_up(d);
});

scenario!(what_is_to_be_mounted_is_mounted_as_asked, |d| {
    prepare(d);
    expect(d, &of_mounts(), created);
    clean_up(d);
});

scenario!(where_a_container_is_placed_in_a_network_it_is, |d| {
    d.sh("docker network create --subnet 198.51.100.0/24 --ipv6 --subnet fd00:77::/64 own").ok();
    d.sh("docker network create --subnet 203.0.113.0/24 second").ok();
    expect(d, &of_networks(), created);
});

scenario!(what_is_asked_of_an_exec_is_done, |d| {
    d.sh("docker run -d --name row busybox sleep 1000").ok();
    expect(d, &of_execs(), executed);
});

scenario!(what_an_update_changes_is_changed, |d| {
    prepare(d);
    d.sh("docker run -d --name row busybox sleep 1000").ok();
    expect(d, &of_updates(), updated);
    clean_up(d);
});

/// Fields whose effect another scenario shows, or a unit test.
const ELSEWHERE: &[(&str, &str)] = &[
    ("ContainerConfig.OpenStdin", "a_half_closed_input_reaches_the_process"),
    ("ContainerConfig.StdinOnce", "a_half_closed_input_reaches_the_process"),
    ("HostConfig.CpuRealtimePeriod", "every_limit_goes_to_its_file"),
    ("HostConfig.CpuRealtimeRuntime", "every_limit_goes_to_its_file"),
    ("ContainerUpdate.CpuRealtimePeriod", "every_limit_goes_to_its_file"),
    ("ContainerUpdate.CpuRealtimeRuntime", "every_limit_goes_to_its_file"),
    ("ContainerUpdate.NanoCpus", "limits_change_while_a_container_runs_and_stay_after_a_restart"),
    ("HostConfig.IOMaximumBandwidth", "what_only_windows_can_do_is_refused"),
    ("HostConfig.IOMaximumIOps", "what_only_windows_can_do_is_refused"),
    ("HostConfig.DeviceRequests*", "a_cdi_device_brings_all_that_its_file_says"),
    ("HostConfig.Mounts.ImageOptions*", "an_image_is_shown_for_reading_while_the_container_runs"),
    ("HostConfig.UsernsMode", "userns_host_turns_it_off_for_one_container"),
    ("ContainerExec.AttachStdin", "exec_joins_a_running_container"),
    ("ContainerExec.DetachKeys", "detach_keys_leave_an_exec_running"),
    ("ExecStart.Detach", "a_detached_exec_is_inspected_until_it_ends"),
    ("NetworkingConfig.EndpointsConfig.Links", "a_linked_container_is_known_by_its_alias"),
];

/// Fields that change nothing, on dockerd neither.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("ContainerConfig.ArgsEscaped", "Windows only"),
    ("ContainerConfig.AttachStdin", "kept for clients; the attach request decides"),
    ("ContainerConfig.AttachStdout", "kept for clients; the attach request decides"),
    ("ContainerConfig.AttachStderr", "kept for clients; the attach request decides"),
    ("HostConfig.ContainerIDFile", "written by the client; kept for inspect"),
    ("HostConfig.CpuCount", "Windows only"),
    ("HostConfig.CpuPercent", "Windows only: discarded with a warning"),
    ("HostConfig.Cgroup", "of an older design; kept for inspect"),
    ("NetworkingConfig.EndpointsConfig.DNSNames", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.EndpointID", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.Gateway", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.GlobalIPv6Address", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.GlobalIPv6PrefixLen", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.IPAddress", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.IPPrefixLen", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.IPv6Gateway", "of answers only"),
    ("NetworkingConfig.EndpointsConfig.NetworkID", "of answers only"),
    ("ContainerUpdate.CgroupParent", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.CpuCount", "Windows only"),
    ("ContainerUpdate.CpuPercent", "Windows only"),
    ("ContainerUpdate.DeviceCgroupRules", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.DeviceRequests*", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.Devices*", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.IOMaximumBandwidth", "Windows only"),
    ("ContainerUpdate.IOMaximumIOps", "Windows only"),
    ("ContainerUpdate.Init", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.MemorySwappiness", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.OomKillDisable", "an update changes limits and the restart policy only"),
    ("ContainerUpdate.Ulimits*", "an update changes limits and the restart policy only"),
];

/// Fields that are refused or without effect until something else is there.
const TO_COME: &[(&str, &str)] =
    &[("NetworkingConfig.EndpointsConfig.Aliases", "kept; needs the DNS server of user-defined networks")];

fn walk(definitions: &Value, shape: &Value, at: &str, found: &mut BTreeSet<String>) {
    let shape = shape.as_array().and_then(|shapes| shapes.last()).unwrap_or(shape);
    if let Some(name) = shape["ref"].as_str() {
        return walk(definitions, &definitions[name], at, found);
    }
    shape["all"].as_array().into_iter().flatten().for_each(|part| walk(definitions, part, at, found));
    for (name, shapes) in shape["fields"].as_object().into_iter().flatten() {
        let newest = shapes.as_array().and_then(|shapes| shapes.last()).unwrap_or(shapes);
        if newest.get("until").is_none() {
            let place = format!("{at}.{name}");
            walk(definitions, shapes, &place, found);
            found.insert(place);
        }
    }
    ["items", "values"]
        .iter()
        .filter_map(|key| shape.get(key))
        .for_each(|part| walk(definitions, part, at, found));
}

/// Every field that the newest specification has for containers and execs.
fn specified() -> BTreeSet<String> {
    let facts: Value = serde_json::from_str(include_str!("../../api-spec/engine-api.json")).unwrap();
    let definitions = &facts["definitions"];
    let body = |id: &str| {
        let mut operations = facts["operations"].as_array().unwrap().iter();
        operations.find(|operation| operation["id"] == id).unwrap()["body"].clone()
    };
    let mut found = BTreeSet::new();
    for name in ["ContainerConfig", "HostConfig", "NetworkingConfig"] {
        walk(definitions, &definitions[name], name, &mut found);
    }
    for id in ["ContainerUpdate", "ContainerExec", "ExecStart"] {
        walk(definitions, &body(id), id, &mut found);
    }
    found
}

#[test]
fn every_field_has_an_effect_or_a_reason() {
    let rows =
        [of_config(), of_limits(), of_namespaces(), of_mounts(), of_networks(), of_execs(), of_updates()];
    let shown = rows.iter().flatten().flat_map(|row| row.fields.split_whitespace());
    let listed = [ELSEWHERE, WITHOUT_EFFECT, TO_COME].into_iter().flatten().map(|(field, _)| *field);
    let known: Vec<&str> = shown.chain(listed).collect();
    let covers = |known: &str, field: &str| match known.strip_suffix('*') {
        Some(start) => field.starts_with(start),
        // The rate and the device of a limit go with it.
        None => field == known || (known.contains("BlkioDevice") && field.starts_with(known)),
    };
    let specified = specified();
    let silent: Vec<_> =
        specified.iter().filter(|field| !known.iter().any(|known| covers(known, field))).collect();
    assert!(silent.is_empty(), "neither shown nor listed: {silent:#?}");
    let unknown: Vec<_> =
        known.iter().filter(|known| !specified.iter().any(|field| covers(known, field))).collect();
    assert!(unknown.is_empty(), "not in the specification: {unknown:#?}");
}

#[test]
fn what_is_said_to_be_shown_elsewhere_is() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = String::new();
    for folder in ["compat-tests/scenarios", "src/shim/cgroup"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            texts.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
        }
    }
    for (field, test) in ELSEWHERE {
        let declared = [format!("scenario!({test},"), format!("fn {test}("), format!("    {test},\n")];
        assert!(declared.iter().any(|text| texts.contains(text)), "{field}: there is no {test}");
    }
}

// dockerd 20.10 answers with 500, newer ones with 400.
scenario!(what_only_windows_can_do_is_refused, Setup::new().slipway_only(), |d| {
    for (field, said) in [("IOMaximumBandwidth", "Maximum IO"), ("IOMaximumIOps", "Maximum IO")] {
        let refused =
            d.post("/containers/create", &json!({ "Image": "busybox", "HostConfig": { field: 5 } }));
        assert_eq!(refused.status(), 400);
        let text = refused.text();
        assert!(text.contains(said) || text.contains("maximum"), "{text}");
    }
});
