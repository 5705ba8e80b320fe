//! `docker checkpoint` and `docker start --checkpoint`. criu does the work: where it is absent or older than the kernel
//! what can be seen is that it is asked for, and that the container goes on.

use serde_json::json;

use crate::harness::daemon::Daemon;
use crate::harness::http::Request;
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

/// Counts as long as it lives: what it prints next tells whether it went on or began again.
const COUNTER: &str = "sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'";

fn experimental() -> Setup {
    Setup::new().flags(&["--experimental", "--add-runtime", "debian=/usr/sbin/runc"])
}

/// Whether criu can write and restore processes on this machine. The engine looks for it where the shim's PATH says.
fn criu_works(d: &Daemon) -> bool {
    d.sh("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin criu check").code == 0
}

fn last_number(d: &Daemon, name: &str) -> u64 {
    d.sh(&format!("docker logs --tail 1 {name}")).ok().parse().unwrap_or(0)
}

fn count(d: &Daemon, name: &str, options: &str) {
    d.sh(&format!("docker run -d --name {name} {options} busybox {COUNTER}")).ok();
    eventually("it counts", || last_number(d, name) >= 3);
}

fn goes_on_from_its_checkpoint(d: &Daemon, options: &str) {
    count(d, "box", options);
    if !criu_works(d) {
        d.sh("docker checkpoint create box one").fails(1, "criu");
        assert_eq!(d.status("box"), "running");
        let before = last_number(d, "box");
        eventually("it goes on", || last_number(d, "box") > before);
        d.sh("docker rm -f box").ok();
        return;
    }
    d.sh("docker checkpoint create box one").ok();
    assert_eq!(d.status("box"), "exited");
    let before = last_number(d, "box");
    assert!(before >= 3);
    d.sh("docker start --checkpoint one box").ok();
    eventually("it goes on", || last_number(d, "box") > before);
    let numbers = d.sh("docker logs box").ok();
    let numbers: Vec<u64> = numbers.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{options}: {numbers:?}");
    // What the engine and the shim know of it is as after any start.
    assert_eq!(d.sh("docker exec box echo here").ok(), "here");
    d.sh("docker kill box").ok();
    assert_eq!(d.inspect("box")["State"]["ExitCode"], json!(137));
    d.sh("docker start box").ok();
    eventually("it begins again", || {
        d.sh("docker logs box").ok().lines().filter(|line| *line == "1").count() == 2
    });
    d.sh("docker rm -f box").ok();
}

// Debian's criu is older than the kernels that the suite runs on.
scenario!(a_container_goes_on_from_its_checkpoint, experimental().slipway_only(), |d| {
    for options in
        ["", "-m 64m --pids-limit 20 --init", "--read-only --tmpfs /tmp -i", "--network none -v data:/data"]
    {
        goes_on_from_its_checkpoint(d, options);
    }
});

scenario!(a_container_of_another_runtime_goes_on_from_its_checkpoint, experimental().slipway_only(), |d| {
    goes_on_from_its_checkpoint(d, "--runtime debian");
});

