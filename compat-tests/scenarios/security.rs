//! Attacks that other engines have fallen to: nothing of the host is seen, written or executed.

use serde_json::json;
use tar::EntryType;

use crate::harness::daemon::Daemon;
use crate::harness::images::{Layer, busybox};
use crate::harness::scenario::{Setup, scenario};
use crate::harness::seccomp;

/// A file system that is only in the sandbox, with a secret that no container may meet.
fn victim(d: &Daemon) {
    d.sh("mount -t tmpfs victim /mnt && mkdir /mnt/victim && echo secret >/mnt/victim/file").ok();
}

fn expect_untouched(d: &Daemon, after: &str) {
    assert_eq!(d.sh("cat /mnt/victim/file; ls -A /mnt/victim").ok(), "secret\nfile", "{after}");
}

// CVE-2024-21626
scenario!(a_working_directory_among_descriptors_reaches_no_host_file, |d| {
    victim(d);
    for descriptor in 3..14 {
        let script = "cat ../../../../../../../mnt/victim/file mnt/victim/file 2>/dev/null";
        let ended = d.sh(&format!("docker run --rm -w /proc/self/fd/{descriptor} busybox sh -c '{script}'"));
        assert!(!ended.stdout.contains("secret"), "{ended}");
    }
});

// CVE-2019-19921, CVE-2021-30465, CVE-2025-31133 and their kin
scenario!(mount_targets_that_are_symlinks_stay_inside, |d| {
    victim(d);
    for target in [
        "proc",
        "sys",
        "dev",
        "dev/shm",
        "dev/null",
        "dev/pts",
        "etc/hosts",
        "etc/resolv.conf",
        "etc/hostname",
    ] {
        let mut layer = Layer::new();
        if let Some((parent, _)) = target.split_once('/') {
            layer = layer.dir(parent, 0o755);
        }
        // Links to a directory that is there, and to nothing.
        let layer = if target.starts_with("etc/") { layer } else { layer.dir("mnt/victim", 0o755) };
        let image = busybox().named("linked:1").layer(layer.symlink(target, "/mnt/victim"));
        d.load(image.docker_archive());
        let ended = d.sh("docker run --rm linked:1 sh -c 'touch /mnt/victim/x /dev/x /proc/x /sys/x; cat /mnt/victim/file'");
        assert!(!ended.stdout.contains("secret"), "{target}: {ended}");
        // Images have such links, and they lead nowhere as often as not.
        assert!(!target.starts_with("etc/") || ended.code == 1, "{target}: {ended}");
        expect_untouched(d, target);
        d.sh("docker rmi -f linked:1").ok();
    }
});

scenario!(a_volume_s_destination_stays_inside, |d| {
    victim(d);
    let image = busybox().named("volumes:1").layer(Layer::new().symlink("out", "/mnt/victim"));
    d.load(image.docker_archive());
    d.sh("docker run --rm -v data:/out/inside volumes:1 touch /out/inside/x").ok();
    expect_untouched(d, "a volume through a symlink");
    // CVE-2022-23648
    let image = busybox().named("upwards:1").with("Volumes", json!({"/../../../../../../mnt/victim": {}}));
    d.load(image.docker_archive());
    let ended = d.sh("docker run --rm upwards:1 cat /mnt/victim/file");
    assert!(!ended.stdout.contains("secret"), "{ended}");
    expect_untouched(d, "a volume upwards");
});

// CVE-2019-5736: the engine's own program must not be what a container can open for writing.
scenario!(the_engine_s_program_cannot_be_overwritten, |d| {
    let image = busybox().named("self:1").layer(Layer::new().symlink("start", "/proc/self/exe"));
    d.load(image.docker_archive());
    let before = d.sh("sha256sum $(readlink -f /proc/$(cat pid)/exe)").ok();
    d.sh("docker run --rm --entrypoint /start self:1 sh -c 'echo evil >/proc/1/exe'");
    d.sh("docker run -d --name box busybox sh -c 'while :; do for p in /proc/[0-9]*/exe; do echo evil >$p; done; done' 2>/dev/null").ok();
    for _ in 0..5 {
        d.sh("docker exec box true");
    }
    assert_eq!(d.sh("sha256sum $(readlink -f /proc/$(cat pid)/exe)").ok(), before);
});

// CVE-2024-40635
scenario!(a_user_beyond_the_range_is_refused, |d| {
    d.sh("docker run --rm -u 2147483648 busybox id -u").fails(125, "uids and gids must be in range");
    d.sh("docker run --rm -u -1 busybox id -u").fails(125, "uids and gids must be in range");
});

// dockerd 20.10 waits for the FIFO's writer.
scenario!(a_user_database_that_is_no_file_does_not_hang, Setup::new().slipway_only(), |d| {
    let image =
        busybox().named("fifo:1").layer(Layer::new().entry(EntryType::Fifo, "etc/passwd", 0o644, None, b""));
    d.load(image.docker_archive());
    let ended = d.sh("timeout 20 docker run --rm -u user fifo:1 true");
    assert!(ended.code != 124 && ended.code != 0, "{ended}");
});

