//! Copying in and out of containers that want the host's files: CVE-2018-15664, CVE-2019-14271, CVE-2021-41089 and
//! their kin. Links mean the container's own root, whoever swaps them and when.

use tar::EntryType;

use crate::harness::daemon::Daemon;
use crate::harness::http::{Request, Response};
use crate::harness::images::Layer;
use crate::harness::scenario::{Setup, scenario};

/// A file system that is only in the sandbox, with a secret that no container may meet.
fn victim(d: &Daemon) {
    d.sh("mount -t tmpfs -o mode=755 victim /mnt && mkdir /mnt/victim && echo secret >/mnt/victim/file && chmod 600 /mnt/victim/file").ok();
}

fn expect_untouched(d: &Daemon, after: &str) {
    let seen =
        d.sh("cat /mnt/victim/file; ls -A /mnt/victim; stat -c %a:%u /mnt/victim /mnt/victim/file").ok();
    assert_eq!(seen, "secret\nfile\n755:0\n600:0", "{after}");
}

fn put(d: &Daemon, path: &str, archive: Vec<u8>) -> Response {
    let target = format!("/containers/box/archive?path={path}");
    d.send(Request::new("PUT", &target).body("application/x-tar", archive))
}

// Fails without RESOLVE_IN_ROOT: the secret is read through /abs.
scenario!(links_in_a_container_lead_to_its_own_files_when_read, |d| {
    victim(d);
    d.sh("docker run -d --name box busybox sh -c 'ln -s /mnt/victim /abs; ln -s ../../../../../../mnt/victim /up; ln -s /proc/1/root/mnt /magic; sleep 1000'").ok();
    d.sh("until docker exec box test -L /magic; do sleep 0.1; done").ok();
    for _ in ["running", "stopped"] {
        for path in
            ["/abs/file", "/up/file", "/abs/", "/up/.", "/magic/victim/file", "/abs/../../mnt/victim/file"]
        {
            let ended = d.sh(&format!("docker cp box:{path} - | tar xO"));
            assert!(!ended.stdout.contains("secret"), "{path}: {ended}");
        }
        d.sh("docker stop -t 0 box").ok();
    }
});

// CVE-2021-41089: modes too. Fails without RESOLVE_IN_ROOT: a file is made in the victim's directory.
scenario!(links_in_a_container_lead_to_its_own_files_when_written, |d| {
    victim(d);
    d.sh("docker run -d --name box busybox sh -c 'mkdir -p /mnt/victim; ln -s /mnt/victim /abs; ln -s ../../../../../../mnt/victim /up; sleep 1000'").ok();
    d.sh("until docker exec box test -L /up; do sleep 0.1; done").ok();
    for path in ["/abs", "/up", "/abs/../up"] {
        put(d, path, Layer::new().file("file", 0o666, b"evil").file("new", 0o666, b"").tar());
        expect_untouched(d, path);
    }
    // By links in the archive itself, and by links that were there before.
    let through = Layer::new().symlink("out", "/mnt/victim").file("out/evil", 0o666, b"evil");
    put(d, "/tmp", through.tar());
    put(d, "/", Layer::new().file("abs/evil", 0o666, b"evil").file("up/evil2", 0o666, b"evil").tar());
    expect_untouched(d, "entries below links");
});

// Fails when names are not cleaned: those that climb are taken, and files lie beside the directory. They reach the host
// when the copy's tree is no mount namespace of its own besides, whose root has nothing above it.
scenario!(an_archive_s_names_and_links_stay_in_the_container, |d| {
    victim(d);
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let up = "../".repeat(20);
    for (what, status, layer) in [
        ("a climbing name", 500, Layer::new().file(&format!("{up}mnt/victim/evil"), 0o666, b"evil")),
        ("a name that comes back", 200, Layer::new().file("a/../evil", 0o666, b"evil")),
        ("an absolute name", 200, Layer::new().file("/mnt/victim/evil", 0o666, b"evil")),
        (
            "a climbing hard link",
            500,
            Layer::new().hard_link("stolen", &format!("{up}mnt/victim/file")).file("stolen", 0o666, b"evil"),
        ),
        ("an absolute hard link", 500, Layer::new().hard_link("stolen", "/mnt/victim/file")),
        ("a directory over a link", 200, Layer::new().symlink("d", "/mnt/victim").dir("d", 0o777)),
        (
            "a FIFO over a link",
            200,
            Layer::new().symlink("f", "/mnt/victim/file").entry(EntryType::Fifo, "f", 0o6777, None, b""),
        ),
    ] {
        let response = put(d, "/tmp", layer.tar());
        expect_untouched(d, what);
        assert_eq!(response.status(), status, "{what}");
        if what == "a climbing name" {
            // Fails in the words for layers.
            let said = response.message();
            assert!(said.ends_with(&format!("\"{up}mnt/victim/evil\" is outside of \"/tmp\"")), "{said}");
        }
    }
    let made = d.sh("docker exec box sh -c 'find / -xdev -name evil -o -xdev -name stolen' | sort").ok();
    assert_eq!(made, "/tmp/evil\n/tmp/mnt/victim/evil");
});

