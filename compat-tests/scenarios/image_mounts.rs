//! `--mount type=image`: an image's content in another image's container. From API 1.48 on; dockerd 20.10 is older.

use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::images::{Image, Layer, busybox};
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

/// `data:latest`: two layers, the upper of which replaces a file and takes one away; and links that lead astray.
fn data() -> Image {
    let base = Layer::new()
        .dir("sub/", 0o755)
        .file("sub/file", 0o644, b"old")
        .file("sub/removed", 0o644, b"x")
        .symlink("inside", "sub")
        .symlink("absolute", "/etc")
        .symlink("upwards", "../../../../../../../../../../etc");
    let upper = Layer::new().file("sub/file", 0o644, b"new").file("sub/.wh.removed", 0o644, b"");
    Image::new("data:latest", vec![base.tar(), upper.tar()])
}

fn mount(source: &str, target: &str, subpath: &str) -> Value {
    json!({"Type": "image", "Source": source, "Target": target, "ImageOptions": {"Subpath": subpath}})
}

/// A container of busybox with mounts; its id.
fn with(d: &Daemon, mounts: &[Value], command: &str) -> String {
    d.create(json!({"Image": "busybox", "Cmd": ["sh", "-c", command], "HostConfig": {"Mounts": mounts}}))
}

/// The status and message of a request to create a container with one mount.
fn refused(d: &Daemon, mount: &Value) -> (u16, String) {
    let body = json!({"Image": "busybox", "HostConfig": {"Mounts": [mount]}});
    let response = d.post("/containers/create", &body);
    (response.status(), response.json()["message"].as_str().unwrap_or_default().to_owned())
}

fn is_mounted(d: &Daemon) -> bool {
    d.sh("grep -c -e exec/images/ -e subpaths/ /proc/self/mounts").code == 0
}

scenario!(an_image_is_shown_for_reading_while_the_container_runs, Setup::new().slipway_only(), |d| {
    d.load(data().docker_archive());
    let mounts = [
        mount("data", "/whole", ""),
        mount("data:latest", "/part", "inside"),
        mount("data", "/file", "sub/file"),
        json!({"Type": "image", "Source": "busybox", "Target": "/twice", "ReadOnly": false}),
    ];
    let look = "ls /whole /part | tr '\\n' ' '; cat /whole/sub/file /file; test -x /twice/bin/sh && echo; \
                for place in /whole/new /part/new /file /twice/new; do touch $place; done 2>&1";
    let id = with(d, &mounts, look);
    assert!(!is_mounted(d));
    for _ in 0..2 {
        let seen = d.sh(&format!("docker start -a {id}")).stdout;
        assert!(seen.contains("absolute inside sub upwards"), "{seen}");
        assert!(seen.contains("/part: file") || seen.contains("newnew"), "{seen}");
        assert!(!seen.contains("removed"), "{seen}");
        assert_eq!(seen.matches("Read-only file system").count(), 4, "{seen}");
        eventually("nothing is mounted", || !is_mounted(d));
    }
    let inspected = d.inspect(&id);
    let shown = inspected["Mounts"].as_array().unwrap();
    let part = shown.iter().find(|mount| mount["Destination"] == "/part").unwrap();
    let expected = [("Type", json!("image")), ("Name", json!("data:latest")), ("RW", json!(false))];
    for (key, value) in expected.into_iter().chain([("Mode", json!("")), ("Propagation", json!("rprivate"))])
    {
        assert_eq!(part[key], value, "{key}");
    }
    assert!(part["Source"].as_str().unwrap().starts_with('/') && part.get("Driver").is_none());
    assert_eq!(inspected["HostConfig"]["Mounts"][1]["ImageOptions"]["Subpath"], "inside");
});

scenario!(an_image_mount_is_told_what_is_wrong_with_it, Setup::new().slipway_only(), |d| {
    let invalid = |problem: &str| (400, format!("invalid mount config for type \"image\": {problem}"));
    assert_eq!(refused(d, &mount("", "/x", "")), invalid("field Source must not be empty"));
    assert_eq!(refused(d, &mount("busybox", "", "")), invalid("field Target must not be empty"));
    let escaping = "subpath must be a relative path within the volume";
    assert_eq!(refused(d, &mount("busybox", "/x", "../etc")), invalid(escaping));
    assert_eq!(refused(d, &mount("busybox", "/x", "/etc")), invalid(escaping));
    let mut extra = mount("busybox", "/x", "");
    extra["BindOptions"] = json!({});
    assert_eq!(refused(d, &extra), invalid("field BindOptions must not be specified"));
    assert_eq!(refused(d, &mount("none:1", "/x", "")), (404, "No such image: none:1".to_owned()));
    let body = json!({"Image": "busybox", "HostConfig": {"Mounts": [mount("busybox", "/x", "")]}});
    d.post("/v1.47/containers/create", &body).expect(400);
    d.post("/v1.48/containers/create", &body).expect(201);
});