// CVE-2020-15257
scenario!(no_helper_listens_on_an_abstract_socket, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    assert_eq!(d.sh("docker run --rm --network host busybox grep -c @ /proc/net/unix").stdout.trim(), "0");
});

scenario!(a_container_sees_no_descriptor_of_the_engine, |d| {
    assert_eq!(d.sh("docker run --rm busybox ls /proc/self/fd").ok(), "0\n1\n2\n3");
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    assert_eq!(d.sh("docker exec box ls /proc/self/fd").ok(), "0\n1\n2\n3");
    assert_eq!(d.sh("docker exec box ls /proc/1/fd").ok(), "0\n1\n2");
});

scenario!(nothing_of_a_container_is_readable_by_other_users, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box -v data:/d -e SECRET=1 busybox sh -c 'echo private; sleep 1000'").ok();
    let ended =
        d.sh("setpriv --reuid 65534 --regid 65534 --clear-groups find data exec -type f 2>/dev/null | head");
    assert_eq!(ended.stdout, "");
});

scenario!(a_device_is_used_only_by_whom_it_was_given_to, |d| {
    // The kernel's log, which every machine has.
    let open = "mknod /log c 1 11 && : </log && echo opened";
    let run =
        |options: &str| d.sh(&format!("docker run --rm --cap-add SYSLOG {options} busybox sh -c '{open}'"));
    let refused = run("");
    assert!(refused.stderr.contains("Operation not permitted"), "{refused}");
    assert_eq!(refused.stdout, "");
    assert_eq!(run("--device-cgroup-rule 'c 1:11 r'").ok(), "opened");
    d.sh("mknod log c 1 11").ok();
    let given = |script: &str| {
        let device = "--cap-add SYSLOG --device $PWD/log:/dev/given:r";
        d.sh(&format!("docker run --rm {device} busybox sh -c '{script} && echo opened'"))
    };
    assert_eq!(given(": </dev/given").ok(), "opened");
    let written = given(": >>/dev/given");
    assert!(written.stderr.contains("Operation not permitted"), "{written}");
    let usual =
        "echo x >/dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c && : </dev/ptmx";
    assert_eq!(d.sh(&format!("docker run --rm busybox sh -c '{usual}'")).ok(), "3\n3");
});

// runc gives a privileged container capabilities that the test machine's root may lack, and fails.
scenario!(a_privileged_container_uses_every_device, Setup::new().slipway_only(), |d| {
    let script = "mknod /log c 1 11 && : </log && echo opened";
    assert_eq!(d.sh(&format!("docker run --rm --privileged busybox sh -c '{script}'")).ok(), "opened");
});

/// No test of its own: the part of the next one that runs in the sandbox.
#[test]
#[ignore = "run by the_default_profile_decides_as_that_of_dockerd"]
fn dump_of_seccomp() {
    let process = std::env::var(seccomp::PROCESS).unwrap();
    seccomp::dump(process.trim().parse().unwrap()).unwrap();
}

scenario!(the_default_profile_decides_as_that_of_dockerd, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let suite = std::env::current_exe().unwrap();
    let shown = d
        .sh(&format!(
            "{}=$(docker inspect -f '{{{{.State.Pid}}}}' box) {} --ignored --exact --nocapture \
             scenarios::security::dump_of_seccomp | grep -E '^(x86_64|i386|x32|personality|clone|socket) '",
            seccomp::PROCESS,
            suite.display()
        ))
        .ok();
    let decision = |call: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(call)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{call} is not in {shown}"))
    };
    for (call, expected) in [
        ("x86_64 0", "allow"),
        ("x86_64 59", "allow"),
        // init_module, mount, unshare, userfaultfd, keyctl, bpf
        ("x86_64 175", "errno 1"),
        ("x86_64 165", "errno 1"),
        ("x86_64 272", "errno 1"),
        ("x86_64 323", "errno 1"),
        ("x86_64 250", "errno 1"),
        ("x86_64 321", "errno 1"),
        // clone3 has its flags in memory: programs fall back to clone.
        ("x86_64 435", "errno 38"),
        ("personality 0x0", "allow"),
        ("personality 0x1", "errno 1"),
        // CLONE_NEWUSER, CLONE_VM
        ("clone 0x10000000", "errno 1"),
        ("clone 0x100", "allow"),
        ("socket 0x2", "allow"),
    ] {
        assert_eq!(decision(call), expected, "{call}");
    }
    // The kernel reads 32 bits of the family, whatever is above them (REQUIREMENTS R19).
    for (family, high) in [("socket 0x26", "socket 0x100000026"), ("socket 0x28", "socket 0x100000028")] {
        assert_eq!(decision(family), decision(high), "{family}");
    }
});
