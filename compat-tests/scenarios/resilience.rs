//! What must hold under stress: a stuck container harms nobody else, much of everything leaves nothing behind.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::http::Request;
use crate::harness::poll::eventually;
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

// The names of sockets hold 107 bytes. dockerd takes no relative directory.
scenario!(
    another_runtime_has_terminals_however_deep_its_files_are,
    Setup::new().slipway_only().flags(&[
        "--add-runtime",
        "debian=/usr/sbin/runc",
        "--exec-root",
        concat!("a-name-that-is-rather-long/of-a-directory-that-is-deep/and-another-one/", "and-so-on/exec"),
    ]),
    |d| {
        for runtime in ["debian", "runc"] {
            let run = format!("docker run -t --rm --runtime {runtime} busybox tty");
            assert_eq!(d.sh(&run).ok(), "/dev/pts/0", "{runtime}");
            d.sh(&format!("docker run -d --name {runtime} --runtime {runtime} busybox sleep 1000")).ok();
            assert!(
                d.sh(&format!("docker exec -t {runtime} tty")).ok().starts_with("/dev/pts/"),
                "{runtime}"
            );
        }
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

/// Numbers without pattern, the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Any JSON, with the keys and words that requests have.
    fn value(&mut self, depth: u64) -> Value {
        const WORDS: [&str; 14] = [
            "",
            "busybox",
            "/",
            "-1",
            "host",
            "container:x",
            "80/tcp",
            "a:b:c",
            "always",
            "\u{0}",
            "ü",
            "1m",
            "none",
            ":",
        ];
        const NUMBERS: [i64; 8] = [0, 1, -1, 7, 65_536, i64::MAX, i64::MIN, 1 << 32];
        match self.below(if depth == 0 { 4 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(NUMBERS[self.below(8) as usize]),
            3 => json!(WORDS[self.below(14) as usize]),
            4 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => (0..self.below(5)).map(|_| (self.key().to_owned(), self.value(depth - 1))).collect(),
        }
    }

    fn key(&mut self) -> &'static str {
        const KEYS: [&str; 30] = [
            "Image",
            "Cmd",
            "Entrypoint",
            "Env",
            "ExposedPorts",
            "Volumes",
            "Labels",
            "Healthcheck",
            "StopSignal",
            "Hostname",
            "WorkingDir",
            "User",
            "Memory",
            "MemorySwap",
            "NanoCpus",
            "Binds",
            "Mounts",
            "PortBindings",
            "RestartPolicy",
            "NetworkMode",
            "LogConfig",
            "Ulimits",
            "Devices",
            "CapAdd",
            "SecurityOpt",
            "Tmpfs",
            "Sysctls",
            "80/tcp",
            "Type",
            "Name",
        ];
        KEYS[self.below(30) as usize]
    }
}

scenario!(no_create_request_is_an_error_of_the_engine, Setup::new().slipway_only(), |d| {
    let mut dice = Dice(0x5eed);
    for turn in 0..400 {
        let mut body = json!({"Image": "busybox"});
        for _ in 0..3 {
            let (key, value) = (dice.key(), dice.value(3));
            body[key] = value;
        }
        let mut host_config = json!({});
        for _ in 0..3 {
            let (key, value) = (dice.key(), dice.value(3));
            host_config[key] = value;
        }
        if turn % 2 == 0 {
            body["HostConfig"] = host_config;
        }
        let answer = d.post("/containers/create", &body);
        assert!(answer.status() < 500, "{body}: {} {}", answer.status(), answer.text());
        if answer.status() == 201 {
            let id = answer.json()["Id"].as_str().unwrap().to_owned();
            d.get(&format!("/containers/{id}/json")).expect(200);
            d.delete(&format!("/containers/{id}?v=1")).expect(204);
        }
    }
    assert!(!d.log().contains("panicked"), "{}", d.log());
});

scenario!(strange_bodies_are_refused, Setup::new().without_image().slipway_only(), |d| {
    let deep = "[".repeat(100_000).into_bytes();
    let huge = format!("{{\"Image\":\"{}\"}}", "x".repeat(17 << 20)).into_bytes();
    for (kind, body, status) in [
        ("application/json", b"{".to_vec(), 400),
        ("application/json", b"{}{}".to_vec(), 400),
        ("application/json", deep, 400),
        ("application/json", b"\xff\xfe".to_vec(), 400),
        ("text/plain", b"{}".to_vec(), 400),
        ("application/json", huge, 413),
    ] {
        let length = body.len();
        let answer = d.send(Request::new("POST", "/containers/create").body(kind, body));
        assert_eq!(answer.status(), status, "{length} bytes of {kind}: {}", answer.text());
    }
    d.get("/_ping").expect(200);
});

scenario!(requests_may_be_chunked_and_pipelined, Setup::new().without_image(), |d| {
    let mut socket = UnixStream::connect(d.engine_socket()).unwrap();
    let chunked = "POST /v1.41/networks/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\n8\r\n{\"Name\":\r\n6\r\n\"none\"\r\n1\r\n}\r\n0\r\n\r\n";
    let ping = "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n";
    let last = "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    socket.write_all(format!("{chunked}{ping}{last}").as_bytes()).unwrap();
    let mut answers = String::new();
    socket.read_to_string(&mut answers).unwrap();
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses.len(), 3, "{answers}");
    assert!(statuses[0].starts_with('4') && statuses[1..] == ["200", "200"], "{answers}");
});

