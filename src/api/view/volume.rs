//! Volumes as clients read them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::base::time::Timestamp;
use crate::volume::{DRIVER, Volume};

/// A volume of list, create and inspect.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct View<'a> {
    created_at: Timestamp,
    driver: &'static str,
    labels: &'a BTreeMap<String, String>,
    mountpoint: &'a Path,
    name: &'a str,
    options: &'a BTreeMap<String, String>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<UsageData>,
}

/// What a volume takes; only disk usage tells.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UsageData {
    /// Containers that use it.
    pub ref_count: i64,
    /// Bytes; −1 if not known.
    pub size: i64,
}

impl<'a> View<'a> {
    pub fn new(volume: &'a Volume) -> Self {
        let whole_seconds = volume.created.seconds().saturating_mul(1_000_000_000);
        Self {
            created_at: Timestamp::from_nanos(whole_seconds),
            driver: DRIVER,
            labels: &volume.labels,
            mountpoint: &volume.mountpoint,
            name: &volume.name,
            options: &volume.options,
            scope: "local",
            usage_data: None,
        }
    }

    pub fn with_usage(self, usage: UsageData) -> Self {
        Self { usage_data: Some(usage), ..self }
    }
}
