//! Files of containers from outside: `docker cp`, `docker export`, `docker diff`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::http::{Request, Response};
use crate::harness::images::{self, Layer};
use crate::harness::scenario::{Setup, scenario};

fn put(d: &Daemon, target: &str, archive: Vec<u8>) -> Response {
    d.send(Request::new("PUT", target).body("application/x-tar", archive))
}

/// What `X-Docker-Container-Path-Stat` says.
fn stat(d: &Daemon, path: &str) -> Value {
    let target = format!("/containers/box/archive?path={path}");
    let response = d.send(Request::new("HEAD", &target)).expect(200);
    let header = response.header("X-Docker-Container-Path-Stat").expect("the header is sent");
    serde_json::from_slice(&STANDARD.decode(header).unwrap()).unwrap()
}

/// Names in an archive.
fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let names = archive.entries().unwrap();
    names.map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap()).collect()
}

fn get(d: &Daemon, path: &str) -> Vec<u8> {
    d.get(&format!("/containers/box/archive?path={path}")).expect(200).0.body
}

scenario!(files_go_in_and_out_of_running_and_stopped_containers, |d| {
    d.sh("mkdir -p in/sub && echo one >in/a && echo two >in/sub/b && chmod 750 in/sub && ln -s a in/l").ok();
    d.sh("docker run -d --name running busybox sleep 1000; docker create --name stopped busybox true").ok();
    for name in ["running", "stopped"] {
        d.sh(&format!("docker cp in {name}:/tmp/ && docker cp in/a {name}:/tmp/renamed")).ok();
        d.sh(&format!("docker cp {name}:/tmp/in out && docker cp {name}:/tmp/renamed out/")).ok();
        assert_eq!(d.sh("cat out/a out/l out/sub/b out/renamed").ok(), "one\none\ntwo\none");
        assert_eq!(d.sh("stat -c %a out/sub && readlink out/l; rm -r out").ok(), "750\na");
    }
    assert_eq!(d.sh("docker exec running cat /tmp/in/sub/b").ok(), "two");
    d.sh("docker cp stopped:/nope .").fails(1, "Could not find the file /nope in container stopped");
    d.sh("docker cp in/a stopped:/nope/x").fails(1, "Could not find the file /nope in container stopped");
    assert_eq!(d.sh("docker start -a stopped").code(0), "");
});

scenario!(volumes_and_binds_are_part_of_a_container_s_files, |d| {
    d.sh("mkdir bound && echo host >bound/h && echo in >f").ok();
    d.sh("docker create --name box -v data:/v -v $PWD/bound:/b busybox sleep 1000").ok();
    for _ in ["stopped", "running"] {
        d.sh("docker cp f box:/v/f && docker cp f box:/b/f").ok();
        assert_eq!(d.sh("docker cp box:/v/f - | tar xO; docker cp box:/b/h - | tar xO").ok(), "in\nhost");
        d.sh("docker start box").ok();
    }
    assert_eq!(d.sh("cat bound/f; docker run --rm -v data:/d busybox cat /d/f").ok(), "in\nin");
});

// dockerd shows the root below a tmpfs mount.
scenario!(tmpfs_mounts_of_a_running_container_are_reached, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box --tmpfs /t --mount type=tmpfs,dst=/m busybox sh -c 'echo x >/t/x; sleep 1000'")
        .ok();
    d.sh("echo in >f; docker cp f box:/m/f").ok();
    assert_eq!(d.sh("docker exec box cat /m/f; docker cp box:/t/x - | tar xO").ok(), "in\nx");
    assert!(
        names(&get(d, "/")).iter().all(|name| !name.starts_with("/proc/s") && !name.starts_with("/dev/n"))
    );
});

scenario!(what_is_read_only_is_not_written, |d| {
    d.sh("echo x >f; docker run -d --name box --read-only -v data:/rw -v data:/ro:ro busybox sleep 1000")
        .ok();
    d.sh("docker cp f box:/").fails(1, "container rootfs is marked read-only");
    d.sh("docker cp f box:/ro").fails(1, "mounted volume is marked read-only");
    d.sh("docker cp f box:/rw").ok();
    assert_eq!(d.sh("docker exec box cat /ro/f").ok(), "x");
    // By an entry's name neither.
    let entry = Layer::new().file("ro/g", 0o644, b"").tar();
    assert!(put(d, "/containers/box/archive?path=/", entry).status() >= 400);
    d.sh("docker exec box test ! -e /ro/g").ok();
});

