//! A container's record: all that is decided when it is created. Written durably; changed by rename and update only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::config::ContainerConfig;
use super::host_config::{HostConfig, MountType};
use super::links::Link;
use super::state::RestartRule;
use crate::base::digest::Digest;
use crate::base::id::ContainerId;
use crate::base::signal;
use crate::base::time::Timestamp;
use crate::network::EndpointSettings;
use crate::snapshot::ChainId;

/// The signal that ends a container unless it or its image says otherwise.
const DEFAULT_STOP_SIGNAL: i32 = libc::SIGTERM;
/// Seconds between the stop signal and SIGKILL.
const DEFAULT_STOP_TIMEOUT: i64 = 10;

/// What a container is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub id: ContainerId,
    /// With the leading slash.
    pub name: String,
    pub created: Timestamp,
    /// The digest of what its image's name pointed to: an index or a manifest.
    pub image: Digest,
    /// The manifest of its platform.
    pub manifest: Digest,
    /// The image's layers, base first.
    pub chain: Vec<ChainId>,
    /// `linux/amd64`, …
    pub platform: String,
    /// The program and its arguments: entrypoint and command together.
    pub args: Vec<String>,
    /// As the user gave it, merged with the image's.
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    /// Wishes for its place in networks, by network name or id.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// What is mounted over its root file system, in order of the targets.
    pub mounts: Vec<MountPoint>,
    /// Legacy links to other containers.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Bytes that what it writes into its root may take; `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<u64>,
}

/// One mount of a container, decided: `MountPoint` of the Engine API and what is needed to make it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountPoint {
    pub kind: MountType,
    /// The volume's name, or that of the image as it was given; empty otherwise.
    pub name: String,
    /// On the host; for a volume where its driver keeps it, for an image where it is mounted, for tmpfs empty.
    pub source: PathBuf,
    /// In the container, absolute and clean.
    pub destination: String,
    /// The volume's driver; empty otherwise.
    pub driver: String,
    /// As in the short form (`ro`, `z`, `rslave`, …), for inspect.
    pub mode: String,
    pub rw: bool,
    pub propagation: String,
    /// A part of the volume or image, relative.
    pub subpath: String,
    /// tmpfs: the options of mount(8); a volume: [`NO_COPY`] if it is not to be filled from the image.
    pub options: Vec<String>,
    /// The mount takes in what is mounted below its source.
    pub recursive: bool,
    /// An anonymous volume, which goes with its last container if that is wanted.
    pub anonymous: bool,
    /// What read-only means for mounts below the source.
    #[serde(default)]
    pub read_only: ReadOnly,
    /// An image's content, once it was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<MountedImage>,
}

/// The image that a mount shows, as its name stood for it when the container was created.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountedImage {
    /// The digest of what its name pointed to.
    pub id: Digest,
    /// The manifest of its platform.
    pub manifest: Digest,
    /// Its layers, base first.
    pub chain: Vec<ChainId>,
}

/// The option of volumes that do not take the image's content.
pub const NO_COPY: &str = "nocopy";

/// How far read-only goes in a mount that takes in what is mounted below its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum ReadOnly {
    /// All the way where the kernel can do so.
    #[default]
    IfPossible,
    /// All the way, or the container does not start.
    Recursive,
    /// The topmost mount only.
    Topmost,
}

impl Record {
    /// The name without the slash.
    pub fn plain_name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    /// The signal that asks its process to end. One that is not known counts as SIGTERM, as for dockerd.
    pub fn stop_signal(&self) -> i32 {
        let name = self.config.stop_signal.as_deref().unwrap_or_default();
        signal::parse(name).unwrap_or(DEFAULT_STOP_SIGNAL)
    }

    /// Seconds until SIGKILL; negative is for ever.
    pub fn stop_timeout(&self) -> i64 {
        self.config.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT)
    }

    /// When it is started again after its end.
    pub fn restart_rule(&self) -> RestartRule {
        let policy = &self.host_config.restart_policy;
        match policy.name.as_str() {
            "always" => RestartRule::Always,
            "unless-stopped" => RestartRule::UnlessStopped,
            "on-failure" => RestartRule::OnFailure(u32::try_from(policy.maximum_retry_count).unwrap_or(0)),
            _ => RestartRule::No,
        }
    }
}
