//! `docker logs`: what was written is what is read, whichever way it is asked for.

use std::time::{Duration, Instant};

use crate::harness::certificates::{Pair, Terms};
use crate::harness::daemon::Daemon;
use crate::harness::http::Request;
use crate::harness::poll::eventually;
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
    d.sh("sleep 0.5; docker exec -d box touch /go").ok();
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

/// A syslog server that speaks TLS on 127.0.0.1 and shows what it gets; it wants a certificate of `clients`.
fn tls_sink(d: &Daemon, port: u16, server: &Pair, clients: Option<&Pair>) -> Running {
    let (certificate, key) = (server.certificate.display(), server.key.display());
    let authority = clients.map_or_else(String::new, |clients| {
        let file = clients.certificate.display();
        format!("context.verify_mode = ssl.CERT_REQUIRED; context.load_verify_locations(\"{file}\")")
    });
    let sink = d.sh_running(&format!(
        "exec python3 -u -c '
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(\"{certificate}\", \"{key}\")
{authority}
server = socket.create_server((\"127.0.0.1\", {port}))
print(\"listening\")
while True:
    plain, _ = server.accept()
    try:
        with context.wrap_socket(plain, server_side=True) as client:
            for piece in iter(lambda: client.recv(4096), b\"\"): print(piece)
            print(\"end\")
    except OSError as error: print(error)
'"
    ));
    sink.shows("listening");
    sink
}

const TLS_SYSLOG: &str = "--log-driver syslog --log-opt syslog-address=tcp+tls://localhost:5514";

scenario!(lines_are_sent_to_syslog_over_tls, |d| {
    let own = Pair::self_signed(d.dir(), "server", "DNS:localhost");
    let ca = own.certificate.display();
    let sink = tls_sink(d, 5514, &own, None);
    // Each message of RFC 5424 has its length before it (RFC 5425).
    for (format, shown) in [("rfc3164", "b'<30>"), ("rfc5424", "<30>1 ")] {
        d.sh(&format!(
            "docker run --rm {TLS_SYSLOG} --log-opt syslog-tls-ca-cert={ca} --log-opt syslog-format={format} \
             --log-opt tag=secret busybox echo by {format}"
        ))
        .ok();
        sink.shows(&format!("by {format}\\n"));
        sink.shows(shown);
    }
    let output = sink.output();
    let counted = output.lines().find(|line| line.contains("by rfc5424")).unwrap();
    let (length, message) = counted.trim_start_matches("b'").split_once(' ').unwrap();
    // A line end is two characters of Python's here, and the quote one more.
    assert_eq!(length.parse::<usize>().unwrap(), message.len() - 2, "{counted}");
    d.sh(&format!("docker run --rm {TLS_SYSLOG} busybox true"))
        .fails(125, "certificate signed by unknown authority");
    d.sh(&format!("docker run --rm {TLS_SYSLOG} --log-opt syslog-tls-skip-verify=true busybox echo unseen"))
        .ok();
    sink.shows("unseen");
    d.sh(&format!("docker run --rm {TLS_SYSLOG} --log-opt syslog-tls-ca-cert=/nonexistent busybox true"))
        .fails(127, "ailed to initialize logging driver: could not read CA certificate \"/nonexistent\": open /nonexistent: no such file or directory");
    d.sh(&format!("docker run --rm {TLS_SYSLOG} --log-opt syslog-tls-cert=/nonexistent --log-opt syslog-tls-key=/nonexistent --log-opt syslog-tls-ca-cert={ca} busybox true"))
        .fails(127, "ould not load X509 key pair: open /nonexistent: no such file or directory");
});

scenario!(a_syslog_server_may_want_a_certificate, |d| {
    let own = Pair::self_signed(d.dir(), "server", "DNS:localhost");
    let authority = Pair::self_signed(d.dir(), "clients", "DNS:clients");
    let client = authority.sign(Terms { file: "client", names: "DNS:client", days: 2 });
    let ca = own.certificate.display();
    let (certificate, key) = (client.certificate.display(), client.key.display());
    let sink = tls_sink(d, 5514, &own, Some(&authority));
    d.sh(&format!(
        "docker run --rm {TLS_SYSLOG} --log-opt syslog-tls-ca-cert={ca} --log-opt syslog-tls-cert={certificate} \
         --log-opt syslog-tls-key={key} busybox echo known"
    ))
    .ok();
    sink.shows("known");
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

// dockerd 20.10 waits for the sink; here it waits on disk. Fails when the shim itself sends what it logs: the writers
// never get to their end.
scenario!(a_sink_that_takes_nothing_holds_up_nobody, Setup::new().slipway_only(), |d| {
    let stuck = d.sh_running(
        "exec python3 -u -c '
import socket, threading
servers, held = [socket.create_server((\"127.0.0.1\", port)) for port in (5514, 5516)], []
print(\"listening\")
def hold(server):
    while True: held.append(server.accept())
for server in servers: threading.Thread(target=hold, args=[server]).start()
'",
    );
    stuck.shows("listening");
    let syslog = "--log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:5514";
    let fluentd = "--log-driver fluentd --log-opt fluentd-address=127.0.0.1:5516";
    let dropping = "--log-opt mode=non-blocking --log-opt max-buffer-size=64k";
    let lines = "yes a line that is to be sent somewhere, as long as lines are | head -n 300000";
    for (name, options) in [
        ("one", format!("{syslog} {dropping}")),
        ("two", format!("{fluentd} {dropping}")),
        ("three", syslog.to_owned()),
        ("four", fluentd.to_owned()),
    ] {
        let script = format!("{lines}; touch /written; exec sleep 1000");
        d.sh(&format!("docker run -d --name {name} {options} busybox sh -c '{script}'")).ok();
    }
    for name in ["one", "two", "three", "four"] {
        eventually("all is written", || d.sh(&format!("docker exec {name} test -e /written")).code == 0);
    }
    let soon = |script: &str| {
        let begin = Instant::now();
        let said = d.sh(script).ok();
        assert!(begin.elapsed() < Duration::from_secs(15), "{script} took {:?}", begin.elapsed());
        said
    };
    assert_eq!(soon("docker ps -q | wc -l"), "4");
    assert_eq!(soon("docker run --rm busybox echo fine"), "fine");
    assert_eq!(soon(&format!("docker run --rm {syslog} {dropping} busybox echo fine")), "fine");
    // Nothing was dropped on the way to the disk in either mode.
    for name in ["one", "two", "three", "four"] {
        assert_eq!(soon(&format!("docker logs {name} | wc -l")), "300000");
    }
    soon("docker stop -t 1 one four && docker rm one four && docker rm -f two three");
});

// Fails when the farewell's end is looked for only where a send fails, and when nobody counts.
scenario!(
    a_sink_that_takes_little_is_left_in_time_and_what_it_missed_is_counted,
    Setup::new().slipway_only(),
    |d| {
        let slow = d.sh_running(
            "exec python3 -u -c '
import socket, time
server = socket.create_server((\"127.0.0.1\", 5514))
print(\"listening\")
client, _ = server.accept()
while client.recv(1000): time.sleep(0.1)
'",
        );
        slow.shows("listening");
        let log =
            "--log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:5514 --log-opt cache-max-size=200k";
        let lines = "yes a line that is to be sent somewhere, as long as lines are | head -n 300000";
        d.sh(&format!("docker run --rm {log} busybox sh -c '{lines}' >/dev/null")).ok();
        let ended = Instant::now();
        eventually("the forwarder has ended", || d.sh("pgrep -f '[f]orward-log'").code == 1);
        assert!(ended.elapsed() < Duration::from_secs(14), "{:?}", ended.elapsed());
        let told: Vec<_> =
            d.log().lines().filter(|line| line.contains("log lines lost")).map(str::to_owned).collect();
        assert!((1..=4).contains(&told.len()), "{told:?}");
        assert!(
            told[0].contains("the sink did not take them in time") && told[0].contains("lines="),
            "{told:?}"
        );
    }
);
