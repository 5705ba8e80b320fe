//! Which capabilities a container has.

use std::collections::BTreeSet;

use crate::container::host_config::HostConfig;

/// Every capability of Linux 6, in the kernel's order (capability.h).
pub const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has unless it asks otherwise (a80425fb).
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A word that is no capability; the text is dockerd's.
#[derive(Debug, thiserror::Error)]
#[error("invalid {list}: unknown capability: \"{word}\"")]
pub struct CapabilityError {
    list: &'static str,
    word: String,
}

/// The bounding set for `CapAdd` and `CapDrop`, or all for a privileged container; what the daemon itself does not
/// have is left out, as no process can have it.
pub fn bounding_set(host_config: &HostConfig) -> Result<Vec<String>, CapabilityError> {
    let add = normalize("CapAdd", host_config.cap_add.as_deref())?;
    let drop = normalize("CapDrop", host_config.cap_drop.as_deref())?;
    let held = held();
    let mut set: BTreeSet<&str> = match () {
        () if host_config.privileged || add.contains("ALL") => ALL_CAPABILITIES.into(),
        () if drop.contains("ALL") => BTreeSet::new(),
        () => DEFAULT.into(),
    };
    if !host_config.privileged {
        set.retain(|cap| !drop.contains(*cap));
        set.extend(ALL_CAPABILITIES.into_iter().filter(|cap| add.contains(*cap)));
    }
    let known = ALL_CAPABILITIES.into_iter().enumerate();
    Ok(known
        .filter(|(n, cap)| set.contains(cap) && held & (1 << n) != 0)
        .map(|(_, cap)| cap.to_owned())
        .collect())
}

/// Upper case with `CAP_`; `ALL` as it is.
fn normalize(list: &'static str, words: Option<&[String]>) -> Result<BTreeSet<String>, CapabilityError> {
    words
        .unwrap_or_default()
        .iter()
        .map(|word| {
            let upper = word.to_ascii_uppercase();
            if upper == "ALL" {
                return Ok(upper);
            }
            let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            match ALL_CAPABILITIES.contains(&name.as_str()) {
                true => Ok(name),
                false => Err(CapabilityError { list, word: name }),
            }
        })
        .collect()
}

/// The daemon's own bounding set (proc(5), `CapBnd`); everything where `/proc` does not tell.
fn held() -> u64 {
    static HELD: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX)
    });
    *HELD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Result<Vec<String>, CapabilityError> {
        let words = |list: &[&str]| Some(list.iter().map(|word| (*word).to_owned()).collect());
        bounding_set(&HostConfig { cap_add: words(add), cap_drop: words(drop), ..HostConfig::default() })
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_dockerd_does() {
        assert_eq!(set(&[], &[]).unwrap().len(), 14);
        assert_eq!(set(&["net_raw"], &["ALL"]).unwrap(), ["CAP_NET_RAW"]);
        assert_eq!(set(&[], &["all"]).unwrap().len(), 0);
        assert!(set(&["SYS_ADMIN"], &[]).unwrap().contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(!set(&[], &["cap_chown"]).unwrap().contains(&"CAP_CHOWN".to_owned()));
        assert!(!set(&["ALL"], &["mknod"]).unwrap().contains(&"CAP_MKNOD".to_owned()));
        assert_eq!(
            set(&["FOO"], &[]).unwrap_err().to_string(),
            "invalid CapAdd: unknown capability: \"CAP_FOO\""
        );
    }
}
