//! AppArmor, where the kernel has it and the tool that loads profiles is there. Kernels of test machines may lack it:
//! scripts/test-cgroup2 has a kernel that does not.

use std::io::Write;
use std::path::Path;

use crate::harness::daemon::Daemon;
use crate::harness::scenario::scenario;

/// Whether there is anything to test; says so if not.
fn is_here(d: &Daemon) -> bool {
    let here = Path::new("/sys/kernel/security/apparmor/profiles").exists()
        && Path::new("/sbin/apparmor_parser").exists();
    if !here {
        // Past the capture of output: that nothing was tested is to be seen.
        let _ = writeln!(std::io::stderr(), "{} is skipped: no AppArmor", d.dir().display());
    }
    here
}

const LABEL: &str = "cat /proc/self/attr/current";

scenario!(a_container_is_confined_unless_it_asks_for_something_else, |d| {
    if !is_here(d) {
        return;
    }
    assert!(d.sh("docker info -f '{{.SecurityOptions}}'").ok().contains("name=apparmor"));
    d.sh("echo 'profile own-profile flags=(attach_disconnected) { file, signal, }' | apparmor_parser --replace").ok();
    for (flags, expected) in [
        ("", "docker-default (enforce)"),
        ("--init", "docker-default (enforce)"),
        ("--user 1000 --cap-drop ALL", "docker-default (enforce)"),
        ("--security-opt no-new-privileges", "docker-default (enforce)"),
        ("--privileged", "unconfined"),
        ("--security-opt apparmor=unconfined", "unconfined"),
        ("--security-opt apparmor=docker-default", "docker-default (enforce)"),
        ("--security-opt apparmor=own-profile", "own-profile (enforce)"),
    ] {
        assert_eq!(d.sh(&format!("docker run --rm {flags} busybox {LABEL}")).ok(), expected, "{flags}");
        d.sh(&format!("docker run -d --name box {flags} busybox sleep 1000")).ok();
        assert_eq!(d.sh(&format!("docker exec box {LABEL}")).ok(), expected, "exec, {flags}");
        let profile = expected.trim_end_matches(" (enforce)");
        assert_eq!(d.sh("docker inspect -f '{{.AppArmorProfile}}' box").ok(), profile, "{flags}");
        d.sh("docker kill box && docker rm box").ok();
    }
    d.sh("docker create --name created busybox true").ok();
    assert_eq!(d.sh("docker inspect -f '{{.AppArmorProfile}}' created").ok(), "");
    let unknown = d.sh("docker run --rm --security-opt apparmor=nobody-s busybox true");
    let words = "unable to apply apparmor profile: apparmor failed to apply profile: ";
    assert!(unknown.code == 127 && unknown.stderr.contains(words), "{unknown}");
});

scenario!(the_engine_s_profile_is_loaded_again_when_it_was_taken_away, |d| {
    if !is_here(d) {
        return;
    }
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    for command in ["run --rm busybox", "exec box"] {
        d.sh("echo 'profile docker-default { }' | apparmor_parser --remove").ok();
        let label = d.sh(&format!("docker {command} {LABEL}")).ok();
        assert_eq!(label, "docker-default (enforce)", "{command}");
    }
});

// Fails without the profile: root with these capabilities mounts, and writes to all of these files.
scenario!(capabilities_do_not_reach_beyond_the_engine_s_profile, |d| {
    if !is_here(d) {
        return;
    }
    let all = "--cap-add ALL --security-opt seccomp=unconfined --security-opt systempaths=unconfined";
    let mount = "mkdir -p /x && mount -t tmpfs none /x";
    // Each file keeps its value.
    let write = |file: &str| format!("cat {file} >/value && cat /value >{file}");
    for (script, allowed) in [
        (mount.to_owned(), false),
        (write("/proc/sys/kernel/core_pattern"), false),
        (write("/proc/sys/vm/swappiness"), false),
        (write("/proc/sys/kernel/shmmax"), true),
        (write("/proc/self/oom_score_adj"), true),
        ("head -c 1 /proc/kcore".to_owned(), false),
        ("head -c 1 /proc/cpuinfo".to_owned(), true),
        ("cat /sys/kernel/security/lsm".to_owned(), false),
        ("cat /sys/kernel/mm/ksm/run".to_owned(), true),
        ("sleep 100 & kill $!".to_owned(), true),
    ] {
        let ended = d.sh(&format!("docker run --rm {all} busybox sh -c '{script}'"));
        assert_eq!(ended.code == 0, allowed, "{script}: {ended}");
    }
    let unconfined =
        format!("docker run --rm {all} --security-opt apparmor=unconfined busybox sh -c '{mount}'");
    d.sh(&unconfined).ok();
});
