//! Lists and inspection: formats, filters, ids.

use serde_json::json;

use crate::harness::scenario::scenario;

scenario!(containers_are_found_by_filters, |d| {
    d.sh("docker run -d --name one --label team=blue busybox sleep 1000; docker run --name two busybox sh -c 'exit 3'; docker create --name three -v data:/d busybox true").ok();
    let names =
        |filter: &str| d.sh(&format!("docker ps -a --format '{{{{.Names}}}}' {filter} | sort | xargs")).ok();
    assert_eq!(names(""), "one three two");
    assert_eq!(names("--filter status=running"), "one");
    assert_eq!(names("--filter status=exited"), "two");
    assert_eq!(names("--filter exited=3"), "two");
    assert_eq!(names("--filter label=team"), "one");
    assert_eq!(names("--filter name=^t"), "three two");
    assert_eq!(names("--filter volume=data"), "three");
    assert_eq!(names("--filter ancestor=busybox"), "one three two");
    assert_eq!(names("--filter network=bridge --filter status=running"), "one");
    assert_eq!(names("--filter before=two"), "one");
    assert_eq!(names("--filter since=two"), "three");
    assert_eq!(names("-n 1"), "three");
    d.sh("docker ps --filter nonsense=1").fails(1, "nvalid filter");
});

scenario!(ids_may_be_shortened_if_unambiguous, |d| {
    let id = d.create(json!({"Image": "busybox", "Cmd": ["true"]}));
    for prefix in [&id[..], &id[..12], &id[..4]] {
        assert_eq!(d.inspect(prefix)["Id"], json!(id));
    }
    let image = d.sh("docker image inspect -f '{{.Id}}' busybox").ok();
    let short = &image["sha256:".len()..][..12];
    assert_eq!(d.sh(&format!("docker run --rm {short} echo by id")).ok(), "by id");
});

