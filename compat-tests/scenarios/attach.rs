//! Hijacked connections: attach in every state, half-closed input, and no payload beside the headers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::harness::daemon::Daemon;
use crate::harness::http::{Opened, Request, Stream};
use crate::harness::scenario::scenario;

const ALL: &str = "stream=1&stdin=1&stdout=1&stderr=1";

fn attach(d: &Daemon, container: &str, query: &str) -> Opened<UnixStream> {
    let target = format!("/v1.41/containers/{container}/attach?{query}");
    let request = Request::new("POST", &target).header("Upgrade", "tcp").header("Connection", "Upgrade");
    request.open(UnixStream::connect(d.engine_socket()).unwrap()).unwrap()
}

/// One frame of a multiplexed stream.
fn frame(stream: u8, payload: &str) -> Vec<u8> {
    let mut frame = vec![stream, 0, 0, 0];
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(payload.as_bytes());
    frame
}

scenario!(attach_before_start_sees_everything, |d| {
    d.create(json!({"Image": "busybox", "Cmd": ["sh", "-c", "echo first; echo err >&2"]}));
    let id = d.sh("docker ps -aq --no-trunc").ok();
    let attached = attach(d, &id, ALL);
    assert_eq!(attached.head.status(), 101);
    assert_eq!(attached.head.header("Upgrade"), Some("tcp"));
    assert_eq!(attached.head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    assert!(attached.early.is_empty(), "payload beside the headers");
    d.post(&format!("/containers/{id}/start"), &json!(null)).expect(204);
    let output = attached.rest();
    let mut expected = frame(1, "first\n");
    expected.extend(frame(2, "err\n"));
    let mut other = frame(2, "err\n");
    other.extend(frame(1, "first\n"));
    assert!(output == expected || output == other, "{}", String::from_utf8_lossy(&output));
});

scenario!(attach_without_upgrade_is_a_200, |d| {
    d.sh("docker run -d --name box busybox sh -c 'while [ ! -e /go ]; do sleep 0.1; done; echo late'").ok();
    let request = Request::new("POST", "/containers/box/attach?stream=1&stdout=1");
    let attached = request.open(UnixStream::connect(d.engine_socket()).unwrap()).unwrap();
    assert_eq!(attached.head.status(), 200);
    assert_eq!(attached.head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(
        (attached.head.header("Transfer-Encoding"), attached.head.header("Content-Length")),
        (None, None)
    );
    d.sh("docker exec -d box touch /go").ok();
    assert_eq!(attached.rest(), frame(1, "late\n"));
});

scenario!(a_half_closed_input_reaches_the_process, |d| {
    let body = json!({"Image": "busybox", "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true});
    let id = d.create(body);
    let mut attached = attach(d, &id, ALL);
    d.post(&format!("/containers/{id}/start"), &json!(null)).expect(204);
    attached.stream.write_all(b"into the container").unwrap();
    attached.stream.close_write();
    assert_eq!(attached.rest(), frame(1, "into the container"));
    d.sh(&format!("docker wait {id}")).ok();
});

scenario!(a_pipe_through_a_container, |d| {
    assert_eq!(d.sh("seq 1000 | docker run --rm -i busybox wc -l").ok(), "1000");
    assert_eq!(
        d.sh("head -c 5000000 /dev/zero | docker run --rm -i busybox sh -c 'cat | wc -c'").ok(),
        "5000000"
    );
    assert_eq!(d.sh("docker run --rm busybox head -c 5000000 /dev/zero | wc -c").ok(), "5000000");
});

scenario!(attach_replays_the_log_on_request, |d| {
    d.sh("docker run --name box busybox echo before").ok();
    assert_eq!(attach(d, "box", "logs=1&stdout=1").rest(), frame(1, "before\n"));
});

scenario!(attach_errors_are_told_before_the_hijack, |d| {
    let missing = attach(d, "nope", ALL);
    assert_eq!(missing.head.status(), 404);
    assert!(String::from_utf8_lossy(&missing.rest()).contains("No such container: nope"));
});

scenario!(several_attach_and_each_sees_all, |d| {
    d.sh("docker run -d --name box busybox sh -c 'while [ ! -e /go ]; do sleep 0.1; done; echo all'").ok();
    let attached: Vec<_> = (0..4).map(|_| attach(d, "box", "stream=1&stdout=1")).collect();
    d.sh("docker exec -d box touch /go").ok();
    for one in attached {
        assert_eq!(one.rest(), frame(1, "all\n"));
    }
});

scenario!(a_client_that_goes_away_leaves_the_container_running, |d| {
    d.sh(
        "docker run -d --name box busybox sh -c 'while [ ! -e /go ]; do echo x; sleep 0.1; done; echo done'",
    )
    .ok();
    drop(attach(d, "box", "stream=1&stdout=1"));
    d.sh("docker exec -d box touch /go").ok();
    assert_eq!(d.sh("docker wait box").ok(), "0");
    assert!(d.sh("docker logs box").ok().ends_with("done"));
});

scenario!(detach_keys_leave_the_container_running, |d| {
    let mut shell = d.terminal("docker run -it --name box busybox sh");
    shell.shows("/ # ");
    shell.types("\x10\x11");
    assert_eq!(shell.exit_code(), 0);
    assert_eq!(d.status("box"), "running");
    let mut again = d.terminal("docker attach box");
    again.types("echo $((20+3))\n");
    again.shows("23");
    again.types("exit 4\n");
    assert_eq!(again.exit_code(), 4);
});

scenario!(signals_of_the_user_reach_the_container, |d| {
    let mut run = d.sh_running("exec docker run --name box busybox sh -c 'trap \"echo caught; exit 12\" INT; echo ready; while :; do sleep 0.1; done'");
    run.shows("ready");
    d.sh("docker kill -s INT box").ok();
    run.shows("caught");
    assert_eq!(run.exit_code(), 12);
});

/// A client's short WebSocket frame, masked with zeros.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

scenario!(attach_speaks_websocket, |d| {
    for (version, opcode) in [("1.27", 1), ("1.41", 2)] {
        let body = json!({"Image": "busybox", "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true,
            "AttachStdin": true});
        let id = d.create(body);
        let target = format!("/v{version}/containers/{id}/attach/ws?stream=1&stdin=1&stdout=1");
        let request = Request::new("GET", &target)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Origin", "http://localhost")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        let mut attached = request.open(UnixStream::connect(d.engine_socket()).unwrap()).unwrap();
        assert_eq!(attached.head.status(), 101);
        assert_eq!(attached.head.header("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        d.post(&format!("/containers/{id}/start"), &json!(null)).expect(204);
        attached.stream.write_all(&masked(2, b"to and fro\n")).unwrap();
        let mut echo = [0; 13];
        attached.stream.read_exact(&mut echo).unwrap();
        assert_eq!((echo[0], echo[1], &echo[2..]), (0x80 | opcode, 11, &b"to and fro\n"[..]), "{version}");
        attached.stream.write_all(&masked(8, &1000u16.to_be_bytes())).unwrap();
        drop(attached);
        assert_eq!(d.sh(&format!("docker wait {id}")).ok(), "0", "its input has ended");
    }
});
