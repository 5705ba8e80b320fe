//! How a container is made from its flags, and how its end is told.

use serde_json::json;

use crate::harness::images::{Layer, busybox};
use crate::harness::scenario::{Setup, scenario};

scenario!(the_exit_code_of_the_command_is_the_cli_s, |d| {
    for code in [0, 1, 42, 255] {
        d.sh(&format!("docker run --rm busybox sh -c 'exit {code}'")).code(code);
    }
});

scenario!(a_command_that_is_not_there_is_127, |d| {
    let ended = d.sh("docker run --name box busybox no-such-command");
    ended.fails(127, "executable file not found in $PATH");
    assert!(ended.stderr.starts_with("docker: "), "nothing but the error: {ended}");
    assert_eq!(d.sh("docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' box").ok(), "created 127");
    d.sh("docker run --rm busybox /no/such/path").fails(127, "no such file or directory");
});

scenario!(a_command_that_cannot_be_executed_is_126, |d| {
    d.sh("docker run --rm busybox /etc/passwd").fails(126, "permission denied");
    d.sh("docker run --rm busybox /etc").code(126);
});

scenario!(an_engine_error_is_125, |d| {
    d.sh("docker run --rm --memory 1k busybox true").fails(125, "Minimum memory limit allowed is 6MB");
    d.sh("docker run --rm --network nowhere busybox true").fails(125, "network nowhere not found");
});

scenario!(a_killed_command_is_128_and_the_signal, |d| {
    for (signal, code) in [("KILL", 137), ("USR1", 138)] {
        let mut run = d
            .sh_running("exec docker run --rm --init --name box busybox sh -c 'echo ready; exec sleep 1000'");
        run.shows("ready");
        d.sh(&format!("docker kill -s {signal} box")).ok();
        assert_eq!(run.exit_code(), code);
    }
});

scenario!(rm_removes_the_container_and_its_anonymous_volumes, |d| {
    d.sh("docker run --rm -v /anonymous -v named:/named busybox true").ok();
    assert_eq!(d.sh("docker ps -aq; docker volume ls -q").ok(), "named");
});

scenario!(environment_user_directory_and_hostname, |d| {
    let run = |flags: &str, command: &str| d.sh(&format!("docker run --rm {flags} busybox {command}")).ok();
    assert_eq!(
        run("-e A=b -e C=", "sh -c 'echo $A,$C,$HOME,$PATH'"),
        "b,,/root,/usr/sbin:/usr/bin:/sbin:/bin"
    );
    assert_eq!(run("-u user", "sh -c 'id -u; id -g; id -G; echo $HOME'"), "1000\n1000\n1000 2000\n/home");
    assert_eq!(run("-u 7:8", "sh -c 'id -u; id -g'"), "7\n8");
    assert_eq!(run("-u 0 --group-add 2000 --group-add 99", "id -G"), "0 99 2000");
    assert_eq!(run("-w /made/here", "pwd"), "/made/here");
    assert_eq!(run("-h box.example", "sh -c 'hostname; cat /etc/hostname'"), "box.example\nbox.example");
});

scenario!(the_hostname_is_the_short_id, |d| {
    let id = d.sh("docker run -d busybox hostname").ok();
    d.sh(&format!("docker wait {id}")).ok();
    assert_eq!(d.sh(&format!("docker logs {id}")).ok(), id[..12]);
});

scenario!(an_unknown_user_is_refused, |d| {
    d.sh("docker run --rm -u nobody-here busybox true").fails(125, "unable to find user nobody-here");
});

scenario!(entrypoint_and_command_combine, |d| {
    assert_eq!(d.sh("docker run --rm --entrypoint echo busybox a b").ok(), "a b");
    assert_eq!(d.sh("docker run --rm --entrypoint /bin/busybox busybox echo c").ok(), "c");
});

scenario!(init_reaps_and_forwards, |d| {
    assert!(d.sh("docker run --rm --init busybox cat /proc/1/comm").ok().contains("init"));
    d.sh("docker run --rm --init busybox sh -c 'exit 9'").code(9);
    d.sh("docker run -d --init --name box busybox sleep 1000").ok();
    d.sh("docker stop -t 30 box").ok();
    assert_eq!(d.sh("docker inspect -f '{{.State.ExitCode}}' box").ok(), "143");
});

scenario!(a_read_only_root_refuses_writes, |d| {
    d.sh("docker run --rm --read-only busybox touch /x").fails(1, "Read-only file system");
    d.sh("docker run --rm --read-only --tmpfs /t busybox touch /t/x").ok();
});

