//! What must hold under stress: a stuck container harms nobody else, much of everything leaves nothing behind.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::scenario::{Setup, scenario};

// dockerd's shims are not one process of its own program.
scenario!(a_stuck_container_blocks_no_list, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name stuck busybox sleep 1000 && docker run -d --name free busybox sleep 1000")
        .ok();
    let pid = d.inspect("stuck")["State"]["Pid"].clone();
    let shim = d.sh(&format!("awk '/^PPid/ {{print $2}}' /proc/{pid}/status")).ok();
    d.sh(&format!("kill -STOP {shim}")).ok();
    let mut stopping = d.sh_running("exec docker stop -t 0 stuck");
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(d.get("/containers/json").expect(200).json().as_array().unwrap().len(), 2);
        d.get("/containers/stuck/json").expect(200);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(d.sh("docker exec free echo fine").ok(), "fine");
    d.sh(&format!("kill -CONT {shim}")).ok();
    assert_eq!(stopping.exit_code(), 0);
});

scenario!(many_at_once_all_run, |d| {
    let script = "for i in $(seq 24); do echo $i; done | xargs -P 8 -I@ docker run --rm busybox echo @ | sort -n | xargs";
    let expected: Vec<_> = (1..=24).map(|i: i32| i.to_string()).collect();
    assert_eq!(d.sh(script).ok(), expected.join(" "));
});

scenario!(execs_leave_nothing_in_the_engine, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let count = || {
        d.sh("sleep 0.3; for p in $(pgrep -f slipwayd); do ls /proc/$p/fd; done 2>/dev/null | wc -l")
            .ok()
            .parse::<i64>()
            .unwrap()
    };
    d.sh("for i in 1 2 3; do docker exec box true; done").ok();
    let before = count();
    d.sh("for i in $(seq 40); do docker exec box true; done").ok();
    assert!(count() - before < 8, "{before} before, {} after", count());
});

scenario!(
    ping_is_answered_while_the_engine_has_much_to_restore,
    Setup::new().flags(&["--live-restore"]),
    |d| {
        let script = "seq 20 | xargs -P 4 -I@ docker run -d --name c@ --network none busybox sleep 1000";
        d.sh(script).ok();
        d.kill_9();
        d.start_again();
        assert_eq!(d.get("/containers/json").expect(200).json().as_array().unwrap().len(), 20);
        d.sh("docker ps -q | xargs docker rm -f").ok();
    }
);

scenario!(bad_input_gets_an_answer_and_harms_nothing, Setup::new().without_image(), |d| {
    let bodies = [
        json!([]),
        json!("text"),
        json!(7),
        json!({"HostConfig": []}),
        json!({"HostConfig": {"Memory": "x"}}),
        json!({"Cmd": {"a": 1}}),
        json!({"ExposedPorts": {"x/y": {}}}),
        json!({"HostConfig": {"Binds": ["a"]}}),
        json!({"Env": [""]}),
    ];
    for body in bodies {
        let status = d.post("/containers/create", &body).status();
        assert!((400..=500).contains(&status), "{body}: {status}");
    }
    for target in [
        "/containers/%ff/json",
        "/containers//json",
        "/images/%00/json",
        "/containers/json?filters=%7B",
        "/containers/json?limit=x",
        "/events?since=x",
        "/containers/a/logs?tail=-5&stdout=1",
        "/volumes/..%2f..",
        "/exec//json",
        "/networks/%20",
    ] {
        let status = d.get(target).status();
        assert!(status == 200 || (300..=500).contains(&status), "{target}: {status}");
    }
    d.get("/_ping").expect(200);
});

scenario!(
    another_runtime_may_be_added,
    Setup::new().flags(&["--add-runtime", "debian=/usr/sbin/runc"]),
    |d| {
        assert_eq!(d.sh("docker run --rm --runtime debian busybox echo by runc").ok(), "by runc");
        d.sh("docker run --rm --runtime debian busybox sh -c 'exit 5'").code(5);
        d.sh("docker run --rm --runtime nothing busybox true").fails(125, "nothing");
    }
);

scenario!(a_restart_policy_starts_again, |d| {
    d.sh("docker run -d --name box --restart on-failure:2 busybox sh -c 'echo try; exit 3'").ok();
    crate::harness::poll::eventually("it has given up", || {
        let shown = d.inspect("box");
        shown["State"]["Status"] == json!("exited") && shown["RestartCount"] == json!(2)
    });
    assert_eq!(d.sh("docker logs box").ok(), "try\ntry\ntry");
});
