//! Every field of the specification that a container or an exec can be given, and the effect it has.
//!
//! A row is a request with one field, a line that runs in the container it makes, and what that prints. The last test
//! walks the specification (`specified`): a field without a row is listed there with the scenario that shows its effect,
//! or with the reason why it has none.

mod containers;
mod limits;
mod running;
mod specified;

use regex::Regex;
use serde_json::{Value, json};

use containers::{of_config, of_limits, of_mounts, of_namespaces};
use running::{of_execs, of_networks, of_updates};

use crate::harness::daemon::Daemon;
use crate::harness::engine::Engine;
use crate::harness::scenario::{Setup, scenario};

/// The newest version that Debian's dockerd speaks.
const DOCKERD: u16 = 41;
/// For what its runtime cannot do on test machines, which withhold some capabilities.
const NOT_ON_DOCKERD: u16 = 99;
/// Reads a file of the container's own group: its name on cgroup v1, its name on v2.
const PRELUDE: &str = r#"cg() { cat /sys/fs/cgroup/*/"$1" /sys/fs/cgroup/"$2" 2>/dev/null | head -1; }; "#;

struct Row {
    /// The fields that it is about.
    fields: String,
    /// The API version that has them.
    since: u16,
    request: Value,
    script: &'static str,
    /// What the script prints, as a regular expression for all of it.
    prints: &'static str,
}

fn row(fields: impl Into<String>, request: Value, script: &'static str, prints: &'static str) -> Row {
    Row { fields: fields.into(), since: 24, request, script, prints }
}

impl Row {
    fn since(self, since: u16) -> Self {
        Self { since, ..self }
    }
}

/// All of them.
fn rows() -> Vec<Row> {
    let all =
        [of_config(), of_limits(), of_namespaces(), of_mounts(), of_networks(), of_execs(), of_updates()];
    all.into_iter().flatten().collect()
}

/// What the rows need of the host: directories, a disk's node, another container, volumes.
fn prepare(d: &Daemon) {
    let dir = d.dir().display();
    d.sh(&format!(
        "mkdir -p {dir}/source && mount --bind {dir}/source {dir}/source && mount --make-shared {dir}/source \
         && mkdir {dir}/source/below && echo of the host >{dir}/source/file && mount -t tmpfs none {dir}/source/below \
         && echo below >{dir}/source/below/file && disk=$(cat /sys/block/*/dev | head -1) \
         && mknod {dir}/disk b ${{disk%:*}} ${{disk#*:}}"
    ))
    .ok();
    d.sh("docker run -d --name other -v /shared busybox sh -c 'echo of the other >/shared/file; sleep 1000'")
        .ok();
    d.sh("docker run --rm -v parts:/v busybox sh -c 'mkdir -p /v/a/b; echo of the part >/v/a/b/file'").ok();
}

fn clean_up(d: &Daemon) {
    d.sh("docker rm -fv other row >/dev/null 2>&1; true").ok();
    d.sh(&format!("umount -R {}/source", d.dir().display())).ok();
}

