//! `VolumesFrom`: the mounts that a new container takes over from others.

use super::error::ContainerError;
use super::host_config::{HostConfig, MountType};
use super::record::{MountPoint, NO_COPY};
use super::registry::Containers;

/// A request that is refused, in dockerd's words.
#[derive(Debug, thiserror::Error)]
pub enum VolumesFromError {
    #[error("volumes-from specification cannot be an empty string")]
    Empty,
    #[error("invalid mode: {0}")]
    Mode(String),
    #[error(transparent)]
    Container(#[from] super::error::LookupError),
}

/// The mounts of the containers in `VolumesFrom`. Where two have the same target, the later container's comes later.
pub fn inherited(
    containers: &Containers,
    host_config: Option<&HostConfig>,
) -> Result<Vec<MountPoint>, VolumesFromError> {
    let mut points = Vec::new();
    for spec in host_config.iter().flat_map(|host| host.volumes_from.iter().flatten()) {
        let (name, access) = parse(spec)?;
        let other = containers.resolve(name)?.snapshot();
        // tmpfs belongs to one container alone.
        let shared = other.record.mounts.iter().filter(|point| point.kind != MountType::Tmpfs);
        points.extend(shared.map(|theirs| taken(theirs, access)));
    }
    Ok(points)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    AsTheirs,
    ReadOnly,
}

/// `CONTAINER[:MODE]`. Propagation and `nocopy` are the other container's to decide.
fn parse(spec: &str) -> Result<(&str, Access), VolumesFromError> {
    if spec.is_empty() {
        return Err(VolumesFromError::Empty);
    }
    let (name, mode) = spec.split_once(':').unwrap_or((spec, ""));
    let words = || mode.split(',').filter(|_| !mode.is_empty());
    let count = |kind: &[&str]| words().filter(|word| kind.contains(word)).count();
    let (access, label) = (count(&["ro", "rw"]), count(&["z", "Z"]));
    let consistency = count(&["consistent", "cached", "delegated"]);
    if access > 1 || label > 1 || consistency > 1 || access + label + consistency != words().count() {
        return Err(VolumesFromError::Mode(mode.to_owned()));
    }
    let access = if words().any(|word| word == "ro") { Access::ReadOnly } else { Access::AsTheirs };
    Ok((name, access))
}

/// What another container has was filled for it.
fn taken(theirs: &MountPoint, access: Access) -> MountPoint {
    MountPoint {
        rw: theirs.rw && access == Access::AsTheirs,
        mode: String::new(),
        options: vec![NO_COPY.to_owned()],
        ..theirs.clone()
    }
}

impl From<VolumesFromError> for ContainerError {
    fn from(error: VolumesFromError) -> Self {
        // A container that is not there makes a bad request too, no 404: that would be about the one to be created.
        Self::bad_request(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_a_container_and_perhaps_a_mode() {
        for (spec, access) in [
            ("box", Access::AsTheirs),
            ("box:", Access::AsTheirs),
            ("box:rw", Access::AsTheirs),
            ("box:ro", Access::ReadOnly),
            ("box:z,ro", Access::ReadOnly),
        ] {
            assert_eq!(parse(spec).unwrap(), ("box", access), "{spec}");
        }
        for bad in ["box:nocopy", "box:rslave", "box:ro,rw", "box:x", "box:ro,"] {
            let mode = bad.split_once(':').unwrap().1;
            assert_eq!(parse(bad).unwrap_err().to_string(), format!("invalid mode: {mode}"));
        }
        assert!(matches!(parse(""), Err(VolumesFromError::Empty)));
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn any_specification_is_a_container_or_refused(
            name in "[a-z]{0,4}",
            words in prop::collection::vec("ro|rw|z|Z|cached|x|", 0..4),
        ) {
            let spec = if words.is_empty() { name.clone() } else { format!("{name}:{}", words.join(",")) };
            if let Ok((found, access)) = parse(&spec) {
                prop_assert_eq!(found, name.as_str());
                prop_assert_eq!(access == Access::ReadOnly, words.iter().any(|word| word == "ro"));
                prop_assert!(words.iter().all(|word| word != "x"));
                for kind in [["ro", "rw"], ["z", "Z"]] {
                    prop_assert!(words.iter().filter(|word| kind.contains(&word.as_str())).count() <= 1);
                }
            }
        }
    }
}
