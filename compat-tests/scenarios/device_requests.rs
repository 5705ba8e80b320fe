//! Devices that drivers pick: CDI specifications and `--gpus`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

/// Newer than dockerd 20.10; two directories of the sandbox's own, one of them where everybody looks.
fn cdi() -> Setup {
    let flags = ["--cdi-spec-dir=/etc/cdi", "--cdi-spec-dir=later"];
    Setup::new().slipway_only().names(&[("127.0.0.2", "unused.test")]).flags(&flags)
}

fn describe(d: &Daemon, file: &str, text: &str) {
    let path = d.dir().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A container that asks for devices, and is attached to until it ends.
fn with(d: &Daemon, names: &[&str], command: &str) -> String {
    d.create(json!({
        "Image": "busybox", "Cmd": ["sh", "-c", command], "User": "7",
        "HostConfig": {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": names}]},
    }))
}

fn refused(d: &Daemon, request: Value) -> String {
    let body = json!({"Image": "busybox", "HostConfig": {"DeviceRequests": [request]}});
    let id = d.create(body);
    d.post(&format!("/containers/{id}/start"), &Value::Null).expect(500).message()
}

scenario!(a_cdi_device_brings_all_that_its_file_says, cdi(), |d| {
    let dir = d.dir().display().to_string();
    fs::write(d.dir().join("library"), "from the host").unwrap();
    fs::write(d.dir().join("hook"), format!("#!/bin/sh\ncat >{dir}/$1.json; echo \"$WHO\" >{dir}/$1.env\n"))
        .unwrap();
    fs::set_permissions(d.dir().join("hook"), fs::Permissions::from_mode(0o755)).unwrap();
    let hook = |name: &str| {
        format!(
            "{{hookName: {name}, path: {dir}/hook, args: [hook, {name}], env: [\"WHO={name}\", PATH=/bin]}}"
        )
    };
    describe(
        d,
        "etc/cdi/vendor.yaml",
        &format!(
            "cdiVersion: 0.7.0
kind: vendor.com/device
containerEdits:
  env: [COMMON=1, PATH=/bin:/usr/bin]
devices:
- name: card0
  containerEdits:
    env: [CARD=0]
    additionalGids: [44]
    deviceNodes:
    - {{path: /dev/card0, hostPath: /dev/zero, fileMode: 0640}}
    mounts:
    - {{hostPath: {dir}/library, containerPath: /lib/card/library, options: [ro, nosuid, nodev, bind]}}
    hooks:
    - {}
    - {}
    - {}
    - {}
    - {}
    - {{hookName: startContainer, path: /bin/sh, args: [sh, -c, 'cat >/tmp/started'], env: [PATH=/bin]}}
- name: card1
  containerEdits: {{env: [CARD=1]}}
",
            hook("prestart"),
            hook("createRuntime"),
            hook("createContainer"),
            hook("poststart"),
            hook("poststop")
        ),
    );
    let look = "echo $COMMON $CARD $PATH; id -G; stat -c '%F %a %u' /dev/card0; head -c 2 /dev/card0 | od -An -tx1; \
                cat /lib/card/library; touch /lib/card/library 2>&1; grep -o '\"status\": *\"[a-z]*\"' /tmp/started";
    let id = with(d, &["vendor.com/device=card0"], look);
    let seen = d.sh(&format!("docker start -a {id}")).stdout;
    for part in
        ["1 0 /bin:/usr/bin", " 44", "character special file 640 7", "from the host", "Read-only", "creat"]
    {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    eventually("the hook for the end has run", || d.dir().join("poststop.env").exists());
    for (name, status) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let state: Value =
            serde_json::from_slice(&fs::read(d.dir().join(format!("{name}.json"))).unwrap()).unwrap();
        assert_eq!((&state["id"], &state["status"]), (&json!(id), &json!(status)), "{name}");
        assert_eq!(fs::read_to_string(d.dir().join(format!("{name}.env"))).unwrap(), format!("{name}\n"));
    }
    // Not told of what is in the record; and found anew at each start.
    assert!(!d.inspect(&id)["Config"]["Env"].to_string().contains("CARD"));
    assert_eq!(d.inspect(&id)["HostConfig"]["DeviceRequests"][0]["Driver"], "cdi");
    fs::remove_file(d.dir().join("etc/cdi/vendor.yaml")).unwrap();
    d.sh(&format!("docker start -a {id}")).fails(1, "unresolvable CDI devices vendor.com/device=card0");
});

scenario!(cdi_devices_are_listed_and_the_later_directory_counts, cdi(), |d| {
    let spec = |value: &str, names: &[&str]| {
        let devices: Vec<_> = names
            .iter()
            .map(|name| json!({"name": name, "containerEdits": {"env": [format!("WHERE={value}")]}}))
            .collect();
        json!({"cdiVersion": "0.5.0", "kind": "vendor.com/x", "devices": devices}).to_string()
    };
    describe(d, "etc/cdi/a.json", &spec("etc", &["0", "1"]));
    describe(d, "etc/cdi/bad.json", "{");
    describe(d, "later/b.json", &spec("later", &["1"]));
    let info = d.get("/info").expect(200).json();
    assert_eq!(info["CDISpecDirs"], json!(["/etc/cdi", "later"]));
    let devices =
        json!([{"Source": "cdi", "ID": "vendor.com/x=0"}, {"Source": "cdi", "ID": "vendor.com/x=1"}]);
    assert_eq!(info["DiscoveredDevices"], devices);
    assert!(info["Warnings"].to_string().contains("CDI: Error associated with spec file /etc/cdi/bad.json"));
    assert_eq!(d.get("/v1.49/info").expect(200).json().get("DiscoveredDevices"), None);
    for (name, expected) in [("vendor.com/x=0", "etc"), ("vendor.com/x=1", "later")] {
        assert_eq!(d.sh(&format!("docker start -a {}", with(d, &[name], "echo $WHERE"))).ok(), expected);
    }
});

scenario!(a_device_that_cannot_be_had_is_told_when_the_container_starts, cdi(), |d| {
    let edits = |name: &str, edits: Value| {
        let devices = json!([{"name": "x", "containerEdits": edits}]);
        let spec = json!({"cdiVersion": "0.6.0", "kind": format!("vendor.com/{name}"), "devices": devices});
        describe(d, &format!("etc/cdi/{name}.json"), &spec.to_string());
        refused(d, json!({"Driver": "cdi", "DeviceIDs": [format!("vendor.com/{name}=x")]}))
    };
    let failed = "CDI device injection failed: ";
    let unknown = refused(d, json!({"Driver": "cdi", "DeviceIDs": ["vendor.com/a=b", "x"]}));
    assert_eq!(unknown, format!("{failed}unresolvable CDI devices vendor.com/a=b, x"));
    assert_eq!(refused(d, json!({"Driver": "cdi", "Count": 1})), "unexpected count in CDI device request");
    let missing = edits("missing", json!({"deviceNodes": [{"path": "/dev/none"}]}));
    let reason =
        "failed to inject devices: failed to stat CDI host device \"/dev/none\": no such file or directory";
    assert_eq!(missing, format!("{failed}{reason}"));
    let driver = refused(d, json!({"Driver": "fpga", "Capabilities": [["a", "b"], ["c"]]}));
    assert_eq!(driver, "could not select device driver \"fpga\" with capabilities: [[a b] [c]]");
    // A hook that fails ends the start, and nothing is left of it.
    let spec = json!({"cdiVersion": "0.6.0", "kind": "vendor.com/failing", "devices": [
        {"name": "x", "containerEdits": {"hooks": [{"hookName": "createRuntime", "path": "/bin/false"}]}}]});
    describe(d, "etc/cdi/failing.json", &spec.to_string());
    let id = with(d, &["vendor.com/failing=x"], "true");
    let response = d.post(&format!("/containers/{id}/start"), &Value::Null);
    assert!(response.status() >= 400 && response.text().contains("hook"), "{}", response.text());
    eventually("it has not started", || d.inspect(&id)["State"]["Running"] == json!(false));
});

// The recorder of hooks: one line for each.
fn recording(d: &Daemon, hooks: &[(&str, &str)]) {
    let log = d.dir().join("hooks").display().to_string();
    let hook = |(name, script): &(&str, &str)| {
        let script = format!("{script}; echo {name} >>{log}");
        json!({"hookName": name, "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], "timeout": 4})
    };
    let hooks: Vec<Value> = hooks.iter().map(hook).collect();
    let devices = json!([{"name": "x", "containerEdits": {"hooks": hooks, "additionalGids": [44]}}]);
    let spec = json!({"cdiVersion": "0.7.0", "kind": "vendor.com/hooks", "devices": devices});
    describe(d, "etc/cdi/hooks.json", &spec.to_string());
    let _ = fs::remove_file(log);
}

scenario!(hooks_are_called_when_the_program_runs_and_when_it_is_over, cdi(), |d| {
    let recorded = || fs::read_to_string(d.dir().join("hooks")).unwrap_or_default();
    // The container's state comes first: the number of a process that is the program already.
    let is_program =
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); grep -q marked /proc/$pid/cmdline || exit 1";
    recording(
        d,
        &[("poststart", is_program), ("poststop", "true"), ("poststop", "exit 1"), ("poststop", "true")],
    );
    let devices = json!([{"Driver": "cdi", "DeviceIDs": ["vendor.com/hooks=x"]}]);
    let program = json!(["sh", "-c", ": marked; while :; do sleep 1000; done"]);
    let id = d.create(json!({"Image": "busybox", "Cmd": program, "HostConfig": {"DeviceRequests": devices}}));
    let id = id.as_str();
    d.sh(&format!("docker start {id}")).ok();
    assert_eq!(recorded(), "poststart\n");
    // A process that is added has the groups of the program, unless it is another user's.
    assert_eq!(d.sh(&format!("docker exec {id} id -G")).ok(), "0 44");
    assert_eq!(d.sh(&format!("docker exec -u 1000 {id} id -G")).ok(), "1000 2000");
    // The engine need not be there, and one that fails or takes too long stops no other.
    recording(d, &[]);
    d.kill_9();
    d.sh("kill -9 $(pgrep -f '[m]arked')").ok();
    d.start_again();
    eventually("the hooks for the end have run", || recorded() == "poststop\npoststop\n");
    // Before the start is told, one that fails ends it.
    for (script, text) in [("exit 3", "non-zero exit code: 3"), ("sleep 1000", "timeout")] {
        recording(d, &[("poststart", script), ("poststop", "true")]);
        let failed = d.post(&format!("/containers/{id}/start"), &Value::Null);
        assert!(failed.status() >= 400 && failed.text().contains(text), "{}", failed.text());
        assert!(!d.inspect(id)["State"]["Running"].as_bool().unwrap());
        eventually("the hook for the end has run", || recorded() == "poststop\n");
    }
    recording(d, &[("createRuntime", "exit 1"), ("poststop", "true")]);
    d.sh(&format!("docker start {id}")).fails(1, "hook");
    eventually("the hook for the end has run", || recorded() == "poststop\n");
    assert_eq!(d.sh(&format!("docker rm {id}")).ok(), id);
});

fn hooked_with(d: &Daemon, hooks: Value) -> String {
    let devices = json!([{"name": "x", "containerEdits": {"hooks": hooks}}]);
    let spec = json!({"cdiVersion": "0.7.0", "kind": "vendor.com/hooks", "devices": devices});
    describe(d, "etc/cdi/hooks.json", &spec.to_string());
    hooked(d)
}

/// A container with the device of `vendor.com/hooks` that runs for ever.
fn hooked(d: &Daemon) -> String {
    let devices = json!([{"Driver": "cdi", "DeviceIDs": ["vendor.com/hooks=x"]}]);
    d.create(json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"DeviceRequests": devices}}))
}

