//! `Mounts` of a container, in inspect and list alike.

use serde::Serialize;

use crate::container::host_config::MountType;
use crate::container::record::{MountPoint, Record};

/// `MountPoint` of the Engine API.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountView<'a> {
    #[serde(rename = "Type")]
    kind: MountType,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    source: std::borrow::Cow<'a, str>,
    destination: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    driver: &'a str,
    mode: &'a str,
    #[serde(rename = "RW")]
    rw: bool,
    propagation: &'a str,
}

/// All mounts of a container.
pub(super) fn mounts(record: &Record) -> Vec<MountView<'_>> {
    record.mounts.iter().map(view).collect()
}

fn view(point: &MountPoint) -> MountView<'_> {
    MountView {
        kind: point.kind,
        name: &point.name,
        source: point.source.to_string_lossy(),
        destination: &point.destination,
        driver: &point.driver,
        mode: &point.mode,
        rw: point.rw,
        propagation: &point.propagation,
    }
}
