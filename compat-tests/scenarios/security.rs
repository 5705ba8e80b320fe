//! Attacks that other engines have fallen to: nothing of the host is seen, written or executed.

use serde_json::json;
use tar::EntryType;

use crate::harness::daemon::Daemon;
use crate::harness::images::{Layer, busybox};
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};
use crate::harness::seccomp;

/// A file system that is only in the sandbox, with a secret that no container may meet.
fn victim(d: &Daemon) {
    d.sh("mount -t tmpfs victim /mnt && mkdir /mnt/victim && echo secret >/mnt/victim/file").ok();
}

fn expect_untouched(d: &Daemon, after: &str) {
    assert_eq!(d.sh("cat /mnt/victim/file; ls -A /mnt/victim").ok(), "secret\nfile", "{after}");
}

// CVE-2024-21626. Fails when a directory of the host is left open in the shim's helper, which then neither closes it nor
// looks where it is: the first attempt by `exec` reads the secret. The runtime library looks once more at a start.
scenario!(a_working_directory_among_descriptors_reaches_no_host_file, |d| {
    victim(d);
    for descriptor in 3..14 {
        let script = "cat ../../../../../../../mnt/victim/file mnt/victim/file 2>/dev/null";
        let ended = d.sh(&format!("docker run --rm -w /proc/self/fd/{descriptor} busybox sh -c '{script}'"));
        assert!(!ended.stdout.contains("secret"), "{ended}");
    }
    // A `/dev` of the user's own has what leads to them. Fails when the directory is entered by its path: it runs.
    d.sh("mkdir own && ln -s /proc/self/fd own/fd && mknod -m 666 own/null c 1 3").ok();
    for descriptor in 3..30 {
        let ended = d.sh(&format!("docker run --rm -v $PWD/own:/dev -w /dev/fd/{descriptor} busybox true"));
        assert_ne!(ended.code, 0, "{descriptor}");
    }
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    for descriptor in 3..14 {
        let script = "cat ../../../../../../../mnt/victim/file mnt/victim/file 2>/dev/null";
        let ended = d.sh(&format!("docker exec -w /proc/self/fd/{descriptor} box sh -c '{script}'"));
        assert!(!ended.stdout.contains("secret"), "{ended}");
    }
});

// As CVE-2025-52565, by whom the volume belongs to. Fails when a link counts as the terminals of such a `/dev`: what it
// leads to on the host is bound, and the container's terminal is one of the host's.
scenario!(a_link_in_a_dev_of_one_s_own_leads_to_no_terminals_of_the_host, Setup::new().slipway_only(), |d| {
    d.sh("mkdir own && ln -s /dev/pts own/pts && mknod -m 666 own/null c 1 3").ok();
    let device = "test -t 0 && stat -L -c %d /proc/self/fd/0";
    let inside = d.sh(&format!("docker run --rm -t -v $PWD/own:/dev busybox sh -c '{device}'")).ok();
    assert_ne!(inside.trim(), d.sh("stat -c %d /dev/pts").ok());
});

// CVE-2019-19921, CVE-2023-27561, CVE-2021-30465, CVE-2025-31133 and their kin. Fails when `/dev` may be a link (fd, ptmx
// and the others are made on the host), and when only `/proc` and `/sys` may be: it is the library that panics.
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
        // dockerd has replaced the link before.
        if ended.code == 125 && target != "dev/shm" {
            assert!(ended.stderr.contains("must be mounted on ordinary directory"), "{target}: {ended}");
        }
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
    // CVE-2022-23648. Fails when the path is taken as it is: the secret is read.
    let image = busybox().named("upwards:1").with("Volumes", json!({"/../../../../../../mnt/victim": {}}));
    d.load(image.docker_archive());
    let ended = d.sh("docker run --rm upwards:1 cat /mnt/victim/file");
    assert!(!ended.stdout.contains("secret"), "{ended}");
    expect_untouched(d, "a volume upwards");
});

