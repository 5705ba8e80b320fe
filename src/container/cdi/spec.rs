//! The files that describe CDI devices (Container Device Interface, SPEC.md), in JSON or YAML.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::container::lenient::or_default;

/// A file: what it says of all its devices and of each.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SpecFile {
    #[serde(deserialize_with = "or_default")]
    pub cdi_version: String,
    /// `VENDOR/CLASS`.
    #[serde(deserialize_with = "or_default")]
    pub kind: String,
    #[serde(deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub devices: Vec<Device>,
    #[serde(deserialize_with = "or_default")]
    pub container_edits: Edits,
}

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Device {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub container_edits: Edits,
}

/// What is changed of a container's OCI specification.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edits {
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub device_nodes: Vec<DeviceNode>,
    #[serde(deserialize_with = "or_default")]
    pub net_devices: Vec<NetDevice>,
    #[serde(deserialize_with = "or_default")]
    pub hooks: Vec<Hook>,
    #[serde(deserialize_with = "or_default")]
    pub mounts: Vec<Mount>,
    pub intel_rdt: Option<IntelRdt>,
    #[serde(deserialize_with = "or_default")]
    pub additional_gids: Vec<u32>,
}

/// A device node; what is missing is that of the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeviceNode {
    #[serde(deserialize_with = "or_default")]
    pub path: String,
    #[serde(deserialize_with = "or_default")]
    pub host_path: String,
    /// `b`, `c`, `u` or `p`.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    #[serde(deserialize_with = "or_default")]
    pub major: i64,
    #[serde(deserialize_with = "or_default")]
    pub minor: i64,
    pub file_mode: Option<u32>,
    /// Some of `r`, `w`, `m`, or `none`; empty for all.
    #[serde(deserialize_with = "or_default")]
    pub permissions: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// A network interface of the host that moves into the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetDevice {
    #[serde(deserialize_with = "or_default")]
    pub host_interface_name: String,
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

/// A bind mount, or a mount of another type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mount {
    #[serde(deserialize_with = "or_default")]
    pub host_path: String,
    #[serde(deserialize_with = "or_default")]
    pub container_path: String,
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    #[serde(deserialize_with = "or_default")]
    pub options: Vec<String>,
}

/// A program that the runtime runs at a certain step of the container's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hook {
    #[serde(deserialize_with = "or_default")]
    pub hook_name: String,
    #[serde(deserialize_with = "or_default")]
    pub path: String,
    #[serde(deserialize_with = "or_default")]
    pub args: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<i64>,
}

/// Intel's resource director: which class of service the container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IntelRdt {
    #[serde(rename = "closID", deserialize_with = "or_default")]
    pub clos_id: String,
    #[serde(deserialize_with = "or_default")]
    pub l3_cache_schema: String,
    #[serde(deserialize_with = "or_default")]
    pub mem_bw_schema: String,
    #[serde(deserialize_with = "or_default")]
    pub schemata: Vec<String>,
    #[serde(rename = "enableCMT", deserialize_with = "or_default")]
    pub enable_cmt: bool,
    #[serde(rename = "enableMBM", deserialize_with = "or_default")]
    pub enable_mbm: bool,
    #[serde(deserialize_with = "or_default")]
    pub enable_monitoring: bool,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
}

/// A text that is no specification.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    #[error("failed to unmarshal CDI Spec: {0}")]
    Json(#[from] serde_json::Error),
    #[error("failed to unmarshal CDI Spec: {0}")]
    Yaml(#[from] serde_saphyr::Error),
    #[error("no Spec data")]
    Empty,
}

impl SpecFile {
    /// Reads a specification. Unknown fields are errors, as for the CDI library; how deep and how often repeated the
    /// parts of a YAML file are is limited by its parser.
    pub fn parse(text: &str, encoding: Encoding) -> Result<Self, ParseError> {
        let parsed: Option<Self> = match encoding {
            Encoding::Json => serde_json::from_str(text)?,
            // `fileMode: 0660` is octal to YAML 1.1, which is what the CDI library reads.
            Encoding::Yaml => serde_saphyr::from_str_with_options(
                text,
                serde_saphyr::options! { legacy_octal_numbers: true },
            )?,
        };
        parsed.ok_or(ParseError::Empty)
    }
}

impl Edits {
    /// Adds those of another device or file.
    pub fn append(&mut self, other: &Self) {
        self.env.extend_from_slice(&other.env);
        self.device_nodes.extend_from_slice(&other.device_nodes);
        self.net_devices.extend_from_slice(&other.net_devices);
        self.hooks.extend_from_slice(&other.hooks);
        self.mounts.extend_from_slice(&other.mounts);
        self.intel_rdt = other.intel_rdt.clone().or(self.intel_rdt.take());
        self.additional_gids.extend_from_slice(&other.additional_gids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "
cdiVersion: \"0.5.0\"
kind: vendor.com/device
containerEdits:
  env: [A=1]
devices:
  - name: \"0\"
    containerEdits:
      deviceNodes:
        - path: /dev/x
          hostPath: /dev/null
          fileMode: 0660
      hooks:
        - hookName: createContainer
          path: /usr/bin/hook
          args: [hook, \"1\"]
      mounts:
        - hostPath: /lib/x.so
          containerPath: /usr/lib/x.so
          options: [ro, bind]
";

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = SpecFile::parse(YAML, Encoding::Yaml).unwrap();
        let json = r#"{"cdiVersion": "0.5.0", "kind": "vendor.com/device", "containerEdits": {"env": ["A=1"]},
            "devices": [{"name": "0", "annotations": null, "containerEdits": {
                "deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null", "fileMode": 432}],
                "hooks": [{"hookName": "createContainer", "path": "/usr/bin/hook", "args": ["hook", "1"]}],
                "mounts": [{"hostPath": "/lib/x.so", "containerPath": "/usr/lib/x.so", "options": ["ro", "bind"]}]
            }}]}"#;
        assert_eq!(SpecFile::parse(json, Encoding::Json).unwrap(), yaml);
        assert_eq!(yaml.devices[0].container_edits.device_nodes[0].file_mode, Some(0o660));
    }

    #[test]
    fn what_is_no_specification_is_an_error_and_no_panic() {
        for text in ["", "null", "{", "\u{0}", "kind: [", "unknown: 1", "kind: a\nkind: b", "devices: x"] {
            for encoding in [Encoding::Json, Encoding::Yaml] {
                assert!(SpecFile::parse(text, encoding).is_err(), "{text:?} {encoding:?}");
            }
        }
    }

    #[test]
    fn repetition_and_depth_are_limited() {
        let mut bomb = "annotations:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let again = vec![format!("*a{}", n - 1); 9].join(", ");
            bomb.push_str(&format!("  a{n}: &a{n} [{again}]\n"));
        }
        assert!(SpecFile::parse(&bomb, Encoding::Yaml).is_err());
        for encoding in [Encoding::Json, Encoding::Yaml] {
            assert!(SpecFile::parse(&"[".repeat(100_000), encoding).is_err());
        }
    }
}
