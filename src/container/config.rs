//! What is portable of a container: `ContainerConfig` of the Engine API, in requests, in the record and in inspect.
//!
//! One type serves all three, because each must keep every field and dockerd echoes what it was given: the generated
//! client models drop empty and null values, which clients tell apart. `null`, missing and empty are all accepted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::lenient::{or_default, words};
use crate::network::ContainerPort;

/// `{}`: how Go writes the members of a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Empty {}

/// `ContainerConfig`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    #[serde(deserialize_with = "or_default")]
    pub hostname: String,
    #[serde(deserialize_with = "or_default")]
    pub domainname: String,
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    #[serde(deserialize_with = "or_default")]
    pub attach_stdin: bool,
    #[serde(deserialize_with = "or_default")]
    pub attach_stdout: bool,
    #[serde(deserialize_with = "or_default")]
    pub attach_stderr: bool,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<ContainerPort, Empty>,
    #[serde(deserialize_with = "or_default")]
    pub tty: bool,
    #[serde(deserialize_with = "or_default")]
    pub open_stdin: bool,
    #[serde(deserialize_with = "or_default")]
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    #[serde(deserialize_with = "or_default")]
    pub image: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub network_disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    pub on_build: Option<Vec<String>>,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// `HealthConfig`. Durations in nanoseconds; 0 inherits.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

impl ContainerConfig {
    /// The exposed ports, without duplicates.
    pub fn ports(&self) -> BTreeSet<ContainerPort> {
        self.exposed_ports.keys().copied().collect()
    }
}

pub(super) fn is_false(value: &bool) -> bool {
    !value
}

pub(super) fn is_zero(value: &i64) -> bool {
    *value == 0
}
