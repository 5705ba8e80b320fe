//! What SIGHUP may change, as dockerd allows it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::values::RuntimeConfig;

/// Settings that may change while the daemon runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    pub debug: bool,
    pub labels: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: Vec<String>,
    pub max_concurrent_downloads: usize,
    pub max_concurrent_uploads: usize,
    pub max_download_attempts: usize,
    /// Seconds that containers get to stop when the daemon does; negative is for ever.
    pub shutdown_timeout: i64,
    /// OCI runtimes by name; `runc` is the embedded one and not among them.
    pub runtimes: BTreeMap<String, RuntimeConfig>,
    pub default_runtime: String,
    /// Whether containers go on when the daemon stops.
    pub live_restore: bool,
    pub features: BTreeMap<String, bool>,
}

impl Live {
    /// The attributes of the event `reload`.
    fn attributes(&self) -> BTreeMap<String, String> {
        let list = |list: &[String]| serde_json::json!(list).to_string();
        let runtimes: Vec<String> = std::iter::once("runc".to_owned())
            .chain(self.runtimes.iter().map(|(name, runtime)| format!("{name}:{}", runtime.path.display())))
            .collect();
        let features: Vec<String> = self.features.iter().map(|(name, on)| format!("{name}:{on}")).collect();
        [
            ("debug", self.debug.to_string()),
            ("labels", list(&self.labels)),
            ("insecure-registries", list(&self.insecure_registries)),
            ("registry-mirrors", list(&self.registry_mirrors)),
            ("max-concurrent-downloads", self.max_concurrent_downloads.to_string()),
            ("max-concurrent-uploads", self.max_concurrent_uploads.to_string()),
            ("max-download-attempts", self.max_download_attempts.to_string()),
            ("shutdown-timeout", self.shutdown_timeout.to_string()),
            ("runtimes", runtimes.join(" ")),
            ("default-runtime", self.default_runtime.clone()),
            ("live-restore", self.live_restore.to_string()),
            ("features", format!("map[{}]", features.join(" "))),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Holds the current settings.
#[derive(Debug)]
pub struct Slot(RwLock<Arc<Live>>);

impl Slot {
    pub fn new(live: Live) -> Self {
        Self(RwLock::new(Arc::new(live)))
    }

    pub fn load(&self) -> Arc<Live> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the attributes of the event that tells of it.
    pub fn replace(&self, live: Live) -> BTreeMap<String, String> {
        let attributes = live.attributes();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
        attributes
    }
}