scenario!(a_path_is_described_as_go_describes_it, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    d.sh("docker exec box sh -c 'mkdir -p /d/s; echo abc >/d/f; ln -s /d /l; ln -s nowhere /n; mkfifo /p; chmod 4755 /d/f'")
        .ok();
    for (path, name, mode, target) in [
        ("/d", "d", 2_147_484_141_u64, ""),
        ("/l", "l", 134_218_239, "/d"),
        ("/l/", "l", 2_147_484_141, ""),
        ("/l/f", "f", 8_389_101, ""),
        ("/n", "n", 134_218_239, "/nowhere"),
        ("/p", "p", 33_554_852, ""),
        ("/", "/", 2_147_484_141, ""),
        ("/d/.", ".", 2_147_484_141, ""),
        ("/d/./", ".", 2_147_484_141, ""),
        ("/x/../d", "d", 2_147_484_141, ""),
    ] {
        let stat = stat(d, path);
        assert_eq!((&stat["name"], &stat["mode"]), (&json!(name), &json!(mode)), "{path}");
        assert_eq!(stat["linkTarget"], json!(target), "{path}");
        assert!(stat["mtime"].as_str().unwrap().starts_with("20"), "{stat}");
    }
    assert_eq!(stat(d, "/d/f")["size"], json!(4));
    let missing = d.get("/containers/box/archive?path=/nope").expect(404).message();
    assert_eq!(missing, "Could not find the file /nope in container box");
    d.get("/containers/box/archive?path=").expect(400);
    d.get("/containers/nosuch/archive?path=/").expect(404);
    d.get("/containers/box/archive?path=/d/f/").expect(500);
    assert_eq!(d.send(Request::new("HEAD", "/containers/box/archive?path=/nope")).status(), 404);
});

scenario!(an_archive_s_names_start_with_the_path_s_last_element, |d| {
    d.sh("docker run -d --name box busybox sh -c 'mkdir -p /d/s; echo >/d/s/f; ln -s /d /l; sleep 1000'")
        .ok();
    d.sh("until docker exec box test -L /l; do sleep 0.1; done").ok();
    assert_eq!(names(&get(d, "/d")), ["d/", "d/s/", "d/s/f"]);
    for contents in ["/d/.", "/d/./", "d/.//"] {
        assert_eq!(names(&get(d, contents)), ["./", "./s/", "./s/f"], "{contents}");
    }
    assert_eq!(names(&get(d, "/l")), ["l"]);
    assert_eq!(names(&get(d, "/l/")), ["l/", "l/s/", "l/s/f"]);
    assert_eq!(names(&get(d, "/d/s/f")), ["f"]);
    assert!(names(&get(d, "/")).contains(&"/etc/passwd".to_owned()));
});

scenario!(the_target_must_be_a_directory_and_kinds_can_be_kept, |d| {
    d.sh("docker run -d --name box busybox sh -c 'mkdir /dir; echo f >/file; ln -s /dir /link; sleep 1000'")
        .ok();
    d.sh("until docker exec box test -L /link; do sleep 0.1; done").ok();
    let file = |name: &str| Layer::new().file(name, 0o640, b"new").tar();
    let refused = put(d, "/containers/box/archive?path=/file", file("x"));
    assert_eq!(refused.message(), "extraction point is not a directory");
    let missing = put(d, "/containers/box/archive?path=/nope", file("x")).expect(404);
    assert_eq!(missing.message(), "Could not find the file /nope in container box");
    let kept = put(d, "/containers/box/archive?path=/&noOverwriteDirNonDir=1", file("dir"));
    assert!(kept.message().contains("cannot overwrite directory \"/dir\" with non-directory"), "{kept:?}");
    let directory = Layer::new().dir("file", 0o700).tar();
    let kept = put(d, "/containers/box/archive?path=/&noOverwriteDirNonDir=true", directory.clone());
    assert!(kept.message().contains("cannot overwrite non-directory \"/file\" with directory"), "{kept:?}");
    put(d, "/containers/box/archive?path=/", directory).expect(200);
    // A link at the end of the path is followed.
    put(d, "/containers/box/archive?path=/link", file(".wh.name")).expect(200);
    assert_eq!(d.sh("docker exec box sh -c 'stat -c %a /file; cat /dir/.wh.name'").ok(), "700\nnew");
    assert!(put(d, "/containers/box/archive?path=/", b"no archive".repeat(100)).status() >= 400);
});

