//! Platforms: what an image was built for, what this host can run, and which of an index's manifests fits best
//! (image-spec, image-index.md; normalisation as containerd's `platforms` package).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that names no platform, in the words of containerd's `platforms` package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlatform {
    #[error(
        "\"{part}\" is an invalid component of \"{text}\": platform specifier component must match \
         \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component { part: String, text: String },
    #[error("\"{0}\": cannot parse platform specifier: invalid argument")]
    TooLong(String),
    #[error("\"{0}\": unknown operating system or architecture: invalid argument")]
    Unknown(String),
}

/// Operating system, architecture and its variant, in Go's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// What this machine runs.
    pub fn host() -> Self {
        let (architecture, variant) = normal_architecture(std::env::consts::ARCH, "");
        Self { architecture, variant, os: "linux".to_owned(), ..Self::default() }
    }

    /// The same platform in its usual words: `x86_64` is `amd64`, `arm64/v8` is `arm64`, no `arm` without variant.
    pub fn normalised(&self) -> Self {
        let (architecture, variant) = normal_architecture(&self.architecture, &self.variant);
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        Self { architecture, variant, os, ..self.clone() }
    }

    /// How well `candidate` suits a wish for this platform: 0 is exact, larger is worse, `None` does not run.
    pub fn rank(&self, candidate: &Self) -> Option<usize> {
        let (wanted, candidate) = (self.normalised(), candidate.normalised());
        if wanted.os != candidate.os {
            return None;
        }
        let acceptable = compatible(&wanted.architecture, &wanted.variant);
        acceptable
            .iter()
            .position(|(arch, variant)| *arch == candidate.architecture && *variant == candidate.variant)
    }

    /// True if `candidate` is this platform and not merely one that would run here.
    pub fn is(&self, candidate: &Self) -> bool {
        let (wanted, candidate) = (self.normalised(), candidate.normalised());
        wanted.os == candidate.os
            && wanted.architecture == candidate.architecture
            && wanted.variant == candidate.variant
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<_> = text.split('/').collect();
        if let Some(&part) = parts.iter().find(|part| !is_component(part)) {
            return Err(InvalidPlatform::Component { part: part.to_owned(), text: text.to_owned() });
        }
        let host = Self::host();
        let platform = match parts[..] {
            [os] if SYSTEMS.contains(&lower(os).as_str()) => Self { os: os.to_owned(), ..host },
            [arch] => {
                let (architecture, variant) = normal_architecture(arch, "");
                if !ARCHITECTURES.contains(&architecture.as_str()) {
                    return Err(InvalidPlatform::Unknown(text.to_owned()));
                }
                Self { architecture, variant, ..host }
            }
            [os, arch] => Self { os: os.to_owned(), architecture: arch.to_owned(), ..Self::default() },
            [os, arch, variant] => Self {
                os: os.to_owned(),
                architecture: arch.to_owned(),
                variant: variant.to_owned(),
                ..Self::default()
            },
            _ => return Err(InvalidPlatform::TooLong(text.to_owned())),
        };
        Ok(platform.normalised())
    }
}

/// What may stand alone: the systems and architectures that Go knows.
const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "macos",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

fn is_component(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "x86" | "i686", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
        ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", v) => ("arm64", v),
        ("armhf", _) | ("arm", "" | "7" | "v7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6" | "v6") => ("arm", "v6"),
        ("arm", "5" | "v5") => ("arm", "v5"),
        ("arm", "8" | "v8") => ("arm", "v8"),
        ("powerpc64" | "ppc64le", v) => ("ppc64le", v),
        ("riscv64" | "riscv64gc", v) => ("riscv64", v),
        (other, v) => (other, v),
    };
    (architecture.to_owned(), variant.to_owned())
}

