//! Loading and unpacking: what a layer may hold, and what a hostile one must not do.

use serde_json::json;
use tar::EntryType;

use crate::harness::daemon::Daemon;
use crate::harness::http::Request;
use crate::harness::images::{Image, Layer, Packing, busybox};
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

scenario!(disk_usage_counts_what_is_there, |d| {
    let write = "echo 12345678 > /data/f; echo 1234 > /own; exec sleep 600";
    d.sh(&format!("docker run -d --name up -v data:/data busybox sh -c '{write}'")).ok();
    d.sh("docker create --name down busybox true; docker volume create spare").ok();
    eventually("the files are written", || d.sh("docker exec up test -s /own").code == 0);
    let table = d.sh("docker system df --format '{{.Type}}|{{.TotalCount}}|{{.Active}}'").ok();
    let expected = ["Images|1|1", "Containers|2|1", "Local Volumes|2|1", "Build Cache|0|0"];
    assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    let all = d.sh("docker system df -v").ok();
    assert!(all.contains("busybox") && all.contains("spare"), "{all}");
    let old = d.get("/v1.41/system/df").expect(200).json();
    let volumes = old["Volumes"].as_array().unwrap();
    let data = volumes.iter().find(|volume| volume["Name"] == "data").unwrap();
    assert_eq!(data["UsageData"], json!({ "RefCount": 1, "Size": 9 }));
    assert!(old["LayersSize"].as_i64().unwrap() > 0);
    d.sh("docker rm -f up down; docker volume rm data spare").ok();
});

scenario!(disk_usage_is_told_by_kind_to_new_clients, Setup::new().slipway_only(), |d| {
    let all = d.get("/v1.52/system/df").expect(200).json();
    assert_eq!(all["ImageUsage"]["TotalCount"], 1);
    assert!(all["ImageUsage"].get("Items").is_none(), "{all}");
    // docker-py reads these in any version.
    assert_eq!(all["Images"].as_array().unwrap().len(), 1);
    assert_eq!(all["LayersSize"], all["ImageUsage"]["TotalSize"]);
    let some = d.get("/v1.52/system/df?type=image&verbose=1").expect(200).json();
    assert_eq!(some["ImageUsage"]["Items"].as_array().unwrap().len(), 1);
    assert!(some.get("VolumeUsage").is_none() && some.get("Images").is_none(), "{some}");
});

scenario!(an_image_removed_by_force_goes_with_its_last_container, Setup::new().slipway_only(), |d| {
    let layers = d.dir().join("data/layers/layers");
    let count = || {
        let entries = std::fs::read_dir(&layers).unwrap().flatten();
        entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    d.sh("docker create --name one busybox true; docker create --name two busybox true").ok();
    d.sh("docker rmi -f $(docker images -q busybox)").ok();
    assert_eq!(d.sh("docker images -qa").ok(), "");
    d.sh("docker rm one; docker start -a two").ok();
    assert_eq!(count(), 1, "the other container's layer stays");
    d.sh("docker rm two").ok();
    eventually("the layer has gone", || count() == 0);
});

scenario!(layers_lost_in_a_power_cut_are_unpacked_at_the_start, Setup::new().slipway_only(), |d| {
    d.sh("docker create --name box busybox echo hi").ok();
    d.kill_9();
    // as another boot finds what was not on disk yet
    let dir = d.dir().join("data/layers");
    let lost = r#"sed -i 's/"boot_id":"[^"]*"/"boot_id":"earlier"/' layers/*/layer.json; rm -f synced/*"#;
    let done = std::process::Command::new("sh").args(["-c", lost]).current_dir(dir).status().unwrap();
    assert!(done.success());
    d.start_again();
    assert_eq!(d.sh("docker start -a box").ok(), "hi");
});

fn run(d: &Daemon, image: &Image, command: &str) -> String {
    d.load(image.docker_archive());
    d.sh(&format!("docker run --rm {} sh -c '{command}'", image.name)).ok()
}

scenario!(whiteouts_and_opaque_directories_hide, |d| {
    let image = busybox()
        .named("layers:1")
        .layer(
            Layer::new()
                .dir("a", 0o755)
                .file("a/one", 0o644, b"1")
                .file("a/two", 0o644, b"2")
                .dir("o", 0o755)
                .file("o/old", 0o644, b"x"),
        )
        .layer(
            Layer::new()
                .file("a/.wh.one", 0o644, b"")
                .dir("o", 0o755)
                .file("o/.wh..wh..opq", 0o644, b"")
                .file("o/new", 0o644, b"y"),
        );
    assert_eq!(run(d, &image, "ls /a /o"), "/a:\ntwo\n\n/o:\nnew");
    let again = image.named("layers:2").layer(Layer::new().file("a/one", 0o644, b"back"));
    assert_eq!(run(d, &again, "cat /a/one; ls /a"), "backone\ntwo");
});

scenario!(modes_links_owners_and_long_names_are_kept, |d| {
    let long = format!("deep/{}", "n".repeat(180));
    let image = busybox().named("kept:1").layer(
        Layer::new()
            .dir("deep", 0o2750)
            .file(&long, 0o640, b"long")
            .file("setuid", 0o4755, b"s")
            .entry(EntryType::Link, "hard", 0o4755, Some("setuid"), b"")
            .symlink("soft", "setuid")
            .device("node", 1, 3),
    );
    let script = format!(
        "stat -c %a /deep /setuid; stat -c %h /hard; readlink /soft; cat /{long}; echo; stat -c %F:%t:%T /node"
    );
    assert_eq!(run(d, &image, &script), "2750\n4755\n2\nsetuid\nlong\ncharacter special file:1:3");
});

scenario!(file_capabilities_are_kept, |d| {
    // VFS_CAP_REVISION_2, effective, cap_net_raw permitted (capabilities(7))
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let program = std::fs::read("/bin/busybox").or_else(|_| std::fs::read("/usr/bin/busybox")).unwrap();
    let image = busybox()
        .named("caps:1")
        .layer(Layer::new().xattr("security.capability", &capability).file("bin/cat", 0o755, &program));
    d.load(image.docker_archive());
    let effective =
        d.sh("docker run --rm -u 1000 --entrypoint /bin/cat caps:1 /proc/self/status | grep CapEff").ok();
    assert_eq!(effective, "CapEff:\t0000000000002000");
});

scenario!(an_image_of_120_layers_runs, |d| {
    let mut image = busybox().named("many:1");
    for index in 0..120 {
        image = image.layer(Layer::new().file(&format!("layer{index}"), 0o644, b"x"));
    }
    assert_eq!(run(d, &image, "ls / | grep -c layer"), "120");
});

scenario!(an_archive_may_be_compressed, Setup::new().without_image(), |d| {
    for packing in [Packing::Gzip, Packing::Plain] {
        let told = d.load(packing.pack(&busybox().docker_archive()));
        assert!(told.contains("Loaded image: busybox:latest"), "{told}");
    }
});

// dockerd 20.10 reads only its own format.
scenario!(an_oci_layout_is_loaded, Setup::new().without_image().slipway_only(), |d| {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let told = d.load(busybox().named("oci:1").oci_archive(packing));
        assert!(told.contains("Loaded image: oci:1"), "{told}");
        assert_eq!(d.sh("docker run --rm oci:1 echo ran").ok(), "ran");
        d.sh("docker rmi -f oci:1").ok();
    }
});