scenario!(no_link_of_an_image_leads_out_of_it, Setup::new().slipway_only(), |d| {
    d.load(data().docker_archive());
    let start = |part: &str| {
        let id = with(d, &[mount("data", "/x", part)], "cat /x/passwd");
        d.post(&format!("/containers/{id}/start"), &Value::Null).expect(500).message()
    };
    for part in ["absolute", "upwards", "inside/../absolute"] {
        assert!(start(part).contains("path concatenation escapes the base directory"), "{part}");
    }
    assert!(start("sub/removed").contains("cannot access path"));
    assert!(!is_mounted(d));
    // An absolute link is the container's own once the image is mounted.
    let id = with(d, &[mount("data", "/x", "")], "cat /x/absolute/hostname");
    assert_eq!(d.sh(&format!("docker start -a {id}")).ok(), id[..12]);
    let host = std::fs::read_to_string("/etc/passwd").unwrap();
    assert_ne!(d.sh(&format!("docker cp {id}:/x/upwards/passwd - | tar xO")).ok(), host.trim());
});

scenario!(a_mounted_image_keeps_its_name_and_its_content, Setup::new().slipway_only(), |d| {
    d.load(data().docker_archive());
    let id = with(d, &[mount("data", "/x", "sub")], "cat /x/file");
    let reads = || assert_eq!(d.sh(&format!("docker start -a {id}")).ok(), "new");
    d.sh("docker rmi data").fails(1, &format!("container {} is using its referenced image", &id[..12]));
    d.sh("docker image prune -af").ok();
    d.sh("docker image inspect data").ok();
    assert_eq!(d.sh("docker rmi -f data").ok(), "Untagged: data:latest");
    reads();
    d.sh("docker image prune -af && docker image prune -f").ok();
    reads();
    // By its id it goes from the list, and the content with the container.
    let image = d.inspect(&id)["HostConfig"]["Mounts"][0]["Source"].clone();
    assert_eq!(image, "data");
    let dangling = d.sh("docker images -qf dangling=true --no-trunc").ok();
    d.sh(&format!("docker rmi {dangling}")).ok();
    assert_eq!(d.sh("docker images -aqf dangling=true").ok(), "");
    reads();
    let layers = || d.sh("ls data/layers/layers | wc -l").ok();
    assert_eq!(layers(), "3");
    // A name that leads elsewhere since makes no difference.
    d.load(busybox().layer(Layer::new().file("file", 0o644, b"other")).named("data:latest").docker_archive());
    reads();
    d.sh(&format!("docker rm {id}")).ok();
    eventually("its layers are gone", || layers() == "2");
});

scenario!(files_of_a_mounted_image_are_copied_out_and_never_in, Setup::new().slipway_only(), |d| {
    d.load(data().docker_archive());
    let id = with(d, &[mount("data", "/x", ""), mount("data", "/y", "sub/file")], "sleep 1000");
    let copies = || {
        assert_eq!(d.sh(&format!("docker cp {id}:/x/sub/file - | tar xO")).ok(), "new");
        assert_eq!(d.sh(&format!("docker cp {id}:/y - | tar xO")).ok(), "new");
        let refused = d.sh(&format!("echo bad >bad && docker cp bad {id}:/x/bad"));
        refused.fails(1, "mounted volume is marked read-only");
        assert_eq!(d.sh(&format!("docker export {id} | tar t | grep -c -e ^x/. -e ^sub/")).code(1), "0");
    };
    copies();
    assert!(!is_mounted(d));
    d.sh(&format!("docker start {id}")).ok();
    copies();
    d.sh(&format!("docker commit {id} committed")).ok();
    assert_eq!(d.sh("docker run --rm committed ls -A /x").ok(), "");
});

scenario!(an_image_mount_is_taken_over_by_other_containers, Setup::new().slipway_only(), |d| {
    d.load(data().docker_archive());
    let store = with(d, &[mount("data", "/x", "sub")], "true");
    d.load(busybox().named("data:latest").docker_archive());
    d.sh(&format!(
        "docker create --name box --volumes-from {store} busybox cat /x/file && docker rm {store}"
    ))
    .ok();
    assert_eq!(d.sh("docker start -a box").ok(), "new");
    assert_eq!(d.inspect("box")["Mounts"][0]["Type"], "image");
});

scenario!(an_image_stays_mounted_without_the_engine, Setup::new().slipway_only(), |d| {
    d.load(data().docker_archive());
    let id = with(d, &[mount("data", "/x", "sub")], "while [ ! -e /go ]; do sleep 0.1; done; cat /x/file");
    d.sh(&format!("docker start {id}")).ok();
    d.kill_9();
    d.start_again();
    assert_eq!(d.sh(&format!("docker exec {id} cat /x/file")).ok(), "new");
    d.sh("docker image prune -af").ok();
    d.sh(&format!("docker exec {id} touch /go && docker wait {id}")).ok();
    assert_eq!(d.sh(&format!("docker logs {id}")).ok(), "new");
    eventually("nothing is mounted", || !is_mounted(d));
    // Killed between mounting and launching, and its directory taken away: nobody knows the container any more.
    d.kill_9();
    d.launch(&[("SLIPWAY_CRASH_AT", "container-prepared")]);
    d.wait_until_up();
    d.sh(&format!("docker start {id}")).code(1);
    d.end();
    assert!(is_mounted(d));
    d.sh(&format!("rm -r data/containers/{id}")).ok();
    d.start_again();
    eventually("what was left is unmounted", || !is_mounted(d));
});