// dockerd 20.10 looks the user up on the host.
scenario!(files_can_be_given_to_the_container_s_user, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box --user user busybox sleep 1000").ok();
    let archive = || Layer::new().dir("d", 0o755).file("d/f", 0o644, b"").tar();
    put(d, "/containers/box/archive?path=/tmp&copyUIDGID=1", archive()).expect(200);
    put(d, "/containers/box/archive?path=/home&copyUIDGID=0", archive()).expect(200);
    let owners = d.sh("docker exec box stat -c %u:%g /tmp/d /tmp/d/f /home/d/f").ok();
    assert_eq!(owners, "1000:1000\n1000:1000\n0:0");
});

scenario!(existing_files_are_replaced_and_directories_kept, |d| {
    d.sh("docker run -d --name box busybox sh -c 'mkdir /d; echo old >/d/f; ln /d/f /d/other; echo k >/d/kept; ln -s /etc/passwd /d/l; sleep 1000'").ok();
    d.sh("until docker exec box test -L /d/l; do sleep 0.1; done").ok();
    let archive =
        Layer::new().dir("d", 0o711).file("d/f", 0o600, b"new").file("d/l", 0o644, b"no link").tar();
    put(d, "/containers/box/archive?path=/", archive).expect(200);
    let seen = d.sh("docker exec box sh -c 'stat -c %a /d /d/f; cat /d/f; echo; cat /d/other /d/kept /d/l; grep -c root /etc/passwd'");
    assert_eq!(seen.ok(), "711\n600\nnew\nold\nk\nno link1");
});

scenario!(compressed_archives_are_taken, |d| {
    d.sh("docker create --name box busybox").ok();
    d.sh("echo content >f && tar cz f | docker cp - box:/tmp").ok();
    assert_eq!(d.sh("docker cp box:/tmp/f - | tar xO").ok(), "content");
});

// What is copied while a container does not run is there when it starts, and a start waits for a copy.
scenario!(a_start_in_the_middle_of_a_copy_loses_nothing, |d| {
    d.sh("mkdir many && for i in $(seq 300); do echo $i >many/$i; done").ok();
    d.sh("docker create --name box busybox sleep 1000").ok();
    d.sh("docker cp many box:/many & docker start box; wait").ok();
    assert_eq!(d.sh("docker exec box sh -c 'ls /many | wc -l'").ok(), "300");
});

scenario!(an_export_is_the_root_without_its_mounts, |d| {
    d.sh("docker run -d --name box -v data:/v busybox sh -c 'echo a >/added; rm /etc/group; echo v >/v/f; sleep 1000'").ok();
    d.sh("until docker exec box test -e /v/f; do sleep 0.1; done").ok();
    for _ in ["running", "stopped"] {
        let exported = d.get("/containers/box/export").expect(200);
        assert_eq!(exported.header("Content-Type"), Some("application/octet-stream"));
        let names = names(&exported.0.body);
        let has = |name: &str| names.iter().any(|one| one == name);
        assert!(has("added") && has("bin/busybox") && has("v/"), "{names:?}");
        assert!(
            !has("etc/group") && !has("v/f") && !has("./") && !names.iter().any(|n| n.starts_with("proc/s"))
        );
        d.sh("docker stop -t 0 box").ok();
    }
    assert_eq!(
        d.sh("docker export box | docker import - again >/dev/null && docker run --rm again cat /added").ok(),
        "a"
    );
    d.get("/containers/nosuch/export").expect(404);
});

