//! `docker commit`: a container becomes an image.

use serde_json::json;

use crate::harness::scenario::scenario;

scenario!(a_committed_image_has_the_container_s_changes_and_runs, |d| {
    d.sh("docker run --name box -v data:/v busybox sh -c 'echo made >/made; rm /etc/group; echo v >/v/f'")
        .ok();
    let id = d.sh("docker commit -m note -a me box made:1").ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(
        d.sh("docker run --rm made:1 sh -c 'cat /made; ls /etc/group /v/f 2>/dev/null; true'").ok(),
        "made"
    );
    let image = d.get("/images/made:1/json").expect(200).json();
    assert_eq!((&image["Author"], &image["Comment"]), (&json!("me"), &json!("note")));
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let history = d.get("/images/made:1/history").expect(200).json();
    assert_eq!(history[0]["Comment"], json!("note"));
    assert_eq!(history[0]["CreatedBy"], json!("sh -c echo made >/made; rm /etc/group; echo v >/v/f"));
});

scenario!(instructions_change_the_committed_configuration, |d| {
    d.sh("docker create --name box -e KEPT=1 -e OLD=1 -w /tmp -l kept=1 busybox sh -c true").ok();
    let changes = "-c 'ENV OLD=2 NEW=3' -c 'LABEL new=2' -c 'EXPOSE 80' -c 'VOLUME /v' -c 'USER user' \
                   -c 'CMD [\"echo\", \"hello\"]' -c 'ONBUILD RUN x' \
                   -c 'HEALTHCHECK --interval=5s --retries=2 CMD true'";
    d.sh(&format!("docker commit {changes} box made")).ok();
    let config = d.get("/images/made/json").expect(200).json()["Config"].clone();
    let mut env: Vec<_> = config["Env"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    env.sort_unstable();
    assert_eq!(env, ["KEPT=1", "NEW=3", "OLD=2", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    assert_eq!(config["Labels"], json!({"kept": "1", "new": "2"}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/v": {}}));
    assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("user"), &json!("/tmp")));
    assert_eq!(config["Cmd"], json!(["echo", "hello"]));
    assert_eq!(config["OnBuild"], json!(["RUN x"]));
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(config["Healthcheck"]["Interval"], json!(5_000_000_000_u64));
    assert_eq!(d.sh("docker run --rm made").ok(), "hello");
});

scenario!(a_running_container_is_paused_for_a_commit_and_goes_on, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    d.sh("docker commit box made && docker commit --pause=false box made:2").ok();
    assert_eq!(d.status("box"), "running");
    // The CLI's "now" is a whole second.
    let seen = d
        .sh("sleep 1.1; docker events --since 1h --until 0s --filter container=box --format '{{.Action}}'")
        .ok();
    let seen: Vec<_> =
        seen.lines().filter(|action| ["pause", "unpause", "commit"].contains(action)).collect();
    assert_eq!(seen.iter().filter(|action| **action == "commit").count(), 2, "{seen:?}");
    assert_eq!(seen.iter().filter(|action| **action == "unpause").count(), 1, "{seen:?}");
    let attributes = d.sh("docker events --since 1h --until 0s --filter event=commit --format '{{json .Actor.Attributes}}' | head -1").ok();
    assert!(
        attributes.contains("\"imageRef\":\"made:latest\"") || attributes.contains("\"imageRef\":\"made\""),
        "{attributes}"
    );
});

scenario!(what_cannot_be_committed_is_refused, |d| {
    d.post("/commit?container=nosuch", &json!({})).expect(404);
    d.sh("docker create --name box busybox").ok();
    let bad = d.post("/commit?container=box&changes=RUN%20x", &json!({})).message();
    assert!(bad.to_lowercase().contains("run is not a valid change command"), "{bad}");
    assert!(d.post("/commit?container=box&repo=UPPER", &json!({})).status() >= 400);
    let made =
        d.post("/commit?container=box&repo=made", &json!({"Cmd": ["echo", "body"]})).expect(201).json();
    assert!(made["Id"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(d.sh("docker run --rm made").ok(), "body");
});

scenario!(a_committed_image_can_be_committed_again_and_removed, |d| {
    for (from, to) in [("busybox", "one"), ("one", "two"), ("two", "three")] {
        d.sh(&format!(
            "docker run --name {to} {from} sh -c 'echo {to} >/{to}; rm -f /{from}' && docker commit {to} {to}"
        ))
        .ok();
    }
    assert_eq!(d.sh("docker run --rm three sh -c 'ls /one /two /three 2>/dev/null; true'").ok(), "/three");
    d.sh("docker rm one two three && docker rmi three two one").ok();
    assert_eq!(d.sh("docker run --rm busybox echo still there").ok(), "still there");
});
