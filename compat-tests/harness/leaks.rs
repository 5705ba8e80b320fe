//! What an engine has made in the kernel and on disk, to be compared before and after a scenario.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use super::daemon::Daemon;
use super::poll::DEADLINE;

/// Mounts, links, firewall rules, cgroups, processes and directories of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// What is there now.
    pub fn of(daemon: &Daemon) -> Self {
        let mut all = BTreeSet::new();
        let mut add =
            |kind: &str, items: Vec<String>| all.extend(items.iter().map(|item| format!("{kind} {item}")));
        add("mount", mounts(daemon));
        add("link", links(daemon));
        add("rule", rules(daemon));
        let cgroups = daemon.sandbox().cgroups();
        add("cgroup", cgroups.into_iter().filter(|path| container_like(path)).collect());
        add("directory", directories(daemon));
        Self(all)
    }

    /// Waits until what is there now equals this; fails the test naming the difference.
    pub fn expect_same(&self, daemon: &Daemon) {
        let start = std::time::Instant::now();
        let mut now = Self::of(daemon);
        while now != *self && start.elapsed() < DEADLINE / 4 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            now = Self::of(daemon);
        }
        let left: Vec<_> = now.0.difference(&self.0).collect();
        let lost: Vec<_> = self.0.difference(&now.0).collect();
        assert!(left.is_empty() && lost.is_empty(), "left behind: {left:#?}\nlost: {lost:#?}");
    }
}

/// Mount points under the sandbox's directory, without dockerd's handle on its own network namespace, made when the
/// first container uses that.
fn mounts(daemon: &Daemon) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", daemon.sandbox().init())).unwrap();
    let dir = daemon.dir().display().to_string();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| point.starts_with(&dir) && !point.ends_with("/netns/default"))
        .map(str::to_owned)
        .collect()
}

fn links(daemon: &Daemon) -> Vec<String> {
    let listed = inside(daemon, "ip -o link show | cut -d: -f2 | sed 's/@.*//'");
    listed.lines().map(|line| line.trim().to_owned()).filter(|name| name != "docker0").collect()
}

/// Firewall rules that name one address, as those of a container do, without their counters and handles. The default
/// bridge's own rules name its subnet; they come with the first container and stay.
fn rules(daemon: &Daemon) -> Vec<String> {
    let listed = inside(
        daemon,
        "nft -s list ruleset 2>/dev/null; iptables-legacy-save -t nat 2>/dev/null; iptables-legacy-save -t filter \
         2>/dev/null",
    );
    let of_container = |line: &&str| {
        let mut words = line.split([' ', ',', '\t']);
        line.contains("elements") || words.any(|word| word.parse::<std::net::IpAddr>().is_ok())
    };
    let lines = listed.lines().filter(|line| !line.starts_with(['#', ':'])).filter(of_container);
    lines.map(|line| line.trim().to_owned()).collect()
}

fn inside(daemon: &Daemon, script: &str) -> String {
    let mut command = daemon.sandbox().command("sh");
    let output = command.args(["-c", script]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a cgroup belongs to one container: its last part holds an id.
fn container_like(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or("");
    name.split(['-', '.']).any(|part| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Directories named after an id, under data and exec roots. Images' content is not a container's.
fn directories(daemon: &Daemon) -> Vec<String> {
    let found =
        inside(daemon, "find data exec -type d -regextype egrep -regex '.*/[0-9a-f]{64}' 2>/dev/null");
    let ours = |path: &&str| path.contains("/containers/") || path.starts_with("exec/");
    found.lines().filter(ours).map(str::to_owned).collect()
}