/// Tries each row and compares.
fn expect(d: &Daemon, rows: &[Row], try_out: impl Fn(&Daemon, &Row) -> String) {
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|row| Engine::chosen() == Engine::Slipway || row.since <= DOCKERD) {
        let printed = try_out(d, row);
        let all = Regex::new(&format!("^(?:{})$", row.prints)).unwrap();
        if !all.is_match(printed.trim_end()) {
            wrong.push(format!("{}: printed {printed:?}, not {:?}", row.fields, row.prints));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A row's text with the places of this run.
fn filled(d: &Daemon, text: &str) -> String {
    let dir = d.dir().display().to_string();
    text.replace("{disk}", &format!("{dir}/disk")).replace("{dir}", &dir)
}

fn request(d: &Daemon, row: &Row) -> Value {
    serde_json::from_str(&filled(d, &row.request.to_string())).unwrap()
}

/// Makes a container of the row.
fn created(d: &Daemon, row: &Row) -> String {
    let printed = of_a_new_container(d, row);
    d.sh("docker rm -fv row >/dev/null 2>&1; true").ok();
    printed
}

fn of_a_new_container(d: &Daemon, row: &Row) -> String {
    let (mut request, script) = (request(d, row), filled(d, row.script));
    let of_host = script.strip_prefix("HOST: ");
    if request.get("Image").is_none() {
        request["Image"] = json!("busybox");
    }
    if request.get("Cmd").is_none() {
        let script = of_host.map_or_else(|| format!("{PRELUDE}{script}"), |_| "sleep 1000".to_owned());
        request["Cmd"] = json!(["sh", "-c", script]);
    }
    let created = d.post("/containers/create?name=row", &request);
    if created.status() != 201 {
        return created.text();
    }
    let started = d.post("/containers/row/start", &Value::Null);
    if started.status() != 204 {
        return started.text();
    }
    match of_host {
        Some(script) => d.sh(script).stdout,
        None => d.sh("docker wait row >/dev/null; docker logs row 2>&1").stdout.replace('\r', ""),
    }
}

/// Adds the row's process to the container `row`.
fn executed(d: &Daemon, row: &Row) -> String {
    let mut request = request(d, row);
    request["Cmd"] = json!(["sh", "-c", row.script]);
    if request.get("AttachStdout").is_none() {
        request["AttachStdout"] = json!(true);
    }
    let tty = request.get("Tty").cloned().unwrap_or(json!(false));
    let size = request.get("ConsoleSize").cloned().unwrap_or(Value::Null);
    let exec = d.post("/containers/row/exec", &request).expect(201).json();
    let target = format!("/exec/{}/start", exec["Id"].as_str().unwrap());
    let printed = d.post(&target, &json!({ "Tty": tty, "ConsoleSize": size })).expect(200).text();
    // Frames of streams have a header; none here is longer than its last byte tells.
    let headers = Regex::new("[\u{0}-\u{2}]\u{0}{6}.").unwrap();
    headers.replace_all(&printed.replace('\r', ""), "").into_owned()
}

/// Changes the container `row`.
fn updated(d: &Daemon, row: &Row) -> String {
    let answer = d.post("/containers/row/update", &request(d, row));
    if answer.status() != 200 {
        return answer.text();
    }
    match row.script.strip_prefix("HOST: ") {
        Some(script) => d.sh(script).stdout,
        None => d.sh(&format!("docker exec row sh -c '{PRELUDE}{}'", row.script)).stdout,
    }
}

// Go's decoder takes names of fields in any case, and docker-py sends `detachKeys`.
scenario!(names_of_fields_may_be_in_any_case, |d| {
    let body = json!({
        "image": "busybox", "CMD": ["sleep", "1000"], "env": ["A=1"], "labels": { "Of": "user" },
        "hostconfig": { "memory": 67_108_864, "restartpolicy": { "name": "always" }, "binds": ["/tmp:/mnt:ro"] },
    });
    d.post("/containers/create?name=box", &body).expect(201);
    let shown = "{{json .Config.Cmd}} {{index .Config.Env 0}} {{json .Config.Labels}} {{.HostConfig.Memory}} \
                 {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Binds}}";
    assert_eq!(
        d.sh(&format!("docker inspect -f '{shown}' box")).ok(),
        r#"["sleep","1000"] A=1 {"Of":"user"} 67108864 always [/tmp:/mnt:ro]"#
    );
    d.post("/containers/box/update", &json!({ "memory": 68_157_440, "MEMORYSWAP": -1 })).expect(200);
    assert_eq!(d.sh("docker inspect -f '{{.HostConfig.Memory}}' box").ok(), "68157440");
    d.sh("docker start box").ok();
    let exec = json!({ "cmd": ["cat"], "TTY": true, "attachstdin": true, "detachKeys": "ctrl-x" });
    let exec = d.post("/containers/box/exec", &exec).expect(201).json();
    let exec = d.get(&format!("/exec/{}/json", exec["Id"].as_str().unwrap())).expect(200).json();
    assert_eq!((&exec["ProcessConfig"]["tty"], &exec["DetachKeys"]), (&json!(true), &json!("GA==")));
    let volume =
        d.post("/volumes/create", &json!({ "name": "of-user", "LABELS": { "a": "b" } })).expect(201).json();
    assert_eq!((&volume["Name"], &volume["Labels"]["a"]), (&json!("of-user"), &json!("b")));
    d.sh("docker rm -f box; docker volume rm of-user").ok();
});

scenario!(what_the_configuration_of_a_container_says_is_done, |d| {
    expect(d, &of_config(), created);
});

scenario!(what_limits_a_container_is_given_it_has, |d| {
    prepare(d);
    expect(d, &of_limits(), created);
    clean_up(d);
});

scenario!(what_of_the_host_a_container_is_given_it_has, |d| {
    prepare(d);
    expect(d, &of_namespaces(), created);
    clean_up(d);
});

scenario!(what_is_to_be_mounted_is_mounted_as_asked, |d| {
    prepare(d);
    expect(d, &of_mounts(), created);
    clean_up(d);
});

scenario!(where_a_container_is_placed_in_a_network_it_is, |d| {
    d.sh("docker network create --subnet 198.51.100.0/24 --ipv6 --subnet fd00:77::/64 own").ok();
    d.sh("docker network create --subnet 203.0.113.0/24 second").ok();
    expect(d, &of_networks(), created);
});

scenario!(what_is_asked_of_an_exec_is_done, |d| {
    d.sh("docker run -d --name row busybox sleep 1000").ok();
    expect(d, &of_execs(), executed);
});

scenario!(what_an_update_changes_is_changed, |d| {
    prepare(d);
    d.sh("docker run -d --name row busybox sleep 1000").ok();
    expect(d, &of_updates(), updated);
    clean_up(d);
});

// dockerd 20.10 answers with 500, newer ones with 400.
scenario!(what_only_windows_can_do_is_refused, Setup::new().slipway_only(), |d| {
    for (field, said) in [("IOMaximumBandwidth", "Maximum IO"), ("IOMaximumIOps", "Maximum IO")] {
        let refused =
            d.post("/containers/create", &json!({ "Image": "busybox", "HostConfig": { field: 5 } }));
        assert_eq!(refused.status(), 400);
        let text = refused.text();
        assert!(text.contains(said) || text.contains("maximum"), "{text}");
    }
});
