//! What the `local` driver takes: names, and the options `type`, `device`, `o` that mount a file system.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;

use rustix::mount::{self, MountFlags, MountPropagationFlags};

use crate::base::units::{InvalidSize, binary_size};

/// Why a volume of that kind cannot be, in dockerd's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    ShortName,
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )]
    Name(String),
    #[error("invalid option: {0:?}")]
    Option(String),
    #[error("missing required option: {0:?}")]
    Missing(&'static str),
    #[error("{0}")]
    Size(#[from] InvalidSize),
    #[error("quota size requested but no quota support")]
    Quota,
    #[error("port not allowed in CIFS device URL, include 'port' in 'o='")]
    CifsPort,
}

/// Names become directories.
pub fn check_name(name: &str) -> Result<(), Refused> {
    let invalid = || Refused::Name(name.to_owned());
    if name.len() == 1 {
        return Err(Refused::ShortName);
    }
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let bytes = name.as_bytes();
    let valid = bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.iter().all(|byte| rest(*byte));
    // The file system's limit, less the prefix of directories being built.
    if valid && bytes.len() <= 240 { Ok(()) } else { Err(invalid()) }
}

/// Which options may be given together.
pub fn check(options: &BTreeMap<String, String>) -> Result<(), Refused> {
    if let Some(unknown) =
        options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device" | "size"))
    {
        return Err(Refused::Option(unknown.clone()));
    }
    if let Some(size) = options.get("size")
        && binary_size(size)? > 0
    {
        return Err(Refused::Quota);
    }
    for (option, needed) in [("device", "type"), ("type", "device"), ("o", "device"), ("o", "type")] {
        if options.contains_key(option) && !options.contains_key(needed) {
            return Err(Refused::Missing(needed));
        }
    }
    let text = |key: &str| options.get(key).map_or("", String::as_str);
    match text("type") == "cifs" && has_port(text("device")) {
        true => Err(Refused::CifsPort),
        false => Ok(()),
    }
}

fn has_port(device: &str) -> bool {
    let host = device.trim_start_matches('/').split('/').next().unwrap_or_default();
    host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Mounts what the options say at `target`.
pub fn mount(options: &BTreeMap<String, String>, target: &Path) -> io::Result<()> {
    let text = |key: &str| options.get(key).map_or("", String::as_str);
    let (kind, device) = (text("type"), text("device"));
    let given = Given::parse(text("o"));
    let data = match kind {
        "nfs" | "nfs4" | "cifs" => resolve_address(&given.data)?,
        _ => given.data,
    };
    let data = CString::new(data)?;
    let bind = given.flags.contains(MountFlags::BIND);
    mount::mount(device, target, kind, given.flags, data.as_c_str())?;
    let rest = given.flags - MountFlags::BIND - MountFlags::REC;
    // The flags of a bind mount take a second call (mount(2), "Creating a bind mount").
    if bind && !rest.is_empty() {
        mount::mount_remount(target, rest | MountFlags::BIND, c"")?;
    }
    if let Some(propagation) = given.propagation {
        mount::mount_change(target, propagation)?;
    }
    Ok(())
}

/// The parts of an `o` option.
#[derive(Debug, PartialEq)]
struct Given {
    flags: MountFlags,
    propagation: Option<MountPropagationFlags>,
    /// What is the file system's own.
    data: String,
}

impl Given {
    fn parse(text: &str) -> Self {
        let mut given = Self { flags: MountFlags::empty(), propagation: None, data: String::new() };
        let mut data = Vec::new();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match (flag(option), propagation(option)) {
                (Some((flag, true)), _) => given.flags |= flag,
                (Some((flag, false)), _) => given.flags -= flag,
                (None, Some(propagation)) => given.propagation = Some(propagation),
                (None, None) => data.push(option),
            }
        }
        given.data = data.join(",");
        given
    }
}

/// The flag of mount(2) that an option of mount(8) stands for, and whether it sets it.
fn flag(option: &str) -> Option<(MountFlags, bool)> {
    Some(match option {
        "defaults" => (MountFlags::empty(), true),
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "bind" => (MountFlags::BIND, true),
        "rbind" => (MountFlags::BIND.union(MountFlags::REC), true),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<MountPropagationFlags> {
    let recursive = MountPropagationFlags::REC;
    Some(match option {
        "private" => MountPropagationFlags::PRIVATE,
        "rprivate" => MountPropagationFlags::PRIVATE | recursive,
        "shared" => MountPropagationFlags::SHARED,
        "rshared" => MountPropagationFlags::SHARED | recursive,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "rslave" => MountPropagationFlags::DOWNSTREAM | recursive,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        "runbindable" => MountPropagationFlags::UNBINDABLE | recursive,
        _ => return None,
    })
}

/// The kernel wants `addr=` as a number.
fn resolve_address(data: &str) -> io::Result<String> {
    let resolved = data.split(',').map(|option| match option.strip_prefix("addr=") {
        Some(host) if host.parse::<std::net::IpAddr>().is_err() => {
            let address = (host, 0).to_socket_addrs()?.next();
            let unknown = || {
                io::Error::new(io::ErrorKind::NotFound, "error resolving passed in network volume address")
            };
            Ok(format!("addr={}", address.ok_or_else(unknown)?.ip()))
        }
        _ => Ok(option.to_owned()),
    });
    Ok(resolved.collect::<io::Result<Vec<_>>>()?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_a_few_signs() {
        for good in ["ab", "a_b.c-d", "0x", &"a".repeat(240)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        assert_eq!(check_name("a"), Err(Refused::ShortName));
        for bad in ["", ".x", "-x", "a/b", "a b", "é1", "..", &"a".repeat(241)] {
            assert!(matches!(check_name(bad), Err(Refused::Name(_))), "{bad}");
        }
    }

    #[test]
    fn options_are_refused_in_dockerds_words() {
        for (options, text) in [
            (&[("foo", "1")][..], "invalid option: \"foo\""),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("device", "x")], "missing required option: \"type\""),
            (&[("size", "x")], "invalid size: 'x'"),
            (&[("size", "1g")], "quota size requested but no quota support"),
            (
                &[("type", "cifs"), ("device", "//h:445/s")],
                "port not allowed in CIFS device URL, include 'port' in 'o='",
            ),
        ] {
            let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(check(&options).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn mount_options_are_flags_propagation_or_the_file_systems_own() {
        let given = Given::parse("rbind,ro,noexec,exec,rslave,uid=1000,addr=1.2.3.4");
        assert_eq!(given.flags, MountFlags::BIND | MountFlags::REC | MountFlags::RDONLY);
        assert_eq!(given.propagation, Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC));
        assert_eq!(given.data, "uid=1000,addr=1.2.3.4");
        assert_eq!(resolve_address("soft,addr=127.0.0.1").unwrap(), "soft,addr=127.0.0.1");
    }
}