// CVE-2019-16884: what is written to /proc confines processes; an image can ask for a volume there. Fails without the
// look at destinations, and when what is bound to /proc counts as the kernel's: where the container does not run, it is
// the library that panics.
scenario!(nothing_is_mounted_over_proc, |d| {
    let image = |volume: &str| busybox().named("declaring:1").with("Volumes", json!({volume: {}}));
    for target in ["/proc", "/proc/sys", "/proc/self/attr", "/proc/keys", "/x/../proc/1"] {
        let why = if target == "/proc" { "is not of type proc" } else { "is inside /proc" };
        let why = format!("cannot be mounted because it {why}");
        d.sh(&format!("docker run --rm -v data:{target} busybox true")).fails(125, &why);
        d.load(image(target).docker_archive());
        d.sh("docker run --rm declaring:1 true").fails(125, &why);
    }
    assert_ne!(d.sh("docker run --rm --tmpfs /proc busybox true").code, 0);
    let linked = busybox().named("linked:1").layer(Layer::new().symlink("v", "/proc/sys"));
    d.load(linked.docker_archive());
    d.sh("docker run --rm -v data:/v linked:1 true").fails(125, "is inside /proc");
    // Nor over all of it, with files that pass for a process's.
    let fakes =
        "ln -s /proc /o/all; mkdir -p /v/self/attr /v/self/task/1 /v/self/fd /v/thread-self/attr /v/1";
    d.sh(&format!("docker run --rm -v outer:/o -v data:/v busybox sh -c '{fakes}'")).ok();
    let ended = d.sh(
        "docker run --rm -v outer:/o -v data:/o/all busybox sh -c 'grep proc /proc/mounts; ls /proc | wc -l'",
    );
    assert_eq!(ended.code, 125, "{ended}");
    // A link in one volume leads another one there. Fails when the shim does not look at what was mounted: the container
    // runs, because the library looks by names, before it mounts.
    d.sh("docker run --rm -v outer:/o busybox ln -s /proc/sys /o/link").ok();
    for below in ["kernel", "net/ipv4"] {
        d.sh(&format!("docker run --rm -v outer:/o -v data:/o/link/{below} busybox true"))
            .fails(125, "is inside /proc");
    }
    // The host's own, and what tools replace.
    d.sh("docker run --rm -v /proc:/proc busybox true").ok();
    assert_eq!(d.sh("echo 7 >f; docker run --rm -v $PWD/f:/proc/uptime busybox cat /proc/uptime").ok(), "7");
});

// CVE-2025-52881: the library writes kernel parameters when its mounts are there, before the shim has looked at them; a
// volume in the place of /proc/sys would lead what is written anywhere. Fails when they are written by their path.
scenario!(kernel_parameters_are_written_to_the_kernel_and_nowhere_else, |d| {
    let prepare = "ln -s /proc/sys /o/link; echo untouched >/o/told; ln -s /o/told /v/shm_rmid_forced";
    d.sh(&format!("docker run --rm -v outer:/o -v data:/v busybox sh -c '{prepare}'")).ok();
    let volumes = "-v outer:/o -v data:/o/link/kernel";
    d.sh(&format!("docker run --rm {volumes} --sysctl kernel.shm_rmid_forced=1 busybox true"))
        .fails(125, "is inside /proc");
    assert_eq!(d.sh("docker run --rm -v outer:/o busybox cat /o/told").ok(), "untouched");
});

// CVE-2021-30465, CVE-2024-45310, CVE-2025-31133: the place of a mount is a directory when looked at and a link when
// it is used, by another container that has the volume. Fails when the runtime library makes and opens the place by its
// path: the directory is made on the host.
scenario!(a_mount_s_place_that_is_swapped_meanwhile_stays_inside, |d| {
    victim(d);
    let swap =
        "cd /v; touch ready; while :; do ln -s /mnt/victim swap; rm -rf swap; mkdir swap; rm -rf swap; done";
    d.sh(&format!("docker run -d --name swapper -v shared:/v busybox sh -c '{swap}' 2>/dev/null")).ok();
    d.sh("until docker exec swapper test -e /v/ready; do sleep 0.1; done").ok();
    d.sh("echo mounted >f").ok();
    for _ in 0..15 {
        for mount in ["-v $PWD/f:/v/swap/made/file", "-v other:/v/swap/made", "-v other:/v/swap"] {
            let show = "cat /v/swap/file; ls /mnt";
            d.sh(&format!("docker run --rm -v shared:/v {mount} busybox sh -c '{show}'"));
            expect_untouched(d, mount);
            assert_eq!(d.sh("grep -c ' /mnt/victim' /proc/mounts").stdout.trim(), "0", "{mount}");
        }
    }
});

