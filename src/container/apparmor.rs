//! AppArmor: which profile a container's processes are confined by, and the one of the engine's own, which the kernel
//! has to be given (apparmor.d(5), apparmor_parser(8)).
//!
//! It is the one of dockerd, by its name, which tools and users look for, and in what it allows: a container that does
//! not mount, does not write to `/proc` and `/sys` beyond what is its own, and reads nothing there that tells of the
//! host, even if it has capabilities that would let it.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::host_config::HostConfig;
use crate::base::sys::tool;

/// The name of the engine's own profile.
pub const DEFAULT: &str = "docker-default";
/// What no profile is called.
const UNCONFINED: &str = "unconfined";

/// What makes policy of a profile for the kernel.
const PARSER: &str = "/sbin/apparmor_parser";
/// One loaded profile a line: `NAME (MODE)`.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// Where distributions have what profiles include.
const INCLUDES: &str = "/etc/apparmor.d";

/// The profile that containers are confined by on a host with AppArmor if they ask for no other. Without the tool that
/// loads it there is none.
pub fn of_engine() -> Option<&'static str> {
    (Path::new(PARSER).exists() || is_loaded()).then_some(DEFAULT)
}

/// The profile of a container: the one that it asks for, none if it is privileged, else `of_engine`.
pub fn of<'a>(host_config: &'a HostConfig, of_engine: Option<&'a str>) -> Option<&'a str> {
    asked(host_config).or(host_config.privileged.then_some(UNCONFINED)).or(of_engine)
}

/// The profile that `--security-opt` names, of several the last.
pub fn asked(host_config: &HostConfig) -> Option<&str> {
    let options = host_config.security_opt.iter().flatten();
    // The old form has a colon.
    let mut profiles = options.filter_map(|option| option.strip_prefix("apparmor")?.strip_prefix(['=', ':']));
    profiles.next_back()
}

/// Makes sure that the kernel has the profile if it is the engine's own: it may have lost it since, to an upgrade of
/// the distribution for example.
pub async fn ready(profile: Option<&str>) -> io::Result<()> {
    if profile != Some(DEFAULT) || is_loaded() {
        return Ok(());
    }
    tokio::task::spawn_blocking(load).await?
}

fn is_loaded() -> bool {
    let loaded = fs::read_to_string(LOADED).unwrap_or_default();
    loaded.lines().any(|line| line.strip_prefix(DEFAULT).is_some_and(|rest| rest.starts_with(' ')))
}

/// Gives the kernel the engine's own profile, unless it has it. Blocks, for some 100 milliseconds.
pub fn load_missing() -> io::Result<()> {
    if is_loaded() { Ok(()) } else { load() }
}

fn load() -> io::Result<()> {
    let label = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let has = |name: &str| Path::new(INCLUDES).join(name).exists();
    let profile = Profile {
        engine: label_name(&label),
        abi: has("abi/3.0"),
        tunables: has("tunables/global"),
        base: has("abstractions/base"),
    };
    // It replaces one that was loaded meanwhile, and leaves no file in the distribution's cache.
    let loaded = tool::feed(Command::new(PARSER).args(["--replace", "--skip-cache"]), &profile.to_string());
    loaded.map_err(|error| {
        let problem = "AppArmor enabled on system but the docker-default profile could not be loaded";
        io::Error::new(error.kind(), format!("{problem}: {error}"))
    })
}

/// The name in a label, `NAME (MODE)` or `unconfined`.
fn label_name(label: &str) -> &str {
    let name = label.trim().split(" (").next().unwrap_or_default();
    if name.is_empty() { UNCONFINED } else { name }
}

/// The profile, for a host.
struct Profile<'a> {
    /// The profile by which the engine is confined itself: it sends signals to containers.
    engine: &'a str,
    /// What the host has to include.
    abi: bool,
    tunables: bool,
    base: bool,
}

impl std::fmt::Display for Profile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.abi {
            // Later ones would deny what the profile does not know.
            writeln!(f, "abi <abi/3.0>,")?;
        }
        f.write_str(if self.tunables { "include <tunables/global>\n" } else { "@{PROC}=/proc/\n" })?;
        // A container's files may be on mounts that are not below any root, and may be deleted while open.
        writeln!(f, "profile {DEFAULT} flags=(attach_disconnected, mediate_deleted) {{")?;
        if self.base {
            writeln!(f, "  include <abstractions/base>")?;
        }
        for rule in rules(self.engine) {
            writeln!(f, "  {rule},")?;
        }
        f.write_str("}\n")
    }
}

