//! `--storage-opt size=…`, where the kernel has project quotas: each scenario makes a file system with them in a file
//! and mounts it as the engine's data root. Kernels of test machines may lack them: scripts/test-cgroup2 has a kernel
//! that does not. What the engine says on other file systems is a row of `fields`.

use std::io::Write;
use std::path::Path;

use slipway::base::sys::project_quota::ProjectDir;

use super::userns::remapped;
use crate::harness::daemon::Daemon;
use crate::harness::engine::Engine;
use crate::harness::images::busybox;
use crate::harness::poll::eventually;
use crate::harness::scenario::Setup;

/// A file system in a file: how it is made and mounted.
struct FileSystem {
    name: &'static str,
    make: &'static str,
    options: &'static str,
}

const EXT4: FileSystem =
    FileSystem { name: "ext4", make: "mke2fs -q -t ext4 -O quota,project fs", options: "loop,prjquota" };
const XFS: FileSystem = FileSystem { name: "xfs", make: "mkfs.xfs -q fs", options: "loop,pquota" };

/// Runs `body` with an engine whose data root is such a file system, or says why it cannot.
fn on(file_system: &FileSystem, name: &str, setup: Setup, body: impl Fn(&Daemon)) {
    // Debian's dockerd is not in the guest.
    if Engine::chosen() == Engine::Dockerd {
        return;
    }
    let d = Daemon::prepare(&format!("{}::{name}", module_path!()), setup);
    let FileSystem { name: kind, make, options } = file_system;
    let data = d.dir().join("data").display().to_string();
    let mounted = d.sh(&format!(
        "truncate -s 400M fs && {make} >&2 && mkdir {data} && mount -t {kind} -o {options} fs {data}"
    ));
    if mounted.code != 0 {
        // Past the capture of output: that nothing was tested is to be seen.
        let _ = writeln!(std::io::stderr(), "{name} is skipped: no {kind} with project quotas: {mounted}");
        return;
    }
    d.launch(&[]);
    d.wait_until_up();
    d.load(busybox().docker_archive());
    body(&d);
    d.finish();
    eventually("every project is free again", || projects(&d).first_free(1).unwrap() == 1);
}

/// A directory as it is in the sandbox.
fn inside(d: &Daemon, path: &str) -> ProjectDir {
    ProjectDir::open(Path::new(&format!("/proc/{}/root{path}", d.sandbox().init()))).unwrap()
}

/// The data root.
fn projects(d: &Daemon) -> ProjectDir {
    inside(d, &d.dir().join("data").display().to_string())
}

/// KiB of a container's root.
fn size(d: &Daemon, container: &str) -> String {
    d.sh(&format!("docker exec {container} df -k / | awk 'NR == 2 {{ print $2 }}'")).ok()
}

/// How many MiB a container can write into a file, of those it tries to.
fn written(d: &Daemon, container: &str, file: &str, tried: u32) -> u64 {
    d.sh(&format!("docker exec {container} dd if=/dev/zero of={file} bs=1M count={tried}"));
    let bytes = d.sh(&format!("docker exec {container} sh -c 'stat -c %s {file} || echo 0'")).ok();
    bytes.parse::<u64>().unwrap() >> 20
}

const LIMITED: &str = "docker run -d --storage-opt size=20m --name";
const SLEEP: &str = "busybox sleep 1000";

fn containers_are_limited(d: &Daemon) {
    d.sh(&format!("{LIMITED} one {SLEEP} && docker run -d --name free {SLEEP}")).ok();
    assert_eq!(d.inspect("one")["HostConfig"]["StorageOpt"]["size"], "20m");
    assert_eq!(size(d, "one"), "20480");
    assert_ne!(size(d, "free"), "20480");
    let most = written(d, "one", "/f", 30);
    assert!((15..=20).contains(&most), "{most}");
    assert_eq!(written(d, "free", "/f", 30), 30);
    // Room comes back, for it alone; what is written over counts where it goes.
    d.sh("docker exec one rm /f").ok();
    assert_eq!(written(d, "one", "/f", 12), 12);
    // Another is another project, also for an engine that knows nothing of the first one's.
    d.kill_9();
    d.start_again();
    d.sh(&format!("{LIMITED} two {SLEEP}")).ok();
    assert_eq!(written(d, "two", "/f", 12), 12);
    let most = written(d, "one", "/g", 30);
    assert!((1..=8).contains(&most), "{most}");
    // A limit is for life.
    d.sh("docker restart -t 0 one").ok();
    assert_eq!(size(d, "one"), "20480");
    assert_eq!(written(d, "one", "/h", 30), 0);
    // A full one can be emptied.
    d.sh("docker exec one rm -f /f /g /h && docker exec two sh -c 'echo kept >/kept'").ok();
    // Nothing else of the engine's counts: not its log, nor what is made of the container.
    assert_eq!(d.sh("docker diff two | sort").ok(), "A /f\nA /kept");
    d.sh("docker commit two made:1").ok();
    assert_eq!(d.sh("docker run --rm made:1 cat /kept").ok(), "kept");
    assert_eq!(d.sh("docker export two | tar -xO kept").ok(), "kept");
    d.sh("docker stop -t 0 two && head -c 12M /dev/zero >more").ok();
    assert_ne!(d.sh("docker cp more two:/more").code, 0);
    assert_eq!(
        d.sh("docker rm -f two && docker cp more one:/more && docker exec one stat -c %s /more").ok(),
        "two\n12582912"
    );
}

