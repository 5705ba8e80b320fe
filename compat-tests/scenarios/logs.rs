//! `docker logs`: what was written is what is read, whichever way it is asked for.

use crate::harness::daemon::Daemon;
use crate::harness::http::Request;
use crate::harness::scenario::{Setup, scenario};
use crate::harness::shell::Running;

scenario!(logs_keep_streams_order_and_long_lines, |d| {
    d.sh("docker run --name box busybox sh -c 'echo a; echo b >&2; head -c 40000 /dev/zero | tr \"\\0\" z; echo; printf end'").ok();
    let ended = d.sh("docker logs box");
    assert_eq!(ended.stderr, "b\n");
    assert_eq!(ended.stdout.len(), "a\n".len() + 40001 + "end".len());
    assert!(ended.stdout.starts_with("a\nzzz") && ended.stdout.ends_with("z\nend"));
});

scenario!(tail_since_until_and_timestamps_choose_lines, |d| {
    d.sh("docker run --name box busybox sh -c 'for i in 1 2 3 4 5; do echo $i; done'").ok();
    assert_eq!(d.sh("docker logs --tail 2 box").ok(), "4\n5");
    assert_eq!(d.sh("docker logs --tail 0 box").ok(), "");
    assert_eq!(d.sh("docker logs --tail all box").ok().lines().count(), 5);
    assert_eq!(d.sh("docker logs --since 1h box").ok().lines().count(), 5);
    assert_eq!(d.sh("docker logs --until 1h box").ok(), "");
    let stamped = d.sh("docker logs -t --tail 1 box").ok();
    let (time, line) = stamped.split_once(' ').unwrap();
    assert_eq!((time.len(), line), ("2024-01-01T00:00:00.000000000Z".len(), "5"));
});

scenario!(logs_are_framed_unless_there_is_a_terminal, |d| {
    d.sh("docker run --name plain busybox echo hi; docker run -t --name tty busybox echo hi").ok();
    let framed = d.get("/v1.41/containers/plain/logs?stdout=1&stderr=1").expect(200);
    assert_eq!(framed.0.body, b"\x01\0\0\0\0\0\0\x03hi\n");
    let raw = d.get("/v1.41/containers/tty/logs?stdout=1&stderr=1").expect(200);
    assert_eq!(raw.0.body, b"hi\r\n");
    assert!(
        d.get("/containers/plain/logs").expect(400).message().contains("you must choose at least one stream")
            || d.get("/containers/plain/logs").message().contains("must specify at least one of")
    );
});

scenario!(a_follower_ends_with_the_container, |d| {
    d.sh("docker run -d --name box busybox sh -c 'for i in $(seq 200); do echo line $i; done; sleep 1; echo last'").ok();
    let mut following = d.sh_running("docker logs -f box");
    assert_eq!(following.exit_code(), 0);
    following.shows("last\n");
    assert_eq!(following.output().lines().count(), 201);
});

scenario!(a_follower_survives_rotation, |d| {
    d.sh("docker run -d --name box --log-opt max-size=20k --log-opt max-file=3 busybox sh -c 'for i in $(seq 2000); do echo line-number $i; done; while [ ! -e /go ]; do sleep 0.1; done; for i in $(seq 2001 4000); do echo line-number $i; usleep 500; done'").ok();
    let mut following = d.sh_running("docker logs -f --tail 1 box | tail -n 2000");
    d.sh("sleep 0.5; docker exec box touch /go").ok();
    following.exit_code();
    following.shows("line-number 4000");
    let output = following.output();
    assert_eq!(
        output.lines().filter(|line| line.starts_with("line-number")).count(),
        2000,
        "{}",
        &output[..200]
    );
});

scenario!(a_container_without_a_log_says_so, |d| {
    d.sh("docker run --name box --log-driver none busybox echo hi").ok();
    let refused = d.send(Request::new("GET", "/containers/box/logs?stdout=1"));
    assert!(
        refused.text().contains("configured logging driver does not support reading"),
        "{}",
        refused.text()
    );
});

/// A sink that shows what it is sent.
fn sink(d: &Daemon, kind: &str, port: u16) -> Running {
    let sink = d.sh_running(&format!(
        "exec python3 -u -c '
import socket, threading
s = socket.socket(socket.AF_INET, socket.SOCK_{kind})
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((\"127.0.0.1\", {port}))
def show(c):
    while data := c.recv(65536): print(data, flush=True)
if \"{kind}\" == \"DGRAM\":
    print(\"listening\", flush=True)
    show(s)
s.listen()
print(\"listening\", flush=True)
while True: threading.Thread(target=show, args=(s.accept()[0],), daemon=True).start()
'"
    ));
    sink.shows("listening");
    sink
}

scenario!(lines_are_sent_to_syslog_gelf_and_fluentd, |d| {
    for (driver, kind, port, options, shown) in [
        (
            "syslog",
            "STREAM",
            5514,
            "--log-opt syslog-address=tcp://127.0.0.1:5514 --log-opt syslog-format=rfc5424 --log-opt tag=of/{{.Name}}",
            &[" of/box ", "- first", "<27>1", "- second"][..],
        ),
        (
            "gelf",
            "DGRAM",
            5515,
            "--log-opt gelf-address=udp://127.0.0.1:5515 --log-opt gelf-compression-type=none",
            &["\"short_message\":\"first\"", "\"_container_name\":\"box\"", "\"short_message\":\"second\""],
        ),
        (
            "fluentd",
            "STREAM",
            5516,
            "--log-opt fluentd-address=127.0.0.1:5516 --log-opt tag=here",
            &["here", "container_name", "/box", "first", "stderr", "second"],
        ),
    ] {
        let sink = sink(d, kind, port);
        d.sh(&format!(
            "docker run -d --name box --log-driver {driver} {options} busybox sh -c 'echo first; sleep 0.3; echo second >&2; sleep 1000'"
        ))
        .ok();
        shown.iter().for_each(|text| sink.shows(text));
        // Read back all the same.
        let read = d.sh("docker logs box 2>&1").ok();
        assert_eq!(read, "first\nsecond", "{driver}");
        d.sh("docker rm -f box").ok();
    }
});

scenario!(a_sink_that_is_not_there_fails_the_start, |d| {
    d.sh("docker run --rm --log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:5999 busybox true")
        .fails(
            125,
            "failed to initialize logging driver: dial tcp 127.0.0.1:5999: connect: connection refused",
        );
    d.sh("docker run --rm --log-driver fluentd --log-opt fluentd-async=true busybox echo fine").ok();
    d.sh("docker create --log-driver gelf busybox").fails(1, "gelf-address is a required parameter");
    d.sh("docker create --log-driver nowhere busybox")
        .fails(1, "error looking up logging plugin nowhere: plugin \"nowhere\" not found");
});

// dockerd 20.10 waits for the sink; here it waits on disk.
scenario!(a_sink_that_is_stuck_holds_up_nobody, Setup::new().slipway_only(), |d| {
    let stuck = d.sh_running("exec python3 -u -c 'import socket, time; s = socket.create_server((\"127.0.0.1\", 5514)); print(\"listening\", flush=True); time.sleep(1000)'");
    stuck.shows("listening");
    let opts = "--log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:5514";
    d.sh(&format!("docker run --rm {opts} busybox sh -c 'yes | head -n 500000'")).ok();
});
