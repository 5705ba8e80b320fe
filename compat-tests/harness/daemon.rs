//! The engine under test, as a scenario sees it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use slipway::api::conformance;

use super::engine::Engine;
use super::etc::Etc;
use super::http::{Request, Response};
use super::images;
use super::leaks::Inventory;
use super::poll::{eventually, eventually_some};
use super::proxy::{Exchange, Proxy};
use super::record::Record;
use super::sandbox::{Sandbox, children};
use super::scenario::{Image, Setup};
use super::shell::{Ended, Running};
use super::wire;

/// A started engine, its sandbox and its clients. Dropping it ends and removes everything.
pub struct Daemon {
    // Dropped first: the proxy, then the processes, then the sandbox.
    proxy: Proxy,
    process: Mutex<Option<Process>>,
    setup: Setup,
    record: Record,
    baseline: Option<Inventory>,
    sandbox: Sandbox,
}

struct Process {
    entered: Child,
    pid: Pid,
}

impl Daemon {
    /// Starts the engine and waits until it answers; loads busybox if asked.
    pub fn start(scenario: &str, setup: Setup) -> Self {
        let mut daemon = Self::prepare(scenario, setup);
        daemon.launch(&[]);
        daemon.wait_until_up();
        if daemon.setup.image == Image::Busybox {
            daemon.load(images::busybox().docker_archive());
        }
        daemon.baseline = Some(Inventory::of(&daemon));
        daemon
    }

    /// Everything but the engine itself: for scenarios about starting.
    pub fn prepare(scenario: &str, setup: Setup) -> Self {
        let sandbox = Sandbox::new();
        let proxy = Proxy::start(&sandbox.dir().join("docker.sock"), sandbox.dir().join("engine.sock"));
        let record = Record::new(scenario, sandbox.dir());
        let daemon = Self { proxy, process: Mutex::default(), setup, record, baseline: None, sandbox };
        if !daemon.setup.names.is_empty() || !daemon.setup.etc.is_empty() {
            Etc::make(&daemon, &daemon.setup);
        }
        daemon
    }

    /// The engine's command line, to be run inside the sandbox.
    pub fn command(&self) -> Command {
        let engine = Engine::chosen();
        let mut command = self.sandbox.command(&engine.program());
        command.args(engine.arguments(self.dir()));
        let file = self.dir().join("daemon.json");
        let content = self.setup.file.clone().unwrap_or(Value::Object(Default::default()));
        fs::write(&file, content.to_string()).unwrap();
        command.arg("--config-file").arg(file);
        command.args(&self.setup.flags);
        command
    }

    /// Starts the engine's process with further variables; does not wait for it to answer.
    pub fn launch(&self, environment: &[(&str, &str)]) {
        let mut command = self.command();
        command.arg("-H").arg(format!("unix://{}", self.engine_socket().display()));
        command.envs(environment.iter().copied());
        self.launch_command(command);
    }

    /// Starts the engine's process by a command made from [`Daemon::command`].
    pub fn launch_command(&self, mut command: Command) {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut entered = command.spawn().unwrap();
        let pid = eventually_some("the engine's process", || {
            let ended = entered.try_wait().unwrap();
            assert!(ended.is_none(), "the engine ended at once: {ended:?}\n{}", self.log());
            // The entering shell has children of its own until it has become nsenter.
            let name = fs::read_to_string(format!("/proc/{}/comm", entered.id())).unwrap_or_default();
            if name.trim() == "nsenter" { children(entered.id()).first().copied() } else { None }
        });
        *self.process.lock().unwrap() = Some(Process { entered, pid: Pid::from_raw(pid as i32) });
    }

    /// Waits until `/_ping` is answered.
    pub fn wait_until_up(&self) {
        let socket = self.engine_socket();
        eventually("the engine answers", || {
            assert!(self.is_running(), "the engine has ended:\n{}", self.log());
            let Ok(stream) = UnixStream::connect(&socket) else { return false };
            Request::new("GET", "/_ping").send(stream).is_ok_and(|pong| pong.status() == 200)
        });
    }

    /// Whether the engine's process is there.
    pub fn is_running(&self) -> bool {
        let mut process = self.process.lock().unwrap();
        process.as_mut().is_some_and(|process| process.entered.try_wait().unwrap().is_none())
    }

    /// Sends a signal to the engine's process.
    pub fn signal(&self, signal: Signal) {
        let process = self.process.lock().unwrap();
        kill(process.as_ref().expect("the engine was started").pid, signal).unwrap();
    }

    /// Waits for the end of the engine's process.
    pub fn wait_until_ended(&self) -> ExitStatus {
        let mut process = self.process.lock().unwrap().take().expect("the engine was started");
        eventually_some("the engine ends", || process.entered.try_wait().unwrap())
    }

    /// Ends the engine as a crash would.
    pub fn kill_9(&self) {
        self.signal(Signal::SIGKILL);
        self.wait_until_ended();
    }

    /// Ends the engine as a crash would, if it has not ended by itself.
    pub fn end(&self) {
        if let Some(process) = self.process.lock().unwrap().as_ref() {
            // It may end at any instant.
            let _ = kill(process.pid, Signal::SIGKILL);
        }
        self.wait_until_ended();
    }

