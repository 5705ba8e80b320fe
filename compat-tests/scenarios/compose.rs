//! Compose: the life of a project with docker-compose as Debian ships it, which is strict about what it reads.

use serde_json::json;

use crate::harness::poll::eventually;
use crate::harness::scenario::scenario;

const PROJECT: &str = r#"
version: "2.4"
services:
  web:
    image: busybox
    network_mode: bridge
    command: sh -c 'echo served >/data/index.html; exec httpd -f -p 80 -h /data'
    ports: ["8080:80"]
    volumes: ["data:/data", "/scratch"]
    environment: {WORD: "${WORD-first}"}
    mem_limit: 64m
    restart: unless-stopped
    healthcheck: {test: wget -qO- http://127.0.0.1/, interval: 1s}
  job:
    image: busybox
    network_mode: bridge
    command: sh -c 'cat /run/data/index.html; env; exec sleep 1000'
    depends_on: {web: {condition: service_healthy}}
    volumes: ["data:/run/data:ro"]
    volumes_from: [web]
    stop_grace_period: 1s
volumes:
  data:
"#;

scenario!(a_project_goes_up_changes_and_goes_down, |d| {
    std::fs::create_dir(d.dir().join("shop")).unwrap();
    std::fs::write(d.dir().join("shop/docker-compose.yml"), PROJECT).unwrap();
    let compose = |command: &str| d.sh(&format!("cd shop && docker-compose {command} 2>&1"));
    compose("up -d").ok();
    eventually("the job says what it found", || compose("logs --no-color job").ok().contains("served"));
    assert_eq!(d.sh("curl -sf http://127.0.0.1:8080/").ok(), "served");
    assert_eq!(compose("ps -q").ok().lines().count(), 2);
    assert_eq!(compose("exec -T web sh -c 'echo $WORD'").ok(), "first");
    assert_eq!(compose("port web 80").ok(), "0.0.0.0:8080");
    let scratch = |container: &str| {
        let mounts = d.inspect(container)["Mounts"].clone();
        let mounts = mounts.as_array().unwrap().clone();
        mounts.into_iter().find(|mount| mount["Destination"] == json!("/scratch")).unwrap()["Name"].clone()
    };
    let (id, volume) = (compose("ps -q web").ok(), scratch(&compose("ps -q web").ok()));

    // The same again changes nothing; another environment makes the container anew, with its volumes.
    compose("up -d").ok();
    assert_eq!(compose("ps -q web").ok(), id);
    d.sh("cd shop && WORD=second docker-compose up -d 2>&1").ok();
    assert_ne!(compose("ps -q web").ok(), id);
    assert_eq!(compose("exec -T web sh -c 'echo $WORD'").ok(), "second");
    assert_eq!(scratch(&compose("ps -q web").ok()), volume);

    for command in
        ["pause", "unpause", "restart -t 1", "stop -t 1", "start", "kill web", "up -d --scale job=2"]
    {
        compose(command).ok();
    }
    assert_eq!(d.sh("docker ps -q --filter label=com.docker.compose.service=job").ok().lines().count(), 2);
    assert_eq!(compose("run --rm --no-deps job echo once").ok().lines().last(), Some("once"));
    assert!(compose("top web").ok().contains("httpd"));
    compose("down -v -t 1").ok();
    assert_eq!(d.sh("docker ps -aq; docker volume ls -q --filter name=shop").ok(), "");
});
