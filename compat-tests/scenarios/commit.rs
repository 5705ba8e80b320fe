//! `docker commit`: a container becomes an image.

use regex::Regex;
use serde_json::json;

use crate::harness::scenario::scenario;

scenario!(a_committed_image_has_the_container_s_changes_and_runs, |d| {
    d.sh("docker run --name box -v data:/v busybox sh -c 'echo made >/made; rm /etc/group; echo v >/v/f'")
        .ok();
    let id = d.sh("docker commit -m note -a me box made:1").ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(
        d.sh("docker run --rm made:1 sh -c 'cat /made; ls /etc/group /v/f 2>/dev/null; true'").ok(),
        "made"
    );
    let image = d.get("/images/made:1/json").expect(200).json();
    assert_eq!((&image["Author"], &image["Comment"]), (&json!("me"), &json!("note")));
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let history = d.get("/images/made:1/history").expect(200).json();
    assert_eq!(history[0]["Comment"], json!("note"));
    assert_eq!(history[0]["CreatedBy"], json!("sh -c echo made >/made; rm /etc/group; echo v >/v/f"));
});

scenario!(instructions_change_the_committed_configuration, |d| {
    d.sh("docker create --name box -e KEPT=1 -e OLD=1 -w /tmp -l kept=1 busybox sh -c true").ok();
    let changes = "-c 'ENV OLD=2 NEW=3' -c 'LABEL new=2' -c 'EXPOSE 80' -c 'VOLUME /v' -c 'USER user' \
                   -c 'CMD [\"echo\", \"hello\"]' -c 'ONBUILD RUN x' \
                   -c 'HEALTHCHECK --interval=5s --retries=2 CMD true'";
    d.sh(&format!("docker commit {changes} box made")).ok();
    let config = d.get("/images/made/json").expect(200).json()["Config"].clone();
    let mut env: Vec<_> = config["Env"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    env.sort_unstable();
    assert_eq!(env, ["KEPT=1", "NEW=3", "OLD=2", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    assert_eq!(config["Labels"], json!({"kept": "1", "new": "2"}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/v": {}}));
    assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("user"), &json!("/tmp")));
    assert_eq!(config["Cmd"], json!(["echo", "hello"]));
    assert_eq!(config["OnBuild"], json!(["RUN x"]));
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(config["Healthcheck"]["Interval"], json!(5_000_000_000_u64));
    assert_eq!(d.sh("docker run --rm made").ok(), "hello");
});

/// What a container is committed with, each a `--change`, and a field of the image's configuration with its value.
type Followed = (&'static [&'static str], &'static str, &'static str);

fn followed() -> Vec<Followed> {
    vec![
        (&["CMD"], "Cmd", r#"["/bin/sh","-c"]"#),
        (&["CMD []"], "Cmd", "[]"),
        (&["cmd echo  a \"$X\" "], "Cmd", r#"["/bin/sh","-c","echo  a \"$X\""]"#),
        (&["CMD [\"a\" \"b\"]"], "Cmd", r#"["/bin/sh","-c","[\"a\" \"b\"]"]"#),
        (&["CMD a \\\n# not this\n\n  b\\", "c"], "Cmd", r#"["/bin/sh","-c","a   bc"]"#),
        (&["# escape=`\nCMD a `\nb"], "Cmd", r#"["/bin/sh","-c","a b"]"#),
        (&["ENTRYPOINT [\"e\"]"], "Cmd", "null"),
        (&["CMD [\"c\"]", "ENTRYPOINT [\"e\"]"], "Cmd", r#"["c"]"#),
        (&["ENTRYPOINT"], "Cmd", r#"["c1","c2"]"#),
        (&["ENTRYPOINT"], "Entrypoint", r#"["/ent"]"#),
        (&["ENV K=new A=1 B=$K", "ENV A=2 C=${X:-$B}"], "Env", r#"["K=new","PATH","A=2","B=kept","C=kept"]"#),
        (&["ENV A the  \"rest\" b=c"], "Env", r#"["K=kept","PATH","A=the  rest b=c"]"#),
        (&["ENV A=x\\ y B=\"q \\\" r\" C=\\$K"], "Env", r#"["K=kept","PATH","A=x y","B=q \" r","C=$K"]"#),
        (
            &["EXPOSE 80-81/UDP 8080:90 127.0.0.1::91"],
            "ExposedPorts",
            r#"{"80/udp":{},"81/udp":{},"90/tcp":{},"91/tcp":{}}"#,
        ),
        (&["ENV P=\"80 90\"", "EXPOSE $P"], "ExposedPorts", r#"{"80/tcp":{},"90/tcp":{}}"#),
        (&["LABEL a=1 \\\n b=\"c d\" kept=2"], "Labels", r#"{"a":"1","b":"c d","kept":"2"}"#),
        (
            &["ONBUILD  run   x  y ", "ONBUILD COPY --from=a b c"],
            "OnBuild",
            r#"["run   x  y ","COPY --from=a b c"]"#,
        ),
        (&["USER $K"], "User", r#""kept""#),
        (
            &["VOLUME [\"/a b\", \"/c\"]", "VOLUME d  /e"],
            "Volumes",
            r#"{"/a b":{},"/c":{},"/e":{},"/vol":{},"d":{}}"#,
        ),
        (&["WORKDIR sub", "WORKDIR ../b//c"], "WorkingDir", r#""/tmp/b/c""#),
        (&["WORKDIR /a/../b/"], "WorkingDir", r#""/a/../b/""#),
        (&["HEALTHCHECK NONE"], "Healthcheck", r#"{"Test":["NONE"]}"#),
        (
            &["HEALTHCHECK CMD a", "HEALTHCHECK --interval=1.5s --retries=2 cmd [\"b\"]"],
            "Healthcheck",
            r#"{"Interval":1500000000,"Retries":2,"Test":["CMD","b"]}"#,
        ),
    ]
}

/// What is refused, and the answer as a regular expression for all of it.
const REFUSED: &[(&[&str], &str)] = &[
    (&[""], "file with no instructions"),
    (&["# c"], "file with no instructions"),
    (&["RUN x"], "(run|RUN) is not a valid change command"),
    (&["CMD[]"], r"(cmd|CMD)\[\] is not a valid change command"),
    (&["CMD a", "nonsense"], "nonsense is not a valid change command"),
    (&["RUN x", "ENV A"], "ENV must have two arguments"),
    (&["EXPOSE", "from x"], "from is not a valid change command"),
    (&["EXPOSE x", "USER"], "USER requires exactly one argument"),
    (&["CMD [\"a\", 1]"], "when using JSON array syntax, arrays must be comprised of strings only"),
    (&["CMD --x=1 a"], "[Uu]nknown flag: (--)?x"),
    (&["ENV"], "ENV requires at least one argument"),
    (&["ENV A=1 B"], "Syntax error - can't find = in \"B\". Must be of the form: name=value"),
    (&["ENV =1"], "ENV names can not be blank"),
    (
        &["ENV A=\"1"],
        r#"failed to process "\\"1": unexpected end of statement while looking for matching double-quote"#,
    ),
    (
        &["ENV A=${K"],
        r#"failed to process "\$\{K": (syntax error: missing '\}'|missing ':' in substitution)"#,
    ),
    (&["ENV A=${X?no}"], r#"failed to process "\$\{X\?no\}": .*"#),
    (&["LABEL a"], "LABEL must have two arguments"),
    (&["EXPOSE"], "EXPOSE requires at least one argument"),
    (&["EXPOSE x"], "[Ii]nvalid containerPort: x"),
    (&["EXPOSE 80,81"], "[Ii]nvalid containerPort: 80,81"),
    (&["EXPOSE 9-8"], "[Ii]nvalid containerPort: 9-8"),
    (&["EXPOSE 80/x"], "[Ii]nvalid proto: x"),
    (&["EXPOSE x:80"], "[Ii]nvalid hostPort: x"),
    (&["EXPOSE 1:2-3"], "[Ii]nvalid ranges specified for container and host Ports: 2-3 and 1"),
    (&["EXPOSE /tcp"], "[Nn]o port specified: /tcp<empty>"),
    (&["ONBUILD"], "ONBUILD requires at least one argument"),
    (&["ONBUILD ONBUILD RUN x"], "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
    (&["ONBUILD from x"], "FROM isn't allowed as an ONBUILD trigger"),
    (&["ONBUILD ENV A"], "ENV must have two arguments"),
    (&["VOLUME []"], "VOLUME requires at least one argument"),
    (&["VOLUME [\" \"]"], "VOLUME specified can not be an empty string"),
    (&["WORKDIR \"\""], "cannot normalize nothing"),
    (&["STOPSIGNAL BOGUS"], "(invalid signal: BOGUS|stopsignal is not a valid change command)"),
    (&["HEALTHCHECK"], "HEALTHCHECK requires at least one argument"),
    (&["HEALTHCHECK NONE x"], "HEALTHCHECK NONE takes no arguments"),
    (&["HEALTHCHECK CMD"], "Missing command after HEALTHCHECK CMD"),
    (&["HEALTHCHECK run x"], r#"Unknown type "RUN" in HEALTHCHECK \(try CMD\)"#),
    (&["HEALTHCHECK --interval=1 CMD a"], r#"time: missing unit in duration "?1"?"#),
    (&["HEALTHCHECK --interval=1x CMD a"], r#"time: unknown unit "?x"? in duration "?1x"?"#),
    (&["HEALTHCHECK --timeout=1us CMD a"], r#"Interval "timeout" cannot be less than 1ms"#),
    (&["HEALTHCHECK --retries=x CMD a"], r#"strconv.ParseInt: parsing "x": invalid syntax"#),
    (&["HEALTHCHECK --timeout 5s CMD a"], "[Mm]issing a value on flag: (--)?timeout"),
];

scenario!(changes_are_read_as_in_a_dockerfile, |d| {
    let options = "-e K=kept -w /tmp -l kept=1 -v /vol --entrypoint /ent";
    d.sh(&format!("docker create --name box {options} busybox c1 c2")).ok();
    let commit = |changes: &[&str]| {
        let changes: String = changes.iter().map(|change| format!("-c '{change}' ")).collect();
        d.sh(&format!("docker commit {changes} box made"))
    };
    let mut wrong = Vec::new();
    for (changes, field, expected) in followed() {
        commit(changes).ok();
        let mut config = d.get("/v1.41/images/made/json").expect(200).json()["Config"].take();
        for entry in config["Env"].as_array_mut().unwrap() {
            if entry.as_str().unwrap().starts_with("PATH=") {
                *entry = json!("PATH");
            }
        }
        let is = config[field].to_string();
        if is != expected {
            wrong.push(format!("{changes:?}: {field} is {is}, not {expected}"));
        }
    }
    for (changes, expected) in REFUSED {
        let ended = commit(changes);
        let said = ended.stderr.trim().trim_start_matches("Error response from daemon: ");
        if ended.code != 1 || !Regex::new(&format!("^{expected}$")).unwrap().is_match(said) {
            wrong.push(format!("{changes:?}: {said:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
});

// Fails where variables and the working directory are the container's whatever the body says.
scenario!(a_configuration_in_the_body_is_what_changes_begin_with, |d| {
    d.sh("docker create --name box -e K=kept -w /tmp --entrypoint /ent busybox c1").ok();
    for (body, changes, expected) in [
        (json!({}), "ENV%20A=$K", r#"["c1"] ["/ent"] "A=kept""#),
        (json!(null), "WORKDIR%20$K", r#"["c1"] ["/ent"] null"#),
        (json!({ "Cmd": ["x"] }), "ENV%20A=$K", r#"["x"] ["/ent"] "A=""#),
        (json!({ "Cmd": ["x"], "Shell": ["ash"] }), "CMD%20a", r#"["ash","a"] ["/ent"] null"#),
        (json!({ "Entrypoint": [] }), "USER%20x", r#"["c1"] [] null"#),
        (json!({ "Entrypoint": ["e"] }), "USER%20x", r#"null ["e"] null"#),
    ] {
        d.post(&format!("/commit?container=box&repo=made&changes={changes}"), &body).expect(201);
        let config = d.get("/v1.41/images/made/json").expect(200).json()["Config"].take();
        let added =
            config["Env"].as_array().unwrap().iter().find(|entry| entry.as_str().unwrap().starts_with("A="));
        let is = format!("{} {} {}", config["Cmd"], config["Entrypoint"], added.unwrap_or(&json!(null)));
        assert_eq!(is, expected, "{body} {changes}");
    }
});

// Fails where they are: a container's probes would run in another shell than dockerd's do.
scenario!(an_image_s_shell_and_triggers_are_not_its_containers, |d| {
    d.sh("docker create --name box busybox true").ok();
    let body = json!({ "Shell": ["ash"], "StopTimeout": 3, "OnBuild": ["RUN x"], "StopSignal": "9" });
    d.post("/commit?container=box&repo=made", &body).expect(201);
    let id = d.sh("docker create made").ok();
    let config = d.get(&format!("/containers/{id}/json")).expect(200).json()["Config"].take();
    for field in ["Shell", "StopTimeout", "OnBuild"] {
        assert_eq!(config[field], json!(null), "{field}");
    }
    assert_eq!(config["StopSignal"], json!("9"));
    let own = json!({ "Image": "made", "Entrypoint": [], "OnBuild": ["RUN y"] });
    let id = d.post("/containers/create", &own).expect(201).json()["Id"].take();
    let config =
        d.get(&format!("/containers/{}/json", id.as_str().unwrap())).expect(200).json()["Config"].take();
    assert_eq!((&config["Cmd"], &config["OnBuild"]), (&json!(["true"]), &json!(["RUN y"])));
});

scenario!(a_running_container_is_paused_for_a_commit_and_goes_on, |d| {
    d.sh("docker run -d --name box busybox sleep 1000").ok();
    d.sh("docker commit box made && docker commit --pause=false box made:2").ok();
    assert_eq!(d.status("box"), "running");
    // The CLI's "now" is a whole second.
    let seen = d
        .sh("sleep 1.1; docker events --since 1h --until 0s --filter container=box --format '{{.Action}}'")
        .ok();
    let seen: Vec<_> =
        seen.lines().filter(|action| ["pause", "unpause", "commit"].contains(action)).collect();
    assert_eq!(seen.iter().filter(|action| **action == "commit").count(), 2, "{seen:?}");
    assert_eq!(seen.iter().filter(|action| **action == "unpause").count(), 1, "{seen:?}");
    let attributes = d.sh("docker events --since 1h --until 0s --filter event=commit --format '{{json .Actor.Attributes}}' | head -1").ok();
    assert!(
        attributes.contains("\"imageRef\":\"made:latest\"") || attributes.contains("\"imageRef\":\"made\""),
        "{attributes}"
    );
});

scenario!(what_cannot_be_committed_is_refused, |d| {
    d.post("/commit?container=nosuch", &json!({})).expect(404);
    d.sh("docker create --name box busybox").ok();
    let bad = d.post("/commit?container=box&changes=RUN%20x", &json!({})).message();
    assert!(bad.to_lowercase().contains("run is not a valid change command"), "{bad}");
    assert!(d.post("/commit?container=box&repo=UPPER", &json!({})).status() >= 400);
    let made =
        d.post("/commit?container=box&repo=made", &json!({"Cmd": ["echo", "body"]})).expect(201).json();
    assert!(made["Id"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(d.sh("docker run --rm made").ok(), "body");
});

scenario!(a_committed_image_can_be_committed_again_and_removed, |d| {
    for (from, to) in [("busybox", "one"), ("one", "two"), ("two", "three")] {
        d.sh(&format!(
            "docker run --name {to} {from} sh -c 'echo {to} >/{to}; rm -f /{from}' && docker commit {to} {to}"
        ))
        .ok();
    }
    assert_eq!(d.sh("docker run --rm three sh -c 'ls /one /two /three 2>/dev/null; true'").ok(), "/three");
    d.sh("docker rm one two three && docker rmi three two one").ok();
    assert_eq!(d.sh("docker run --rm busybox echo still there").ok(), "still there");
});
