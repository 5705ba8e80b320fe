//! A host of one's own for tests: a network namespace with its directories, removed with everything in it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use super::{
    BridgeOptions, DnsOptions, EndpointRequest, NetworkMode, Networks, Options, PortRequest, SandboxRequest,
    UserNamespace,
};
use crate::base::id::ContainerId;
use crate::base::sys::netns;
use crate::events::EventBus;

pub(super) struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn options(&self) -> Options {
        Options {
            state_dir: self.dir().join("state"),
            netns_dir: self.dir().join("netns"),
            bridge: BridgeOptions::default(),
            dns: DnsOptions::default(),
            host_gateway: Vec::new(),
            address_pools: Vec::new(),
        }
    }

    /// Another machine, 192.0.2.2, on a wire to this host, 192.0.2.1, through which it also reaches everything else.
    pub fn neighbour(&self) -> OwnedFd {
        let path = self.dir().join("neighbour");
        netns::create(&path, || Ok(())).unwrap();
        let neighbour = netns::open(&path).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&neighbour);
        let pid = std::process::id();
        netns::enter(self.netns(), || {
            Self::command(&format!(
                "ip link add wire type veth peer name wire netns /proc/{pid}/fd/{fd} && ip link set wire up && \
                 ip addr add 192.0.2.1/24 dev wire"
            ))
        })
        .unwrap();
        let there = "ip link set lo up; ip link set wire up; ip addr add 192.0.2.2/24 dev wire; \
                     ip route add default via 192.0.2.1";
        netns::enter(&neighbour, || Self::command(there)).unwrap();
        neighbour
    }

    fn netns(&self) -> OwnedFd {
        let path = self.dir().join("host");
        if !path.exists() {
            // A new namespace has what the machine has, where an engine may have switched it on.
            netns::create(&path, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")).unwrap();
        }
        netns::open(&path).unwrap()
    }

    /// Runs `test` on this host.
    pub fn run(&self, test: impl FnOnce(&Networks) + Send) {
        self.run_with(self.options(), test);
    }

    /// Runs `test` on this host with other options.
    pub fn run_with(&self, options: Options, test: impl FnOnce(&Networks) + Send) {
        let inside = self.netns();
        netns::enter(inside, || {
            Self::command("ip link set lo up")?;
            test(&Networks::open(options, EventBus::default()).unwrap());
            Ok(())
        })
        .unwrap();
    }

    /// What a shell command prints, on the host of the calling thread.
    pub fn command(line: &str) -> io::Result<String> {
        let output = Command::new("sh").args(["-c", line]).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let bound =
            std::fs::read_dir(self.dir().join("netns")).into_iter().flatten().flatten().map(|e| e.path());
        for path in bound.chain(["host", "neighbour"].map(|name| self.dir().join(name))) {
            let _ = netns::remove(&path);
        }
    }
}

pub(super) fn request(dir: &Path, mode: NetworkMode) -> SandboxRequest {
    SandboxRequest {
        container: ContainerId::random(),
        name: "web".into(),
        hostname: "web".into(),
        domainname: String::new(),
        mode,
        user: UserNamespace::Host,
        endpoints: Vec::<EndpointRequest>::new(),
        ports: Vec::<PortRequest>::new(),
        exposed: Vec::new(),
        dns: DnsOptions::default(),
        extra_hosts: Vec::new(),
        dir: dir.to_owned(),
    }
}
