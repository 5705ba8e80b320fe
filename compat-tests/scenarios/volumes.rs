//! Volumes: made, listed, filtered, used, pruned.

use serde_json::json;

use crate::harness::scenario::scenario;

scenario!(a_volume_is_made_with_labels_and_found_by_them, |d| {
    let made =
        d.post("/volumes/create", &json!({"Name": "data", "Labels": {"team": "blue"}})).expect(201).json();
    assert_eq!(
        (&made["Name"], &made["Driver"], &made["Scope"], &made["Labels"]["team"]),
        (&json!("data"), &json!("local"), &json!("local"), &json!("blue"))
    );
    d.sh("docker volume create other").ok();
    assert_eq!(d.sh("docker volume ls -q --filter label=team=blue").ok(), "data");
    assert_eq!(d.sh("docker volume ls -q --filter dangling=true").ok(), "data\nother");
    assert_eq!(d.sh("docker volume create data").ok(), "data");
    let anonymous = d.sh("docker volume create").ok();
    assert_eq!(anonymous.len(), 64);
});

scenario!(a_volume_in_use_is_kept, |d| {
    let id = d.sh("docker create -v data:/d busybox").ok();
    let refused = d.delete("/volumes/data").expect(409).message();
    assert_eq!(refused, format!("remove data: volume is in use - [{id}]"));
    d.sh(&format!("docker rm {id} && docker volume rm data")).ok();
});

scenario!(prune_removes_what_nobody_uses, |d| {
    d.sh("docker create --name box -v used:/d busybox; docker run -v /anonymous busybox true; docker volume create named").ok();
    d.sh("docker container prune -f --filter label=nobody").ok();
    assert_eq!(d.sh("docker volume ls -q | wc -l").ok(), "3");
    let pruned = d.sh("docker container prune -f").ok();
    assert!(pruned.contains("Deleted Containers:"), "{pruned}");
    d.sh("docker create --name box -v used:/d busybox").ok();
    d.sh("docker volume prune -f").ok();
    assert!(d.sh("docker volume ls -q").ok().lines().any(|name| name == "used"));
});

scenario!(a_bad_volume_name_or_driver_is_refused, |d| {
    let bad = d.post("/volumes/create", &json!({"Name": "a/b"})).message();
    assert!(bad.contains("includes invalid characters for a local volume name"), "{bad}");
    assert!(d.post("/volumes/create", &json!({"Name": "data", "Driver": "nope"})).status() >= 400);
});

scenario!(a_volume_shows_in_the_container_s_mounts, |d| {
    d.sh("docker create --name box -v data:/d:ro -v /tmp:/t busybox").ok();
    let mounts = d.inspect("box")["Mounts"].clone();
    let of = |destination: &str| {
        mounts
            .as_array()
            .unwrap()
            .iter()
            .find(|mount| mount["Destination"] == json!(destination))
            .unwrap()
            .clone()
    };
    let (volume, bind) = (of("/d"), of("/t"));
    assert_eq!(
        (&volume["Type"], &volume["Name"], &volume["Driver"], &volume["RW"]),
        (&json!("volume"), &json!("data"), &json!("local"), &json!(false))
    );
    assert_eq!((&bind["Type"], &bind["Source"], &bind["RW"]), (&json!("bind"), &json!("/tmp"), &json!(true)));
});
