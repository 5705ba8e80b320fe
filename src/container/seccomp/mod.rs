//! seccomp profiles in Docker's form, resolved for one container into what the OCI runtime takes.
//!
//! `default.json` is the set of system calls that dockerd allows by default. It allows families of sockets one by
//! one instead of denying some: the kernel reads 32 bits of that argument where a filter compares 64, so a deny rule
//! could be passed by setting a high bit, and an allow rule cannot.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Allowed unless a container asks otherwise.
static DEFAULT: LazyLock<Profile> = LazyLock::new(|| {
    serde_json::from_str(include_str!("default.json")).expect("the profile in this binary is valid")
});

/// A profile as `--security-opt seccomp=FILE` takes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    architectures: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flags: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// The form of old profiles: one name.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// What a profile's conditions are compared with.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// The container's bounding set, with `CAP_`.
    pub capabilities: &'a [String],
    /// As `uname -r` gives it.
    pub kernel: &'a str,
}

/// A profile that cannot be used; the text is dockerd's.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("Decoding seccomp profile failed: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "'architectures' and 'archMap' were specified in the seccomp profile, use either 'architectures' or 'archMap'"
    )]
    TwoArchitectures,
    #[error("'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'")]
    TwoNames,
}

/// The default profile for a container, as `linux.seccomp` of the OCI runtime specification.
pub fn default(circumstances: &Circumstances<'_>) -> Result<Value, SeccompError> {
    resolve(&DEFAULT, circumstances)
}

/// A user's profile for a container.
pub fn custom(profile: &str, circumstances: &Circumstances<'_>) -> Result<Value, SeccompError> {
    resolve(&serde_json::from_str(profile)?, circumstances)
}

fn resolve(profile: &Profile, circumstances: &Circumstances<'_>) -> Result<Value, SeccompError> {
    let mapped = profile.arch_map.as_deref().unwrap_or_default();
    let given = profile.architectures.clone().unwrap_or_default();
    if !mapped.is_empty() && !given.is_empty() {
        return Err(SeccompError::TwoArchitectures);
    }
    let (_, native) = native_architecture();
    let mapped = mapped.iter().filter(|map| map.architecture == native).flat_map(|map| {
        std::iter::once(map.architecture.clone()).chain(map.sub_architectures.clone().unwrap_or_default())
    });
    let architectures: Vec<String> = given.into_iter().chain(mapped).collect();
    let mut syscalls = Vec::new();
    for rule in profile.syscalls.iter().flatten().filter(|rule| rule.applies(circumstances)) {
        syscalls.push(rule.resolved()?);
    }
    let mut value = json!({ "defaultAction": profile.default_action, "syscalls": syscalls });
    if let Some(errno) = profile.default_errno_ret {
        value["defaultErrnoRet"] = json!(errno);
    }
    if !architectures.is_empty() {
        value["architectures"] = json!(architectures);
    }
    if let Some(flags) = &profile.flags {
        value["flags"] = json!(flags);
    }
    Ok(value)
}

impl Rule {
    fn applies(&self, circumstances: &Circumstances<'_>) -> bool {
        let included = self.includes.as_ref().is_none_or(|wanted| wanted.all_hold(circumstances));
        let excluded = self.excludes.as_ref().is_some_and(|unwanted| unwanted.any_holds(circumstances));
        included && !excluded
    }

    fn resolved(&self) -> Result<Value, SeccompError> {
        let names = match (&self.name, self.names.as_deref().unwrap_or_default()) {
            (Some(_), [_, ..]) => return Err(SeccompError::TwoNames),
            (Some(name), []) => std::slice::from_ref(name),
            (None, names) => names,
        };
        let mut value = json!({ "names": names, "action": self.action });
        if let Some(errno) = self.errno_ret {
            value["errnoRet"] = json!(errno);
        }
        if let Some(args) = self.args.as_ref().filter(|args| !args.is_empty()) {
            value["args"] = json!(args);
        }
        Ok(value)
    }
}

impl Condition {
    fn all_hold(&self, circumstances: &Circumstances<'_>) -> bool {
        let caps = self.caps.iter().flatten().all(|cap| circumstances.capabilities.contains(cap));
        let kernel = self.min_kernel.as_ref().is_none_or(|least| at_least(circumstances.kernel, least));
        caps && kernel && self.arches.as_ref().is_none_or(|arches| is_native(arches))
    }

    fn any_holds(&self, circumstances: &Circumstances<'_>) -> bool {
        let cap = self.caps.iter().flatten().any(|cap| circumstances.capabilities.contains(cap));
        let kernel = self.min_kernel.as_ref().is_some_and(|least| at_least(circumstances.kernel, least));
        cap || kernel || self.arches.as_ref().is_some_and(|arches| is_native(arches))
    }
}

fn is_native(arches: &[String]) -> bool {
    arches.iter().any(|arch| arch == native_architecture().0)
}

/// Go's name of the processor and libseccomp's.
fn native_architecture() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "aarch64" => ("arm64", "SCMP_ARCH_AARCH64"),
        "riscv64" => ("riscv64", "SCMP_ARCH_RISCV64"),
        "s390x" => ("s390x", "SCMP_ARCH_S390X"),
        _ => ("amd64", "SCMP_ARCH_X86_64"),
    }
}

/// Whether kernel `release` is `least` (`major.minor`) or newer.
fn at_least(release: &str, least: &str) -> bool {
    let numbers = |text: &str| {
        let mut parts =
            text.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0u32), parts.next().unwrap_or(0u32))
    };
    numbers(release) >= numbers(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(capabilities: &[&str]) -> Vec<String> {
        let capabilities: Vec<String> = capabilities.iter().map(|cap| (*cap).to_owned()).collect();
        let profile = default(&Circumstances { capabilities: &capabilities, kernel: "6.1.0-10" }).unwrap();
        let rules = profile["syscalls"].as_array().unwrap();
        let allow =
            rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule.get("args").is_none());
        allow
            .flat_map(|rule| rule["names"].as_array().unwrap())
            .map(|n| n.as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn capabilities_open_system_calls() {
        let plain = allowed(&["CAP_SYS_CHROOT"]);
        assert!(plain.contains(&"chroot".to_owned()) && plain.contains(&"ptrace".to_owned()));
        for closed in
            ["mount", "clone", "bpf", "reboot", "io_uring_setup", "keyctl", "userfaultfd", "kexec_load"]
        {
            assert!(!plain.contains(&closed.to_owned()), "{closed}");
        }
        assert!(allowed(&["CAP_SYS_ADMIN"]).contains(&"mount".to_owned()));
    }

    #[test]
    fn the_result_is_what_the_runtime_takes() {
        let value = default(&Circumstances { capabilities: &[], kernel: "6.1" }).unwrap();
        let parsed: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(value).unwrap();
        assert_eq!(parsed.default_errno_ret(), Some(1));
        assert!(parsed.architectures().as_ref().is_some_and(|list| !list.is_empty()));
    }

    #[test]
    fn contradictory_profiles_are_refused() {
        let circumstances = Circumstances { capabilities: &[], kernel: "6.1" };
        for profile in [
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ERRNO"}]}"#,
            "{",
        ] {
            assert!(custom(profile, &circumstances).is_err(), "{profile}");
        }
        let old =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(custom(old, &circumstances).unwrap()["syscalls"][0]["names"][0], "mkdir");
    }

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, least, enough) in
            [("6.18.44-x", "4.8", true), ("4.8.0", "4.8", true), ("4.7", "4.8", false)]
        {
            assert_eq!(at_least(release, least), enough, "{release}");
        }
    }
}