scenario!(limits_and_confinement_are_those_of_every_start, experimental().slipway_only(), |d| {
    if !criu_works(d) {
        return;
    }
    count(d, "box", "-m 64m --pids-limit 20");
    d.sh("docker exec box mknod /kmsg c 1 11").ok();
    let seen = || {
        d.sh(
            "pid=$(docker inspect -f '{{.State.Pid}}' box); grep -E 'Cap|Seccomp|NoNewPrivs' /proc/$pid/status
             for part in memory:memory.limit_in_bytes pids:pids.max devices:devices.list; do
                 group=$(sed -n \"s/^[0-9]*:${part%:*}://p\" /proc/$pid/cgroup)
                 cat /sys/fs/cgroup/${part%:*}$group/${part#*:} || true
             done 2>/dev/null
             group=$(sed -n 's/^0:://p' /proc/$pid/cgroup)
             cat /sys/fs/cgroup$group/memory.max /sys/fs/cgroup$group/pids.max 2>/dev/null
             docker exec box head -c 1 /kmsg 2>&1",
        )
        .stdout
    };
    let before = seen();
    for part in ["67108864\n", "20\n", "/kmsg: Operation not permitted"] {
        assert!(before.contains(part), "{before}");
    }
    d.sh("docker checkpoint create box one; docker start --checkpoint one box").ok();
    assert_eq!(seen(), before);
});

scenario!(a_checkpoint_may_let_the_container_run, experimental().slipway_only(), |d| {
    if !criu_works(d) {
        return;
    }
    count(d, "box", "");
    let pid = d.inspect("box")["State"]["Pid"].clone();
    d.sh("docker checkpoint create --leave-running box one").ok();
    d.sh("docker checkpoint create --leave-running box one").fails(
        1,
        "cannot checkpoint container box: checkpoint with name one already exists for container box",
    );
    d.sh("docker checkpoint create --leave-running --checkpoint-dir $PWD/elsewhere box two").ok();
    let before = last_number(d, "box");
    eventually("it goes on", || last_number(d, "box") > before);
    assert_eq!(d.inspect("box")["State"]["Pid"], pid);
    assert_eq!(d.get("/containers/box/checkpoints").expect(200).json(), json!([{ "Name": "one" }]));
    assert_eq!(
        d.sh("docker checkpoint ls --checkpoint-dir $PWD/elsewhere box").ok().lines().last(),
        Some("two")
    );
    d.sh("docker checkpoint rm --checkpoint-dir $PWD/elsewhere box two").ok();
    d.sh("docker checkpoint rm box one").ok();
    assert_eq!(d.get("/containers/box/checkpoints").expect(200).json(), json!([]));
    d.sh("ls -A elsewhere").ok().is_empty().then_some(()).expect("nothing is left of it");
});

scenario!(
    a_checkpoint_that_is_cut_off_leaves_the_container_and_nothing_else,
    experimental().slipway_only(),
    |d| {
        if !criu_works(d) {
            return;
        }
        d.end();
        d.launch(&[("SLIPWAY_CRASH_AT", "checkpoint-written")]);
        d.wait_until_up();
        count(d, "box", "");
        d.sh("docker checkpoint create box one").fails(1, "Cannot checkpoint container box");
        let before = last_number(d, "box");
        eventually("it goes on", || last_number(d, "box") > before);
        assert_eq!(d.get("/containers/box/checkpoints").expect(200).json(), json!([]));
        assert_ne!(d.sh("find data/containers/*/checkpoints/.new-one").ok(), "");
        d.sh("docker kill box").ok();
        d.end();
        d.start_again();
        eventually("it is swept", || {
            d.sh("find data/containers/*/checkpoints/.new-one 2>/dev/null").code != 0
        });
    }
);

// As Debian's criu 3.17 does on Linux 6.13 and later.
scenario!(a_criu_that_fails_is_told_and_leaves_nothing, experimental().slipway_only(), |d| {
    d.sh(r#"mount -t tmpfs none /usr/local/sbin
        cat >/usr/local/sbin/criu <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" != --log-file ] || log=$2; shift; done
echo "(00.069884) Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds" >>$log
echo "(00.069988) Error (criu/crtools.c:260): Could not initialize kernel features detection." >>$log
exit 1
END
        chmod +x /usr/local/sbin/criu"#)
        .ok();
    count(d, "box", "");
    d.sh("docker checkpoint create box one").fails(
        1,
        "Cannot checkpoint container box: criu dump failed: vdso: Unexpected rt vDSO area bounds: this criu does not \
         know this kernel, a newer one may",
    );
    assert_eq!(d.status("box"), "running");
    assert_eq!(d.get("/containers/box/checkpoints").expect(200).json(), json!([]));
    assert_eq!(d.sh("find data/containers/*/checkpoints/ -mindepth 1 2>/dev/null || true").ok(), "");
    d.sh("docker stop -t 0 box").ok();
    d.sh(
        "cd data/containers/*/ && mkdir -p checkpoints/made && echo '[]' >checkpoints/made/descriptors.json",
    )
    .ok();
    d.sh("docker start --checkpoint made box").fails(1, "criu restore failed: vdso");
    assert_eq!(d.status("box"), "exited");
    d.sh("docker start box && umount /usr/local/sbin").ok();
});

// The CLI offers checkpoints to whoever asks such an engine only.
scenario!(an_experimental_engine_says_so, experimental().without_image(), |d| {
    assert_eq!(d.sh("docker version -f '{{.Server.Experimental}}'").ok(), "true");
    assert_eq!(d.sh("docker info -f '{{.ExperimentalBuild}}'").ok(), "true");
});

scenario!(what_cannot_be_a_checkpoint_is_refused, experimental(), |d| {
    d.sh("docker create --name made busybox true").ok();
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    d.sh("docker checkpoint create made one").fails(1, "Container made not running");
    for name in ["../../one", ".new-one", "a"] {
        let text = format!("Invalid checkpoint ID ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
        d.sh(&format!("docker checkpoint create box {name}")).fails(1, &text);
    }
    d.sh("docker checkpoint rm box nothing").fails(1, "for container box");
    d.sh("docker start --checkpoint nothing made").fails(1, "checkpoint nothing does not exist");
    d.sh("docker start --checkpoint one --checkpoint-dir /tmp made")
        .fails(1, "custom checkpointdir is not supported");
    assert_eq!(d.sh("docker checkpoint ls box").ok(), "CHECKPOINT NAME");
    d.sh("docker checkpoint ls nowhere").fails(1, "No such container: nowhere");
});

// dockerd 20.10 writes one that it then cannot start from.
scenario!(a_terminal_cannot_be_checkpointed, experimental().slipway_only(), |d| {
    d.sh("docker run -dt --name tty busybox sleep 1000").ok();
    d.sh("docker checkpoint create tty one").fails(1, "checkpoint not support on containers with tty");
});

// dockerd joins paths as it gets them.
scenario!(a_checkpoint_s_name_leads_nowhere_else, experimental().slipway_only(), |d| {
    let id = d.sh("docker create --name box busybox true").ok();
    for name in ["%2e%2e", "..%2f..%2f", "%2e%2e%2fupper", "."] {
        let target = format!("/v1.41/containers/box/checkpoints/{name}?dir=");
        let status = d.send(Request::new("DELETE", &target)).status();
        assert!(matches!(status, 301 | 404 | 405 | 500), "{name}: {status}");
        d.sh("docker start --checkpoint '../../volumes' box").fails(1, "does not exist");
    }
    d.sh(&format!("test -d data/volumes -a -f data/containers/{id}/config.json")).ok();
    let relative = d.get("/containers/box/checkpoints?dir=etc").expect(400);
    assert_eq!(relative.message(), "the checkpoint directory \"etc\" is not an absolute path");
});
