//! The SDKs: bollard for Rust and docker-py as Debian ships it, each through a container's life.

use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, EventsOptionsBuilder, ListImagesOptions,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::TryStreamExt;

use crate::harness::daemon::Daemon;
use crate::harness::scenario::scenario;

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|&word| word.to_owned()).collect())
}

/// A client that has negotiated its version, on a runtime of its own.
fn with_bollard<T>(d: &Daemon, work: impl AsyncFnOnce(Docker) -> Result<T, bollard::errors::Error>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = d.socket().display().to_string();
    runtime.block_on(async {
        let docker = Docker::connect_with_unix(&socket, 60, API_DEFAULT_VERSION).unwrap();
        work(docker.negotiate_version().await.unwrap()).await.unwrap()
    })
}

fn text(output: &[LogOutput]) -> String {
    output.iter().map(ToString::to_string).collect()
}

scenario!(bollard_leads_a_container_through_its_life, |d| {
    with_bollard(d, async |docker| {
        let body = ContainerCreateBody {
            image: Some("busybox".to_owned()),
            cmd: words(&[
                "sh",
                "-c",
                "echo out; echo err >&2; while [ ! -e /go ]; do sleep 0.1; done; exit 6",
            ]),
            host_config: Some(HostConfig { memory: Some(64 << 20), ..Default::default() }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::default().name("box").build();
        let id = docker.create_container(Some(options), body).await?.id;
        let options = AttachContainerOptionsBuilder::default().stream(true).stdout(true).stderr(true).build();
        let attached = docker.attach_container("box", Some(options)).await?;
        docker.start_container("box", None).await?;
        let exec = ExecConfig {
            cmd: words(&["sh", "-c", "echo in; touch /go"]),
            attach_stdout: Some(true),
            ..Default::default()
        };
        let exec = docker.create_exec("box", exec).await?.id;
        let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await? else {
            panic!("attached was asked")
        };
        assert_eq!(text(&output.try_collect::<Vec<_>>().await?), "in\n");
        let waited = docker.wait_container("box", None).try_collect::<Vec<_>>().await;
        let Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) = waited else {
            panic!("{waited:?}")
        };
        assert_eq!(code, 6);
        let seen = text(&attached.output.try_collect::<Vec<_>>().await?);
        assert!(seen.contains("out\n") && seen.contains("err\n"), "{seen}");
        let options = LogsOptionsBuilder::default().stdout(true).build();
        assert_eq!(text(&docker.logs("box", Some(options)).try_collect::<Vec<_>>().await?), "out\n");
        let shown = docker.inspect_container("box", None).await?;
        assert_eq!(shown.state.unwrap().exit_code, Some(6));
        assert_eq!(docker.list_containers(None).await?.len(), 0);
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        docker.remove_container(&id, Some(options)).await
    });
});

scenario!(bollard_reads_images_events_and_the_engine, |d| {
    with_bollard(d, async |docker| {
        assert_eq!(docker.ping().await?, "OK");
        assert_eq!(docker.version().await?.os.as_deref(), Some("linux"));
        assert_eq!(docker.info().await?.images, Some(1));
        let images = docker.list_images(None::<ListImagesOptions>).await?;
        assert_eq!(images[0].repo_tags, ["busybox:latest"]);
        let image = docker.inspect_image("busybox").await?;
        assert_eq!(image.config.unwrap().cmd, words(&["sh"]));
        assert_eq!(docker.image_history("busybox").await?.len(), 1);
        let options = EventsOptionsBuilder::default().since("1").until("2").build();
        assert!(docker.events(Some(options)).try_collect::<Vec<_>>().await?.is_empty());
        Ok(())
    });
});

/// Runs a script of docker-py in the sandbox.
fn python(d: &Daemon, script: &str) -> String {
    std::fs::write(d.dir().join("script.py"), script).unwrap();
    d.sh("/usr/bin/python3 script.py").ok()
}

scenario!(docker_py_leads_a_container_through_its_life, |d| {
    let script = r#"
import docker
client = docker.from_env()
assert client.ping()
print(client.containers.run("busybox", "echo hello", remove=True).decode().strip())
try:
    client.containers.run("busybox", "sh -c 'echo no >&2; exit 3'", remove=True)
except docker.errors.ContainerError as error:
    print(error.exit_status, error.stderr.decode().strip())
box = client.containers.run("busybox", "sleep 1000", detach=True, name="box", labels={"a": "b"}, ports={"80/tcp": 8080})
print(box.status, client.containers.get("box").status, [c.name for c in client.containers.list(filters={"label": "a=b"})])
code, output = box.exec_run(["sh", "-c", "echo in; exit 4"])
print(code, output.decode().strip())
code, output = box.exec_run("cat /nothing", demux=True)
print(code, output[0], b"No such file" in output[1])
channel = box.exec_run("cat", stdin=True, socket=True).output
channel._sock.sendall(b"through")
channel._sock.shutdown(1)
print(channel.read().endswith(b"through"))
box.stop(timeout=0)
print(box.wait()["StatusCode"], box.logs())
box.remove()
for get in (client.containers.get, client.images.get, client.volumes.get, client.networks.get):
    try:
        get("nothing")
    except docker.errors.NotFound as error:
        print(type(error).__name__)
volume = client.volumes.create("data")
print(volume.name, [v.name for v in client.volumes.list()])
volume.remove()
print([t for image in client.images.list() for t in image.tags])
"#;
    let expected = "hello\n3 no\ncreated running ['box']\n4 in\n1 None True\nTrue\n137 b''\nNotFound\nImageNotFound\n\
        NotFound\nNotFound\ndata ['data']\n['busybox:latest']";
    assert_eq!(python(d, script), expected);
});

scenario!(docker_py_attaches_before_the_start, |d| {
    let script = r#"
import docker
client = docker.from_env()
box = client.containers.create("busybox", "cat", stdin_open=True)
for _ in range(20):
    box = client.containers.create("busybox", "echo at once")
    stream = box.attach(stream=True)
    box.start()
    assert b"".join(stream) == b"at once\n"
    box.remove(force=True)
print("done")
"#;
    assert_eq!(python(d, script), "done");
});
