//! Memory, processors, processes: what is asked is what the kernel enforces.

use crate::harness::scenario::scenario;

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
