//! What clients match on: status codes and texts of dockerd.

use serde_json::{Value, json};

use crate::harness::scenario::scenario;

scenario!(unknown_objects_are_404_in_dockerd_s_words, |d| {
    assert_eq!(d.get("/containers/nope/json").expect(404).message(), "No such container: nope");
    assert_eq!(
        d.post("/containers/nope/start", &json!(null)).expect(404).message(),
        "No such container: nope"
    );
    let image = d.get("/images/nope/json").expect(404).message();
    assert!(image.ends_with("No such image: nope:latest"), "{image}");
    assert_eq!(d.get("/networks/nope").expect(404).message(), "network nope not found");
    assert_eq!(d.get("/volumes/nope").expect(404).message(), "get nope: no such volume");
    assert_eq!(d.get("/exec/nope/json").expect(404).message().to_lowercase(), "no such exec instance: nope");
    assert_eq!(d.get("/nothing/here").expect(404).message(), "page not found");
});

scenario!(a_name_is_used_once, |d| {
    let id = d.sh("docker create --name box busybox").ok();
    let again = d.post("/containers/create?name=box", &json!({"Image": "busybox"})).expect(409).message();
    assert_eq!(
        again,
        format!(
            "Conflict. The container name \"/box\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    let bad = d.post("/containers/create?name=-x", &json!({"Image": "busybox"})).expect(400).message();
    assert_eq!(bad, "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
});

scenario!(rm_frees_the_name_before_it_replies, |d| {
    for _ in 0..5 {
        d.sh("docker run --name box busybox true && docker rm box").ok();
    }
});

scenario!(starting_what_runs_and_stopping_what_does_not_is_304, |d| {
    let id = d.sh("docker run -d busybox sleep 1000").ok();
    d.post(&format!("/containers/{id}/start"), &json!(null)).expect(304);
    d.post(&format!("/containers/{id}/stop?t=0"), &json!(null)).expect(204);
    d.post(&format!("/containers/{id}/stop"), &json!(null)).expect(304);
});

scenario!(a_container_that_does_not_run_refuses_signals_and_execs, |d| {
    let id = d.sh("docker create --name box busybox").ok();
    let killed = d.post("/containers/box/kill", &json!(null)).expect(409).message();
    assert!(
        killed.to_lowercase().contains("cannot kill container: box")
            && killed.contains(&format!("{id} is not running")),
        "{killed}"
    );
    let execed = d.post("/containers/box/exec", &json!({"Cmd": ["true"]})).expect(409).message();
    assert!(execed.to_lowercase().contains(&format!("container {id} is not running")), "{execed}");
});

scenario!(a_running_container_is_not_removed_without_force, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let refused = d.delete("/containers/box").expect(409).message();
    assert!(refused.to_lowercase().contains("stop the container before"), "{refused}");
    d.delete("/containers/box?force=1").expect(204);
});

scenario!(an_image_in_use_is_kept, |d| {
    d.sh("docker create --name box busybox").ok();
    let refused = d.delete("/images/busybox").expect(409).message();
    assert!(refused.contains("conflict: unable to") && refused.contains("(must "), "{refused}");
    d.sh("docker start box; docker rm -f box").ok();
    d.delete("/images/busybox").expect(200);
});

scenario!(creating_from_a_missing_image_is_404, |d| {
    let refused = d.post("/containers/create", &json!({"Image": "nope"})).expect(404).message();
    assert_eq!(refused, "No such image: nope:latest");
});

scenario!(bad_bodies_are_400, |d| {
    let text =
        crate::harness::http::Request::new("POST", "/containers/create").body("text/plain", b"x".to_vec());
    assert!(matches!(d.send(text).status(), 400 | 415));
    let broken = crate::harness::http::Request::new("POST", "/containers/create")
        .body("application/json", b"{".to_vec());
    assert!(d.send(broken).status() >= 400);
    let none =
        d.post("/containers/create", &json!({"Image": "busybox", "Cmd": [], "HostConfig": {"Memory": 1}}));
    assert_eq!(none.status(), 400);
});

scenario!(versions_outside_the_range_are_400, |d| {
    let new = d.get("/v1.99/containers/json").expect(400).message();
    assert!(new.starts_with("client version 1.99 is too new. Maximum supported API version is 1."), "{new}");
    let old = d.get("/v1.10/containers/json").expect(400).text();
    assert!(old.contains("client version 1.10 is too old. Minimum supported API version is 1."), "{old}");
});

scenario!(a_busy_port_is_named, |d| {
    d.sh("docker run -d -p 8080:80 busybox sleep 1000").ok();
    d.sh("docker run -d --name second -p 8080:80 busybox sleep 1000").fails(125, "port is already allocated");
    assert_eq!(d.sh("docker inspect -f '{{.State.Status}}' second").ok(), "created");
});

scenario!(what_cannot_be_run_is_refused_with_the_words_that_clients_know, |d| {
    for (arguments, code, words) in [
        ("--cap-add NONSENSE", 125, "invalid CapAdd: unknown capability: \"CAP_NONSENSE\""),
        ("--cap-drop NONSENSE", 125, "invalid CapDrop: unknown capability: \"CAP_NONSENSE\""),
        ("--device /dev/nope", 127, "custom device \"/dev/nope\": no such file or directory"),
        ("--tmpfs /x:nonsense", 125, "invalid tmpfs option [\"nonsense\"]"),
        ("--network container:nope", 125, "No such container: nope"),
        ("--pid container:nope", 125, "No such container: nope"),
        ("--ipc container:nope", 125, "No such container: nope"),
        ("--volumes-from nope", 125, "No such container: nope"),
        ("-m 1m", 125, "Minimum memory limit allowed is 6MB"),
        ("--memory-swap 1m", 125, "You should always set the Memory limit when using Memoryswap limit"),
        ("--mount type=bind,source=/nope,target=/x", 125, "bind source path does not exist: /nope"),
        ("--stop-signal NONSENSE", 125, "nvalid signal: NONSENSE"),
        ("--oom-score-adj 5000", 125, "range for oom score adj is [-1000, 1000]"),
        ("-w x", 125, "the working directory 'x' is invalid, it needs to be an absolute path"),
    ] {
        d.sh(&format!("docker run --rm {arguments} busybox true")).fails(code, words);
    }
    assert_eq!(d.sh("docker ps -aq | wc -l").ok(), "0");
    d.sh("docker run -d --name web busybox sleep 1000").ok();
    let ended = d.sh("docker top web -o nonsense");
    ended.fails(1, "unknown user-defined format specifier");
    assert_eq!(ended.stderr.trim().lines().count(), 1, "{ended}");
    // Filters of events are not checked: newer clients ask for kinds that an older engine has not.
    d.sh("docker events --since 0s --until 0s --filter nonsense=1").ok();
});

scenario!(namespaces_of_what_does_not_run_cannot_be_shared, |d| {
    d.sh("docker create --name ended busybox").ok();
    for option in ["--pid", "--ipc"] {
        d.sh(&format!("docker create --name box {option} container:ended busybox true")).ok();
        let refused = d.post("/containers/box/start", &Value::Null).expect(500).message();
        assert!(refused.ends_with("is not running"), "{refused}");
        d.sh("docker rm box").ok();
    }
    d.sh("docker create --name box --pid container:ended busybox true && docker rm ended").ok();
    let refused = d.post("/containers/box/start", &Value::Null).expect(500).message();
    assert!(refused.contains("No such container: "), "{refused}");
});

// Fails without the prefix, with the kind of the failure as the status, and where slashes are no name at all.
scenario!(restart_and_rename_say_what_they_were_about, |d| {
    d.sh("docker create --name bad busybox /nope; docker create --name box busybox").ok();
    let refused = d.post("/containers/bad/restart", &json!(null)).expect(500).message();
    assert!(refused.starts_with("Cannot restart container bad: failed to create "), "{refused}");
    assert!(
        refused.ends_with("exec: \"/nope\": stat /nope: no such file or directory: unknown"),
        "{refused}"
    );
    for (name, words) in [
        ("/", "Error when allocating new name: Invalid container name (/), only "),
        ("//box2", "Error when allocating new name: Invalid container name (//box2), only "),
        ("", "Neither old nor new names may be empty"),
    ] {
        let said = d.post(&format!("/containers/box/rename?name={name}"), &json!(null)).expect(400).message();
        assert!(said.starts_with(words), "{name}: {said}");
    }
    d.post("/containers/box/rename?name=/box2", &json!(null)).expect(204);
});

scenario!(a_relative_directory_is_none_for_an_exec, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    // Fails where it is taken for one of the root.
    let said = d.sh("docker exec -w tmp box true 2>&1");
    assert!(said.code != 0 && said.stdout.contains("Cwd must be an absolute path"), "{said}");
    d.sh("docker exec -w '' box true").ok();
});
