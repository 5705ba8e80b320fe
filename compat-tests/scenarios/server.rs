//! The server itself: listeners, flags and files, signals.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::daemon::Daemon;
use crate::harness::poll::eventually;
use crate::harness::scenario::{Setup, scenario};

/// Runs the engine with further arguments until it ends by itself; exit code and all it says.
fn refused(d: &Daemon, arguments: &[&str]) -> (i32, String) {
    let mut command = d.command();
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}

scenario!(the_socket_is_for_its_group_only, Setup::new().without_image(), |d| {
    assert_eq!(d.sh("stat -c '%a %F' engine.sock").ok(), "660 socket");
    assert_eq!(d.sh("stat -c %a data").ok(), "710");
});

scenario!(
    a_flag_and_the_file_must_not_say_the_same,
    Setup::new().without_image().file(json!({"debug": true})),
    |d| {
        let (code, said) = refused(d, &["--debug"]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)"), "{said}");
    }
);

scenario!(an_unknown_key_of_the_file_is_an_error, Setup::new().without_image(), |d| {
    fs::write(d.dir().join("bad.json"), r#"{"no-such-key": 1}"#).unwrap();
    let (code, said) = refused(d, &["--config-file", "bad.json"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("the following directives don't match any configuration option: no-such-key"),
        "{said}"
    );
});

scenario!(an_unknown_flag_is_an_error, Setup::new().without_image(), |d| {
    let (code, said) = refused(d, &["--no-such-flag"]);
    assert!(code != 0 && said.contains("--no-such-flag"), "{said}");
});

// CVE-2024-41110 was a request that plugins were not asked about: an engine that cannot ask them does not serve. Fails
// when the options are taken and not heeded.
scenario!(
    an_engine_that_shall_ask_plugins_does_not_start_without,
    Setup::new().without_image().slipway_only(),
    |d| {
        fs::write(d.dir().join("asking.json"), r#"{"authorization-plugins": ["judge"]}"#).unwrap();
        for arguments in [["--authorization-plugin", "judge"], ["--config-file", "asking.json"]] {
            let (code, said) = refused(d, &arguments);
            assert!(code != 0 && said.contains("authorization-plugin"), "{said}");
        }
    }
);

// --validate came with dockerd 23.
scenario!(
    a_good_configuration_is_said_to_be_one,
    Setup::new()
        .without_image()
        .slipway_only()
        .file(json!({"log-level": "info", "registry-mirrors": ["https://mirror.example"]})),
    |d| {
        let (code, said) = refused(d, &["--validate"]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("configuration OK"), "{said}");
    }
);

scenario!(a_second_engine_on_the_same_roots_is_refused, Setup::new().without_image(), |d| {
    let (code, said) = refused(d, &["-H", "unix:///tmp/second.sock"]);
    assert!(code != 0, "{said}");
    d.get("/_ping").expect(200);
});

scenario!(tcp_with_tls_asks_for_a_certificate, Setup::new().without_image(), |d| {
    let script = r#"mkdir tls && cd tls
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca 2>/dev/null
        for who in server client; do
          openssl req -newkey rsa:2048 -nodes -keyout $who.key -out $who.csr -subj /CN=$who 2>/dev/null
          printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >ext
          openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $who.pem 2>/dev/null
        done"#;
    d.sh(script).ok();
    d.signal(Signal::SIGTERM);
    d.wait_until_ended();
    let mut command = d.command();
    command.args([
        "--tlsverify",
        "--tlscacert",
        "tls/ca.pem",
        "--tlscert",
        "tls/server.pem",
        "--tlskey",
        "tls/server.key",
    ]);
    command.args(["-H", "tcp://127.0.0.1:2376", "-H"]).arg(format!("unix://{}", d.engine_socket().display()));
    d.launch_command(command);
    d.wait_until_up();
    let client = "docker -H tcp://127.0.0.1:2376 --tlsverify --tlscacert tls/ca.pem";
    let version =
        format!("{client} --tlscert tls/client.pem --tlskey tls/client.key version -f '{{{{.Server.Os}}}}'");
    assert_eq!(d.sh(&version).ok(), "linux");
    d.sh("curl -sf --cacert tls/ca.pem https://127.0.0.1:2376/_ping").code(56);
    assert_ne!(d.sh("curl -sf http://127.0.0.1:2376/_ping").code, 0);
    let attached = format!(
        "docker load -q -i /dev/null; echo hi | {client} --tlscert tls/client.pem --tlskey tls/client.key run --rm -i nothing cat"
    );
    d.sh(&attached).code(125);
});

scenario!(a_listener_may_come_from_systemd, Setup::new().without_image(), |d| {
    d.signal(Signal::SIGTERM);
    d.wait_until_ended();
    let python = "import os,socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen(5)\nos.dup2(s.fileno(),3)\nos.set_inheritable(3,True)\nos.environ.update(LISTEN_FDS='1',LISTEN_PID=str(os.getpid()))\nos.execvp(sys.argv[2],sys.argv[2:])";
    fs::write(d.dir().join("activate.py"), python).unwrap();
    let _ = fs::remove_file(d.engine_socket());
    let plain = d.command();
    let mut command = d.sandbox().command("python3");
    command.arg("activate.py").arg(d.engine_socket());
    // without the words that enter the sandbox: they are there already
    command.args(plain.get_args().skip(3)).args(["-H", "fd://"]);
    d.launch_command(command);
    d.wait_until_up();
    d.get("/_ping").expect(200);
});

scenario!(sighup_reads_the_file_again, Setup::new().without_image().file(json!({"labels": ["a=1"]})), |d| {
    assert_eq!(d.sh("docker info -f '{{json .Labels}}'").ok(), r#"["a=1"]"#);
    fs::write(d.dir().join("daemon.json"), json!({"labels": ["a=2"], "debug": true}).to_string()).unwrap();
    d.signal(Signal::SIGHUP);
    eventually("the new labels", || {
        d.sh("docker info -f '{{json .Labels}} {{.Debug}}'").ok() == r#"["a=2"] true"#
    });
});

scenario!(sigterm_stops_containers_and_the_engine, |d| {
    d.sh("docker run -d --name box busybox sh -c 'trap \"echo bye; exit 4\" TERM; echo up; while :; do sleep 0.1; done'").ok();
    eventually("it is up", || d.sh("docker logs box").stdout.contains("up"));
    d.signal(Signal::SIGTERM);
    assert!(d.wait_until_ended().success());
    d.start_again();
    eventually("it has ended", || d.status("box") == "exited");
    assert_eq!(d.sh("docker logs box").ok(), "up\nbye");
    assert_eq!(d.inspect("box")["State"]["ExitCode"], json!(4));
});