// CVE-2018-15664: the path is a directory when looked at and a link when used. The harness' dockerd loses this race.
// Fails without RESOLVE_IN_ROOT, in the first rounds.
scenario!(links_swapped_while_copying_lead_nowhere, Setup::new().slipway_only(), |d| {
    victim(d);
    // Whatever a copy leaves there, the next turn begins anew.
    let swap = "mkdir -p /mnt/victim; echo own >/mnt/victim/file; while :; do ln -s /mnt/victim /swap; rm -rf /swap; \
                mkdir /swap; echo own >/swap/file; rm -rf /swap; done";
    d.sh(&format!("docker run -d --name box busybox sh -c '{swap}'")).ok();
    d.sh("until docker exec box test -e /mnt/victim/file; do sleep 0.1; done").ok();
    for round in 0..40 {
        let archive =
            Layer::new().file("file", 0o666, b"evil").dir("sub", 0o777).file("sub/x", 0o666, b"evil");
        put(d, "/swap", archive.tar());
        put(d, "/", Layer::new().dir("swap", 0o777).file("swap/file", 0o666, b"evil").tar());
        let got = d.get("/containers/box/archive?path=/swap/file");
        assert!(!got.text().contains("secret"), "round {round}");
        let got = d.get("/containers/box/archive?path=/swap/");
        assert!(!got.text().contains("secret"), "round {round}");
    }
    expect_untouched(d, "the race");
});

// CVE-2019-14271. Fails when the container's own tar is run in its root before a copy.
scenario!(nothing_of_the_container_is_executed, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let mut layer = Layer::new();
    for path in ["bin/tar", "bin/sh", "bin/gzip", "lib/libnss_files.so.2", "lib64/libnss_files.so.2"] {
        layer = layer.file(path, 0o777, b"#!/bin/busybox sh\necho ran >>/ran\n");
    }
    put(d, "/", layer.tar());
    for _ in ["running", "stopped"] {
        d.sh("docker cp box:/etc/passwd - >/dev/null; echo x >f; docker cp f box:/tmp; docker diff box; docker export box >/dev/null; docker commit box; docker top box; true").ok();
        d.get("/containers/box/archive?path=/ran").expect(404);
        d.sh("docker stop -t 0 box").ok();
    }
});

// Fails when what is missing of a mount's place is made by its path: the directory is made on the host.
scenario!(a_mount_point_that_is_a_link_stays_inside, |d| {
    victim(d);
    d.sh("docker create --name box -v data:/out/inside busybox true").ok();
    put(d, "/", Layer::new().symlink("out", "/mnt/victim").tar());
    d.sh("echo x >f; docker cp f box:/out/inside; docker cp box:/out/inside - >/dev/null");
    expect_untouched(d, "a volume behind a link");
});

// A daemon that is killed in the middle of a copy leaves nothing mounted; the copy can be repeated.
scenario!(a_killed_engine_leaves_no_mount_of_a_copy, Setup::new().slipway_only(), |d| {
    d.sh("docker create --name box -v data:/v busybox sleep 1000; head -c 50000000 /dev/zero >big").ok();
    let copy = d.sh_running("docker cp big box:/v/big; docker cp big box:/big");
    d.sh("sleep 0.2").ok();
    d.kill_9();
    drop(copy);
    assert_eq!(d.sh("grep -c \"$PWD/exec\" /proc/mounts").stdout.trim(), "0");
    d.start_again();
    d.sh("docker cp big box:/v/big && docker cp big box:/big && docker start box").ok();
    assert_eq!(d.sh("docker exec box sh -c 'stat -c %s /big /v/big'").ok(), "50000000\n50000000");
});