// CVE-2025-31133: a mask is what the container has as /dev/null when it is made. That of a `/dev` of the user's own, or
// of an image's volume, is not used. Fails when such a `/dev` is given to the runtime library (there is no start), also
// when that takes what it finds for the device (files are masked with another device or not at all); and when only the
// library does so, by the last three. Debian's runc masks with whatever is there.
scenario!(what_masks_is_the_true_null_device, Setup::new().slipway_only(), |d| {
    let shown = "1:3\n0\n1:3";
    let look = "stat -c %t:%T /proc/keys && head -c 9 /proc/keys | wc -c && stat -c %t:%T /proc/timer_list";
    let run = |how: &str| d.sh(&format!("docker run --rm {how} sh -c '{look}'"));
    let pattern = d.sh("cat /proc/sys/kernel/core_pattern").ok();
    for (kind, make) in [
        ("a link", "ln -s /proc/sys/kernel/core_pattern v/null"),
        ("a link to another device", "mknod -m 666 v/zero c 1 5; ln -s zero v/null"),
        ("a file", "echo masked >v/null"),
        ("another device", "mknod -m 666 v/null c 1 5"),
    ] {
        d.sh(&format!("rm -rf v; mkdir v; {make}")).ok();
        let ended = run("-v $PWD/v:/dev busybox");
        assert_eq!((ended.code, ended.stdout.trim()), (0, shown), "{kind}: {ended}");
    }
    // By an image, also where its files are copied to a volume.
    let link = Layer::new().dir("dev", 0o755).symlink("dev/null", "/proc/sys/kernel/core_pattern");
    let image = busybox().named("linked:1").layer(link);
    d.load(image.docker_archive());
    d.load(image.named("volumes:1").with("Volumes", json!({"/dev": {}})).docker_archive());
    for how in ["linked:1", "volumes:1", "-v data:/dev linked:1"] {
        assert_eq!(run(how).ok(), shown, "{how}");
    }
    // Something else of that very name: a start that fails is as good.
    for how in ["-v $PWD/v/null:/dev/null", "-v other:/dev/null", "--device /dev/zero:/dev/null"] {
        let ended = run(&format!("{how} busybox"));
        assert!(ended.code == 125 || ended.stdout.trim() == shown, "{how}: {ended}");
    }
    assert_eq!(d.sh("cat /proc/sys/kernel/core_pattern").ok(), pattern);
});

// CVE-2019-5736: the engine's own program must not be what a container can open for writing. Does not fail while the
// engine runs, which keeps the program busy (ETXTBSY): the next scenario looks at the defence itself.
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

// As above, and without a race: which file it is that a container of the engine's program runs, by device and inode.
// Fails when shims run the program itself: both are the same file.
scenario!(what_a_container_has_of_the_engine_s_program_is_a_copy, Setup::new().slipway_only(), |d| {
    let image = busybox().named("self:1").layer(Layer::new().symlink("start", "/proc/self/exe"));
    d.load(image.docker_archive());
    d.sh("docker run -d --name box --entrypoint /start self:1 init -- sleep 1000").ok();
    let file = |process: &str| d.sh(&format!("stat -L -c %d:%i /proc/{process}/exe")).ok();
    let pid = d.inspect("box")["State"]["Pid"].to_string();
    assert!(d.sh(&format!("tr '\\0' ' ' </proc/{pid}/cmdline")).ok().contains("init -- sleep"));
    assert_ne!(file(&pid), file("$(cat pid)"));
    // With --init it is the program itself, for reading only. Fails when mounted for writing: touch has its way.
    for change in ["touch", "chmod 700", "truncate -s 0", "rm"] {
        let ended = d.sh(&format!("docker run --rm --init busybox {change} /sbin/docker-init"));
        assert!(
            ended.code == 1 && ended.stderr.contains("Read-only") || ended.stderr.contains("busy"),
            "{ended}"
        );
    }
});

