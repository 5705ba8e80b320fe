//! `POST /containers/{id}/wait`: three conditions, headers at once, exit codes that stay known.

use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::http::{Opened, Request};
use crate::harness::scenario::scenario;

fn waiting(d: &Daemon, container: &str, condition: &str) -> Opened<UnixStream> {
    let target = format!("/containers/{container}/wait?condition={condition}");
    let opened = Request::new("POST", &target).open(UnixStream::connect(d.socket()).unwrap()).unwrap();
    assert_eq!(opened.head.status(), 200);
    opened
}

fn code(mut waiting: Opened<UnixStream>) -> Value {
    let body = waiting.body_until(|_| false);
    serde_json::from_slice::<Value>(&body).unwrap()["StatusCode"].clone()
}

scenario!(wait_answers_its_headers_before_the_container_ends, |d| {
    d.sh("docker run -d --name box busybox sh -c 'while [ ! -e /go ]; do sleep 0.1; done; exit 7'").ok();
    let waiter = waiting(d, "box", "not-running");
    assert!(waiter.early.is_empty());
    d.sh("docker exec -d box touch /go").ok();
    assert_eq!(code(waiter), json!(7));
    assert_eq!(code(waiting(d, "box", "")), json!(7));
});

scenario!(next_exit_waits_for_a_start_first, |d| {
    d.sh("docker create --name box busybox sh -c 'exit 4'").ok();
    let waiter = waiting(d, "box", "next-exit");
    assert_eq!(code(waiting(d, "box", "not-running")), json!(0));
    d.sh("docker start box").ok();
    assert_eq!(code(waiter), json!(4));
});

scenario!(removed_waits_for_the_removal, |d| {
    d.sh("docker run -d --rm --name box busybox sh -c 'while [ ! -e /go ]; do sleep 0.1; done; exit 6'").ok();
    let waiter = waiting(d, "box", "removed");
    d.sh("docker exec -d box touch /go").ok();
    assert_eq!(code(waiter), json!(6));
    d.get("/containers/box/json").expect(404);
});

scenario!(removed_waits_over_a_restart, |d| {
    d.sh("docker run -d --rm --name box busybox sleep 1000").ok();
    let waiter = waiting(d, "box", "removed");
    d.sh("docker restart -t 0 box && docker exec box true && docker kill box").ok();
    assert_eq!(code(waiter), json!(137));
    d.get("/containers/box/json").expect(404);
});

scenario!(several_wait_at_once, |d| {
    d.sh("docker run -d --name box busybox sh -c 'while [ ! -e /go ]; do sleep 0.1; done; exit 2'").ok();
    let waiters: Vec<_> = (0..8).map(|_| waiting(d, "box", "next-exit")).collect();
    d.sh("docker exec -d box touch /go").ok();
    assert!(waiters.into_iter().all(|waiter| code(waiter) == json!(2)));
});

scenario!(waiting_for_what_could_not_start_tells_why, |d| {
    d.sh("docker create --name box busybox nosuch; docker start box").code(1);
    let told = d.post("/v1.41/containers/box/wait", &Value::Null).expect(200).json();
    assert_eq!(told["StatusCode"], json!(127));
    let why = told["Error"]["Message"].as_str().unwrap();
    assert!(why.contains("executable file not found in $PATH"), "{why}");
    d.sh("docker run --name good busybox true").ok();
    let told = d.post("/containers/good/wait", &Value::Null).expect(200).json();
    assert!(told["Error"].is_null(), "{told}");
});