// Fails when only a shim calls them: with the shim killed they were never called.
scenario!(hooks_for_the_end_are_called_once_when_the_shim_was_killed, cdi(), |d| {
    let recorded = || fs::read_to_string(d.dir().join("hooks")).unwrap_or_default();
    let kill_shim = |id: &str| d.sh(&format!("kill -9 $(pgrep -f '[s]him {id}')")).ok();
    recording(d, &[("poststop", "true")]);
    let id = hooked(d);
    d.sh(&format!("docker start {id}")).ok();
    kill_shim(&id);
    eventually("the hook has run", || recorded() == "poststop\n");
    eventually("the end is known", || d.inspect(&id)["State"]["ExitCode"] == json!(137));
    // The engine need not be there, and the one that comes calls them before it starts the container again.
    recording(d, &[("poststart", "true"), ("poststop", "cat >/dev/null; sleep 1")]);
    d.sh(&format!("docker start {id}")).ok();
    d.kill_9();
    kill_shim(&id);
    d.start_again();
    d.sh(&format!("docker start {id} && docker rm -f {id}")).ok();
    eventually("all have run", || recorded() == "poststart\npoststop\npoststart\npoststop\n");
});

// Fails when the start waits for fifteen seconds whatever the hooks may take: it is refused.
scenario!(a_hook_for_the_end_that_hangs_is_ended_before_the_next_start, cdi(), |d| {
    let hook = |timeout: Value| json!({"hookName": "poststop", "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": timeout});
    let id = hooked_with(d, json!([hook(json!(8)), hook(json!(null))]));
    d.sh(&format!("docker start {id} && docker kill {id}")).ok();
    eventually("it is over", || d.inspect(&id)["State"]["Running"] == json!(false));
    let begin = std::time::Instant::now();
    d.sh(&format!("docker start {id}")).ok();
    let waited = begin.elapsed().as_secs();
    assert!((15..30).contains(&waited), "{waited}");
    d.sh(&format!("docker rm -f {id}")).ok();
});

