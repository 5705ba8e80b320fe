//! `/version`: what this daemon is.

use serde_json::{Value, json};

use crate::api::versions::{ApiVersion, ENGINE_VERSION};
use crate::base::host::Host;

/// The commit and time of a release build, which its maker sets.
const COMMIT: Option<&str> = option_env!("SLIPWAY_COMMIT");
const BUILD_TIME: Option<&str> = option_env!("SLIPWAY_BUILD_TIME");

/// The whole reply; no version of the API has less. `experimental` is what the daemon was configured with.
pub fn version(host: &Host, experimental: bool) -> Value {
    let commit = COMMIT.unwrap_or_default();
    let built = BUILD_TIME.unwrap_or_default();
    let arch = go_architecture();
    let mut version = json!({
        "Platform": { "Name": "Slipway" },
        "Components": [{
            "Name": "Engine",
            "Version": ENGINE_VERSION,
            "Details": {
                "ApiVersion": ApiVersion::NEWEST.to_string(),
                "Arch": arch,
                "BuildTime": built,
                "Experimental": experimental.to_string(),
                "GitCommit": commit,
                "GoVersion": "",
                "KernelVersion": host.kernel,
                "MinAPIVersion": ApiVersion::OLDEST.to_string(),
                "Os": "linux",
            },
        }],
        "Version": ENGINE_VERSION,
        "ApiVersion": ApiVersion::NEWEST.to_string(),
        "MinAPIVersion": ApiVersion::OLDEST.to_string(),
        "GitCommit": commit,
        // There is no Go in here, but clients print the field.
        "GoVersion": "",
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": host.kernel,
        "BuildTime": built,
    });
    // Left out when false, as by dockerd.
    if experimental {
        version["Experimental"] = json!(true);
    }
    version
}

/// The architecture in Go's words, as images have it.
pub fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conformance;

    #[test]
    fn the_version_fits_every_version_of_the_specification() {
        let body = version(&Host::detect(), true).to_string();
        for minor in 24..=55 {
            let found = conformance::validate_operation(
                "SystemVersion",
                ApiVersion::of_minor(minor),
                200,
                body.as_bytes(),
            );
            assert_eq!(found, [], "1.{minor}");
        }
    }

    #[test]
    fn the_version_reads_as_one_of_dockers() {
        let (release, metadata) = ENGINE_VERSION.split_once('+').unwrap();
        assert_eq!(release.split('.').filter(|number| number.parse::<u32>().is_ok()).count(), 3);
        assert!(metadata.starts_with("slipway"));
    }
}
