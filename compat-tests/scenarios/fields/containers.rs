//! Rows of what a container is made with.

use serde_json::{Value, json};

use super::limits::changeable;
use super::{NOT_ON_DOCKERD, Row, row};

pub fn of_config() -> Vec<Row> {
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

pub fn of_limits() -> Vec<Row> {
    let host = |field: &'static str, value: Value, script, prints| {
        let (_, name) = field.rsplit_once('.').unwrap();
        row(field, json!({ "HostConfig": { name: value } }), script, prints)
    };
    let changeable = changeable().into_iter().map(|limit| {
        row(
            format!("HostConfig.{}", limit.name),
            json!({ "HostConfig": { limit.name: limit.value } }),
            limit.script,
            limit.prints,
        )
    });
    let others = vec![
        host("HostConfig.Memory", json!(67_108_864), "cg memory.limit_in_bytes memory.max", "67108864"),
        row(
            "HostConfig.MemorySwap",
            json!({ "HostConfig": { "Memory": 67_108_864, "MemorySwap": 100_663_296 } }),
            "cg memory.memsw.limit_in_bytes memory.swap.max",
            "100663296|33554432",
        ),
        // Version 2 has none; it is discarded with a warning.
        host("HostConfig.MemorySwappiness", json!(7), "cg memory.swappiness none", "7|"),
        host("HostConfig.NanoCpus", json!(500_000_000), "cg cpu.cfs_quota_us cpu.max", "50000|50000 100000"),
        host("HostConfig.CpuQuota", json!(20_000), "cg cpu.cfs_quota_us cpu.max", "20000|20000 100000"),
        host("HostConfig.OomKillDisable", json!(true), "cg memory.oom_control none", "oom_kill_disable 1|"),
        row(
            "HostConfig.BlkioWeightDevice HostConfig.BlkioWeightDevice.Path HostConfig.BlkioWeightDevice.Weight",
            json!({ "HostConfig": { "BlkioWeightDevice": [{ "Path": "{disk}", "Weight": 300 }] } }),
            "cat /sys/fs/cgroup/blkio/blkio.bfq.weight_device /sys/fs/cgroup/io.*weight 2>/dev/null | tail -1",
            r"\d+:\d+ (300|2930)|.*",
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
    ];
    changeable.chain(others).collect()
}

pub fn of_namespaces() -> Vec<Row> {
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
        // Where the file system has project quotas: `storage_size`.
        host(
            "HostConfig.StorageOpt",
            json!({ "size": "1g" }),
            "true",
            ".*--storage-opt is supported only for overlay over xfs with 'pquota' mount option.*",
        ),
        host("HostConfig.Isolation", json!("default"), "echo runs", "runs"),
    ]
}

pub fn of_mounts() -> Vec<Row> {
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