// Fails when an engine knows only of the shims that it is connected to: the container runs before its hooks have ended.
scenario!(a_start_waits_for_hooks_that_another_engine_s_shim_runs, cdi(), |d| {
    let recorded = || fs::read_to_string(d.dir().join("hooks")).unwrap_or_default();
    let slow = ("poststop", "cat >/dev/null; sleep 3");
    recording(d, &[("poststart", "true"), slow]);
    let id = hooked(d);
    d.sh(&format!("docker start {id} && docker kill {id}")).ok();
    eventually("the end is known", || d.inspect(&id)["State"]["Running"] == json!(false));
    d.kill_9();
    d.start_again();
    d.sh(&format!("docker start {id} && docker rm -f {id}")).ok();
    assert_eq!(recorded(), "poststart\npoststop\npoststart\n");
    eventually("the last hook has run", || recorded().ends_with("poststop\n"));
    // The same where a start failed.
    recording(d, &[("poststart", "exit 1"), slow]);
    let id = hooked(d);
    d.sh(&format!("docker start {id}")).fails(1, "poststart");
    recording(d, &[("poststart", "true")]);
    d.sh(&format!("docker start {id} && docker rm -f {id}")).ok();
    assert_eq!(recorded(), "poststop\npoststart\n");
});

scenario!(no_gpu_is_told_when_the_container_starts, |d| {
    let failed = d.sh("docker run --gpus all --name box busybox true");
    failed.fails(125, "could not select device driver \"\" with capabilities: [[gpu]]");
    assert_eq!(d.status("box"), "created");
});

// A link of the image must not turn a mount of the specification against the host.
scenario!(cdi_paths_stay_in_the_container, cdi(), |d| {
    let spec = json!({"cdiVersion": "0.6.0", "kind": "vendor.com/x", "devices": [{"name": "x", "containerEdits": {
        "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/link/planted", "options": ["bind", "ro"]}]}}]});
    describe(d, "etc/cdi/x.json", &spec.to_string());
    let image = crate::harness::images::busybox()
        .layer(crate::harness::images::Layer::new().symlink("link", &d.dir().display().to_string()))
        .named("linking:latest");
    d.load(image.docker_archive());
    let id = d.create(json!({
        "Image": "linking", "Cmd": ["cat", "/link/planted"],
        "HostConfig": {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/x=x"]}]},
    }));
    assert_eq!(d.sh(&format!("docker start -a {id}")).ok(), d.sh("cat /etc/hostname").ok());
    assert!(!d.dir().join("planted").exists());
});