scenario!(a_root_file_system_is_imported, Setup::new().without_image(), |d| {
    std::fs::write(d.dir().join("root.tar"), &busybox().layers[0]).unwrap();
    let id = d.sh("docker import -c 'CMD [\"echo\", \"imported\"]' -m message root.tar mine:1").ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(d.sh("docker run --rm mine:1").ok(), "imported");
    assert_eq!(d.sh("docker history --format '{{.Comment}}' mine:1").ok(), "message");
});

// The status is 200 in any case: docker-py knows no other failure to load an image than one that the stream tells.
scenario!(what_is_no_archive_is_refused, Setup::new().without_image(), |d| {
    let refused = |archive: Vec<u8>| {
        let response =
            d.send(Request::new("POST", "/images/load").body("application/x-tar", archive)).expect(200);
        let told = response.json_stream();
        let error = told.last().unwrap_or_else(|| panic!("nothing is told"));
        assert!(error["error"].is_string(), "{error}");
        assert_eq!(error["errorDetail"]["message"], error["error"]);
    };
    refused(b"rubbish".to_vec());
    refused(Layer::new().file("manifest.json", 0o644, b"[{").tar());
    refused(Layer::new().file("a", 0o644, b"").tar());
    let wrong = busybox().docker_archive();
    refused(wrong[..wrong.len() / 2].to_vec());
    assert_eq!(d.sh("docker images -qa").ok(), "");
});

/// Layers that try to write outside themselves; what each must not have made under `/mnt/victim`, a file system that is only there in the sandbox.
fn hostile() -> Vec<(&'static str, Layer)> {
    let up = "../".repeat(20);
    let symlinked = |target: &str| Layer::new().symlink("out", target).file("out/made", 0o644, b"evil");
    vec![
        ("parent directories", Layer::new().file(&format!("{}mnt/victim/made", &up[..48]), 0o644, b"evil")),
        ("an absolute path", Layer::new().file("/mnt/victim/made", 0o644, b"evil")),
        ("through an absolute symlink", symlinked("/mnt/victim")),
        ("through a relative symlink", symlinked(&format!("{up}mnt/victim"))),
        (
            "a hard link outside",
            Layer::new().hard_link("link", "/mnt/victim/secret").file("link", 0o644, b"evil"),
        ),
        ("a hard link upwards", Layer::new().hard_link("link", &format!("{up}mnt/victim/secret"))),
        (
            "a symlink in place of a directory",
            Layer::new().dir("d", 0o755).symlink("d", "/mnt/victim").file("d/made", 0o644, b"evil"),
        ),
        ("a whiteout outside", Layer::new().symlink("out", "/mnt/victim").file("out/.wh.secret", 0o644, b"")),
        ("a whiteout of the parent", Layer::new().dir("d", 0o755).file("d/.wh...", 0o644, b"")),
        (
            "an opaque mark through a symlink",
            Layer::new().symlink("out", "/mnt/victim").file("out/.wh..wh..opq", 0o644, b""),
        ),
        ("a name that is empty", Layer::new().entry(EntryType::Regular, "", 0o644, None, b"evil")),
        (
            "a directory over a symlink",
            Layer::new().symlink("out", "/mnt/victim").dir("out", 0o777).file("out/made", 0o644, b"evil"),
        ),
    ]
}