/// What a wish for an architecture may be answered with, best first.
fn compatible<'a>(architecture: &'a str, variant: &'a str) -> Vec<(&'a str, &'a str)> {
    match (architecture, variant) {
        ("amd64", "v4") => {
            vec![("amd64", "v4"), ("amd64", "v3"), ("amd64", "v2"), ("amd64", ""), ("386", "")]
        }
        ("amd64", "v3") => vec![("amd64", "v3"), ("amd64", "v2"), ("amd64", ""), ("386", "")],
        ("amd64", "v2") => vec![("amd64", "v2"), ("amd64", ""), ("386", "")],
        ("amd64", "") => vec![("amd64", ""), ("386", "")],
        ("arm64", v) => {
            vec![("arm64", v), ("arm64", ""), ("arm", "v8"), ("arm", "v7"), ("arm", "v6"), ("arm", "v5")]
        }
        ("arm", "v8") => vec![("arm", "v8"), ("arm", "v7"), ("arm", "v6"), ("arm", "v5")],
        ("arm", "v7") => vec![("arm", "v7"), ("arm", "v6"), ("arm", "v5")],
        ("arm", "v6") => vec![("arm", "v6"), ("arm", "v5")],
        (arch, variant) => vec![(arch, variant)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_and_written_in_gos_words() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn one_word_is_a_system_or_an_architecture() {
        let host = Platform::host();
        for os in ["linux", "plan9"] {
            assert_eq!(os.parse::<Platform>().unwrap(), Platform { os: os.to_owned(), ..host.clone() });
        }
        for (architecture, platform) in
            [("386", "linux/386"), ("x86_64", "linux/amd64"), ("arm", "linux/arm/v7")]
        {
            assert_eq!(architecture.parse::<Platform>().unwrap().to_string(), platform);
        }
    }

    #[test]
    fn what_is_no_platform_is_refused_in_containerds_words() {
        let component = |part: &str, text: &str| {
            format!(
                "\"{part}\" is an invalid component of \"{text}\": platform specifier component must match \
                 \"^[A-Za-z0-9_.-]+$\": invalid argument"
            )
        };
        for (text, message) in [
            ("", component("", "")),
            ("linux/", component("", "linux/")),
            ("a/b/c/d", "\"a/b/c/d\": cannot parse platform specifier: invalid argument".to_owned()),
            ("foo", "\"foo\": unknown operating system or architecture: invalid argument".to_owned()),
            ("wasi", "\"wasi\": unknown operating system or architecture: invalid argument".to_owned()),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_best_match_comes_first() {
        let parse = |t: &str| t.parse::<Platform>().unwrap();
        for (wanted, candidate, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/386", Some(1)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm64", "linux/arm/v7", Some(3)),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "linux/arm64", None),
        ] {
            assert_eq!(parse(wanted).rank(&parse(candidate)), rank, "{wanted} {candidate}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    fn platform() -> impl Strategy<Value = Platform> {
        let os = prop::sample::select(vec!["linux", "Linux", "macos", "windows", "x"]);
        let architectures =
            ["amd64", "x86_64", "X86-64", "i386", "arm", "armhf", "armel", "aarch64", "arm64", "y"];
        let variant = "(v?[1-9])?|v8\\.0";
        (os, prop::sample::select(architectures.to_vec()), variant).prop_map(|(os, architecture, variant)| {
            Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant,
                ..Platform::default()
            }
        })
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn the_usual_words_are_final(platform in platform()) {
            let usual = platform.normalised();
            prop_assert_eq!(&usual.normalised(), &usual);
            prop_assert_eq!(&usual.to_string().parse::<Platform>().unwrap(), &usual);
            prop_assert_eq!(platform.rank(&usual), Some(0));
        }

        #[test]
        fn only_the_platform_itself_suits_best(wish in platform(), candidate in platform()) {
            prop_assert_eq!(wish.is(&candidate), wish.rank(&candidate) == Some(0));
        }

        #[test]
        fn what_is_read_from_a_text_is_in_the_usual_words(text in "[a-z0-9/._A-Zé-]{0,12}") {
            if let Ok(platform) = text.parse::<Platform>() {
                prop_assert_eq!(platform.normalised(), platform);
            }
        }
    }
}
