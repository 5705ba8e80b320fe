//! `--userns-remap`: containers' ids stand for others on the host, in everything that a container touches.

use nix::sys::signal::Signal;

use crate::harness::daemon::Daemon;
use crate::harness::images::{Layer, busybox};
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

/// A user with subordinate ids; those of groups are others, so that neither is taken for the other.
const ETC: [(&str, &str); 4] = [
    ("passwd", "remap:x:7777:7777::/:/bin/false"),
    ("group", "remap:x:7777:"),
    ("subuid", "remap:200000:65536"),
    ("subgid", "remap:300000:65536"),
];

pub(super) fn remapped() -> Setup {
    Setup::new().etc(&ETC).flags(&["--userns-remap=remap"])
}

/// The owner of a file of the host.
fn owner(d: &Daemon, path: &str) -> String {
    d.sh(&format!("stat -c %u:%g {path}")).ok()
}

scenario!(root_in_a_container_is_another_user_of_the_host, remapped(), |d| {
    assert_eq!(d.sh("docker run --rm busybox id -u").ok(), "0");
    let map = d.sh("docker run --rm busybox cat /proc/self/uid_map /proc/self/gid_map").ok();
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words, ["0", "200000", "65536", "0", "300000", "65536"]);
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    let pid = d.inspect("box")["State"]["Pid"].to_string();
    assert_eq!(owner(d, &format!("/proc/{pid}")), "200000:300000");
    // Its own group, and none of the engine's.
    assert_eq!(d.sh(&format!("grep ^Groups: /proc/{pid}/status | tr -d ' \\t'")).ok(), "Groups:300000");
    // Not even a namespace's root may do what only the host's may.
    let clock = d.sh("docker run --rm --cap-add SYS_TIME busybox date -s 2030-01-01");
    assert!(clock.stderr.contains("not permitted"), "{clock}");
});

scenario!(the_data_root_is_named_after_the_ids, remapped(), |d| {
    let info = d.get("/info").expect(200).json();
    let root = info["DockerRootDir"].as_str().unwrap();
    assert_eq!(root, d.dir().join("data/200000.300000").to_str().unwrap());
    let options = info["SecurityOptions"].as_array().unwrap();
    assert!(options.iter().any(|option| option == "name=userns"), "{options:?}");
    assert_eq!(d.sh(&format!("stat -c '%u:%g %a' {root} {root}/..")).ok(), "0:300000 710\n0:300000 710");
    let id = d.sh("docker create busybox").ok();
    assert_eq!(d.sh(&format!("stat -c '%u:%g %a' {root}/containers/{id}")).ok(), "0:300000 710");
});

scenario!(files_of_images_and_containers_belong_to_the_remapped_ids, remapped(), |d| {
    let mut layer = Layer::new().dir("owned", 0o755);
    layer = layer.file("implied/dir/file", 0o644, b"x").file("owned/file", 0o4755, b"x");
    d.load(busybox().named("layered:1").layer(layer).docker_archive());
    let list =
        "stat -c '%u:%g %a %n' / /etc /bin/busybox /implied /implied/dir /owned/file /etc/hosts /dev/shm";
    let shown =
        d.sh(&format!("docker run --rm -w /made/here layered:1 sh -c \"{list} /made /made/here\"")).ok();
    assert!(shown.lines().all(|line| line.starts_with("0:0 ")), "{shown}");
    assert!(shown.contains("0:0 4755 /owned/file"), "{shown}");
    // Its root may change all of them.
    let change = "touch /owned/new && chown 5:6 /owned/new && echo x >>/etc/hosts && rm /owned/file && stat -c %u:%g /owned/new";
    assert_eq!(d.sh(&format!("docker run --name box layered:1 sh -c '{change}'")).ok(), "5:6");
    assert!(d.sh("docker diff box").ok().contains("D /owned/file"));
    assert_eq!(
        d.sh("docker run --rm -u 1000:50 busybox sh -c 'touch /tmp/x; stat -c %u:%g /tmp/x'").ok(),
        "1000:50"
    );
});

