//! Which engine the suite runs against, and how it is started.

use std::path::Path;

/// The engine under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Slipway,
    /// Debian's dockerd: what the expectations are checked against.
    Dockerd,
}

impl Engine {
    /// As `SLIPWAY_TEST_ENGINE` says: `dockerd`, or a path to slipwayd; by default the one just built.
    pub fn chosen() -> Self {
        match std::env::var("SLIPWAY_TEST_ENGINE").as_deref() {
            Ok("dockerd") => Self::Dockerd,
            _ => Self::Slipway,
        }
    }

    /// The executable.
    pub fn program(self) -> String {
        match self {
            Self::Dockerd => "dockerd".to_owned(),
            Self::Slipway => std::env::var("SLIPWAY_TEST_ENGINE")
                .unwrap_or_else(|_| env!("CARGO_BIN_EXE_slipwayd").to_owned()),
        }
    }

    /// The arguments that keep it inside `dir`.
    pub fn arguments(self, dir: &Path) -> Vec<String> {
        let path = |name: &str| dir.join(name).display().to_string();
        let pairs =
            [("--data-root", path("data")), ("--exec-root", path("exec")), ("--pidfile", path("pid"))];
        pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}