fn sizes_that_do_not_fit_are_refused(d: &Daemon) {
    for (size, text) in [("x", "invalid size: 'x'"), ("-1g", "invalid size: '-1g'")] {
        d.sh(&format!("docker create --storage-opt size={size} busybox")).fails(1, text);
    }
    d.sh("docker create --storage-opt size=1g --storage-opt speed=1 busybox")
        .fails(1, "Unknown option speed");
    // Too little for anything: never taken for no limit.
    let tiny = d.sh("docker run --rm --storage-opt size=1 busybox dd if=/dev/zero of=/f bs=64k count=1");
    assert_ne!(tiny.code, 0, "{tiny}");
    // No limit, as for dockerd.
    d.sh("docker run --rm --storage-opt size=0 busybox dd if=/dev/zero of=/f bs=1M count=1").ok();
    d.sh("docker run --rm --storage-opt size=100000p busybox true").ok();
}

#[test]
fn a_container_writes_no_more_than_its_size_on_ext4() {
    on(&EXT4, "a_container_writes_no_more_than_its_size_on_ext4", Setup::new(), |d| {
        containers_are_limited(d);
        sizes_that_do_not_fit_are_refused(d);
    });
}

#[test]
fn a_container_writes_no_more_than_its_size_on_xfs() {
    on(&XFS, "a_container_writes_no_more_than_its_size_on_xfs", Setup::new(), |d| {
        containers_are_limited(d);
        sizes_that_do_not_fit_are_refused(d);
    });
}

#[test]
fn a_remapped_container_has_the_size_that_the_engine_presets() {
    let setup = remapped();
    let flags = setup.flags.iter().cloned().chain(["--storage-opt=overlay2.size=10m".to_owned()]).collect();
    on(&EXT4, "a_remapped_container_has_the_size_that_the_engine_presets", Setup { flags, ..setup }, |d| {
        d.sh(&format!("docker run -d --name box {SLEEP} && {LIMITED} larger {SLEEP}")).ok();
        assert_eq!((size(d, "box"), size(d, "larger")), ("10240".to_owned(), "20480".to_owned()));
        assert_eq!(d.inspect("box")["HostConfig"].get("StorageOpt"), None);
        let most = written(d, "box", "/f", 30);
        assert!((5..=10).contains(&most), "{most}");
        assert_eq!(d.sh("docker exec box stat -c %u:%g / /f").ok(), "0:0\n0:0");
        let upper = d.inspect("box")["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().to_owned();
        assert_eq!(d.sh(&format!("stat -c %u:%g {upper} {upper}/f")).ok(), "200000:300000\n200000:300000");
    });
}

#[test]
fn a_project_that_others_use_is_no_container_s() {
    on(&EXT4, "a_project_that_others_use_is_no_container_s", Setup::new(), |d| {
        let others = d.dir().join("data/of-others").display().to_string();
        d.sh(&format!("mkdir {others} && echo x >{others}/f")).ok();
        inside(d, &others).set_project(1).unwrap();
        d.sh(&format!("{LIMITED} one {SLEEP}")).ok();
        assert_eq!(projects(d).first_free(1).unwrap(), 3);
        // One that gives its files to another's project takes no limit away.
        d.sh(&format!("{LIMITED} two {SLEEP}")).ok();
        let upper = d.inspect("two")["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().to_owned();
        inside(d, &upper).set_project(2).unwrap();
        d.sh("docker rm -f two").ok();
        assert_eq!(size(d, "one"), "20480");
        // What a crash leaves of a removal, the next start finishes.
        d.kill_9();
        d.launch(&[("SLIPWAY_CRASH_AT", "container-retired")]);
        d.wait_until_up();
        d.sh("docker rm -f one");
        d.end();
        d.start_again();
        eventually("the container's project is free", || projects(d).first_free(1).unwrap() == 2);
        d.sh(&format!("rm -r {others}")).ok();
    });
}

#[test]
fn an_engine_that_cannot_limit_sizes_does_not_promise_to() {
    if Engine::chosen() == Engine::Dockerd {
        return;
    }
    let d = Daemon::prepare("an_engine_that_cannot", Setup::new().flags(&["--storage-opt=overlay2.size=1g"]));
    d.sh("mkdir data && mount -t tmpfs tmpfs data").ok();
    let output = d.command().output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && printed.contains("Storage option overlay2.size not supported"),
        "{printed}"
    );
}