scenario!(commit_export_and_cp_keep_the_container_s_ids, remapped(), |d| {
    let make = "mkdir /d && echo x >/d/root && echo y >/d/user && chown 1000:50 /d/user && chown 7 /d";
    d.sh(&format!("docker run --name box busybox sh -c '{make}'")).ok();
    d.sh("docker commit box made:1").ok();
    let owners = "stat -c '%u:%g' /d /d/root /d/user";
    assert_eq!(d.sh(&format!("docker run --rm made:1 {owners}")).ok(), "7:0\n0:0\n1000:50");
    let archived = "tar --numeric-owner -tv | grep -E ' (\\./)?d/' | awk '{print $2}'";
    assert_eq!(d.sh(&format!("docker export box | {archived}")).ok(), "7/0\n0/0\n1000/50");
    d.sh("docker export box | docker import - imported:1 && docker rm box").ok();
    assert_eq!(d.sh(&format!("docker run --name box imported:1 {owners}")).ok(), "7:0\n0:0\n1000:50");
    // Into the container, with the archive's owners.
    d.sh("mkdir in && echo z >in/file && chown 1000:50 in/file").ok();
    d.sh("docker cp -a in box:/").ok();
    d.sh("docker start box && docker wait box").ok();
    d.sh("docker commit box made:2").ok();
    assert_eq!(d.sh("docker run --rm made:2 stat -c %u:%g /in /in/file").ok(), "0:0\n1000:50");
});

// dockerd 20.10 archives what it copies out with the host's ids.
scenario!(cp_out_of_a_container_has_its_ids, remapped().slipway_only(), |d| {
    d.sh("docker run --name box busybox sh -c 'echo x >/f && chown 1000:50 /f'").ok();
    let archived = "tar --numeric-owner -tv | awk '{print $2}'";
    assert_eq!(d.sh(&format!("docker cp box:/f - | {archived}")).ok(), "1000/50");
    d.sh("docker run -d --name running busybox sh -c 'echo x >/f && chown 1000:50 /f && sleep 1000'").ok();
    eventually("the file is there", || d.sh("docker exec running ls /f").code == 0);
    assert_eq!(d.sh(&format!("docker cp running:/f - | {archived}")).ok(), "1000/50");
    d.sh("touch g && docker cp g running:/g").ok();
    assert_eq!(d.sh("docker exec running stat -c %u:%g /g").ok(), "0:0");
});

scenario!(volumes_and_bind_mounts_have_the_remapped_ids_on_the_host, remapped(), |d| {
    d.sh("docker run --rm -v data:/data busybox sh -c 'touch /data/f && chown 5 /data/f && stat -c %u:%g /data'").ok();
    let data = d.dir().join("data/200000.300000/volumes/data/_data").display().to_string();
    assert_eq!(owner(d, &format!("{data} {data}/f")), "200000:300000\n200005:300000");
    // Filled from the image.
    d.sh("docker run --rm -v filled:/etc busybox sh -c 'stat -c %u:%g /etc /etc/passwd; touch /etc/new'")
        .ok();
    let filled = data.replace("volumes/data", "volumes/filled");
    assert_eq!(owner(d, &format!("{filled} {filled}/new")), "200000:300000\n200000:300000");
    // A directory of the host's that is missing is made for the container's root, one that is there stays its owner's.
    d.sh("docker run --rm -v $PWD/missing/dir:/d busybox touch /d/f").ok();
    assert_eq!(owner(d, "missing missing/dir missing/dir/f"), ["200000:300000"; 3].join("\n"));
    d.sh("mkdir own && docker run --rm -v $PWD/own:/d busybox touch /d/f").fails(1, "ermission denied");
    assert_eq!(d.sh("docker run --rm -v $PWD/own:/d busybox stat -c %u:%g /d").ok(), "65534:65534");
    d.sh("mkdir tmpfs && mount -t tmpfs -o nosuid,nodev tmpfs tmpfs && touch tmpfs/f").ok();
    d.sh("docker run --rm -v $PWD/tmpfs:/d:ro busybox touch /d/f").fails(1, "ead-only");
    d.sh("umount tmpfs").ok();
});