// Fails when names are not cleaned, and when links are resolved without RESOLVE_IN_ROOT: `made` is in the victim's
// directory.
scenario!(a_hostile_layer_writes_nothing_outside, |d| {
    d.sh("mount -t tmpfs victim /mnt && mkdir /mnt/victim && echo kept >/mnt/victim/secret").ok();
    for (what, layer) in hostile() {
        let image = busybox().named("hostile:1").layer(layer);
        let bare = image.layers[1].clone();
        for (way, target, archive) in [
            ("docker's form", "/images/load?quiet=1", image.docker_archive()),
            ("OCI's form", "/images/load?quiet=1", image.oci_archive(Packing::Zstd)),
            ("import", "/images/create?fromSrc=-&repo=hostile&tag=1", bare),
        ] {
            let response = d.send(Request::new("POST", target).body("application/x-tar", archive));
            assert!(response.status() < 600, "{what}");
            if d.sh("docker image inspect hostile:1").code == 0 {
                d.sh("docker run --rm hostile:1 true");
            }
            assert_eq!(
                d.sh("cat /mnt/victim/secret; ls /mnt/victim; stat -c '%a %h' /mnt/victim/secret").ok(),
                "kept\nsecret\n644 1",
                "{what} {way}"
            );
            d.sh("docker rmi -f hostile:1");
        }
    }
});

/// An image whose archive names what is outside of it, by names and by links.
fn hostile_archive(names: &str, layer: Layer) -> Vec<u8> {
    let configuration = busybox().configuration();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["hostile:1"], "Layers": [names]}]);
    layer
        .file("../../../../../../../../../../mnt/victim/made", 0o644, b"evil")
        .symlink("out", "/mnt/victim")
        .file("out/made", 0o644, b"evil")
        .file("c.json", 0o644, &configuration)
        .file("manifest.json", 0o644, manifest.to_string().as_bytes())
        .tar()
}

// The host's file would be the image's content. It is a layer that suits the configuration, so that nothing else is
// wrong with the archive. Fails when a link in it means the host's file.
scenario!(an_archive_of_an_image_reads_and_writes_nothing_outside, Setup::new().without_image(), |d| {
    d.sh("mount -t tmpfs victim /mnt && mkdir /mnt/victim").ok();
    std::fs::write(d.dir().join("layer"), &busybox().layers[0]).unwrap();
    d.sh("cp layer /mnt/victim/secret").ok();
    let up = "../".repeat(20) + "mnt/victim/secret";
    for (what, archive) in [
        ("an absolute name", hostile_archive("/mnt/victim/secret", Layer::new())),
        ("a climbing name", hostile_archive(&up, Layer::new())),
        ("below a link", hostile_archive("out/secret", Layer::new())),
        ("an absolute link", hostile_archive("l", Layer::new().symlink("l", "/mnt/victim/secret"))),
        ("a climbing link", hostile_archive("l", Layer::new().symlink("l", &up))),
        ("a hard link", hostile_archive("l", Layer::new().hard_link("l", "/mnt/victim/secret"))),
        ("a climbing hard link", hostile_archive("l", Layer::new().hard_link("l", &up))),
    ] {
        let request = Request::new("POST", "/images/load?quiet=1").body("application/x-tar", archive);
        let response = d.send(request);
        assert!(response.status() < 600, "{what}");
        assert_eq!(d.sh("docker image inspect hostile:1").code, 1, "{what}");
        assert_eq!(d.sh("ls /mnt/victim").ok(), "secret", "{what}");
    }
});

scenario!(the_same_layer_in_two_images_is_kept_once, |d| {
    d.load(busybox().named("second:1").with("Labels", json!({"a": "b"})).docker_archive());
    d.sh("docker rmi busybox").ok();
    assert_eq!(d.sh("docker run --rm second:1 echo still").ok(), "still");
});

// dockerd 20.10 leaves it any one of its names.
scenario!(a_prune_leaves_an_image_in_use_the_name_it_is_used_by, Setup::new().slipway_only(), |d| {
    d.sh("docker tag busybox a/b:1 && docker tag busybox other").ok();
    d.sh("docker create --name box busybox").ok();
    d.sh("docker image prune -f").ok();
    assert_eq!(d.sh("docker images -q | wc -l").ok(), "3");
    let pruned = d.sh("docker image prune -af").ok();
    assert!(pruned.contains("untagged: a/b:1") && pruned.contains("untagged: other:latest"), "{pruned}");
    assert_eq!(d.sh("docker images --format '{{.Repository}}:{{.Tag}}'").ok(), "busybox:latest");
    d.sh("docker rm box && docker image prune -af").ok();
    assert_eq!(d.sh("docker images -q | wc -l").ok(), "0");
});
