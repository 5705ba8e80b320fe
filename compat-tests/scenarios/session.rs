//! A new user's first session.

use crate::harness::scenario::scenario;

scenario!(the_engine_says_who_it_is, |d| {
    let pong = d.get("/_ping").expect(200);
    assert_eq!(pong.text(), "OK");
    assert_eq!(pong.header("Ostype"), Some("linux"));
    assert!(pong.header("Api-Version").is_some_and(|version| version.starts_with("1.")));
    d.sh("docker version --format '{{.Server.Os}}'").ok();
    assert_eq!(
        d.sh("docker info --format '{{.OSType}} {{.Swarm.LocalNodeState}} {{.Containers}}'").ok(),
        "linux inactive 0"
    );
});

scenario!(run_prints_what_the_container_prints, |d| {
    assert_eq!(d.sh("docker run --rm busybox echo hello").ok(), "hello");
    assert_eq!(d.sh("docker ps -aq").ok(), "");
});

scenario!(run_gives_both_streams_apart, |d| {
    let ended = d.sh("docker run --rm busybox sh -c 'echo out; echo err >&2'");
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
});

scenario!(an_interactive_shell_on_a_terminal, |d| {
    let mut shell = d.terminal("docker run -it --name box busybox sh");
    shell.shows("/ # ");
    shell.types("tty; stty size; echo $TERM $((6*7))\n");
    shell.shows("/dev/pts/0");
    shell.shows("24 80");
    shell.shows("xterm 42");
    shell.types("exit 3\n");
    assert_eq!(shell.exit_code(), 3);
    assert_eq!(d.sh("docker inspect -f '{{.State.ExitCode}} {{.Config.Tty}}' box").ok(), "3 true");
});

scenario!(a_detached_container_is_listed_stopped_and_removed, |d| {
    let id = d.sh("docker run -d --name web busybox sleep 1000").ok();
    assert_eq!(id.len(), 64);
    let listed = d.sh("docker ps --no-trunc --format '{{.ID}} {{.Names}} {{.Image}} {{.State}}'").ok();
    assert_eq!(listed, format!("{id} web busybox running"));
    assert_eq!(d.sh("docker stop -t 1 web").ok(), "web");
    assert_eq!(d.sh("docker ps -q").ok(), "");
    assert_eq!(d.sh("docker ps -a --format '{{.Names}} {{.State}}'").ok(), "web exited");
    assert_eq!(d.sh("docker rm web").ok(), "web");
    assert_eq!(d.sh("docker ps -aq").ok(), "");
});

scenario!(a_published_port_reaches_the_container, |d| {
    d.sh("docker run -d --name web -p 8080:80 busybox sh -c 'mkdir /w; echo served >/w/index.html; httpd -f -p 80 -h /w'").ok();
    let fetch = "for i in $(seq 100); do curl -sf http://127.0.0.1:8080/ && exit 0; sleep 0.1; done; exit 1";
    assert_eq!(d.sh(fetch).ok(), "served");
    let ports = d.sh("docker port web").ok();
    assert!(ports.contains("80/tcp -> 0.0.0.0:8080"), "{ports}");
    let address = d.sh("docker inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' web").ok();
    assert_eq!(d.sh(&format!("curl -sf http://{address}/")).ok(), "served");
});

scenario!(logs_follow_a_running_container, |d| {
    d.sh("docker run -d --name talker busybox sh -c 'echo one; while [ ! -e /go ]; do sleep 0.1; done; echo two'").ok();
    let mut following = d.sh_running("docker logs -f talker");
    following.shows("one\n");
    d.sh("docker exec -d talker touch /go").ok();
    following.shows("one\ntwo\n");
    assert_eq!(following.exit_code(), 0);
    assert_eq!(d.sh("docker logs --tail 1 talker").ok(), "two");
});

scenario!(exec_joins_a_running_container, |d| {
    d.sh("docker run -d --name box -e A=1 busybox sleep 1000").ok();
    assert_eq!(d.sh("docker exec -e B=2 box sh -c 'echo $A$B'").ok(), "12");
    let mut shell = d.terminal("docker exec -it box sh");
    shell.shows("/ # ");
    shell.types("ps; echo $((40+2))\n");
    shell.shows("sleep 1000");
    shell.shows("42");
    shell.types("exit 5\n");
    assert_eq!(shell.exit_code(), 5);
});

scenario!(images_are_listed_inspected_tagged_and_removed, |d| {
    assert_eq!(d.sh("docker images --format '{{.Repository}}:{{.Tag}}'").ok(), "busybox:latest");
    assert_eq!(
        d.sh("docker image inspect -f '{{.Os}} {{json .Config.Cmd}} {{json .RepoTags}}' busybox").ok(),
        r#"linux ["sh"] ["busybox:latest"]"#
    );
    d.sh("docker tag busybox other:1").ok();
    assert_eq!(d.sh("docker images -q | sort -u | wc -l").ok(), "1");
    let removed = d.sh("docker rmi other:1").ok();
    assert_eq!(removed, "Untagged: other:1");
    let removed = d.sh("docker rmi busybox").ok();
    assert!(
        removed.contains("Untagged: busybox:latest") && removed.contains("Deleted: sha256:"),
        "{removed}"
    );
    assert_eq!(d.sh("docker images -q").ok(), "");
});

scenario!(a_named_volume_keeps_its_data, |d| {
    d.sh("docker run --rm -v data:/d busybox sh -c 'echo kept >/d/f'").ok();
    assert_eq!(d.sh("docker volume ls --format '{{.Driver}} {{.Name}}'").ok(), "local data");
    assert_eq!(d.sh("docker run --rm -v data:/d busybox cat /d/f").ok(), "kept");
    assert_eq!(d.sh("docker volume rm data").ok(), "data");
    assert_eq!(d.sh("docker volume ls -q").ok(), "");
});

scenario!(a_host_directory_is_mounted, |d| {
    d.sh("mkdir host && echo there >host/f").ok();
    assert_eq!(d.sh("docker run --rm -v $PWD/host:/h:ro busybox cat /h/f").ok(), "there");
    d.sh("docker run --rm -v $PWD/host:/h:ro busybox touch /h/g").fails(1, "Read-only file system");
    d.sh("docker run --rm -v $PWD/host:/h busybox touch /h/g && test -e host/g").ok();
});