// CVE-2024-40635. Fails when ids may have 32 bits: the process begins to run.
scenario!(a_user_beyond_the_range_is_refused, |d| {
    d.sh("docker run --rm -u 2147483648 busybox id -u").fails(125, "uids and gids must be in range");
    d.sh("docker run --rm -u -1 busybox id -u").fails(125, "uids and gids must be in range");
});

// dockerd 20.10 waits for the FIFO's writer, and so does this without O_NONBLOCK.
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

// Fails when the helper leaves one open that is not closed on exec. Nearly all are, so closing nothing does not fail.
scenario!(a_container_sees_no_descriptor_of_the_engine, |d| {
    assert_eq!(d.sh("docker run --rm busybox ls /proc/self/fd").ok(), "0\n1\n2\n3");
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    assert_eq!(d.sh("docker exec box ls /proc/self/fd").ok(), "0\n1\n2\n3");
    assert_eq!(d.sh("docker exec box ls /proc/1/fd").ok(), "0\n1\n2");
});

// CVE-2021-41091: programs of images and containers that are set-user-id are not for the host's users. Fails when either
// root is 0711: mounted roots, and paths below the other, are reached.
scenario!(nothing_of_a_container_is_reached_by_other_users, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box -v data:/d -e SECRET=1 busybox sh -c 'echo private; sleep 1000'").ok();
    d.sh("docker create --name other busybox").ok();
    // By name: somebody may know or guess what he may not list.
    d.sh("find \"$PWD/data\" \"$PWD/exec\" -mindepth 1 >all && grep -q '/exec/roots/.*/bin/busybox$' all")
        .ok();
    let reached = "while read -r path; do test -e \"$path\" && echo \"$path\"; done <all";
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    assert_eq!(d.sh(&format!("{user} sh -c 'cat all' | wc -l")).ok(), d.sh("wc -l <all").ok());
    assert_eq!(d.sh(&format!("{user} sh -c '{reached}'")).stdout, "");
    // Behind that door there are others.
    assert_eq!(
        d.sh("stat -c %a data exec data/containers/* data/layers data/layers/layers exec/containers").ok(),
        "710\n710\n710\n710\n700\n700\n700"
    );
});

// CVE-2022-29162, CVE-2022-24769: an inheritable capability would reach whatever program has it in its file. Fails
// when the inheritable set is the bounding one.
// dockerd has no privileged exec where the machine lacks a capability.
scenario!(no_capability_is_inheritable, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box --cap-add SYS_TIME busybox sleep 1000").ok();
    for how in ["run --rm", "run --rm -u user", "exec box", "exec -u user box", "exec --privileged box"] {
        let image = if how.starts_with("run") { "busybox" } else { "" };
        let sets = d.sh(&format!("docker {how} {image} grep -E '^Cap(Inh|Amb)' /proc/self/status")).ok();
        assert_eq!(sets, "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000", "{how}");
    }
});