// Fails when the inheritable set is the bounding one.
scenario!(the_default_set_of_capabilities, |d| {
    let status = d.sh("docker run --rm busybox grep Cap /proc/self/status").ok();
    let set = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(set(name), "00000000a80425fb", "{name}");
    }
    for name in ["CapInh", "CapAmb"] {
        assert_eq!(set(name), "0000000000000000", "{name}");
    }
});

scenario!(capabilities_are_added_and_dropped, |d| {
    let effective = |flags: &str| {
        let line = d.sh(&format!("docker run --rm {flags} busybox grep CapEff /proc/self/status")).ok();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(effective("--cap-drop ALL"), "0000000000000000");
    assert_eq!(effective("--cap-drop ALL --cap-add NET_ADMIN"), "0000000000001000");
    assert_eq!(effective("--cap-drop CHOWN"), "00000000a80425fa");
    assert_eq!(effective("-u 1000"), "0000000000000000");
});

scenario!(seccomp_and_no_new_privileges, |d| {
    let mode = |flags: &str| {
        d.sh(&format!("docker run --rm {flags} busybox grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status"))
            .ok()
    };
    assert_eq!(mode(""), "NoNewPrivs:\t0\nSeccomp:\t2");
    assert_eq!(mode("--security-opt seccomp=unconfined"), "NoNewPrivs:\t0\nSeccomp:\t0");
    assert_eq!(mode("--security-opt no-new-privileges"), "NoNewPrivs:\t1\nSeccomp:\t2");
    d.sh("docker run --rm busybox unshare -m true").fails(1, "Operation not permitted");
});

// Debian's dockerd cannot do it where the machine itself lacks a capability.
scenario!(a_privileged_container_may_do_what_the_host_may, Setup::new().slipway_only(), |d| {
    d.sh("docker run --rm --privileged busybox unshare -m true").ok();
    d.sh("docker run --rm --privileged busybox test -e /dev/kmsg").ok();
    d.sh("docker run --rm --privileged busybox sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'").ok();
});

// Fails when cgroups are mounted for writing.
scenario!(kernel_files_are_masked_or_read_only, |d| {
    assert_eq!(
        d.sh("docker run --rm busybox sh -c 'ls /sys/firmware | wc -l; wc -c </proc/keys'").ok(),
        "0\n0"
    );
    d.sh("docker run --rm busybox sh -c 'echo 1 >/proc/sys/kernel/panic'").fails(1, "Read-only file system");
    d.sh("docker run --rm busybox sh -c 'echo 1 >/proc/irq/default_smp_affinity'").code(1);
    d.sh("docker run --rm busybox mkdir /sys/fs/cgroup/memory/x").code(1);
});

scenario!(the_devices_of_a_container, |d| {
    let names = d.sh("docker run --rm busybox ls /dev").ok();
    // A link to /proc/kcore, where the kernel has that: runc calls it core, libcontainer kcore.
    let names: Vec<_> = names.split_whitespace().filter(|name| !["core", "kcore"].contains(name)).collect();
    assert_eq!(
        names,
        [
            "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
            "tty", "urandom", "zero"
        ]
    );
    d.sh("docker run --rm --device /dev/kmsg busybox test -c /dev/kmsg").ok();
    assert_eq!(
        d.sh("docker run --rm --shm-size 1m busybox df -k /dev/shm | tail -1 | awk '{print $2}'").ok(),
        "1024"
    );
});

scenario!(sysctls_and_ulimits_are_set, |d| {
    assert_eq!(d.sh("docker run --rm --sysctl net.ipv4.ip_unprivileged_port_start=77 busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start").ok(), "77");
    assert_eq!(
        d.sh("docker run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -Sn; ulimit -Hn'").ok(),
        "100\n200"
    );
});

scenario!(tmpfs_and_mount_flags, |d| {
    let line = d.sh("docker run --rm --tmpfs /t:size=1m,mode=700 busybox grep ' /t ' /proc/mounts").ok();
    for option in ["nosuid", "nodev", "noexec", "size=1024k", "mode=700"] {
        assert!(line.contains(option), "{option} in {line}");
    }
    d.sh("docker run --rm --mount type=bind,source=/nowhere,target=/x busybox true")
        .fails(125, "bind source path does not exist: /nowhere");
});

scenario!(a_fresh_volume_takes_the_image_s_content, |d| {
    assert_eq!(d.sh("docker run --rm -v data:/etc busybox cat /etc/group").ok().lines().count(), 3);
    d.sh("docker run --rm -v data:/etc busybox sh -c 'echo x >/etc/group'").ok();
    assert_eq!(d.sh("docker run --rm -v data:/etc busybox cat /etc/group").ok(), "x");
    let listed = d.sh("docker run --rm --mount type=volume,target=/etc,volume-nocopy busybox ls /etc").ok();
    assert!(listed.contains("hosts") && !listed.contains("group"), "{listed}");
});

scenario!(volumes_come_from_another_container, |d| {
    d.sh("docker create --name store -v data:/d busybox && docker run --rm --volumes-from store busybox touch /d/f").ok();
    d.sh("docker run --rm --volumes-from store:ro busybox test -e /d/f").ok();
    d.sh("docker run --rm --volumes-from store:ro busybox touch /d/g").fails(1, "Read-only");
});

scenario!(ipc_is_private_or_shared_as_asked, |d| {
    d.sh("docker run -d --name one --ipc shareable --shm-size 1m busybox sh -c 'echo shared >/dev/shm/note; sleep 1000'").ok();
    d.sh("docker run -d --name alone --ipc private busybox sleep 1000").ok();
    d.sh("until docker exec one test -s /dev/shm/note; do sleep 0.1; done").ok();
    let namespace = d.sh("docker exec one readlink /proc/self/ns/ipc").ok();
    let show = "readlink /proc/self/ns/ipc; cat /dev/shm/note; df -k /dev/shm";
    let shown = d.sh(&format!("docker run --rm --ipc container:one busybox sh -c '{show}'")).ok();
    assert!(shown.starts_with(&format!("{namespace}\nshared\n")), "{shown}");
    assert!(shown.contains(" 1024 "), "{shown}");
    // By way of another that shares it.
    d.sh("docker run -d --name two --ipc container:one busybox sleep 1000").ok();
    assert_eq!(d.sh("docker run --rm --ipc container:two busybox cat /dev/shm/note").ok(), "shared");
    let refused = d.sh("docker run --rm --ipc container:alone busybox true");
    assert!(
        refused.stderr.contains("non-shareable IPC (hint: use IpcMode:shareable for the donor container)"),
        "{refused}"
    );
    assert_eq!(
        d.sh("docker run --rm --ipc none busybox grep -c ' /dev/shm ' /proc/mounts").stdout.trim(),
        "0"
    );
    let own = d.sh("readlink /proc/self/ns/ipc; stat -c %d.%i /dev/shm").ok();
    assert_eq!(
        d.sh("docker run --rm --ipc host busybox sh -c 'readlink /proc/self/ns/ipc; stat -c %d.%i /dev/shm'")
            .ok(),
        own
    );
    d.sh("docker restart -t 0 one").ok();
    d.sh("docker rm -f one two alone").ok();
});

scenario!(namespaces_of_the_host_and_of_others, |d| {
    d.sh("docker run -d --name one busybox sleep 1000").ok();
    assert_eq!(d.sh("docker run --rm --pid container:one busybox cat /proc/1/comm").ok(), "sleep");
    let own = d.sh("readlink /proc/self/ns/net").ok();
    assert_eq!(d.sh("docker run --rm --network host busybox readlink /proc/self/ns/net").ok(), own);
    let shared = d.sh("docker exec one readlink /proc/self/ns/net").ok();
    assert_eq!(
        d.sh("docker run --rm --network container:one busybox readlink /proc/self/ns/net").ok(),
        shared
    );
    assert_eq!(d.sh("docker run --rm --network none busybox ls /sys/class/net").ok(), "lo");
    assert_eq!(d.sh("docker run --rm --uts host busybox hostname").ok(), d.sh("hostname").ok());
});

scenario!(the_last_of_two_values_of_a_variable_counts, |d| {
    d.sh("printf 'A=file\nB=file\n' >variables").ok();
    let seen = d.sh("docker run --rm --env-file variables -e A=own busybox env | grep -e ^A -e ^B").ok();
    assert_eq!(seen.lines().collect::<std::collections::BTreeSet<_>>(), ["A=own", "B=file"].into());
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    assert_eq!(d.sh("docker exec --env-file variables -e A=own box env | grep ^A").ok(), "A=own");
});

// Fails when the variables of the image or the client have lost their place in the container's, and with HOME before
// those of an exec.
scenario!(a_variable_has_the_place_of_who_named_it_first, |d| {
    // Not by docker run, which sends them in any order.
    let run = |env: &[&str]| {
        let body = json!({ "Image": "busybox", "Hostname": "web", "Env": env, "Cmd": ["env"] });
        d.post("/containers/create?name=box", &body).expect(201);
        let said = d.sh("docker start -a box").ok();
        d.sh("docker rm box").ok();
        said
    };
    assert_eq!(run(&["PATH=/bin", "A=1", "HOSTNAME=x"]), "PATH=/bin\nHOSTNAME=x\nA=1\nHOME=/root");
    assert_eq!(run(&["PATH=/bin", "HOME=", "A=1"]), "PATH=/bin\nHOSTNAME=web\nHOME=/root\nA=1");
    d.sh("docker run -d -t --name box -h web -e PATH=/bin -e A=1 busybox sleep 1000").ok();
    let exec = |options: &str| d.sh(&format!("docker exec {options} box env")).ok();
    assert_eq!(exec("-e C=1 -e A=2"), "PATH=/bin\nHOSTNAME=web\nA=2\nC=1\nHOME=/root");
    assert_eq!(exec("-e HOSTNAME=x -e C= -e HOME=/x"), "PATH=/bin\nHOSTNAME=x\nA=1\nC=\nHOME=/x");
});

// Fails when all that follows the first colon is the group.
scenario!(what_follows_a_user_s_group_is_ignored, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    for (user, ids) in [("1000:50:1", "1000 50"), ("5:6:x", "5 6"), (":1:2", "0 1"), ("1000:50:", "1000 50")]
    {
        let script = "sh -c 'echo $(id -u) $(id -g)'";
        assert_eq!(d.sh(&format!("docker run --rm -u {user} busybox {script}")).ok(), ids);
        assert_eq!(d.sh(&format!("docker exec -u {user} box {script}")).ok(), ids);
    }
    d.sh("docker run --rm -u root:nobody-here:x busybox true")
        .fails(125, "unable to find group nobody-here: no matching entries in group file");
});

