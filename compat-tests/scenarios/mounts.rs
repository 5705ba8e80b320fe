//! What containers see of volumes, of the host and of each other: filled, taken over, mounted, given up.

use serde_json::json;

use crate::harness::daemon::Daemon;
use crate::harness::images::busybox;
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

/// Where a volume's content is on the host.
fn place(d: &Daemon, volume: &str) -> String {
    d.sh(&format!("docker volume inspect -f '{{{{.Mountpoint}}}}' {volume}")).ok()
}

/// The name of the volume at a target, or the source of the bind.
fn mounted(d: &Daemon, container: &str, target: &str) -> String {
    let mounts = d.inspect(container)["Mounts"].clone();
    let found = mounts.as_array().unwrap().iter().find(|mount| mount["Destination"] == json!(target));
    let mount = found.unwrap_or_else(|| panic!("nothing at {target}: {mounts}"));
    mount["Name"].as_str().or(mount["Source"].as_str()).unwrap().to_owned()
}

scenario!(volumes_are_filled_when_the_container_is_created_and_never_later, |d| {
    d.sh("docker create --name box -v data:/etc -v tmp:/tmp -v bare:/root:nocopy busybox cat /etc/group")
        .ok();
    let data = place(d, "data");
    assert_eq!(d.sh(&format!("ls {data} | grep -x -e group -e passwd")).ok(), "group\npasswd");
    assert_eq!(d.sh(&format!("stat -c %a {}", place(d, "tmp"))).ok(), "1777");
    assert_eq!(d.sh(&format!("stat -c %a {}", place(d, "bare"))).ok(), "755");
    d.sh(&format!("rm {data}/*")).ok();
    d.sh("docker start -a box").fails(1, "can't open '/etc/group'");
});

scenario!(own_mounts_come_before_taken_over_ones_and_those_before_the_image_s, |d| {
    let volumes = json!({"/d": {}, "/i": {}});
    d.load(busybox().named("declaring:latest").with("Volumes", volumes).docker_archive());
    d.sh("docker create --name store -v data:/d -v named:/own -v /tmp:/b:ro -v /anonymous busybox").ok();
    d.sh("docker create --name box --volumes-from store -v mine:/own declaring").ok();
    assert_eq!(mounted(d, "box", "/d"), "data");
    assert_eq!(mounted(d, "box", "/own"), "mine");
    assert_eq!(mounted(d, "box", "/b"), "/tmp");
    assert_eq!(mounted(d, "box", "/anonymous"), mounted(d, "store", "/anonymous"));
    assert_eq!(mounted(d, "box", "/i").len(), 64);
    d.sh("docker run --rm --volumes-from box busybox touch /b/x").fails(1, "Read-only file system");
    let refused = |from: &str, status| {
        let body = json!({"Image": "busybox", "HostConfig": {"VolumesFrom": [from]}});
        d.post("/containers/create", &body).expect(status).message()
    };
    assert_eq!(refused("nobody", 400), "No such container: nobody");
    assert!(refused("box:nocopy", 400).ends_with("invalid mode: nocopy"));
});

scenario!(an_anonymous_volume_goes_with_its_last_container, |d| {
    d.sh("docker create --name store -v /anonymous -v named:/n busybox").ok();
    d.sh("docker create --name box --volumes-from store busybox").ok();
    d.sh("docker rm -v store").ok();
    assert_eq!(d.sh("docker volume ls -q | wc -l").ok(), "2");
    d.sh("docker rm -v box").ok();
    assert_eq!(d.sh("docker volume ls -q").ok(), "named");
    d.sh("docker run --rm -v /anonymous --volumes-from $(docker create -v named:/n busybox) busybox true")
        .ok();
    assert_eq!(d.sh("docker volume ls -q").ok(), "named");
});

scenario!(the_long_form_makes_a_volume_with_labels_and_driver_options, |d| {
    let driver =
        json!({"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000"}});
    let options = json!({"Labels": {"team": "blue"}, "DriverConfig": driver});
    let mount = json!({"Type": "volume", "Source": "data", "Target": "/d", "VolumeOptions": options});
    let id = d.create(json!({
        "Image": "busybox", "Cmd": ["sh", "-c", "grep ' /d ' /proc/mounts; stat -c %u /d"],
        "HostConfig": {"Mounts": [mount]},
    }));
    assert_eq!(d.sh("docker volume inspect -f '{{.Labels.team}} {{.Options.type}}' data").ok(), "blue tmpfs");
    let seen = d.sh(&format!("docker start -a {id}")).ok();
    assert!(seen.contains("size=1024k") && seen.ends_with("1000"), "{seen}");
    let place = place(d, "data");
    eventually("its file system is unmounted", || d.sh(&format!("grep {place} /proc/mounts")).code == 1);
});