fn rules(engine: &str) -> Vec<String> {
    let mut rules: Vec<String> = ["network", "capability", "file", "umount"].map(str::to_owned).into();
    // Those of the host send signals, also when another runtime starts the container and has a profile of its own;
    // processes of containers do so among themselves.
    rules.extend([UNCONFINED, "runc", "crun", engine].map(|peer| format!("signal (receive) peer={peer}")));
    rules.push(format!("signal (send, receive) peer={DEFAULT}"));
    rules.push(format!("ptrace (trace, read, tracedby, readby) peer={DEFAULT}"));
    rules.push("deny mount".to_owned());

    // Of /proc a process writes to what is below the directories of processes, and to what is the container's own of
    // the kernel's parameters: shared memory and semaphores.
    rules.push("deny @{PROC}/* w".to_owned());
    rules.push("deny @{PROC}/[^0-9s]*/** w".to_owned());
    rules.extend(other_than("@{PROC}/", "sys", "*/**").skip(1).map(|path| format!("deny {path} w")));
    rules.extend(other_than("@{PROC}/sys/", "kernel", "**").map(|path| format!("deny {path} w")));
    for path in ["[^s]**", "s[^he]**", "sh[^m]**", "se[^m]**"] {
        rules.push(format!("deny @{{PROC}}/sys/kernel/{path} w"));
    }
    rules.extend(["sysrq-trigger", "kcore"].map(|file| format!("deny @{{PROC}}/{file} rwklx")));

    // Of /sys it writes to nothing but control groups.
    let elsewhere = other_than("/sys/", "fs", "*/**").chain(other_than("/sys/fs/", "cgroup", "*/**"));
    rules.extend(elsewhere.map(|path| format!("deny {path} wklx")));
    let telling = ["firmware", "devices/virtual/powercap", "kernel/security"];
    rules.extend(telling.map(|dir| format!("deny /sys/{dir}/** rwklx")));
    rules
}

/// Patterns for the names in `dir` that differ from `name` in one of its letters, and for what `rest` says is below.
fn other_than(dir: &str, name: &str, rest: &str) -> impl Iterator<Item = String> {
    name.char_indices().map(move |(at, letter)| format!("{dir}{}[^{letter}]{rest}", &name[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_the_profile_that_it_asks_for_or_the_engine_s() {
        for (options, privileged, of_engine, expected) in [
            (&[][..], false, Some(DEFAULT), Some(DEFAULT)),
            (&[], false, None, None),
            (&[], true, Some(DEFAULT), Some("unconfined")),
            (&["apparmor=own"], false, Some(DEFAULT), Some("own")),
            (&["apparmor:own", "no-new-privileges"], false, None, Some("own")),
            (&["apparmor=first", "apparmor=last"], true, Some(DEFAULT), Some("last")),
            (&["apparmor=unconfined"], false, Some(DEFAULT), Some("unconfined")),
            (&["seccomp=unconfined"], false, Some(DEFAULT), Some(DEFAULT)),
        ] {
            let security_opt = Some(options.iter().map(|option| (*option).to_owned()).collect());
            let host_config = HostConfig { security_opt, privileged, ..HostConfig::default() };
            assert_eq!(of(&host_config, of_engine), expected, "{options:?}");
        }
    }

    #[test]
    fn a_label_is_a_name_with_a_mode_or_none() {
        for (label, expected) in [
            ("unconfined\n", "unconfined"),
            ("", "unconfined"),
            ("/usr/bin/slipwayd (enforce)\n", "/usr/bin/slipwayd"),
            ("two words (complain)\n", "two words"),
        ] {
            assert_eq!(label_name(label), expected, "{label:?}");
        }
    }

    #[test]
    fn other_names_differ_in_one_letter() {
        let patterns: Vec<_> = other_than("/sys/", "fs", "*/**").collect();
        assert_eq!(patterns, ["/sys/[^f]*/**", "/sys/f[^s]*/**"]);
    }

    #[test]
    fn a_host_without_includes_gets_a_profile_that_stands_alone() {
        let bare = Profile { engine: "own", abi: false, tunables: false, base: false }.to_string();
        assert!(bare.starts_with("@{PROC}=/proc/\nprofile docker-default ") && !bare.contains("include"));
        assert!(bare.contains("  signal (receive) peer=own,\n"), "{bare}");
        let whole = Profile { engine: "own", abi: true, tunables: true, base: true }.to_string();
        assert!(whole.starts_with("abi <abi/3.0>,\ninclude <tunables/global>\nprofile "));
        assert!(whole.contains("{\n  include <abstractions/base>\n"), "{whole}");
    }
}