scenario!(programs_can_tell_that_they_are_in_a_container, |d| {
    let look = "test -f /.dockerenv; readlink /etc/mtab; df / | grep -c /";
    assert_eq!(d.sh(&format!("docker run --name box busybox sh -ec '{look}'")).ok(), "/proc/mounts\n1");
    // To whoever asks for changes it is the image's. Fails when /etc/mtab is counted: 12 bytes.
    assert_eq!(d.sh("docker diff box").ok(), "");
    assert_eq!(d.sh("docker inspect -s -f '{{.SizeRw}}' box").ok(), "0");
    d.sh("docker commit box made").ok();
    assert_eq!(d.sh("docker history --format '{{.Size}}' made | head -n 1").ok(), "0B");
    assert_eq!(d.sh(&format!("docker run --rm made sh -ec '{look}'")).ok(), "/proc/mounts\n1");
    d.sh("docker run --name shy busybox rm /.dockerenv /etc/mtab").ok();
});

// Fails when a link that leads nowhere is an error: not even a file can be copied out of such a container.
scenario!(a_working_directory_is_made_where_links_of_the_image_lead, |d| {
    let layer = Layer::new().symlink("work", "/made/here").symlink("out", "../../../../up");
    d.load(busybox().named("linked:1").layer(layer).docker_archive());
    for (dir, place) in [("/work", "/made/here"), ("/work/sub", "/made/here/sub"), ("/out", "/up")] {
        d.sh(&format!("docker create --name box -w {dir} linked:1 pwd -P && docker cp box:/etc/passwd ."))
            .ok();
        assert_eq!(d.sh("docker start -a box").ok(), place);
        d.sh("docker rm box").ok();
    }
});