scenario!(kernel_file_systems_work_in_a_remapped_container, remapped(), |d| {
    let options = "--tmpfs /t:size=1m,mode=1777 --mount type=tmpfs,dst=/m --shm-size 1m --sysctl net.ipv4.ip_forward=0 \
                   --sysctl kernel.msgmax=4096 --read-only --init --oom-score-adj 500 --ulimit nofile=100:2000";
    let script = "touch /t/x /m/x /dev/shm/x /dev/mqueue/x && echo x >/dev/null && head -c1 /dev/zero | wc -c && \
                  cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/self/oom_score_adj && ulimit -n && \
                  ls /sys/fs/cgroup >/dev/null && ls /sys/class/net && hostname box && cat /proc/1/comm";
    let shown = d.sh(&format!("docker run --rm --cap-add SYS_ADMIN {options} busybox sh -c '{script}'")).ok();
    assert!(shown.starts_with("1\n0\n4096\n500\n100\n"), "{shown}");
    assert!(shown.contains("eth0") && shown.ends_with("init"), "{shown}");
    // What is masked is masked here too.
    d.sh("docker run --rm busybox sh -c 'echo 1 >/proc/sys/kernel/msgmax'").fails(1, "ead-only");
    assert_eq!(d.sh("docker run --rm busybox cat /proc/keys").ok(), "");
    assert_eq!(
        d.sh("docker run --rm busybox sh -c 'mknod /x c 1 3 2>&1; echo $?'").ok().lines().last(),
        Some("1")
    );
});

scenario!(terminals_and_streams_belong_to_the_container_s_user, remapped(), |d| {
    for user in ["0", "1000"] {
        let reopen = "echo out >/dev/stdout && echo err >/dev/stderr && test -r /proc/self/fd/0";
        let ended = d.sh(&format!("docker run --rm -i -u {user} busybox sh -c '{reopen}' </dev/null"));
        assert_eq!((ended.stdout.trim(), ended.stderr.trim(), ended.code), ("out", "err", 0), "{ended}");
        let terminal = d.sh(&format!(
            "docker run --rm -t -u {user} busybox sh -c 'stat -c %u:%g $(tty); echo x >$(tty)'"
        ));
        assert_eq!(terminal.ok().replace('\r', ""), format!("{user}:5\nx"));
    }
});

scenario!(exec_joins_a_remapped_container, remapped(), |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    assert_eq!(d.sh("docker exec box id -u").ok(), "0");
    assert!(d.sh("docker exec box cat /proc/self/uid_map").ok().contains("200000"));
    assert_eq!(
        d.sh("docker exec box sh -c 'touch /f && stat -c %u:%g /f && cat /proc/self/gid_map | wc -l'").ok(),
        "0:0\n1"
    );
    assert_eq!(
        d.sh("docker exec -u 1000:50 box sh -c 'id -u; id -g; echo x >/dev/stdout'").ok(),
        "1000\n50\nx"
    );
    assert_eq!(d.sh("echo in | docker exec -i box cat").ok(), "in");
    let terminal = d.sh("docker exec -t box sh -c 'stat -c %u:%g $(tty); echo x >$(tty)'");
    assert_eq!(terminal.ok().replace('\r', ""), "0:5\nx");
    assert_eq!(
        d.sh("docker exec box grep ^Groups /proc/self/status").ok().replace([' ', '\t'], ""),
        "Groups:0"
    );
});

scenario!(a_remapped_container_owns_its_network, remapped(), |d| {
    d.sh("docker run -d --name web -p 8080:80 --cap-add NET_ADMIN busybox httpd -f -p 80 -h /etc").ok();
    eventually("the port answers", || {
        d.sh("wget -qO- http://127.0.0.1:8080/hostname || curl -sf http://127.0.0.1:8080/hostname").code == 0
    });
    d.sh("docker exec web ip link add dummy0 type bridge").ok();
    assert_eq!(
        d.sh("docker run --rm --network container:web busybox wget -qO- http://127.0.0.1/hostname").code,
        0
    );
    d.sh("docker network create mine && docker run -d --name peer --network mine busybox sleep 1000").ok();
    d.sh("docker run --rm --network none busybox ls /sys/class/net").ok();
    let shared = "docker run --rm --pid container:web --ipc container:peer busybox true";
    // Namespaces of two containers belong to two users.
    assert_ne!(d.sh(shared).code, 0);
    assert!(d.sh("docker run --rm --pid container:web busybox ps").ok().contains("httpd"));
    d.sh("docker run -d --name donor --ipc shareable busybox sh -c 'echo x >/dev/shm/f; sleep 1000'").ok();
    eventually("the file is there", || d.sh("docker exec donor ls /dev/shm/f").code == 0);
    assert_eq!(
        d.sh("docker run --rm --ipc container:donor busybox sh -c 'cat /dev/shm/f; stat -c %u:%g /dev/shm'")
            .ok(),
        "x\n0:0"
    );
    let own = "docker run --rm --ipc container:donor --network mine --cap-add NET_ADMIN busybox ip link add dummy0 type bridge";
    d.sh(own).ok();
});