scenario!(a_volume_of_a_directory_shows_that_directory, |d| {
    let dir = d.dir().join("shared").display().to_string();
    d.sh(&format!("mkdir {dir} && echo there >{dir}/file")).ok();
    d.sh(&format!("docker volume create -o type=none -o o=bind -o device={dir} data")).ok();
    assert_eq!(d.sh("docker run --rm -v data:/d busybox sh -c 'cat /d/file; touch /d/new'").ok(), "there");
    d.sh(&format!("test -e {dir}/new && docker volume rm data && test -e {dir}/file")).ok();
});

// dockerd 20.10 knows no subpaths.
scenario!(a_part_of_a_volume_is_shown_and_no_link_leads_out_of_it, Setup::new().slipway_only(), |d| {
    d.sh("docker run --rm -v data:/d busybox sh -c 'mkdir -p /d/a/b; echo deep >/d/a/b/file; ln -s /etc /d/out; ln -s a /d/in'").ok();
    let part = |path: &str, command: &str| {
        d.sh(&format!(
            "docker run --rm --mount type=volume,src=data,dst=/p,volume-subpath={path} busybox {command}"
        ))
    };
    assert_eq!(part("a/b", "cat /p/file").ok(), "deep");
    assert_eq!(part("in/b/file", "cat /p").ok(), "deep");
    part("missing", "true").fails(127, "cannot access path");
    part("out", "true").fails(125, "path concatenation escapes the base directory");
    part("../up", "true").fails(125, "subpath must be a relative path within the volume");
    let anonymous = json!({"Type": "volume", "Target": "/p", "VolumeOptions": {"Subpath": "a"}});
    let body = json!({"Image": "busybox", "HostConfig": {"Mounts": [anonymous]}});
    let refused = d.post("/containers/create", &body).expect(400).message();
    assert!(refused.ends_with("must not set Subpath when using anonymous volumes"), "{refused}");
    assert_eq!(d.sh("grep -c subpaths /proc/mounts").code(1), "0");
    d.sh("docker volume rm data").ok();
});

// dockerd 20.10 leaves them behind.
scenario!(a_create_that_fails_leaves_no_anonymous_volume, Setup::new().slipway_only(), |d| {
    d.sh("docker create -v /root -v /etc/passwd busybox").fails(1, "cannot mount volume over existing file");
    let body = json!({
        "Image": "busybox", "Volumes": {"/a": {}},
        "HostConfig": {"Mounts": [{"Type": "volume", "Source": "x", "Target": "/b"}]},
    });
    d.post("/containers/create", &body).expect(400);
    assert_eq!(d.sh("docker volume ls -q").ok(), "");
    assert_eq!(d.sh("docker ps -aq").ok(), "");
});

scenario!(killed_while_it_fills_volumes_it_leaves_them_empty, Setup::new().slipway_only(), |d| {
    d.kill_9();
    d.launch(&[("SLIPWAY_CRASH_AT", "volume.copy_up.copied")]);
    d.sh("docker create -v data:/etc -v /root -v /var busybox").code(1);
    d.end();
    d.start_again();
    eventually("only the named one is left", || d.sh("docker volume ls -q").ok() == "data");
    let place = place(d, "data");
    eventually("what was copied is gone", || d.sh(&format!("ls -A {place}/..")).ok() == "_data\nvolume.json");
    assert_eq!(d.sh(&format!("ls -A {place}")).ok(), "");
    assert_eq!(d.sh("grep -c fill- /proc/mounts").code(1), "0");
    assert_eq!(d.sh("docker run --rm -v data:/etc busybox cat /etc/group | wc -l").ok(), "3");
});

