//! Exec: more processes in a running container.

use std::io::Write;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::harness::http::Request;
use crate::harness::scenario::{Setup, scenario};

scenario!(exec_reports_its_exit_code, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    d.sh("docker exec box sh -c 'exit 11'").code(11);
    d.sh("docker exec box /etc/passwd").code(126);
    d.sh("docker exec box sh -c 'kill -9 $$'").code(137);
});

// dockerd 20.10 gives 126; 127 came with its successors.
scenario!(an_exec_of_a_command_that_is_not_there_is_127, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    d.sh("docker exec box no-such-command").code(127);
});

scenario!(exec_takes_user_directory_and_environment, |d| {
    d.sh("docker run -d --name box -e A=1 -w /tmp busybox sleep 1000").ok();
    assert_eq!(d.sh("docker exec box pwd").ok(), "/tmp");
    assert_eq!(
        d.sh("docker exec -w /etc -u user -e B=2 box sh -c 'pwd; id -u; echo $A$B'").ok(),
        "/etc\n1000\n12"
    );
    assert_eq!(d.sh("echo through | docker exec -i box cat").ok(), "through");
});

scenario!(a_detached_exec_is_inspected_until_it_ends, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let exec = d
        .post(
            "/containers/box/exec",
            &json!({"Cmd": ["sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; exit 9"]}),
        )
        .expect(201)
        .json();
    let id = exec["Id"].as_str().unwrap();
    assert_eq!(d.get(&format!("/exec/{id}/json")).expect(200).json()["Running"], json!(false));
    d.post(&format!("/exec/{id}/start"), &json!({"Detach": true})).expect(200);
    let running = d.get(&format!("/exec/{id}/json")).expect(200).json();
    assert_eq!((&running["Running"], &running["ExitCode"]), (&json!(true), &json!(null)));
    assert_eq!(d.post(&format!("/exec/{id}/start"), &json!({"Detach": true})).status(), 409);
    d.sh("docker exec box touch /go").ok();
    crate::harness::poll::eventually("the exec ends", || {
        d.get(&format!("/exec/{id}/json")).json()["Running"] == json!(false)
    });
    assert_eq!(d.get(&format!("/exec/{id}/json")).json()["ExitCode"], json!(9));
});

// Clients ask for the exit code as soon as the stream has ended. Failed about once in ten without the shim's wait for
// the daemon's acknowledgement.
scenario!(the_exit_is_known_when_the_stream_ends, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    for number in 0..100 {
        let body = json!({"Cmd": ["sh", "-c", format!("exit {}", number % 7)], "AttachStdout": true});
        let exec = d.post("/containers/box/exec", &body).expect(201).json();
        let id = exec["Id"].as_str().unwrap();
        d.post(&format!("/exec/{id}/start"), &json!({})).expect(200);
        let told = d.get(&format!("/exec/{id}/json")).expect(200).json();
        assert_eq!((&told["Running"], &told["ExitCode"]), (&json!(false), &json!(number % 7)));
    }
});

scenario!(the_container_s_end_ends_its_execs, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let mut exec = d.sh_running("docker exec box sh -c 'echo here; sleep 1000'");
    exec.shows("here");
    d.sh("docker kill box").ok();
    assert_eq!(exec.exit_code(), 137);
});

scenario!(the_exit_of_an_exec_is_known_after_its_container_s_removal, |d| {
    d.sh("docker run -d --rm --name box busybox sh -c 'until [ -e /go ]; do :; done'").ok();
    d.sh("docker exec box sh -c 'touch /go; sleep 1000'").code(137);
});

scenario!(a_terminal_of_an_exec_is_resized, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let mut shell = d.terminal("docker exec -it box sh");
    shell.shows("/ # ");
    shell.types("stty size; exit\n");
    shell.shows("24 80");
    assert_eq!(shell.exit_code(), 0);
});

