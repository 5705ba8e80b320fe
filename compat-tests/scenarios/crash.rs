//! `kill -9` of the engine: containers go on, nothing is lost, nothing half-made stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::json;

use crate::harness::daemon::Daemon;
use crate::harness::images::{Layer, Packing, busybox};
use crate::harness::poll::eventually;
use crate::harness::registry::DebianRegistry;
use crate::harness::scenario::{Setup, scenario};

/// dockerd keeps containers over its death when asked; Slipway always does.
fn kept() -> Setup {
    Setup::new().flags(&["--live-restore"])
}

scenario!(containers_go_on_without_the_engine_and_are_found_again, kept(), |d| {
    d.sh("docker run -d --name box -p 8080:80 busybox sh -c 'mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w'").ok();
    d.sh("docker run -d --name counter busybox sh -c 'i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i; usleep 3000; done; exit 5'").ok();
    let pid = d.inspect("box")["State"]["Pid"].clone();
    d.kill_9();
    assert!(d.sh(&format!("test -d /proc/{pid}")).code == 0, "the container lives without the engine");
    d.start_again();
    assert_eq!(d.status("box"), "running");
    assert_eq!(d.inspect("box")["State"]["Pid"], pid);
    assert_eq!(d.sh("curl -sf http://127.0.0.1:8080/").ok(), "served");
    assert_eq!(d.sh("docker exec box echo alive").ok(), "alive");
    assert_eq!(d.sh("docker wait counter").ok(), "5");
    let lines = d.sh("docker logs counter").ok();
    let expected: Vec<_> = (1..=1000).map(|i| i.to_string()).collect();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "no line of the log is lost");
    d.sh("docker stop -t 1 box").ok();
});

/// Runs a container `box` that waits to be let go, and ends while the engine is dead, with code 9.
fn ended_meanwhile(d: &Daemon) {
    d.sh("docker run -d --name box busybox sh -c 'echo first; while [ ! -e /go ]; do sleep 0.1; done; echo last; exit 9'").ok();
    let pid = d.inspect("box")["State"]["Pid"].as_i64().unwrap();
    d.kill_9();
    d.sh(&format!("touch /proc/{pid}/root/go")).ok();
    eventually("the container ends", || d.sh(&format!("test -d /proc/{pid}/root")).code != 0);
    d.start_again();
    eventually("the exit is known", || d.status("box") == "exited");
}

scenario!(an_exit_while_the_engine_is_dead_is_known_afterwards, kept(), |d| {
    d.sh("docker run -d --rm --name passing busybox sh -c 'sleep 1'").ok();
    ended_meanwhile(d);
    assert_eq!(d.inspect("box")["State"]["ExitCode"], json!(9));
    eventually("--rm is kept", || d.get("/containers/passing/json").status() == 404);
});

// dockerd reads its containers' pipes itself: what they say meanwhile is lost with it.
scenario!(what_a_container_says_while_the_engine_is_dead_is_in_its_log, kept().slipway_only(), |d| {
    ended_meanwhile(d);
    assert_eq!(d.sh("docker logs box").ok(), "first\nlast");
});

scenario!(a_stopped_engine_takes_its_containers_up_again, kept(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000 && docker create --name made busybox && docker run --name over busybox sh -c 'exit 3'").code(3);
    d.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(d.wait_until_ended().success());
    d.start_again();
    assert_eq!(
        (d.status("box"), d.status("made"), d.status("over")),
        ("running".into(), "created".into(), "exited".into())
    );
    assert_eq!(d.inspect("over")["State"]["ExitCode"], json!(3));
    assert_eq!(d.sh("docker images -q | wc -l; docker volume ls -q | wc -l").ok(), "1\n0");
});