// dockerd does not unmount what a container has held over its restart.
scenario!(volumes_are_held_by_a_container_that_outlives_the_engine, Setup::new().slipway_only(), |d| {
    d.sh("docker volume create -o type=tmpfs -o device=tmpfs data").ok();
    d.sh("docker run -d --name box -v data:/d busybox sh -c 'echo kept >/d/file; exec sleep 1000'").ok();
    eventually("it has written", || d.sh("docker exec box cat /d/file").code == 0);
    d.kill_9();
    d.start_again();
    assert_eq!(d.sh("docker run --rm -v data:/d busybox cat /d/file").ok(), "kept");
    d.delete("/volumes/data").expect(409);
    let place = place(d, "data");
    d.sh(&format!("grep {place} /proc/mounts && docker rm -f box")).ok();
    eventually("it is unmounted", || d.sh(&format!("grep {place} /proc/mounts")).code == 1);
    d.delete("/volumes/data").expect(204);
});

// From API 1.44 on; dockerd 20.10 is older.
scenario!(a_read_only_bind_is_read_only_below_too, Setup::new().slipway_only(), |d| {
    let dir = d.dir().join("shown").display().to_string();
    d.sh(&format!("mkdir -p {dir}/sub && mount -t tmpfs sub {dir}/sub && touch {dir}/sub/file")).ok();
    let touch = |how: &str| d.sh(&format!("docker run --rm {how} busybox touch /m/sub/new"));
    touch(&format!("-v {dir}:/m:ro")).fails(1, "Read-only file system");
    let mount = |more: &str| touch(&format!("--mount type=bind,src={dir},dst=/m,readonly{more}"));
    mount("").fails(1, "Read-only file system");
    mount(",bind-recursive=readonly,bind-propagation=rprivate").fails(1, "Read-only file system");
    mount(",bind-recursive=writable").ok();
    d.sh(&format!("docker run --rm --mount type=bind,src={dir},dst=/m,bind-recursive=disabled busybox ls -A /m/sub | wc -l && umount {dir}/sub")).ok();
    let older = json!({
        "Image": "busybox", "Cmd": ["true"],
        "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/m",
                                   "BindOptions": {"ReadOnlyForceRecursive": true}}]},
    });
    d.post("/containers/create", &older).expect(400);
});

scenario!(a_missing_bind_source_is_made_when_the_container_starts, |d| {
    let dir = d.dir().join("made").display().to_string();
    d.sh(&format!("docker create --name box -v {dir}:/m busybox true && test ! -e {dir}")).ok();
    d.sh(&format!("docker start -a box && rmdir {dir} && docker start -a box && test -d {dir}")).ok();
});

scenario!(a_tmpfs_mount_has_the_size_and_mode_asked_for, |d| {
    let seen = d.sh("docker run --rm --mount type=tmpfs,dst=/t,tmpfs-size=1048576,tmpfs-mode=1770 busybox sh -c 'grep \" /t \" /proc/mounts; stat -c %a /t'").ok();
    for part in ["size=1024k", "nosuid", "nodev", "noexec", "\n1770"] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    let body = |options: serde_json::Value| {
        let mount = json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": options});
        json!({"Image": "busybox", "HostConfig": {"Mounts": [mount]}})
    };
    d.post("/containers/create", &body(json!({"SizeBytes": 4096, "Mode": 448}))).expect(201);
});

// Fails where each tmpfs is open to all: /root, /var and the volume's directory. With --tmpfs /home:mode=711 dockerd's
// runc is of an age that keeps 755.
scenario!(a_tmpfs_has_the_mode_of_the_directory_that_it_hides, |d| {
    d.sh("docker run --rm -v data:/data busybox sh -c 'mkdir /data/in && chmod 710 /data/in'").ok();
    let options = "--tmpfs /root --tmpfs /var --tmpfs /tmp --tmpfs /made --tmpfs /data/in -v data:/data \
                   --mount type=tmpfs,dst=/home --mount type=tmpfs,dst=/new,tmpfs-mode=700";
    let dirs = "/root /var /tmp /made /data/in /home /new";
    d.sh(&format!("docker create --name box {options} busybox stat -c '%a %n' {dirs}")).ok();
    let first = d.sh("docker start -a box").ok();
    assert_eq!(first, "700 /root\n755 /var\n1777 /tmp\n1777 /made\n710 /data/in\n755 /home\n700 /new");
    let said = d.sh("docker run --rm --tmpfs /x:size=abc busybox true");
    said.fails(125, "error mounting \"tmpfs\" to rootfs at \"/x\": mount tmpfs:/x");
    said.fails(125, ": invalid argument: unknown");
});