scenario!(inspect_shows_what_was_asked_and_the_defaults, |d| {
    let id =
        d.create(json!({"Image": "busybox", "Cmd": ["sleep", "5"], "Env": ["A=b"], "Labels": {"l": "m"}}));
    let shown = d.inspect(&id);
    assert_eq!((&shown["Path"], &shown["Args"]), (&json!("sleep"), &json!(["5"])));
    assert_eq!(shown["Config"]["Hostname"], json!(id[..12]));
    assert_eq!(shown["Config"]["Env"], json!(["A=b", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]));
    assert_eq!(shown["Config"]["Labels"], json!({"l": "m"}));
    assert_eq!(shown["HostConfig"]["ShmSize"], json!(67108864));
    assert_eq!(shown["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], json!(0));
    assert_eq!(shown["HostConfig"]["LogConfig"]["Type"], json!("json-file"));
    assert_eq!(shown["HostConfig"]["IpcMode"], json!("private"));
    assert_eq!(shown["State"]["Status"], json!("created"));
    assert_eq!(shown["State"]["StartedAt"], json!("0001-01-01T00:00:00Z"));
    assert_eq!(shown["Mounts"], json!([]));
    assert_eq!(shown["RestartCount"], json!(0));
    assert!(shown["HostConfig"]["MaskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
});

scenario!(a_listed_container_has_what_clients_read, |d| {
    d.sh("docker run -d --name box -p 8080:80 --label a=b busybox sleep 1000").ok();
    let listed = d.get("/v1.41/containers/json").expect(200).json()[0].clone();
    assert_eq!(
        (&listed["Names"], &listed["Image"], &listed["Command"], &listed["State"]),
        (&json!(["/box"]), &json!("busybox"), &json!("sleep 1000"), &json!("running"))
    );
    assert!(listed["Created"].is_u64() && listed["Status"].as_str().unwrap().starts_with("Up "));
    // dockerd keeps the CLI's "default" up to 25; its successors resolve the name when the container is created.
    let mode = &listed["HostConfig"]["NetworkMode"];
    assert!([json!("bridge"), json!("default")].contains(mode), "{mode}");
    assert!(
        listed["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().starts_with("172.17.")
    );
    let ports = listed["Ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["PrivatePort"] == json!(80)
        && port["PublicPort"] == json!(8080)
        && port["Type"] == json!("tcp")));
    assert_eq!((&listed["Labels"], &listed["Mounts"]), (&json!({"a": "b"}), &json!([])));
});

// Fails where the processes are not chosen for ps: of some options it shows nothing then, which is an error to it.
scenario!(top_takes_the_options_of_ps, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    for options in [
        "",
        "axf",
        "-C sleep",
        "-opid,cmd",
        "opid,cmd",
        "eopid,cmd",
        "l",
        "-o pid,cmd oargs,uid --format %cpu",
        "aux --sort=comm",
    ] {
        let shown = d.sh(&format!("docker top box {options}")).ok();
        assert_eq!(shown.lines().count(), 2, "{options}: {shown}");
        assert!(shown.contains("sleep"), "{options}: {shown}");
    }
    for (options, why) in [
        ("--no-headers", "Couldn't find PID field in ps output"),
        ("-C sleep -o cmd", "Couldn't find PID field in ps output"),
        ("-o", "format specification must follow -o"),
        // Processes of the host would be shown that have such a number.
        ("-o uid=PID,cmd", "specifying \"uid=PID,cmd\" is not allowed"),
    ] {
        d.sh(&format!("docker top box {options}")).fails(1, why);
    }
});

scenario!(rename_and_top_and_pause, |d| {
    d.sh("docker run -d --name box busybox sleep 1000 && docker rename box cup").ok();
    assert_eq!(d.sh("docker ps --format '{{.Names}}'").ok(), "cup");
    assert!(d.sh("docker top cup").ok().contains("sleep 1000"));
    d.sh("docker pause cup").ok();
    assert!(d.sh("docker ps --format '{{.Status}}'").ok().contains("(Paused)"));
    d.sh("docker exec cup true").fails(1, "is paused");
    d.sh("docker unpause cup && docker exec cup true").ok();
});

scenario!(a_restart_gives_a_new_process_and_the_same_container, |d| {
    d.sh("docker run -d --name box busybox sh -c 'echo up; exec sleep 1000'").ok();
    let before = d.inspect("box");
    d.sh("docker restart -t 0 box").ok();
    let after = d.inspect("box");
    assert_eq!(before["Id"], after["Id"]);
    assert_ne!(before["State"]["Pid"], after["State"]["Pid"]);
    assert_eq!(d.sh("docker logs box").ok(), "up\nup");
});

scenario!(stop_waits_for_the_grace_and_then_kills, |d| {
    d.sh("docker run -d --name deaf busybox sh -c 'trap : TERM; echo up; while :; do sleep 0.1; done'").ok();
    crate::harness::poll::eventually("it is up", || d.sh("docker logs deaf").stdout.contains("up"));
    d.sh("docker stop -t 1 deaf").ok();
    assert_eq!(d.inspect("deaf")["State"]["ExitCode"], json!(137));
    d.sh("docker run -d --name polite --stop-signal USR1 busybox sh -c 'trap \"exit 7\" USR1; echo up; while :; do sleep 0.1; done'").ok();
    crate::harness::poll::eventually("it is up", || d.sh("docker logs polite").stdout.contains("up"));
    d.sh("docker stop -t 30 polite").ok();
    assert_eq!(d.inspect("polite")["State"]["ExitCode"], json!(7));
});

scenario!(a_list_is_never_older_than_the_last_change, |d| {
    let id = d
        .create(json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}));
    let listed = || d.get("/v1.41/containers/json?all=1").expect(200).json()[0].clone();
    for turn in 0..20 {
        // Twice: the first answer may be kept for the second.
        listed();
        d.post(&format!("/containers/{id}/rename?name=name-{turn}"), &json!(null)).expect(204);
        assert_eq!(listed()["Names"], json!([format!("/name-{turn}")]));
        assert_eq!(listed()["Names"], json!([format!("/name-{turn}")]));
    }
    for (action, state) in
        [("start", "running"), ("pause", "paused"), ("unpause", "running"), ("kill", "exited")]
    {
        listed();
        d.post(&format!("/containers/{id}/{action}"), &json!(null)).expect(204);
        assert_eq!(listed()["State"], json!(state), "{action}");
    }
    d.post(&format!("/containers/{id}/start"), &json!(null)).expect(204);
    let status = listed()["Status"].clone();
    crate::harness::poll::eventually("time passes in the list", || listed()["Status"] != status);
    assert_eq!(listed()["Image"], json!("busybox"));
    d.sh("docker tag busybox other && docker rmi busybox").ok();
    assert_ne!(listed()["Image"], json!("busybox"), "an image lost its name");
    d.sh("docker tag other busybox").ok();
    assert_eq!(listed()["Image"], json!("busybox"));
    d.delete(&format!("/containers/{id}?force=1")).expect(204);
    assert_eq!(d.get("/v1.41/containers/json?all=1").expect(200).json(), json!([]));
});

scenario!(a_filter_may_be_typed_as_it_is, |d| {
    d.sh("docker create --name fresh busybox; docker run --name over busybox true").ok();
    let socket = d.engine_socket().display().to_string();
    let query = "all=1&filters={\"status\":[\"exited\"],\"name\":[\"over\"]}";
    let list =
        d.sh(&format!("curl -gsf --unix-socket {socket} 'http://x/v1.41/containers/json?{query}'")).ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list[0]["Names"], json!(["/over"]));
});