// Fails when only the start looks: what was created for the container stays until somebody removes it.
scenario!(a_working_directory_that_is_a_file_is_refused_at_create, |d| {
    let layer = Layer::new().file("a/file", 0o644, b"").symlink("link", "/a/file").dir("whole", 0o755);
    let upper = Layer::new()
        .symlink("up", "../../../../etc/passwd")
        .symlink("dir", "a")
        .symlink("one", "two")
        .symlink("two", "one")
        .file("a/.wh.file", 0o644, b"")
        .file("whole/x", 0o644, b"");
    d.load(busybox().named("files:1").layer(layer).docker_archive());
    d.load(
        busybox()
            .named("files:2")
            .layer(Layer::new().file("a/file", 0o644, b""))
            .layer(upper)
            .docker_archive(),
    );
    let create = |image: &str, dir: &str| {
        let body = json!({ "Image": image, "Cmd": ["pwd", "-P"], "WorkingDir": dir, "Volumes": { "/anonymous": {} } });
        d.post("/containers/create?name=box", &body)
    };
    for (image, dir) in [
        ("files:1", "/etc/passwd"),
        ("files:1", "/a/file"),
        ("files:1", "/link"),
        ("files:2", "/up"),
        ("files:2", "/dir/../whole/x"),
        ("files:1", "/.dockerenv"),
        ("files:1", "/etc/hosts"),
    ] {
        let refused = create(image, dir);
        let shown = dir.replace("/dir/..", "");
        let said = format!("Cannot mkdir: {shown} is not a directory");
        assert_eq!((refused.status(), refused.message()), (500, said), "{dir}");
    }
    for (dir, said) in
        [("/etc/passwd/x", "not a directory"), ("/up/x", "not a directory"), ("/one", "too many")]
    {
        let refused = create("files:2", dir);
        assert_eq!(refused.status(), 500, "{dir}");
        assert!(refused.message().contains(said), "{dir}: {}", refused.message());
    }
    assert_eq!(d.sh("docker ps -aq; docker volume ls -q").ok(), "");
    // What an upper layer takes away is in nobody's way.
    for (image, dir, place) in
        [("files:2", "/dir/file", "/a/file"), ("files:1", "/whole/../new//x/", "/new/x")]
    {
        create(image, dir).expect(201);
        assert_eq!(d.sh("docker start -a box").ok(), place);
        d.sh("docker rm -v box").ok();
    }
    create("files:1", "/b/./c/..").expect(201);
    assert_eq!(d.inspect("box")["Config"]["WorkingDir"], "/b");
    d.sh("docker rm -v box").ok();
});