// The CLI looks for the keys itself; other clients leave that to the engine. dockerd 20.10 ends the process.
scenario!(detach_keys_leave_an_exec_running, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let body = json!({ "Cmd": ["sh", "-c", "echo ready; sleep 777"], "AttachStdin": true, "AttachStdout": true,
                       "Tty": true, "DetachKeys": "ctrl-a,x" });
    let exec = d.post("/containers/box/exec", &body).expect(201).json();
    let target = format!("/exec/{}/start", exec["Id"].as_str().unwrap());
    let request = Request::new("POST", &target).header("Connection", "Upgrade").header("Upgrade", "tcp");
    let stream = UnixStream::connect(d.engine_socket()).unwrap();
    let mut started = request.json(&json!({ "Tty": true })).open(stream).unwrap();
    started.body_until(|body| body.starts_with(b"ready"));
    started.stream.write_all(b"\x01x").unwrap();
    started.rest();
    d.sh("docker exec box ps | grep -v grep | grep 'sleep 777'").ok();
    crate::harness::poll::eventually("the event", || {
        let events = "docker events --since 1 --until $(date +%s.%N) --filter event=exec_detach --format '{{.Action}}'";
        d.sh(events).ok() == "exec_detach"
    });
});

// docker-py makes execs with a terminal and starts them without, and takes the frames apart.
scenario!(the_start_of_an_exec_says_whether_its_output_is_in_frames, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let run = |made_with_tty: bool, started_with_tty: bool| {
        let script = "echo out; sleep 0.2; echo err >&2; sleep 0.2; stty size 2>/dev/null; true";
        let body = json!({ "Cmd": ["sh", "-c", script], "Tty": made_with_tty, "AttachStdout": true, "AttachStderr": true });
        let exec = d.post("/v1.41/containers/box/exec", &body).expect(201).json();
        let target = format!("/v1.41/exec/{}/start", exec["Id"].as_str().unwrap());
        d.post(&target, &json!({ "Tty": started_with_tty })).expect(200).text()
    };
    assert_eq!(run(false, false), "\u{1}\0\0\0\0\0\0\u{4}out\n\u{2}\0\0\0\0\0\0\u{4}err\n");
    // Where there are no frames, nothing could tell standard error from standard output.
    assert_eq!(run(false, true), "out\n");
    let framed = run(true, false);
    assert!(framed.starts_with("\u{1}\0\0\0\0\0\0\u{5}out\r\n\u{1}\0\0\0\0\0\0\u{5}err\r\n"), "{framed:?}");
    assert!(run(true, true).starts_with("out\r\nerr\r\n"));
});

// The same of its content type.
scenario!(the_start_of_an_exec_says_of_which_type_its_stream_is, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    for (tty, media) in [(true, "raw-stream"), (false, "multiplexed-stream")] {
        let body = json!({ "Cmd": ["true"], "Tty": !tty, "AttachStdout": true });
        let exec = d.post("/containers/box/exec", &body).expect(201).json();
        let target = format!("/exec/{}/start", exec["Id"].as_str().unwrap());
        let request = Request::new("POST", &target).header("Connection", "Upgrade").header("Upgrade", "tcp");
        let stream = UnixStream::connect(d.engine_socket()).unwrap();
        let started = request.json(&json!({ "Tty": tty })).open(stream).unwrap();
        let media = format!("application/vnd.docker.{media}");
        assert_eq!(started.head.header("content-type"), Some(media.as_str()));
        started.rest();
    }
});

// dockerd 20.10 gives 126 where its successors give 127.
scenario!(what_keeps_an_exec_from_running_is_told_as_it_is, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let unknown = d.sh("docker exec -u nosuch box true");
    assert_eq!(
        (unknown.code, unknown.stdout.trim()),
        (126, "unable to find user nosuch: no matching entries in passwd file")
    );
    let text = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuch\": \
                executable file not found in $PATH: unknown";
    let detached = d.sh("docker exec -d box nosuch");
    assert_eq!(detached.stderr.trim(), format!("Error response from daemon: {text}"));
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"],
                      "Healthcheck": {"Test": ["CMD", "nosuch"], "Interval": 100_000_000}});
    let probed = d.create(body);
    d.sh(&format!("docker start {probed}")).ok();
    let last = "{{with index .State.Health.Log 0}}{{.Output}}{{end}}";
    let look = format!("until docker inspect -f '{last}' {probed} 2>/dev/null | grep .; do sleep 0.1; done");
    assert_eq!(d.sh(&look).ok(), text);
});

scenario!(an_exec_shows_its_detach_keys, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let body = json!({"Cmd": ["true"], "DetachKeys": "ctrl-x,y"});
    let exec = d.post("/containers/box/exec", &body).expect(201).json()["Id"].clone();
    let shown = d.get(&format!("/exec/{}/json", exec.as_str().unwrap())).expect(200).json();
    assert_eq!(shown["DetachKeys"], json!("GHk="));
});
