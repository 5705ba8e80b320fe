//! Memory, processors, processes: what is asked is what the kernel enforces.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::daemon::Daemon;
use crate::harness::http::Request;
use crate::harness::scenario::{Setup, scenario};

/// Whether control groups are those of v2.
fn unified(d: &Daemon) -> bool {
    d.sh("test -e /sys/fs/cgroup/cgroup.controllers").code == 0
}

scenario!(a_container_beyond_its_memory_is_killed_and_says_so, |d| {
    d.sh("docker run --name box -m 16m --memory-swap 16m busybox sh -c 'x=a; while :; do x=$x$x; done'")
        .code(137);
    assert_eq!(d.sh("docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' box").ok(), "true 137");
    let events = d
        .sh("docker events --since 1 --until $(date +%s.%N) --filter container=box --format '{{.Action}}'")
        .ok();
    let oom = events.find("oom").expect("an oom event");
    assert!(oom < events.find("die").unwrap(), "{events}");
});

scenario!(the_cgroup_has_the_limits_asked, |d| {
    d.sh("docker run -d --name box -m 64m --cpus 0.5 --cpu-shares 300 --pids-limit 50 busybox sleep 1000")
        .ok();
    let id = d.sh("docker inspect -f '{{.Id}}' box").ok();
    let read = |v1: &str, v2: &str| {
        let script = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/docker/{id}/{v2}");
        d.sh(&script.replace("ID", &id)).ok()
    };
    assert_eq!(read("memory/docker/ID/memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(read("pids/docker/ID/pids.max", "pids.max"), "50");
    if d.sh("test -e /sys/fs/cgroup/cpu/docker").code == 0 {
        assert_eq!(read("cpu/docker/ID/cpu.shares", ""), "300");
    }
    assert_eq!(d.sh("docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}' box").ok(), "67108864 134217728 500000000 50");
});

scenario!(processes_beyond_the_limit_are_refused, |d| {
    let ended =
        d.sh("docker run --rm --pids-limit 10 busybox sh -c 'for i in $(seq 30); do sleep 5 & done; wait'");
    assert!(ended.stderr.contains("can't fork"), "{ended}");
});

scenario!(a_container_sees_its_own_cgroup_and_cannot_change_it, |d| {
    let v2 = unified(d);
    let limit = if v2 { "memory.max" } else { "memory/memory.limit_in_bytes" };
    d.sh("docker run -d --name box -m 64m busybox sleep 1000").ok();
    assert_eq!(d.sh(&format!("docker exec box cat /sys/fs/cgroup/{limit}")).ok(), "67108864");
    let written = d.sh(&format!("docker exec box sh -c 'echo 99999999 >/sys/fs/cgroup/{limit}'"));
    assert!(written.stderr.contains("Read-only file system"), "{written}");
    // What v1 has there is no cgroup but a directory of them.
    let inside = if v2 { "own" } else { "memory/own" };
    let made = d.sh(&format!("docker exec box mkdir /sys/fs/cgroup/{inside}"));
    assert!(made.stderr.contains("Read-only file system"), "{made}");
    if v2 {
        assert_eq!(d.sh("docker exec box cat /proc/self/cgroup").ok(), "0::/");
        let id = d.sh("docker inspect -f '{{.Id}}' box").ok();
        let host = d.sh("docker run --rm --cgroupns host busybox ls /sys/fs/cgroup/docker").ok();
        assert!(host.contains(&id), "{host}");
    }
});

// Not only at the next sample.
scenario!(the_stream_of_stats_ends_when_its_container_is_removed, |d| {
    let until_the_end = |_| {
        d.sh("docker create --name box busybox true").ok();
        let stream = UnixStream::connect(d.engine_socket()).unwrap();
        let request = Request::new("GET", "/containers/box/stats").header("Connection", "close");
        let mut stats = request.open(stream).unwrap();
        stats.body_until(|body| body.ends_with(b"\n"));
        d.sh("docker rm box").ok();
        let removed = Instant::now();
        stats.rest();
        removed.elapsed()
    };
    // A busy machine may be late, but not always.
    let times: Vec<_> = (0..5).map(until_the_end).collect();
    assert!(times.iter().min() < Some(&Duration::from_millis(500)), "{times:?}");
});

// Fails on v2 when a privileged container, which may change all groups that it sees, sees the host's, and when a client
// of an older version gives them to every container.
scenario!(on_v2_privileged_containers_and_those_of_old_clients_see_their_own_cgroups_too, |d| {
    let mode = if unified(d) { "private" } else { "host" };
    for create in ["docker create", "docker create --privileged", "DOCKER_API_VERSION=1.40 docker create"] {
        let shown =
            d.sh(&format!("docker inspect -f '{{{{.HostConfig.CgroupnsMode}}}}' $({create} busybox)")).ok();
        assert_eq!(shown, mode, "{create}");
    }
    if !unified(d) {
        return;
    }
    // As an engine or systemd in a container does.
    let nest =
        "cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs && echo +pids >cgroup.subtree_control";
    d.sh(&format!(
        "docker run -d --name box --privileged busybox sh -ec '{nest}; touch /nested; exec sleep 1000'"
    ))
    .ok();
    d.sh("until docker exec box test -e /nested; do sleep 0.1; done").ok();
    d.sh("test -e /sys/fs/cgroup/init").code(1);
    assert_eq!(d.sh("docker exec box cat /proc/self/cgroup").ok(), "0::/init");
    assert_eq!(d.sh("docker top box | wc -l").ok(), "2");
    d.sh("docker update --pids-limit 30 box").ok();
    let stats = d.get("/containers/box/stats?stream=0").expect(200).json();
    assert_eq!(stats["pids_stats"], json!({ "current": 1, "limit": 30 }));
    d.sh("docker pause box && docker unpause box && docker restart -t 0 box").ok();
    d.sh("until docker exec box test -e /nested; do sleep 0.1; done; docker rm -f box").ok();
});

// Fails on v2 where a group of threads is asked for its processes, which the kernel refuses to tell.
scenario!(groups_of_threads_are_no_hindrance, |d| {
    if !unified(d) {
        return;
    }
    let make = "cd /sys/fs/cgroup && mkdir -p x/y && echo threaded >x/cgroup.type && touch /made";
    for options in ["", "--pid host"] {
        d.sh(&format!(
            "docker run -d --name box --privileged --cgroupns private {options} busybox sh -ec '{make}; exec sleep 1000'"
        ))
        .ok();
        d.sh("until docker exec box test -e /made; do sleep 0.1; done").ok();
        assert_eq!(d.sh("docker top box | wc -l").ok(), "2");
        d.sh("docker restart -t 0 box").ok();
        let id = d.sh("docker inspect -f '{{.Id}}' box").ok();
        d.sh("docker rm -f box").ok();
        d.sh(&format!("test -e /sys/fs/cgroup/docker/{id}")).code(1);
    }
});

// Fails on v2 when a container is its group's processes: this one's program never ends. v1 shows a container its own
// groups alone.
scenario!(a_container_that_has_left_its_group_can_be_ended, |d| {
    if !unified(d) {
        return;
    }
    let leave = "cd /sys/fs/cgroup && mkdir -p other && echo 1 >other/cgroup.procs && touch /left";
    for end in ["docker rm -f box", "docker stop -t 0 box && docker rm box"] {
        d.sh(&format!(
            "docker run -d --name box --privileged --cgroupns host busybox sh -ec '{leave}; exec sleep 1000'"
        ))
        .ok();
        d.sh("until docker exec box test -e /left; do sleep 0.1; done").ok();
        assert_eq!(d.sh(&format!("timeout 60 sh -c '{end}'")).code, 0, "{end}");
    }
    d.sh("rmdir /sys/fs/cgroup/other").ok();
});

scenario!(stats_tell_what_the_limits_are, |d| {
    d.sh("docker run -d --name box -m 64m --pids-limit 50 busybox sh -c 'while :; do :; done'").ok();
    let stats = d.get("/containers/box/stats?stream=0").expect(200).json();
    assert_eq!(stats["memory_stats"]["limit"], 67_108_864);
    assert_eq!(stats["pids_stats"], json!({ "current": 1, "limit": 50 }));
    assert!(stats["memory_stats"]["usage"].as_u64() > Some(0), "{stats}");
    let spent = |key: &str| stats[key]["cpu_usage"]["total_usage"].as_u64().unwrap();
    assert!(spent("cpu_stats") > spent("precpu_stats"), "{stats}");
    let shown = d.sh("docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' box").ok();
    assert!(shown.ends_with(" / 64MiB 1"), "{shown}");
});

scenario!(limits_change_while_a_container_runs_and_stay_after_a_restart, |d| {
    let v2 = unified(d);
    let inside = |name: &str| {
        let file = match (name, v2) {
            ("memory", true) => "memory.max",
            ("memory", false) => "memory/memory.limit_in_bytes",
            ("pids", true) => "pids.max",
            ("pids", false) => "pids/pids.max",
            ("cpus", true) => "cpu.max",
            (_, true) => "cpuset.cpus",
            ("cpus", false) => "cpu/cpu.cfs_quota_us",
            (_, false) => "cpuset/cpuset.cpus",
        };
        d.sh(&format!("docker exec box cat /sys/fs/cgroup/{file}")).ok()
    };
    let shown = || {
        d.sh("docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.CpusetCpus}} {{.HostConfig.RestartPolicy.Name}}' box").ok()
    };
    d.sh("docker run -d --name box -m 64m --memory-swap 64m --cpus 0.5 --cpuset-cpus 0 busybox sleep 1000")
        .ok();
    let update = "docker update -m 128m --memory-swap 256m --cpus 0.8 --pids-limit 70 --cpuset-cpus 0-1 --restart always box";
    assert_eq!(d.sh(update).ok(), "box");
    let quota = if v2 { "80000 100000" } else { "80000" };
    let of_kernel = || ["memory", "pids", "cpus", "cpuset"].map(inside);
    assert_eq!(of_kernel(), ["134217728", "70", quota, "0-1"]);
    assert_eq!(shown(), "134217728 268435456 800000000 70 0-1 always");
    let back = "docker update -m 32m --memory-swap 32m --pids-limit -1 --restart no box";
    assert_eq!(d.sh(back).ok(), "box");
    assert_eq!(of_kernel(), ["33554432", "max", quota, "0-1"]);
    assert_eq!(shown(), "33554432 33554432 800000000 0 0-1 no");
    d.sh("docker restart -t 0 box").ok();
    assert_eq!(of_kernel(), ["33554432", "max", quota, "0-1"]);
    let events = "docker events --since 1 --until $(date +%s.%N) --filter event=update --format '{{.Actor.Attributes.name}}'";
    assert_eq!(d.sh(events).ok(), "box\nbox");
});

scenario!(an_update_that_cannot_be_changes_nothing, |d| {
    d.sh("docker run -d --name box -m 64m --cpus 0.5 busybox sleep 1000").ok();
    d.sh("docker run -d --rm --name gone busybox sleep 1000").ok();
    for (options, said) in [
        ("-m 5m box", "Minimum memory limit allowed is 6MB"),
        (
            "-m 1g box",
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            "--cpu-period 10000 box",
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        ("--cpuset-cpus 99 box", "Requested CPUs are not available - requested 99"),
        ("--restart sometimes box", "invalid restart policy"),
        (
            "--restart always gone",
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
        ("-m 64m nobody", "No such container: nobody"),
    ] {
        let refused = d.sh(&format!("docker update {options}"));
        assert!(refused.code == 1 && refused.stderr.contains(said), "{options}: {refused}");
    }
    assert_eq!(d.sh("docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.CpuPeriod}} {{.HostConfig.CpusetCpus}}' box").ok(), "67108864 0");
    // Nor does one that the kernel refuses half-way.
    d.sh("docker exec box sh -c 'dd if=/dev/zero of=/dev/shm/fill bs=1M count=30'").ok();
    let id = d.sh("docker inspect -f '{{.Id}}' box").ok();
    let refused = d.post(
        &format!("/containers/{id}/update"),
        &json!({
        "PidsLimit": 77, "Memory": 7_000_000, "MemorySwap": 7_000_000 }),
    );
    if refused.status() != 200 {
        assert!(refused.text().contains(&format!("Cannot update container {id}: ")), "{}", refused.text());
        assert_eq!(
            d.sh("docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}' box").ok(),
            "67108864 <nil>"
        );
    }
});

scenario!(a_container_may_have_a_single_process, |d| {
    assert_eq!(d.sh("docker run --rm --pids-limit 1 busybox echo alone").ok(), "alone");
    d.sh("docker run -d --name box --pids-limit 1 busybox sleep 1000").ok();
    let inside = "cat /sys/fs/cgroup/pids/docker/$(docker inspect -f '{{.Id}}' box)/pids.max 2>/dev/null \
                  || cat /sys/fs/cgroup/docker/$(docker inspect -f '{{.Id}}' box)/pids.max";
    assert_eq!(d.sh(inside).ok(), "1");
    d.sh("docker run --rm --pids-limit 1 busybox sh -c 'true & wait'").fails(2, "can't fork");
});

scenario!(shares_that_the_kernel_does_not_have_are_refused, |d| {
    // v2 has weights in their place, and takes the nearest.
    if d.sh("test -e /sys/fs/cgroup/cpu/cpu.shares").code != 0 {
        return;
    }
    let (least, most) = ("the minimum allowed cpu-shares is 2", "the maximum allowed cpu-shares is 262144");
    let doing = "error during container init: error setting cgroup config for procHooks process";
    for (shares, said) in [(1, least), (262_145, most)] {
        d.sh(&format!("docker run --rm --cpu-shares {shares} busybox true"))
            .fails(125, &format!("{doing}: {said}"));
    }
    d.sh("docker run -d --name box --cpu-shares 262144 busybox sleep 1000").ok();
    d.sh("docker update --cpu-shares 1 box").fails(1, least);
    d.sh("docker update --cpu-shares 300000 box").fails(1, most);
    d.sh("docker update --cpu-shares 2 box").ok();
    assert_eq!(d.sh("docker inspect -f '{{.HostConfig.CpuShares}}' box").ok(), "2");
    d.sh("docker stop -t 0 box").ok();
    d.sh("docker update --cpu-shares 1 box").ok();
    d.sh("docker start box").fails(1, least);
});

scenario!(limits_of_a_process_are_the_program_s, |d| {
    // With fewer runc itself does not get along.
    assert_eq!(
        d.sh("docker run --rm -u 1000 --ulimit nofile=16:20 busybox sh -c 'ulimit -Sn; ulimit -Hn'").ok(),
        "16\n20"
    );
    d.sh("docker run --rm --ulimit nofile=99999999999 busybox true").fails(
        125,
        "error setting rlimits for ready process: error setting rlimit type 7: operation not permitted",
    );
    d.sh("docker run -d --name box --ulimit nofile=20 --ulimit core=5120 busybox sleep 1000").ok();
    // Blocks of 512 bytes.
    assert_eq!(d.sh("docker exec -u 1000 box sh -c 'ulimit -Hn; ulimit -c'").ok(), "20\n10");
});

scenario!(an_unknown_kernel_parameter_is_named, |d| {
    d.sh("docker run --rm --sysctl net.ipv4.ip_forward=0 --sysctl net.ipv4.foo=1 busybox true").fails(
        127,
        "error during container init: open /proc/sys/net/ipv4/foo: no such file or directory: unknown",
    );
});

// Fails with the runtime library's words, which name neither the file nor what was done to it.
scenario!(a_kernel_parameter_that_cannot_be_set_is_named_with_its_file, |d| {
    let words = "runc create failed: unable to start container process: error during container init: ";
    for (parameter, code, why) in [
        ("net.ipv4.ip_forward=bogus", 125, "write /proc/sys/net/ipv4/ip_forward: invalid argument"),
        ("kernel.shmmax=x: y", 125, "write /proc/sys/kernel/shmmax: invalid argument"),
        (
            "net.core.somaxconn=99999999999999999999",
            125,
            "write /proc/sys/net/core/somaxconn: invalid argument",
        ),
        ("net.ipv4=1", 126, "open /proc/sys/net/ipv4: is a directory"),
        (
            "net.ipv4.tcp_available_congestion_control=x",
            126,
            "open /proc/sys/net/ipv4/tcp_available_congestion_control: permission denied",
        ),
    ] {
        let run = d.sh(&format!("docker run --rm --sysctl '{parameter}' busybox true"));
        run.fails(code, &format!("{words}{why}: unknown"));
    }
    // The record has the same words.
    d.sh("docker create --name box --sysctl net.ipv4.ip_forward=bogus busybox true; docker start box")
        .code(1);
    let told = d.sh("docker inspect -f '{{.State.ExitCode}} {{.State.Error}}' box").ok();
    assert!(told.starts_with("128 ") && told.ends_with("ip_forward: invalid argument: unknown"), "{told}");
});

// Fails with the runtime library's words, which say that it was about to make the container.
scenario!(a_kernel_parameter_of_the_host_is_refused_by_its_name, |d| {
    for (options, words) in [
        (
            "--network host --sysctl net.ipv4.ip_forward=1",
            "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace",
        ),
        (
            "--ipc host --sysctl kernel.shmmax=1",
            "sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace",
        ),
        (
            "--ipc host --sysctl fs.mqueue.msg_max=1",
            "sysctl \"fs.mqueue.msg_max\" is not allowed in the hosts ipc namespace",
        ),
    ] {
        let refused = d.sh(&format!("docker run --rm {options} busybox true"));
        refused.fails(125, &format!("OCI runtime create failed: runc create failed: {words}: unknown"));
    }
});

// Fails where the call that the kernel refused is not named.
scenario!(a_value_that_a_control_group_refuses_is_named_with_its_file, |d| {
    let (value, group, file) = match unified(d) {
        true => ("5:0 rbps=1048576", "docker", "io.max"),
        false => ("5:0 1048576", "blkio/docker", "read_bps_device"),
    };
    // No block device has its number, while that of /dev/null is a RAM disk's, too.
    let refused = d.sh("docker run --rm --device-read-bps /dev/tty:1mb busybox true");
    refused.fails(125, &format!("failed to write \"{value}\": write /sys/fs/cgroup/{group}/"));
    assert!(refused.stderr.contains(&format!("{file}: no such device: unknown")), "{refused}");
});

scenario!(few_descriptors_are_enough, Setup::new().slipway_only(), |d| {
    // runc needs some 16 of the container's own.
    assert_eq!(d.sh("docker run --rm --ulimit nofile=3 busybox sh -c 'ulimit -n'").ok(), "3");
    d.sh("docker run -d --name box --ulimit nofile=3 busybox sleep 1000").ok();
    assert_eq!(d.sh("docker exec box sh -c 'ulimit -n'").ok(), "3");
});

scenario!(a_cgroup_parent_stays_in_the_hierarchy, |d| {
    let id = || d.sh("docker inspect -f '{{.Id}}' box").ok();
    for (parent, inside) in [("../../mine", "/mine/"), ("/../../mine/../yours", "/yours/"), ("..", "/")] {
        d.sh(&format!("docker run -d --name box --cgroup-parent {parent} busybox sleep 1000")).ok();
        assert_eq!(d.sh("docker inspect -f '{{.HostConfig.CgroupParent}}' box").ok(), parent);
        let groups = d.sh("cat /proc/$(docker inspect -f '{{.State.Pid}}' box)/cgroup").ok();
        let group = format!(":{inside}{}", id());
        assert!(
            groups
                .lines()
                .any(|line| line.contains("pids") && line.ends_with(&group) || line == format!("0:{group}")),
            "{groups}"
        );
        d.sh("docker pause box && docker unpause box && docker exec box true").ok();
        d.sh("docker rm -f box").ok();
    }
    d.sh("rmdir $(find /sys/fs/cgroup -name mine -o -name yours)").ok();
});