scenario!(a_namespace_is_shared_with_a_container_whatever_it_is_called_later, |d| {
    let owner = d.sh("docker run -d --name one --ipc shareable busybox sleep 1000").ok();
    d.sh("docker run -d --name two --network container:one --pid container:one --ipc container:one busybox sleep 1000").ok();
    let modes = "{{.HostConfig.NetworkMode}} {{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}";
    let modes = d.sh(&format!("docker inspect -f '{modes}' two")).ok();
    assert_eq!(modes, format!("container:{owner} container:{owner} container:{owner}"));
    d.sh("docker rename one other && docker run -d --name one busybox sleep 1000").ok();
    d.sh("docker restart -t 0 two").ok();
    let namespaces = |name: &str| {
        d.sh(&format!(
            "docker exec {name} sh -c 'for kind in net pid ipc; do readlink /proc/self/ns/$kind; done'"
        ))
        .ok()
    };
    assert_eq!(namespaces("two"), namespaces("other"));
    // Not as something missing: docker(1) would pull the image.
    for flag in ["--pid", "--ipc"] {
        let refused = d.sh(&format!("docker run --name three {flag} container:nosuch busybox true"));
        assert_eq!(refused.code, 125);
        assert!(
            refused.stderr.contains("Error response from daemon: No such container: nosuch"),
            "{refused}"
        );
        assert!(!refused.stderr.contains("Unable to find image"), "{refused}");
        d.sh("docker inspect three").code(1);
    }
});

scenario!(a_failed_start_leaves_its_files_and_network_to_be_looked_at, |d| {
    let paths = "{{.ResolvConfPath}} {{.HostnamePath}} {{.HostsPath}} {{.LogPath}}";
    let networks = "{{range .NetworkSettings.Networks}}{{.NetworkID}}{{end}}";
    let shown = |format: &str| d.sh(&format!("docker inspect -f '{format}' box")).ok();
    d.sh("docker create --name box busybox /nope").ok();
    assert_eq!((shown(paths).trim(), shown(networks).as_str()), ("", ""));
    d.sh("docker start box").fails(1, "no such file or directory");
    let (id, paths) = (shown("{{.Id}}"), shown(paths));
    let names = ["/resolv.conf", "/hostname", "/hosts", "-json.log"];
    for (path, name) in paths.split(' ').zip(names) {
        assert!(path.contains(&id) && path.ends_with(name), "{paths}");
    }
    assert_eq!(paths.split(' ').count(), names.len(), "{paths}");
    assert_eq!(shown(networks), d.sh("docker network inspect -f '{{.Id}}' bridge").ok());
});