// Fails where the place that was made for it keeps the mode of its making: dockerd's is 755 at the second start.
scenario!(a_tmpfs_where_nothing_was_is_open_to_all_each_time, Setup::new().slipway_only(), |d| {
    d.sh("docker create --name box --tmpfs /made --tmpfs /root:mode=711 busybox stat -c %a /made /root").ok();
    for _ in 0..2 {
        assert_eq!(d.sh("docker start -a box").ok(), "1777\n711");
    }
});

// Fails where the library's own data is shown, and its code is 125.
scenario!(a_tmpfs_for_dev_is_of_no_use_without_devices, |d| {
    let words = "error reopening /dev/null inside container: open /dev/null: permission denied: unknown";
    for options in ["--tmpfs /dev", "--tmpfs /dev:exec", "--mount type=tmpfs,target=/dev"] {
        d.sh(&format!("docker run --rm {options} busybox true")).fails(126, words);
    }
    let script = "echo x >/dev/null; head -c 3 /dev/zero | wc -c; stat -c %a /dev";
    assert_eq!(d.sh(&format!("docker run --rm --tmpfs /dev:dev busybox sh -c '{script}'")).ok(), "3\n755");
});

// Fails where such an image is refused, and where what an exported container brings along counts as furnished.
scenario!(an_image_with_a_link_or_a_file_for_the_kernel_s_directories_starts, |d| {
    d.sh("docker create --name box busybox && mkdir tree && docker export box | tar -C tree -xf -").ok();
    for (place, make) in [
        ("proc", "ln -s /elsewhere"),
        ("proc", "touch"),
        ("sys", "ln -s /elsewhere"),
        ("dev", "ln -s /elsewhere"),
        ("dev", "touch"),
        ("dev/shm", "ln -s /elsewhere"),
    ] {
        d.sh(&format!("rm -rf tree/dev tree/sys tree/proc && mkdir -p tree/$(dirname {place})")).ok();
        d.sh(&format!("{make} tree/{place} && tar -C tree -c . | docker import - odd")).ok();
        let script = "test -d /proc/self && test -d /sys/class && test -c /dev/null && test -d /dev/shm";
        d.sh(&format!("docker run --name odd odd sh -c '{script}'")).ok();
        assert_eq!(d.sh(&format!("docker diff odd | grep -e proc -e sys -e {place}; true")).ok(), "");
        d.sh("docker rm odd && docker rmi odd >/dev/null").ok();
    }
});

// Fails when the runtime library makes it read-only: at once, but for /dev, which it never makes so.
scenario!(a_tmpfs_is_read_only_when_all_is_in_it, |d| {
    for (options, place) in [
        ("--tmpfs /dev:ro,dev", "/dev"),
        ("--tmpfs /dev:dev,ro,size=1m -u 1000 --device /dev/zero:/dev/given", "/dev"),
        ("--tmpfs /x:ro", "/x"),
        ("--mount type=tmpfs,target=/x,readonly", "/x"),
        ("--tmpfs /x:ro --read-only", "/x"),
        ("--tmpfs /x:ro -v $PWD/v:/x/v --device /dev/zero:/x/given", "/x"),
    ] {
        let look = format!("touch {place}/y 2>&1; grep -c \" {place} tmpfs ro,\" /proc/mounts");
        let said = d.sh(&format!("docker run --rm {options} busybox sh -c '{look}; echo x >/dev/null'")).ok();
        assert!(said.ends_with("Read-only file system\n1"), "{options}: {said}");
    }
    let inner = "docker run --rm --tmpfs /x:ro --tmpfs /x/y -v $PWD/v:/x/v busybox";
    assert_eq!(
        d.sh(&format!("{inner} sh -c 'touch /x/y/a /x/v/b; ls /x /x/y /x/v | xargs'")).ok(),
        "/x: v y /x/v: b /x/y: a"
    );
});