scenario!(what_only_the_host_s_root_may_is_refused, remapped(), |d| {
    for (options, words) in [
        (
            "--privileged",
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace \
             when running privileged mode",
        ),
        ("--network host", "cannot share the host's network namespace when user namespaces are enabled"),
        ("--pid host", "cannot share the host PID namespace when user namespaces are enabled"),
    ] {
        d.sh(&format!("docker run --rm {options} busybox true")).fails(125, words);
    }
    let created = d.sh("docker create --userns=private busybox");
    assert_ne!(created.code, 0);
});

scenario!(userns_host_turns_it_off_for_one_container, remapped(), |d| {
    let shown = d
        .sh("docker run --rm --userns=host busybox sh -c 'cat /proc/self/uid_map; stat -c %u:%g /etc; id -u'")
        .ok();
    assert!(shown.contains("4294967295"), "{shown}");
    // The image's files are those of the others, too.
    assert!(shown.ends_with("200000:300000\n0"), "{shown}");
    d.sh("docker run --rm --userns=host --network host --pid host busybox true").ok();
    d.sh("docker run -d --name host --userns=host busybox sleep 1000").ok();
    assert!(d.sh("docker exec host cat /proc/self/uid_map").ok().contains("4294967295"));
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    // Who may do all may also join a remapped container, not the other way round.
    d.sh("docker run --rm --userns=host --network container:box busybox true").ok();
    for mode in ["--network container:host", "--pid container:host"] {
        assert_ne!(d.sh(&format!("docker run --rm {mode} busybox true")).code, 0, "{mode}");
    }
});

scenario!(devices_are_the_host_s_own_nodes, remapped(), |d| {
    let given = "--device /dev/zero:/dev/zero --device /dev/null:/dev/null";
    for given in [given, "-v /dev:/dev", "-v /dev:/dev:ro"] {
        d.sh(&format!("docker run --rm {given} busybox sh -c 'head -c1 /dev/zero >/dev/null'")).ok();
    }
});

// runc looks for the host's node under the name that the container's is to have.
scenario!(a_device_may_have_another_name, remapped().slipway_only(), |d| {
    let renamed =
        "docker run --rm --device /dev/zero:/dev/nothing busybox sh -c 'head -c2 /dev/nothing | wc -c'";
    assert_eq!(d.sh(renamed).ok(), "2");
});

// dockerd 20.10 leaves file capabilities as they are: worth nothing to a remapped container.
scenario!(file_capabilities_count_in_the_namespace, remapped().slipway_only(), |d| {
    let raw = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let program = std::fs::read("/bin/busybox").unwrap();
    let layer = Layer::new().xattr("security.capability", &raw).file("capable/grep", 0o755, &program);
    d.load(busybox().named("capable:1").layer(layer).docker_archive());
    let shown = d.sh("docker run --rm -u 1000 capable:1 /capable/grep CapEff /proc/self/status").ok();
    assert!(shown.ends_with("2000"), "{shown}");
    d.sh("docker run --name box capable:1 sh -c 'cp -a /capable /kept' && docker commit box kept:1").ok();
    let kept = d.sh("docker run --rm -u 1000 kept:1 /capable/grep CapEff /proc/self/status").ok();
    assert_eq!(kept, shown);
});

scenario!(containers_outlive_the_engine, remapped().slipway_only(), |d| {
    d.sh("docker run -d --name box -p 8080:80 --restart always busybox httpd -f -p 80 -h /etc").ok();
    let pid = d.inspect("box")["State"]["Pid"].clone();
    d.kill_9();
    d.start_again();
    assert_eq!(d.inspect("box")["State"]["Pid"], pid);
    assert_eq!(d.sh("docker exec box id -u").ok(), "0");
    eventually("the port answers", || {
        d.sh("wget -qO- http://127.0.0.1:8080/hostname || curl -sf http://127.0.0.1:8080/hostname").code == 0
    });
    d.sh("docker restart -t 0 box && docker exec box id -u").ok();
    d.sh("docker run --rm --network container:box busybox true").ok();
    d.sh("docker rm -f box").ok();
    assert_eq!(d.sh("ls exec/netns | grep -v '^\\.' || true").ok(), "");
});

