//! Every version of the API, from 1.24 to the newest.

use serde_json::json;

use crate::harness::http::Request;
use crate::harness::scenario::{Setup, scenario};

// Each response is held against the schema of its version by the harness.
scenario!(a_container_s_life_in_every_version, Setup::new().slipway_only(), |d| {
    let newest: u32 =
        d.get("/version").expect(200).json()["ApiVersion"].as_str().unwrap()[2..].parse().unwrap();
    assert!(newest >= 55);
    for minor in 24..=newest {
        let v = format!("/v1.{minor}");
        let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", "echo hi; exit 3"], "HostConfig": {"NetworkMode": "none"}});
        let id = d.post(&format!("{v}/containers/create"), &body).expect(201).json()["Id"]
            .as_str()
            .unwrap()
            .to_owned();
        d.post(&format!("{v}/containers/{id}/start"), &json!(null)).expect(204);
        assert_eq!(
            d.post(&format!("{v}/containers/{id}/wait"), &json!(null)).expect(200).json()["StatusCode"],
            json!(3)
        );
        assert_eq!(
            d.get(&format!("{v}/containers/{id}/json")).expect(200).json()["State"]["ExitCode"],
            json!(3)
        );
        for target in [
            "containers/json?all=1",
            "images/json",
            "images/busybox/json",
            "images/busybox/history",
            "networks",
            "volumes",
            "info",
            "version",
        ] {
            d.get(&format!("{v}/{target}")).expect(200);
        }
        assert!(d.get(&format!("{v}/containers/{id}/logs?stdout=1")).expect(200).text().ends_with("hi\n"));
        d.delete(&format!("{v}/containers/{id}")).expect(204);
    }
});

scenario!(ping_answers_head_and_get_with_every_header, Setup::new().without_image(), |d| {
    for method in ["HEAD", "GET"] {
        let pong = d.send(Request::new(method, "/_ping")).expect(200);
        for header in
            ["Api-Version", "Docker-Experimental", "Ostype", "Server", "Cache-Control", "Content-Type"]
        {
            assert!(pong.header(header).is_some(), "{method}: {header}");
        }
    }
});

scenario!(a_stream_s_type_is_told_from_version_1_42, Setup::new().slipway_only(), |d| {
    d.sh("docker run --name plain busybox echo hi; docker run -t --name tty busybox echo hi").ok();
    for (version, name, expected) in [
        ("1.41", "plain", "raw-stream"),
        ("1.42", "plain", "multiplexed-stream"),
        ("1.55", "tty", "raw-stream"),
    ] {
        let logs = d.get(&format!("/v{version}/containers/{name}/logs?stdout=1")).expect(200);
        assert_eq!(
            logs.header("Content-Type"),
            Some(&*format!("application/vnd.docker.{expected}")),
            "{version} {name}"
        );
    }
});

scenario!(fields_that_newer_versions_dropped_are_kept, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    for version in ["1.24", "1.41", "1.55"] {
        let shown = d.get(&format!("/v{version}/containers/box/json")).expect(200).json();
        assert!(
            shown["NetworkSettings"]["IPAddress"].as_str().is_some_and(|address| address.starts_with("172.")),
            "{version}"
        );
        // Compose 1 cannot recreate a container without it.
        let image = d.get(&format!("/v{version}/images/busybox/json")).expect(200).json();
        assert!(image["ContainerConfig"].is_object(), "{version}: {image}");
    }
});