// Fails when the runtime library sees to `/dev`: it ends at the first link that is there.
scenario!(a_dev_of_the_user_s_own_stays_as_it_is, |d| {
    let host = "docker run --rm -v /dev:/dev";
    assert_eq!(d.sh(&format!("{host} busybox sh -c 'echo x >/dev/null && echo to null'")).ok(), "to null");
    assert!(d.sh(&format!("{host} -t busybox sh -c 'test -t 0 && tty'")).ok().starts_with("/dev/pts/"));
    d.sh("mkdir own sub && mknod -m 666 own/null c 1 3 && echo inside >sub/file").ok();
    let options = "-v $PWD/own:/dev -v $PWD/sub:/dev/sub --device /dev/zero:/dev/given --user 5";
    let script = "ls -A /dev; cat /dev/sub/file; wc -c </proc/keys";
    d.sh(&format!("docker create --name box {options} busybox sh -c '{script}'")).ok();
    for _ in 0..2 {
        assert_eq!(d.sh("docker start -a box").ok(), "null\nsub\ninside\n0");
    }
    assert_eq!(d.sh("ls -A own; stat -c %u own/sub").ok(), "null\nsub\n0");
    // Also for who works in it.
    let there = "docker run --rm -v $PWD/own:/dev -w /dev/sub busybox sh -c 'pwd -P; ls -A . ..'";
    assert_eq!(d.sh(there).ok(), "/dev/sub\n.:\n\n..:\nnull\nsub");
    d.sh("docker run --rm -v $PWD/own:/dev:ro busybox touch /dev/x").fails(1, "Read-only file system");
});

// Fails when it is made in the container's root alone, which what is mounted hides: the runtime library makes none.
scenario!(a_working_directory_is_made_in_what_is_mounted, |d| {
    let script = "sh -c 'pwd; stat -c \"%u %g %a\" .'";
    for options in [
        "--tmpfs /x -w /x/y",
        "--tmpfs /x -w /x/y/z -u 1000:1001",
        "--tmpfs /x:ro -w /x/y",
        "--mount type=tmpfs,dst=/x -w /x/y",
        "--mount type=tmpfs,dst=/x,readonly -w /x/y",
        "--read-only -v one:/x -w /x/y",
        "-v two:/x -w /x/y/z -u 5:6",
        // Filled before it is read-only.
        "-v three:/x:ro -w /x/y",
        "-w /dev/y",
        "-w /dev/shm/y --cap-drop all",
    ] {
        let dir = options.split_once("-w ").unwrap().1.split(' ').next().unwrap();
        assert_eq!(
            d.sh(&format!("docker run --rm {options} busybox {script}")).ok(),
            format!("{dir}\n0 0 755")
        );
    }
    d.sh("docker run --rm -v four:/x busybox sh -c 'touch /x/file; ln -s /nowhere /x/link; mkdir /x/own; chown 7 /x/own'")
        .ok();
    let refused = |options: &str, code: i32, words: &str| {
        let words = format!("error during container init: {words}: unknown");
        d.sh(&format!("docker run --rm -v four:/x {options} busybox true")).fails(code, &words);
    };
    refused("-w /proc/y", 127, "mkdir /proc/y: no such file or directory");
    refused("-w /sys/y", 125, "mkdir /sys/y: read-only file system");
    refused("-w /x/file", 125, "mkdir /x/file: not a directory");
    refused("-w /x/file/a/b", 125, "mkdir /x/file: not a directory");
    refused("-w /x/link/a", 125, "mkdir /x/link: file exists");
    let owned = "docker run --rm -v four:/x -w /x/own/y --entrypoint ../../../bin/busybox -u 8 busybox stat -c %u . ..";
    assert_eq!(d.sh(owned).ok(), "0\n7");
    // An exec makes none.
    d.sh("docker run -d --name box --tmpfs /x busybox sleep 1000").ok();
    let words = "chdir to cwd (\"/x/y\") set in config.json failed: no such file or directory";
    let refused = d.sh("docker exec -w /x/y box true").to_string();
    assert!(refused.contains(words), "{refused}");
});

// Fails when it runs with nothing in its `/dev`, which runc refuses.
scenario!(a_dev_without_null_is_refused, |d| {
    d.sh("mkdir own").ok();
    for options in ["-v $PWD/own:/dev", "-v $PWD/own:/dev:ro", "-v empty:/dev"] {
        let refused = d.sh(&format!("docker run --rm {options} busybox ls /dev"));
        refused.fails(127, "unable to setup user: stat /dev/null: no such file or directory");
    }
    d.sh("mknod own/null c 1 3").ok();
    assert_eq!(
        d.sh("docker run --rm -v $PWD/own:/dev -w /dev/a/b busybox pwd; ls -A own").ok(),
        "/dev/a/b\na\nnull"
    );
});

