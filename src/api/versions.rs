//! All that differs between the versions of the API: which are served, and since when something is different.
//!
//! Handlers and views ask `version.has(Feature::…)` and never compare numbers themselves, so that this table is the
//! whole list of differences. Fields that later versions dropped are kept in responses of every version: clients
//! broke when they went, none breaks when they stay.

use std::fmt;

use crate::api::spec::NEWEST_MINOR;

macro_rules! engine_version {
    () => {
        concat!("29.6.0+slipway", env!("CARGO_PKG_VERSION"))
    };
}

/// The version that this daemon says it is, in the form that tools written for dockerd can compare: the engine
/// release whose API it serves, and its own version as build metadata.
pub const ENGINE_VERSION: &str = engine_version!();

/// The `Server` header.
pub const SERVER: &str = concat!("Docker/", engine_version!(), " (linux)");

/// A version of the API; the major number is always 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ApiVersion(u16);

/// Why a version is not served, in dockerd's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedVersion {
    #[error("client version {0} is too new. Maximum supported API version is {newest}", newest = ApiVersion::NEWEST)]
    TooNew(String),
    #[error(
        "client version {0} is too old. Minimum supported API version is {oldest}, please upgrade your client \
         to a newer version",
        oldest = ApiVersion::OLDEST
    )]
    TooOld(String),
}

impl ApiVersion {
    /// The oldest version that is served.
    pub const OLDEST: Self = Self(24);
    /// The newest version, which a request without one gets.
    pub const NEWEST: Self = Self(NEWEST_MINOR);

    /// Version 1.`minor`.
    pub const fn of_minor(minor: u16) -> Self {
        Self(minor)
    }

    /// The number after `1.`.
    pub const fn minor(self) -> u16 {
        self.0
    }

    /// Whether this version has `feature`.
    pub fn has(self, feature: Feature) -> bool {
        self.0 >= feature.since()
    }

    /// Reads digits and dots as dockerd's router lets them through, and checks that the version is served.
    pub fn parse(text: &str) -> Result<Self, UnsupportedVersion> {
        let mut numbers = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let asked = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if asked > (1, u32::from(Self::NEWEST.0)) {
            return Err(UnsupportedVersion::TooNew(text.to_owned()));
        }
        if asked < (1, u32::from(Self::OLDEST.0)) {
            return Err(UnsupportedVersion::TooOld(text.to_owned()));
        }
        Ok(Self(asked.1 as u16))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Cuts `/v1.44` off a path: the version's text, if there is one, and the rest.
pub fn split_prefix(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else { return (None, path) };
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    let (version, rest) = rest.split_at(end);
    if version.is_empty() || !rest.starts_with('/') { (None, path) } else { (Some(version), rest) }
}

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident = $since:literal,)+) => {
        /// What a version of the API may have or do differently.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Feature {
            $($(#[$doc])* $name,)+
        }

        impl Feature {
            /// All of them.
            pub const ALL: &[Feature] = &[$(Feature::$name,)+];

            /// The minor number of the first version that has it.
            pub const fn since(self) -> u16 {
                match self { $(Feature::$name => $since,)+ }
            }
        }
    };
}