scenario!(clients_that_never_finish_harm_nobody, Setup::new().without_image().slipway_only(), |d| {
    let slow: Vec<_> = (0..300)
        .map(|_| {
            let mut socket = UnixStream::connect(d.engine_socket()).unwrap();
            socket.write_all(b"GET /containers/json HTTP/1.1\r\nHost:").unwrap();
            socket
        })
        .collect();
    let start = Instant::now();
    d.get("/_ping").expect(200);
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(slow);
    let sockets = "for p in $(pgrep -f slipwayd); do ls -l /proc/$p/fd; done 2>/dev/null | grep -c socket";
    eventually("their connections are gone", || {
        d.sh(sockets).stdout.trim().parse::<u32>().is_ok_and(|count| count < 50)
    });
    let mut endless = UnixStream::connect(d.engine_socket()).unwrap();
    let header = format!("X-Long: {}\r\n", "x".repeat(4096));
    let head = format!("GET /_ping HTTP/1.1\r\nHost: d\r\n{}\r\n", header.repeat(500));
    // The engine may have closed the connection before it is all written.
    let _ = endless.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    d.get("/_ping").expect(200);
});

// Fails when each of them may hold one of the threads for what blocks: nothing can be run any more.
scenario!(clients_that_stall_in_a_transfer_harm_nobody, |d| {
    let fill = "truncate -s 64M /big; head -c 8000000 /dev/zero | tr \\\\0 x; touch /filled; exec sleep 1000";
    d.sh(&format!("docker run -d --name box busybox sh -c '{fill}'")).ok();
    eventually("it is filled", || d.sh("docker exec box test -e /filled").code == 0);
    let begun = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for (request, rest) in [
        ("POST /images/load", begun),
        ("PUT /containers/box/archive?path=/tmp", begun),
        ("GET /containers/box/archive?path=/big", "\r\n"),
        ("GET /containers/box/export", "\r\n"),
        ("POST /containers/box/attach?logs=1&stdout=1", "\r\n"),
    ] {
        let head = format!("{request} HTTP/1.1\r\nHost: d\r\n{rest}");
        let stall = |_| {
            let mut socket = UnixStream::connect(d.engine_socket()).unwrap();
            socket.write_all(head.as_bytes()).unwrap();
            socket
        };
        let stalled: Vec<_> = (0..300).map(stall).collect();
        for _ in 0..3 {
            let ended = d.sh("timeout 60 docker run --rm busybox true");
            assert_eq!(ended.code, 0, "{request}: {ended}");
        }
        drop(stalled);
        // Who has to wait for them gets his turn.
        d.sh("timeout 60 docker cp box:/bin/busybox copied").ok();
    }
});