// CVE-2022-36109: a group that is not among the additional ones is given up by a program that sets its group, and what
// the group is kept from is open then. Newer than Debian's dockerd. Fails when the list of groups begins empty.
scenario!(the_own_group_is_one_of_the_additional_groups, Setup::new().slipway_only(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    for (user, groups) in
        [("root", "0"), ("user", "1000 2000"), ("7", "0"), ("7:8", "8"), ("user:extra", "2000")]
    {
        for how in [format!("run --rm -u {user} busybox"), format!("exec -u {user} box")] {
            let seen = d.sh(&format!("docker {how} grep ^Groups: /proc/self/status")).ok();
            let seen: Vec<_> = seen.split_whitespace().skip(1).collect();
            assert_eq!(seen.join(" "), groups, "{how}");
        }
    }
    // Once, however often it is the user's. Fails when all are given as they come.
    let more = "--group-add 2000 --group-add user --group-add 7 --group-add 7";
    d.sh(&format!("docker run -d --name more -u user {more} busybox sleep 1000")).ok();
    for how in [format!("run --rm -u user {more} busybox"), "exec more".to_owned()] {
        let seen = d.sh(&format!("docker {how} grep ^Groups: /proc/self/status")).ok();
        let mut seen: Vec<_> = seen.split_whitespace().skip(1).collect();
        seen.sort_unstable();
        assert_eq!(seen, ["1000", "2000", "7"], "{how}");
    }
});

// What it tells of others: interrupts, heat, power (later than dockerd 20.10), and what all engines mask. Fails when
// /proc/interrupts is left out of the list.
scenario!(what_tells_of_the_host_is_masked, Setup::new().slipway_only(), |d| {
    assert_ne!(d.sh("wc -c </proc/interrupts").ok(), "0");
    let paths = "/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats \
                 /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/firmware \
                 /sys/devices/virtual/powercap /sys/devices/system/cpu/cpu*/thermal_throttle";
    let script = format!(
        "for path in {paths}; do if [ -d $path ]; then ls -A $path; elif [ -e $path ]; then wc -c <$path; fi; done | grep -vx 0"
    );
    assert_eq!(d.sh(&format!("docker run --rm busybox sh -c '{script}'")).code(1), "");
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        if d.sh(&format!("test -e {path}")).code != 0 {
            continue;
        }
        let line = d.sh(&format!("docker run --rm busybox grep ' {path} ' /proc/mounts")).ok();
        assert!(line.contains(" ro,"), "{line}");
    }
});

// CVE-2022-0492 and its kin: who writes there names a program that the kernel runs on the host. Fails when
// they are mounted for writing.
// Of dockerd 20.10 the directory above the hierarchies, a tmpfs, is writable.
scenario!(control_groups_are_for_reading, Setup::new().slipway_only(), |d| {
    let script = "for dir in $(find /sys/fs/cgroup -type d | head -n 40); do \
                  mkdir $dir/x 2>/dev/null && echo $dir; \
                  echo 1 2>/dev/null >$dir/notify_on_release && echo $dir; \
                  echo $$ 2>/dev/null >$dir/cgroup.procs && echo $dir; done; true";
    assert_eq!(d.sh(&format!("docker run --rm busybox sh -c '{script}' 2>/dev/null")).ok(), "");
    assert_eq!(
        d.sh(&format!("docker run --rm --cgroupns host busybox sh -c '{script}' 2>/dev/null")).ok(),
        ""
    );
});

// Fails when the first rule allows instead of denying.
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

// CVE-2024-29018: a question of an internal network must not leave the host by way of the engine. Debian's dockerd asks
// for its containers. Fails when such a network has the default route of the others.
scenario!(what_an_internal_network_asks_of_a_name_server_stays_there, Setup::new().slipway_only(), |d| {
    d.sh("ip address add 192.0.2.53/32 dev lo").ok();
    let serve = r#"$s = IO::Socket::INET->new(Proto => "udp", LocalAddr => "192.0.2.53:53") or die $!;
        $| = 1; print "ready\n"; print substr($asked, 12), "\n" while $s->recv($asked, 512)"#;
    let server = d.sh_running(&format!("exec perl -MIO::Socket::INET -e '{serve}'"));
    eventually("the server listens", || server.output().contains("ready"));
    d.sh("docker network create --internal inner && docker network create outer").ok();
    for (network, name) in [("inner", "secret.example"), ("outer", "public.example")] {
        let ask = format!("timeout 3 nslookup {name}");
        d.sh(&format!("docker run --rm --network {network} --dns 192.0.2.53 busybox {ask}"));
    }
    eventually("the server was asked", || server.output().contains("public"));
    assert!(!server.output().contains("secret"), "{}", server.output());
});