scenario!(a_container_that_is_killed_half_made_leaves_no_namespace, remapped().slipway_only(), |d| {
    d.kill_9();
    d.launch(&[("SLIPWAY_CRASH_AT", "network-netns-made")]);
    d.wait_until_up();
    d.sh("docker run -d --name box busybox sleep 1000");
    d.wait_until_ended();
    d.start_again();
    // The engine answers before it has looked at what an earlier one left.
    eventually("no namespace is left", || d.sh("ls exec/netns | grep -v '^\\.' || true").ok().is_empty());
    d.sh("docker start box && docker exec box id -u").ok();
});

scenario!(a_user_without_ids_is_refused, Setup::new().without_image().etc(&ETC[..2]), |d| {
    for (value, words) in [
        ("remap", "no subuid ranges found for user"),
        ("nobody-here", "Error during uid lookup for \"nobody-here\""),
        ("remap:nobody-here", "Error during groupname lookup for \"nobody-here\""),
        ("7776", "Uid 7776 has no entry in /etc/passwd"),
        ("remap:7776", "Gid 7776 has no entry in /etc/"),
        ("a:b:c", "nvalid user/group specification in --userns-remap: \"a:b:c\""),
    ] {
        let mut command = d.command();
        command.args(["-H", &format!("unix://{}/other.sock", d.dir().display()), "--userns-remap", value]);
        command.args(["--pidfile", "other.pid"]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).replace('\\', "");
        assert!(!output.status.success() && said.contains(words), "{value}: {said}");
    }
});

scenario!(numbers_name_users_too, Setup::new().etc(&ETC).flags(&["--userns-remap=7777:7777"]), |d| {
    assert!(d.sh("docker run --rm busybox cat /proc/self/uid_map").ok().contains("200000"));
});

scenario!(root_is_not_remapped_with_itself, Setup::new().etc(&ETC).flags(&["--userns-remap=root"]), |d| {
    assert!(d.sh("docker run --rm busybox cat /proc/self/uid_map").ok().contains("4294967295"));
});

scenario!(default_makes_a_user_with_ids, Setup::new().etc(&ETC).flags(&["--userns-remap=default"]), |d| {
    assert!(d.sh("getent passwd dockremap").ok().starts_with("dockremap:"));
    let own = d.sh("grep ^dockremap: /etc/subuid").ok();
    let first = own.split(':').nth(1).unwrap();
    assert!(d.sh("docker run --rm busybox cat /proc/self/uid_map").ok().contains(first));
    d.signal(Signal::SIGTERM);
    d.wait_until_ended();
    d.start_again();
    assert!(d.sh("docker run --rm busybox cat /proc/self/uid_map").ok().contains(first));
});

scenario!(
    a_runtime_program_makes_remapped_containers,
    remapped().flags(&["--userns-remap=remap", "--add-runtime=other=/usr/sbin/runc"]),
    |d| {
        let run = "docker run --runtime other --sysctl net.ipv4.ip_forward=0 --device /dev/zero";
        let script =
            "cat /proc/self/uid_map; stat -c %u:%g /etc /etc/hosts; ls /sys/class/net; echo x >/dev/stdout";
        let shown =
            d.sh(&format!("{run} --rm -v $PWD/made:/made busybox sh -c '{script}; touch /made/f'")).ok();
        assert!(shown.contains("200000") && shown.contains("0:0\n0:0") && shown.contains("eth0"), "{shown}");
        assert_eq!(owner(d, "made made/f"), "200000:300000\n200000:300000");
        d.sh(&format!("{run} -d --name box busybox sleep 1000")).ok();
        assert_eq!(d.sh("docker exec -u 1000 box sh -c 'id -u; echo x >/dev/stdout'").ok(), "1000\nx");
        d.sh(&format!("{run} --rm --network container:box busybox true")).ok();
        for _ in 0..3 {
            d.sh(&format!("{run} --rm --pid container:box busybox true")).ok();
        }
    }
);