// Fails when the runtime library makes the node: it knows of /dev only.
scenario!(a_device_may_be_given_any_name, |d| {
    let zero = |name: &str, options: &str| {
        d.sh(&format!(
            "docker run --rm --device /dev/zero:{name} {options} busybox sh -c 'head -c2 {name} | wc -c'"
        ))
    };
    for (name, options) in [
        ("/zero", "--read-only"),
        ("/a/new/zero", "--user 5"),
        ("/dev/../etc/zero", ""),
        ("/volume/zero", "-v $PWD/v:/volume"),
        ("/volume/zero", "-v $PWD/v:/volume"),
        ("/dev/volume/zero", "-v $PWD/v:/dev/volume"),
    ] {
        assert_eq!(zero(name, options).ok(), "2", "{name} {options}");
    }
    d.sh("docker run --rm --read-only --device /dev/zero:/zero busybox touch /x").fails(1, "Read-only");
    // Links of a volume mean the container's root.
    d.sh("mkdir outside; ln -s $PWD/outside v/link; ln -s ../../../../../../../../../tmp v/up").ok();
    zero("/volume/link/zero", "-v $PWD/v:/volume");
    zero("/volume/up/slipway-zero", "-v $PWD/v:/volume");
    assert_eq!(d.sh("ls -A outside; ls /tmp/slipway-zero 2>/dev/null; true").ok(), "");
    // So does one at the very name, whether something is there or not.
    d.sh("ln -s $PWD/outside/dangling v/dangling; ln -s zero v/linked; ln -s loop v/loop").ok();
    for name in ["/volume/dangling", "/volume/linked"] {
        assert_eq!(zero(name, "-v $PWD/v:/volume").ok(), "2", "{name}");
    }
    assert_eq!(zero("/volume/loop", "-v $PWD/v:/volume").code, 125);
    assert_eq!(d.sh("ls -A outside").ok(), "");
});

// runc takes what it finds for the device.
scenario!(a_device_is_not_what_a_volume_has_at_its_name, Setup::new().slipway_only(), |d| {
    for other in ["echo file >v/x", "ln -s /etc/passwd v/x", "mknod v/x c 1 3"] {
        d.sh(&format!("rm -rf v; mkdir v; {other}")).ok();
        d.sh("docker run --rm --device /dev/zero:/volume/x -v $PWD/v:/volume busybox true")
            .fails(125, "device node /volume/x: another file is there");
    }
});

scenario!(a_bind_of_the_daemon_s_files_lets_go_of_mounts, |d| {
    let data = d.dir().join("data").display().to_string();
    let above = d.dir().display().to_string();
    for source in [data.as_str(), above.as_str(), "/"] {
        d.sh(&format!("docker create --name box -v {source}:/m:ro busybox")).ok();
        assert_eq!(d.inspect("box")["Mounts"][0]["Propagation"], json!("rslave"), "{source}");
        d.sh("docker start -a box && docker rm box").ok();
    }
    let refused = d.sh(&format!("docker create --name box -v {above}:/m:rprivate busybox"));
    assert!(
        refused.stderr.contains("must use either propagation mode \"rslave\" or \"rshared\""),
        "{refused}"
    );
    d.sh("docker inspect box").code(1);
});

scenario!(propagation_that_the_host_cannot_give_is_told, |d| {
    let dir = d.dir().join("shown").display().to_string();
    d.sh(&format!("mkdir {dir} && mount -t tmpfs shown {dir} && mount --make-private {dir}")).ok();
    let run = |mode: &str| d.sh(&format!("docker run --rm -v {dir}:/m:{mode} busybox true"));
    for (mode, kind) in [("shared", "a shared mount"), ("rslave", "a shared or slave mount")] {
        let refused = run(mode);
        assert_eq!(refused.code, 125);
        let text = format!("path {dir} is mounted on {dir} but it is not {kind}");
        assert!(refused.stderr.contains(&text), "{refused}");
    }
    d.sh(&format!("mount --make-shared {dir}")).ok();
    run("shared").ok();
    run("rslave").ok();
    run("private").ok();
    d.sh(&format!("umount {dir}")).ok();
});