features! {
    /// Lists of networks come without their containers.
    NetworkListWithoutContainers = 28,
    /// WebSocket messages are binary, not text.
    WebSocketBinary = 28,
    /// `wait` has conditions and sends its headers at once.
    WaitCondition = 30,
    /// `wait` for removal reports why a removal failed.
    WaitRemovalError = 34,
    /// `/version` has `Platform` and `Components`.
    VersionComponents = 35,
    /// `/info` has `Warnings`.
    InfoWarnings = 39,
    /// The IPC mode of new containers is `private` by default, not `shareable`.
    PrivateIpcDefault = 40,
    /// `update` takes `PidsLimit`.
    UpdatePidsLimit = 40,
    /// Binds may be non-recursive.
    BindNonRecursive = 40,
    /// The cgroup namespace of new containers follows the daemon's default; before it is the host's.
    CgroupnsMode = 41,
    /// Pruning reports an event.
    PruneEvent = 41,
    /// A stream without terminal is announced as multiplexed.
    MultiplexedContentType = 42,
    /// exec and create honour `ConsoleSize`.
    ConsoleSize = 42,
    /// Mount options that do not belong to the mount's type are refused.
    StrictMountOptions = 42,
    /// An unknown condition of `wait` is refused.
    StrictWaitCondition = 42,
    /// Pruning of volumes takes only anonymous ones unless asked for all.
    PruneAnonymousVolumes = 42,
    /// Websocket attach chooses its streams.
    WebSocketStreams = 42,
    /// `HostConfig.KernelMemory` is gone from requests.
    NoKernelMemory = 42,
    /// Disk usage: build cache records have `Parents`, `BuilderSize` is gone.
    BuildCacheParents = 42,
    /// `HostConfig.Annotations`.
    Annotations = 43,
    /// Images without name have empty lists instead of `<none>:<none>`.
    EmptyRepoTags = 43,
    /// Images have no `VirtualSize`.
    NoVirtualSize = 44,
    /// Health checks have a `StartInterval`.
    HealthStartInterval = 44,
    /// Several networks may be given to create.
    CreateWithSeveralNetworks = 44,
    /// A network's place has `MacAddress` of its own in requests, and `DNSNames`.
    EndpointMacAddress = 44,
    /// Read-only binds are read-only recursively where the kernel can.
    RecursiveReadOnlyBinds = 44,
    /// `/info` has the status of runtimes.
    RuntimeStatus = 44,
    /// An unknown creation time of an image is left out; before it is the year 1.
    ImageCreatedOmitted = 44,
    /// Volumes may be mounted by a part of them.
    VolumeSubpath = 45,
    /// `Aliases` in inspect are the user's only, without short id and host name.
    UserAliasesOnly = 45,
    /// `/info` has `Containerd`.
    InfoContainerd = 46,
    /// Options of tmpfs mounts.
    TmpfsOptions = 46,
    /// Listed containers show annotations.
    ListAnnotations = 46,
    /// Creating an image reports `create`.
    ImageCreateEvent = 46,
    /// `RegistryConfig` of `/info` has no `AllowNondistributable…` lists.
    NoNondistributable = 47,
    /// Image manifests in lists.
    ImageListManifests = 47,
    /// Containers name the manifest they were made of.
    ImageManifestDescriptor = 48,
    /// Images have a `Descriptor`.
    ImageDescriptor = 48,
    /// Mounts of images.
    ImageMounts = 48,
    /// Networks have `EnableIPv4`, places a `GwPriority`.
    EnableIpv4 = 48,
    /// A volume driver for all volumes of a container gives a warning.
    VolumeDriverWarning = 48,
    /// sysctls of `eth0` belong to the network's place.
    StrictInterfaceSysctls = 48,
    /// `/info` has `FirewallBackend`.
    FirewallBackend = 49,
    /// `Expected` commits are gone from `/info`.
    NoExpectedCommit = 49,
    /// `/info` has `DiscoveredDevices` and no `BridgeNf…`.
    DiscoveredDevices = 50,
    /// An image's `Config` has no fields of containers only.
    OciImageConfig = 50,
    /// Images are listed with the number of their containers; before it is -1.
    ImageContainerCount = 51,
    /// Events have no `status`, `id` and `from`, and are sent as JSON lines.
    EventsAsJsonLines = 52,
    /// The address of the default bridge is not repeated at the top of `NetworkSettings`.
    NoBridgeAddresses = 52,
    /// `Config.MacAddress` is ignored.
    NoConfigMacAddress = 52,
    /// Image inspection leaves out empty legacy fields.
    ImageInspectCompact = 52,
    /// Snapshotters are shown in `Storage` instead of `GraphDriver`.
    StorageField = 52,
    /// Listed containers have `Health`.
    ListHealth = 52,
    /// Disk usage by kind.
    DiskUsageByKind = 52,
    /// Networks show `Status`.
    NetworkStatus = 52,
    /// `/info` has `NRI`.
    InfoNri = 53,
    /// Images have an `Identity`.
    ImageIdentity = 53,
    /// Logs as JSON lines.
    LogsAsJson = 54,
    /// Connecting to a network honours `MacAddress`.
    ConnectMacAddress = 54,
    /// `update` takes the block device lists.
    UpdateBlkioDevices = 55,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_1_24_to_the_newest_are_served() {
        assert_eq!(ApiVersion::NEWEST.to_string(), "1.55");
        for (text, minor) in [("1.24", 24), ("1.40", 40), ("1.55", 55), ("1.44.0", 44), ("1.044", 44)] {
            assert_eq!(ApiVersion::parse(text), Ok(ApiVersion(minor)), "{text}");
        }
        for (text, message) in [
            ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.55"),
            ("2", "client version 2 is too new. Maximum supported API version is 1.55"),
            (
                "1.23",
                "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to \
                 a newer version",
            ),
        ] {
            assert_eq!(ApiVersion::parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_prefix_is_digits_and_dots() {
        for (path, expected) in [
            ("/v1.44/info", (Some("1.44"), "/info")),
            ("/info", (None, "/info")),
            ("/version", (None, "/version")),
            ("/volumes", (None, "/volumes")),
            ("/v1.44", (None, "/v1.44")),
            ("/v1.44x/info", (None, "/v1.44x/info")),
            ("/v/info", (None, "/v/info")),
        ] {
            assert_eq!(split_prefix(path), expected, "{path}");
        }
    }

    #[test]
    fn every_difference_lies_between_the_served_versions() {
        for feature in Feature::ALL {
            assert!((25..=NEWEST_MINOR).contains(&feature.since()), "{feature:?}");
            assert!(ApiVersion::of_minor(feature.since()).has(*feature));
            assert!(!ApiVersion::of_minor(feature.since() - 1).has(*feature));
        }
    }
}
