//! The configuration blob of an image: OCI's (image-spec, config.md) with what Docker adds to it. Read leniently,
//! as Docker does: `null` and a missing field are the same, unknown fields are ignored.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::digest::Digest;
use crate::base::time::Timestamp;
use crate::registry::Platform;

/// What a configuration blob says of one platform's image.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ImageConfig {
    #[serde(deserialize_with = "nullable")]
    pub architecture: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(deserialize_with = "nullable")]
    pub config: RunConfig,
    #[serde(deserialize_with = "lenient_time", skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    #[serde(deserialize_with = "nullable")]
    pub history: Vec<History>,
    #[serde(deserialize_with = "nullable")]
    pub os: String,
    #[serde(rename = "os.version", deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(rename = "os.features", deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    pub rootfs: RootFs,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl ImageConfig {
    /// The platform that the image was built for.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }
}

/// How a container of the image is run unless its creator says otherwise. Empty and absent are not told apart,
/// except for `cmd` and `entrypoint`, where an empty list overrides.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    pub cmd: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// `80/tcp`
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub on_build: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// Paths in the container.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
}

/// The probe that an image brings with it. Durations are nanoseconds, 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The digests of the uncompressed layers, base first.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RootFs {
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// One step of how the image was made.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct History {
    #[serde(deserialize_with = "lenient_time", skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A time that cannot be read is no reason to refuse an image.
fn lenient_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|t| Timestamp::parse_rfc3339(&t)).filter(|t| !t.is_unset()))
}

fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn as_keys<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Empty {}
    serializer.collect_map(set.iter().map(|key| (key, Empty {})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_missing_are_the_same() {
        let text = r#"{"architecture":"amd64","os":"linux","created":"not a time","history":null,
            "config":{"Env":null,"Volumes":null,"Cmd":null,"Entrypoint":[],"ExposedPorts":{"80/tcp":{}}},
            "rootfs":{"type":"layers","diff_ids":null},"unknown":1}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.created, None);
        assert_eq!(config.config.cmd, None);
        assert_eq!(config.config.entrypoint, Some(vec![]));
        assert!(config.config.exposed_ports.contains("80/tcp"));
        assert!(config.rootfs.diff_ids.is_empty());
        serde_json::from_str::<ImageConfig>("{}").unwrap();
        serde_json::from_str::<ImageConfig>(r#"{"config":null}"#).unwrap();
    }
}
