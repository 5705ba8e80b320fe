//! An `/etc` of the sandbox's own, for scenarios about what engines read there: names and certificates.

use std::fs::{self, File};
use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::daemon::Daemon;
use super::scenario::Setup;

/// A copy of the host's `/etc`, mounted over it in the sandbox.
pub struct Etc(PathBuf);

impl Etc {
    /// Made before the engine starts: Go reads names and how to find them at most every five seconds.
    pub fn make(daemon: &Daemon, setup: &Setup) {
        let mut command = daemon.sandbox().command("sh");
        command.args(["-c", "cp -a /etc etc && mount --bind etc /etc"]).stdin(Stdio::null());
        assert!(command.status().unwrap().success());
        let Self(dir) = Self::of(daemon);
        let _ = fs::remove_dir_all(dir.join("docker/certs.d"));
        for (file, line) in &setup.etc {
            let mut file = File::options().create(true).append(true).open(dir.join(file)).unwrap();
            writeln!(file, "{line}").unwrap();
        }
        if setup.names.is_empty() {
            return;
        }
        let hosts: String = setup.names.iter().map(|(address, name)| format!("{address} {name}\n")).collect();
        fs::write(dir.join("hosts"), format!("127.0.0.1 localhost\n{hosts}")).unwrap();
        fs::write(dir.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        fs::write(dir.join("resolv.conf"), "nameserver 127.0.0.53\n").unwrap();
    }

    /// That of a daemon whose setup asked for one.
    pub fn of(daemon: &Daemon) -> Self {
        Self(daemon.dir().join("etc"))
    }

    /// Puts a file into the directory of certificates of a registry.
    pub fn certify(&self, registry: &str, file: &str, content: &Path) {
        let dir = self.certificates(registry);
        fs::create_dir_all(&dir).unwrap();
        fs::copy(content, dir.join(file)).unwrap();
    }

    /// Takes it away.
    pub fn take_away(&self, registry: &str, file: &str) {
        fs::remove_file(self.certificates(registry).join(file)).unwrap();
    }

    fn certificates(&self, registry: &str) -> PathBuf {
        self.0.join("docker/certs.d").join(registry)
    }
}

/// Answers as the sandbox's name server, until the process ends, that no name exists (RFC 1035, 4.1.1: RCODE 3).
pub fn deny_all_names(daemon: &Daemon) {
    let socket = daemon.sandbox().in_network(|| UdpSocket::bind("127.0.0.53:53").unwrap());
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut message) {
            message[2] |= 0x80;
            message[3] = 0x83;
            let _ = socket.send_to(&message[..length], client);
        }
    });
}