scenario!(changes_are_told_against_the_image, |d| {
    d.sh("docker create --name fresh busybox").ok();
    assert_eq!(d.sh("docker diff fresh").ok(), "");
    d.sh("docker run --name box busybox sh -c 'mkdir -p /new/sub; echo x >/new/sub/f; rm /etc/group; echo u >>/etc/passwd; rm -r /home; mkdir /home; echo h >/home/h; chmod 711 /root'").ok();
    let expected =
        "A /home/h\nA /new\nA /new/sub\nA /new/sub/f\nC /etc\nC /etc/passwd\nC /home\nC /root\nD /etc/group";
    // A directory made anew is told as deleted and made, or as changed: that depends on dockerd's store.
    let seen = d
        .sh("docker diff box | grep -v '^D /home$' | sed 's/^A \\/home$/C \\/home/' | LC_ALL=C sort -u")
        .ok();
    assert_eq!(seen, expected);
    let kinds = d.get("/containers/box/changes").expect(200).json();
    let one = |path: &str| kinds.as_array().unwrap().iter().find(|one| one["Path"] == json!(path)).cloned();
    assert_eq!(one("/etc/group").unwrap()["Kind"], json!(2));
    assert_eq!(one("/new/sub").unwrap()["Kind"], json!(1));
    assert_eq!(one("/etc").unwrap()["Kind"], json!(0));
    d.get("/containers/nosuch/changes").expect(404);
});

scenario!(directories_that_every_container_has_are_no_changes, |d| {
    d.sh("docker create --name full busybox && docker export full | tar -x bin").ok();
    d.sh("tar -c bin | docker import - bare && docker run --name box bare /bin/sh -c true").ok();
    assert_eq!(d.sh("docker diff box").ok(), "");
    d.sh("docker run --name other bare /bin/sh -c 'echo >/etc/mine'").ok();
    assert_eq!(d.sh("docker diff other | sort").ok(), "A /etc/mine\nC /etc");
});

scenario!(copying_and_exporting_are_events, |d| {
    d.sh("docker create --name box busybox; echo x >f; docker cp f box:/; docker cp box:/f out; docker export box >e").ok();
    // The CLI's "now" is a whole second.
    let seen = d
        .sh("sleep 1.1; docker events --since 1h --until 0s --filter container=box --format '{{.Action}}'")
        .ok();
    assert_eq!(seen, "create\nextract-to-dir\narchive-path\nexport");
});

scenario!(archives_are_decompressed_whatever_they_are_compressed_with, |d| {
    d.sh("docker create --name box busybox true; mkdir tree; seq 9999 >tree/numbers; tar -C tree -cf all.tar .").ok();
    for (tool, suffix) in [("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz")] {
        d.sh(&format!("{tool} -k all.tar && curl -sf -H Expect: --unix-socket docker.sock -T all.tar.{suffix} 'http://d/v1.41/containers/box/archive?path=/tmp'"))
            .ok();
        d.sh("docker cp box:/tmp/numbers - | tar -x && cmp numbers tree/numbers && rm numbers").ok();
        d.sh(&format!("docker import all.tar.{suffix} imported:{suffix} && docker create --name {suffix} imported:{suffix} true && docker cp {suffix}:/numbers . && cmp numbers tree/numbers && rm numbers")).ok();
    }
    std::fs::write(d.dir().join("busybox.tar"), images::busybox().docker_archive()).unwrap();
    assert!(
        d.sh("xz busybox.tar && docker load <busybox.tar.xz").ok().contains("Loaded image: busybox:latest")
    );
    // A stream that is cut off is told.
    let cut = "head -c 2000 all.tar.xz >cut && curl -s -o said -w '%{http_code}' -H Expect: --unix-socket docker.sock -T cut 'http://d/v1.41/containers/box/archive?path=/tmp'";
    assert_ne!(d.sh(cut).ok(), "200");
});

scenario!(what_never_ran_has_its_working_directory_and_what_mounts_lie_on, |d| {
    d.sh("docker create --name box -w /app/here busybox ls && echo x >f && docker cp f box:/app/here/").ok();
    assert_eq!(d.sh("docker start -a box").ok(), "f");
    let listed = d.sh("docker create --name fresh busybox >/dev/null && docker export fresh | tar t").ok();
    for name in [".dockerenv", "dev/console", "dev/shm/", "etc/hosts", "etc/mtab", "proc/", "sys/"] {
        assert!(listed.lines().any(|line| line == name), "{name} in {listed}");
    }
    assert_eq!(d.sh("docker diff fresh").ok(), "");
});
