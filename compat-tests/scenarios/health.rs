//! Health checks: what probes say, how it is shown and told, and that nothing of them stays.

use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::images::busybox;
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

fn health(d: &Daemon, container: &str) -> Value {
    d.inspect(container)["State"]["Health"].clone()
}

fn becomes(d: &Daemon, container: &str, status: &str) {
    eventually(&format!("{container} is {status}"), || health(d, container)["Status"] == json!(status));
}

scenario!(a_container_is_as_healthy_as_its_probe_says, |d| {
    d.sh("docker run -d --name box --health-cmd 'echo out; test -e /ok' --health-interval 1s --health-retries 2 busybox sleep 1000")
        .ok();
    assert_eq!(health(d, "box"), json!({"Status": "starting", "FailingStreak": 0, "Log": []}));
    assert!(d.sh("docker ps").ok().contains("(health: starting)"));
    becomes(d, "box", "unhealthy");
    assert!(health(d, "box")["FailingStreak"].as_u64().unwrap() >= 2);
    assert!(d.sh("docker ps").ok().contains("(unhealthy)"));
    d.sh("docker exec box touch /ok").ok();
    becomes(d, "box", "healthy");
    assert_eq!(d.sh("docker ps -q --filter health=healthy").ok().lines().count(), 1);
    assert_eq!(d.sh("docker ps -q --filter health=none --filter health=starting").ok(), "");
    let now = health(d, "box");
    let last = now["Log"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["ExitCode"], &last["Output"]), (&json!(0), &json!("out\n")), "{now}");
    eventually("five results are kept", || health(d, "box")["Log"].as_array().unwrap().len() == 5);
    let told = d
        .sh("docker events --since 1 --until $(date +%s.%N) --filter type=container --format '{{.Action}}'")
        .ok();
    for action in [
        "health_status: unhealthy",
        "health_status: healthy",
        "exec_create: /bin/sh -c echo out; test -e /ok",
        "exec_start: /bin/sh -c echo out; test -e /ok",
        "exec_die",
    ] {
        assert!(told.lines().any(|line| line == action), "{action} in {told}");
    }
    let filtered = "docker events --since 1 --until $(date +%s.%N) --filter event=health_status | wc -l";
    assert_eq!(d.sh(filtered).ok(), "2");
    d.sh("docker stop -t 0 box").ok();
    assert_eq!(health(d, "box")["Status"], json!("unhealthy"));
});

scenario!(a_probe_that_takes_too_long_is_ended, |d| {
    d.sh("docker run -d --name box --health-cmd 'sleep 987' --health-interval 500ms --health-timeout 1s --health-retries 1 busybox sleep 1000")
        .ok();
    becomes(d, "box", "unhealthy");
    let outcome = health(d, "box")["Log"][0].clone();
    assert_eq!(outcome["ExitCode"], json!(-1));
    assert!(
        outcome["Output"].as_str().unwrap().starts_with("Health check exceeded timeout (1s)"),
        "{outcome}"
    );
    let probes = d.sh("docker top box | grep -c '[s]leep 987'");
    assert!(probes.stdout.trim().parse::<u32>().unwrap() <= 2, "{}", probes.stdout);
});

// The words before the time-out are shown since dockerd 24 only. Fails when the shim keeps nothing, or all.
scenario!(
    the_beginning_of_what_a_probe_says_is_kept,
    Setup::new().slipway_only().flags(&["--add-runtime", "debian=/usr/sbin/runc"]),
    |d| {
        let long = "head -c 5000 /dev/zero | tr '\\0' x; echo after >&2";
        for (name, flags, probe, streak, expected) in [
            ("long", "", long, 0, format!("{}...", "x".repeat(4096))),
            ("both", "", "echo out; echo err >&2; exit 3", 1, "out\nerr\n".to_owned()),
            ("other", "--runtime debian", "echo out; sleep 0.2; echo err >&2", 0, "out\nerr\n".to_owned()),
            ("late", "", "echo said; sleep 987", 1, "Health check exceeded timeout (1s): said\n".to_owned()),
        ] {
            let patience = if name == "late" { "1s" } else { "30s" };
            d.sh(&format!(
                "docker run -d --name {name} {flags} --health-cmd \"{probe}\" --health-interval 500ms --health-timeout {patience} busybox sleep 1000"
            ))
            .ok();
            let is_there = || health(d, name)["Log"].as_array().is_some_and(|log| !log.is_empty());
            eventually(&format!("a result of {name}"), is_there);
            let now = health(d, name);
            assert_eq!(now["Log"][0]["Output"], json!(expected), "{name}");
            assert_eq!(now["FailingStreak"].as_u64().unwrap() > 0, streak > 0, "{name}: {now}");
        }
    }
);

scenario!(a_probe_that_cannot_be_run_is_a_failed_one, |d| {
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck":
        {"Test": ["CMD", "/no/such/program"], "Interval": 500_000_000, "Retries": 1}});
    let id = d.create(body);
    d.sh(&format!("docker start {id}")).ok();
    becomes(d, &id, "unhealthy");
    let outcome = health(d, &id)["Log"][0].clone();
    assert_eq!(outcome["ExitCode"], json!(-1), "{outcome}");
    assert!(outcome["Output"].as_str().unwrap().contains("/no/such/program"), "{outcome}");
});

scenario!(a_frozen_container_is_not_probed, |d| {
    d.sh("docker run -d --name box --health-cmd true --health-interval 500ms busybox sleep 1000").ok();
    becomes(d, "box", "healthy");
    d.sh("docker pause box").ok();
    let before = health(d, "box")["Log"].clone();
    d.sh("sleep 1.5").ok();
    assert_eq!(health(d, "box")["Log"], before);
    d.sh("docker unpause box").ok();
    becomes(d, "box", "healthy");
});

scenario!(an_image_brings_its_probe_and_a_user_may_decline_it, |d| {
    let check = json!({"Test": ["CMD-SHELL", "true"], "Interval": 500_000_000});
    let image = busybox().named("probed:latest").with("Healthcheck", check);
    d.load(image.with("Cmd", json!(["sleep", "1000"])).docker_archive());
    d.sh("docker run -d --name own probed; docker run -d --name without --no-healthcheck probed").ok();
    becomes(d, "own", "healthy");
    assert_eq!(health(d, "without"), Value::Null);
    assert_eq!(d.sh("docker ps --filter health=none --format '{{.Names}}'").ok(), "without");
});

// dockerd 20.10 does not probe containers that it finds running.
scenario!(
    probes_go_on_after_the_engine_was_away,
    Setup::new().slipway_only().flags(&["--live-restore"]),
    |d| {
        d.sh("docker run -d --name box --health-cmd 'test -e /ok' --health-interval 500ms --health-retries 1 busybox sleep 1000").ok();
        becomes(d, "box", "unhealthy");
        d.kill_9();
        d.start_again();
        d.sh("docker exec box touch /ok").ok();
        becomes(d, "box", "healthy");
        d.sh("docker rm -f box").ok();
    }
);
