//! Restart policies: what is started again, when, and what a user can do meanwhile; over restarts of the engine too.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

/// Ends at once when it is asked to, not without a complaint.
const OBEDIENT: &str = "sh -c 'trap \"exit 1\" TERM; while :; do sleep 0.1; done'";

/// Runs `command` as container `name` with a restart policy.
fn run(d: &Daemon, name: &str, policy: &str, command: &str) {
    d.sh(&format!("docker run -d --name {name} --restart {policy} busybox {command}")).ok();
}

/// Waits until container `name` waits for its restart number `count` or a later one.
fn loops(d: &Daemon, name: &str, count: i64) -> Value {
    eventually("it waits for a restart", || {
        let shown = d.inspect(name);
        shown["State"]["Status"] == json!("restarting") && shown["RestartCount"].as_i64() >= Some(count)
    });
    d.inspect(name)
}

fn end_in_order(d: &Daemon) {
    d.signal(Signal::SIGTERM);
    assert!(d.wait_until_ended().success());
}

scenario!(what_the_engine_stopped_runs_again_what_a_user_stopped_depends, |d| {
    for (name, policy) in [
        ("plain", "no"),
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("failing", "on-failure:3"),
        ("always-stopped", "always"),
        ("unless-stopped", "unless-stopped"),
        ("failing-stopped", "on-failure:3"),
    ] {
        run(d, name, policy, OBEDIENT);
    }
    d.sh("docker create --name new --restart always busybox sleep 1000").ok();
    d.sh("docker stop always-stopped unless-stopped failing-stopped").ok();
    assert_eq!(d.status("always-stopped"), "exited");
    end_in_order(d);
    d.start_again();
    for name in ["always", "unless", "failing", "always-stopped", "failing-stopped"] {
        eventually(name, || d.status(name) == "running");
        assert_eq!(d.inspect(name)["RestartCount"], json!(0), "{name}");
    }
    for (name, status) in [("plain", "exited"), ("unless-stopped", "exited"), ("new", "created")] {
        assert_eq!(d.status(name), status, "{name}");
    }
});

scenario!(what_a_user_stopped_stays_down_after_a_crash, Setup::new().flags(&["--live-restore"]), |d| {
    run(d, "running", "unless-stopped", OBEDIENT);
    run(d, "stopped", "unless-stopped", OBEDIENT);
    d.sh("docker stop stopped").ok();
    let pid = d.inspect("running")["State"]["Pid"].clone();
    d.kill_9();
    d.start_again();
    eventually("it still runs", || d.inspect("running")["State"]["Pid"] == pid);
    assert_eq!((d.status("running"), d.status("stopped")), ("running".into(), "exited".into()));
});

scenario!(
    an_end_without_the_engine_is_followed_by_a_start_with_it,
    Setup::new().flags(&["--live-restore"]),
    |d| {
        run(d, "box", "unless-stopped", OBEDIENT);
        let pid = d.inspect("box")["State"]["Pid"].clone();
        d.kill_9();
        d.sh(&format!("kill {pid}")).ok();
        eventually("it ends", || d.sh(&format!("test -d /proc/{pid}/root")).code != 0);
        d.start_again();
        eventually("it runs again", || {
            let state = &d.inspect("box")["State"];
            state["Status"] == json!("running") && state["Pid"] != pid
        });
    }
);

scenario!(a_container_in_a_restart_loop_counts_as_running, |d| {
    run(d, "box", "always", "false");
    let state = loops(d, "box", 5)["State"].take();
    assert_eq!(
        (&state["Running"], &state["Restarting"], &state["Paused"], &state["Pid"], &state["ExitCode"]),
        (&json!(true), &json!(true), &json!(false), &json!(0), &json!(1))
    );
    let status = d.sh("docker ps --filter status=restarting --format '{{.Status}}'").ok();
    assert!(status.starts_with("Restarting (1) ") && status.ends_with(" ago"), "{status}");
    assert_eq!(d.post("/containers/box/start", &json!(null)).status(), 304);
    assert_eq!(d.post("/containers/box/pause", &json!(null)).status(), 409);
    assert_eq!(d.post("/containers/box/exec", &json!({"Cmd": ["true"]})).status(), 409);
    // Fails when it counts as one that is not running.
    let top = d.get("/containers/box/top").expect(409).text();
    assert!(top.contains("is restarting, wait until the container is running"), "{top}");
    assert_eq!(d.delete("/containers/box").status(), 409);
});

scenario!(a_restart_loop_is_ended_by_stop_and_by_kill_and_by_removal, |d| {
    for command in ["stop", "kill"] {
        run(d, command, "always", "false");
        loops(d, command, 6);
        d.sh(&format!("docker {command} {command}")).ok();
        eventually("it has ended", || d.status(command) == "exited");
    }
    run(d, "removed", "always", "false");
    loops(d, "removed", 5);
    d.sh("docker rm -f removed").ok();
    assert_eq!(d.get("/containers/removed/json").status(), 404);
    for ended in ["stop", "kill"] {
        assert_eq!(d.status(ended), "exited", "{ended}");
        d.sh(&format!("docker start {ended}")).ok();
        loops(d, ended, 1);
    }
});

scenario!(a_manual_start_counts_restarts_anew, |d| {
    run(d, "box", "on-failure:1", "sh -c 'exit 3'");
    let given_up = || {
        let shown = d.inspect("box");
        shown["State"]["Status"] == json!("exited") && shown["RestartCount"] == json!(1)
    };
    eventually("it has given up", given_up);
    assert_eq!(d.inspect("box")["State"]["ExitCode"], json!(3));
    let ended = d.inspect("box")["State"]["FinishedAt"].clone();
    d.sh("docker start box").ok();
    eventually("it has given up again", || given_up() && d.inspect("box")["State"]["FinishedAt"] != ended);
});

scenario!(the_end_of_the_last_run_is_shown_during_the_next, |d| {
    d.sh("docker run -d --name box busybox sleep 1000 && docker kill box").ok();
    eventually("it has ended", || d.status("box") == "exited");
    let ended = d.inspect("box")["State"]["FinishedAt"].clone();
    d.sh("docker start box").ok();
    assert_eq!(d.inspect("box")["State"]["FinishedAt"], ended);
});

scenario!(what_is_to_be_removed_by_itself_goes_with_a_restart_of_the_engine, |d| {
    d.sh("docker create --rm --name made busybox true").ok();
    d.sh(&format!("docker run -d --rm --name ran busybox {OBEDIENT}")).ok();
    end_in_order(d);
    d.start_again();
    for name in ["made", "ran"] {
        eventually(name, || d.get(&format!("/containers/{name}/json")).status() == 404);
    }
});

scenario!(what_is_to_be_removed_by_itself_outlives_a_restart, |d| {
    for end in ["docker kill box", "docker stop -t 0 box", "docker exec box kill -USR1 1"] {
        d.sh("docker run -d --rm --name box busybox \
              sh -c 'trap exit TERM USR1; touch /on; while :; do sleep 0.1; done'")
            .ok();
        // By its own end, and by SIGKILL.
        for restart in ["docker restart box", "docker restart -t 0 box", "docker restart box"] {
            d.sh("until docker exec box rm /on; do sleep 0.1; done").ok();
            d.sh(restart).ok();
            assert_eq!(d.status("box"), "running", "{restart}");
        }
        d.sh("until docker exec box rm /on; do sleep 0.1; done").ok();
        d.sh(end).ok();
        eventually(end, || d.get("/containers/box/json").status() == 404);
    }
});