    /// Starts the engine again after its end.
    pub fn start_again(&self) {
        self.launch(&[]);
        self.wait_until_up();
    }

    /// A directory seen at the same path inside and outside the sandbox.
    pub fn dir(&self) -> &Path {
        self.sandbox.dir()
    }

    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The socket of the recording proxy: what clients use.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("docker.sock")
    }

    /// The engine's own socket, for scenarios that look at segments and descriptors.
    pub fn engine_socket(&self) -> PathBuf {
        self.dir().join("engine.sock")
    }

    /// What the engine has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir().join("engine.log")
    }

    // ---- clients

    /// Runs a shell line inside the sandbox as a user would type it.
    pub fn sh(&self, script: &str) -> Ended {
        let mut command = self.shell(script);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let ended = Ended::new(script, &output);
        self.record.command(&ended);
        ended
    }

    /// Starts a shell line; its input and output are pipes.
    pub fn sh_running(&self, script: &str) -> Running {
        Running::piped(self.shell(script))
    }

    /// Starts a shell line on a terminal.
    pub fn terminal(&self, script: &str) -> Running {
        let mut command = self.sandbox.command("setsid");
        self.environment(command.args(["--ctty", "--wait", "sh", "-c", script]));
        Running::on_terminal(command)
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = self.sandbox.command("timeout");
        // A client that is told to end asks its container to, and waits on.
        self.environment(command.args(["--signal=KILL", "120", "sh", "-c", script]));
        command
    }

    fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DOCKER_")) {
            command.env_remove(name);
        }
        let settings = self.dir().join("docker-config");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command.env("DOCKER_CONFIG", settings).env("DOCKER_CLI_HINTS", "false").env("TERM", "xterm")
    }

    /// Sends a request through the recorder.
    pub fn send(&self, request: Request<'_>) -> Response {
        let stream = UnixStream::connect(self.socket()).unwrap();
        request.send(stream).unwrap_or_else(|e| panic!("{} {}: {e}", request.method, request.target))
    }

    pub fn get(&self, target: &str) -> Response {
        self.send(Request::new("GET", target))
    }

    pub fn post(&self, target: &str, body: &Value) -> Response {
        match body {
            Value::Null => self.send(Request::new("POST", target)),
            body => self.send(Request::new("POST", target).json(body)),
        }
    }

    pub fn delete(&self, target: &str) -> Response {
        self.send(Request::new("DELETE", target))
    }

    /// `docker load` by the API.
    pub fn load(&self, archive: Vec<u8>) -> String {
        let request = Request::new("POST", "/images/load?quiet=1").body("application/x-tar", archive);
        self.send(request).expect(200).text()
    }

    /// Creates a container by the API; its id.
    pub fn create(&self, body: Value) -> String {
        let created = self.post("/containers/create", &body).expect(201).json();
        created["Id"].as_str().unwrap().to_owned()
    }

    /// Inspects a container.
    pub fn inspect(&self, container: &str) -> Value {
        self.get(&format!("/containers/{container}/json")).expect(200).json()
    }

    /// `State.Status` of a container.
    pub fn status(&self, container: &str) -> String {
        self.inspect(container)["State"]["Status"].as_str().unwrap().to_owned()
    }

    // ---- the end

    /// Removes what the scenario made, checks that nothing is left of it, and stops the engine in order.
    pub fn finish(&self) {
        self.expect_conforming_responses();
        if !self.is_running() {
            return;
        }
        self.remove_all_containers();
        self.sh("docker network prune -f && docker volume ls -q | xargs -r docker volume rm -f").ok();
        if let Some(baseline) = &self.baseline {
            baseline.expect_same(self);
        }
        self.signal(Signal::SIGTERM);
        let status = self.wait_until_ended();
        assert!(status.success(), "the engine did not stop in order: {status}\n{}", self.log());
        assert!(!self.log().contains("panicked at"), "the engine panicked:\n{}", self.log());
    }

    /// Holds every response seen against the specification's schema of its version.
    fn expect_conforming_responses(&self) {
        if Engine::chosen() == Engine::Dockerd {
            return;
        }
        let mut violations = BTreeSet::new();
        for Exchange { method, target, response } in self.proxy.exchanges() {
            let status = response.head.status();
            // What is not there yet says so; what is too long was not kept.
            if status != 501 && response.length <= wire::KEPT {
                let found = conformance::validate(&method, &target, status, &response.body);
                violations
                    .extend(found.iter().map(|violation| format!("{method} {target} {status}: {violation}")));
            }
        }
        assert!(violations.is_empty(), "responses that differ from the specification: {violations:#?}");
    }

    fn remove_all_containers(&self) {
        for container in self.get("/containers/json?all=1").expect(200).json().as_array().unwrap() {
            let id = container["Id"].as_str().unwrap();
            self.delete(&format!("/containers/{id}?force=1&v=1"));
        }
        eventually("no container is left", || {
            self.get("/containers/json?all=1").expect(200).json().as_array().unwrap().is_empty()
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(30)..];
            eprintln!("---- the end of the engine's log\n{}", tail.join("\n"));
        }
        if let Some(mut process) = self.process.lock().unwrap_or_else(|e| e.into_inner()).take() {
            let _ = kill(process.pid, Signal::SIGKILL);
            let _ = process.entered.wait();
        }
    }
}