/// Removes every container, each of which must be in a state that clients know.
fn remove_everything(d: &Daemon) {
    const STATES: [&str; 5] = ["created", "running", "exited", "dead", "removing"];
    for container in d.get("/containers/json?all=1").expect(200).json().as_array().unwrap() {
        let id = container["Id"].as_str().unwrap();
        assert!(STATES.contains(&container["State"].as_str().unwrap()), "{container}");
        d.get(&format!("/containers/{id}/json"));
        // It may be on its way out already.
        let removed = d.delete(&format!("/containers/{id}?force=1&v=1")).status();
        assert!(matches!(removed, 204 | 404 | 409), "{removed}");
    }
}

/// Kills the engine while `script` runs in a loop, at instants spread over its duration; checks after each that the
/// engine starts, lists and removes everything.
fn killed_during(d: &Daemon, script: &str, instants: impl Iterator<Item = u64>) {
    for milliseconds in instants {
        let mut running = d.sh_running(script);
        // The instant itself is what is varied here.
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        d.kill_9();
        running.exit_code();
        d.start_again();
        remove_everything(d);
        eventually("nothing is left", || {
            d.get("/containers/json?all=1").json().as_array().unwrap().is_empty()
        });
    }
}

// dockerd leaves half-made things behind when it is killed in the middle of a start.
scenario!(killed_in_the_middle_of_runs_it_leaves_nothing_behind, kept().slipway_only(), |d| {
    killed_during(
        d,
        "while :; do docker run --rm -v v:/v -p 8080:80 busybox true || exit 0; done",
        (0..25).map(|i| 40 + i * 13),
    );
    assert_eq!(d.sh("docker run --rm -p 8080:80 busybox echo fine").ok(), "fine");
});

scenario!(killed_in_the_middle_of_stops_and_removals_it_leaves_nothing_behind, kept().slipway_only(), |d| {
    let script =
        "while :; do docker run -d --name box busybox sleep 1000 && docker rm -f box || exit 0; done";
    killed_during(d, script, (0..15).map(|i| 60 + i * 17));
});

/// The names given to `crash_point!` in the engine's source.
fn crash_points() -> BTreeSet<String> {
    let mark = Regex::new(r#"crash_point!\(\s*"([^"]+)""#).unwrap();
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => {
                    let text = fs::read_to_string(entry.path()).unwrap();
                    found.extend(mark.captures_iter(&text).map(|captures| captures[1].to_owned()));
                }
            }
        }
    }
    found
}

/// Touches every kind of object; each command may find the engine dead.
const EXERCISE: &str = "
    docker pull -q 127.0.0.1:5000/app:1
    docker network create net
    docker run -d --name box -v data:/etc -p 8080:80 --network net busybox sleep 1000
    docker run -d --name other -p 8081:80 busybox sleep 1000
    docker exec box true
    docker stop -t 0 box
    docker rm -f box other
    docker run --rm 127.0.0.1:5000/app:1 true
    docker volume rm data
    docker network rm net
    docker rmi 127.0.0.1:5000/app:1
    true";

scenario!(killed_at_every_marked_step_it_recovers, Setup::new().slipway_only(), |d| {
    let registry = DebianRegistry::start(d, 5000);
    registry.push("app:1", &busybox().layer(Layer::new().file("more", 0o644, b"more")), Packing::Gzip);
    for place in crash_points() {
        d.kill_9();
        d.launch(&[("SLIPWAY_CRASH_AT", &place)]);
        d.sh(EXERCISE).ok();
        // It still runs if the place was not reached, or by a shim.
        d.end();
        d.start_again();
        d.sh("docker ps -aq | xargs -r docker rm -f && docker volume ls -q | xargs -r docker volume rm -f && docker network prune -f").ok();
        d.sh("docker rmi -f 127.0.0.1:5000/app:1");
        let ended = d.sh("docker pull -q 127.0.0.1:5000/app:1 && docker run --rm -p 8080:80 -v data:/etc 127.0.0.1:5000/app:1 cat /more");
        assert!(ended.code == 0 && ended.stdout.ends_with("more"), "after a crash at {place}: {ended}");
        d.sh("docker volume rm data && docker rmi 127.0.0.1:5000/app:1").ok();
    }
});
