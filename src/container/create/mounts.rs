//! What will be mounted in a container: short form (`Binds`), long form (`Mounts`), volumes of the image.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::Invalid;
use crate::base::path::clean;
use crate::container::config::ContainerConfig;
use crate::container::host_config::{BindOptions, HostConfig, Mount, MountType, UnknownMountType};
use crate::container::record::{MountPoint, NO_COPY, ReadOnly};
use crate::image::RunConfig;

/// A mount that is refused, in dockerd's words.
#[derive(Debug, thiserror::Error)]
pub enum InvalidMount {
    #[error("invalid volume specification: '{0}'")]
    Specification(String),
    #[error("invalid mode: {0}")]
    Mode(String),
    #[error("invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": {problem}")]
    Bind { spec: String, kind: &'static str, problem: String },
    #[error("invalid mount config for type \"{kind}\": {problem}")]
    Mount { kind: String, problem: String },
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    #[error(
        "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is \
         within the daemon root, daemon root: {root:?}, bind mount source: {from:?}, propagation: {asked:?}"
    )]
    KeepsRoots { root: PathBuf, from: PathBuf, asked: String },
}

impl From<InvalidMount> for Invalid {
    fn from(error: InvalidMount) -> Self {
        Invalid::new(error.to_string())
    }
}

/// All mounts in order of their targets. The container's own take the place of those that it takes over from others
/// (`inherited`, the last of which counts); what the image declares comes where nothing else is.
pub(super) fn decide(
    config: &ContainerConfig,
    host_config: &HostConfig,
    image: Option<&RunConfig>,
    inherited: Vec<MountPoint>,
    data_root: &Path,
) -> Result<Vec<MountPoint>, Invalid> {
    let mut points: BTreeMap<String, MountPoint> =
        inherited.into_iter().map(|point| (point.destination.clone(), point)).collect();
    points.extend(own(host_config, data_root)?);
    for target in host_config.tmpfs.keys() {
        let problem = match target.starts_with('/') {
            true if clean(target) != "/" => continue,
            true => "invalid specification: destination can't be '/'".to_owned(),
            false => format!("invalid mount path: '{target}' mount path must be absolute"),
        };
        return Err(InvalidMount::Mount { kind: "tmpfs".to_owned(), problem }.into());
    }
    let declared = config.volumes.iter().flat_map(BTreeMap::keys);
    let declared = declared.chain(image.into_iter().flat_map(|image| &image.volumes));
    for target in declared {
        let target = volume_target(target)?;
        if !points.contains_key(&target) && !host_config.tmpfs.contains_key(&target) {
            let driver = driver_name(&host_config.volume_driver);
            points.insert(target.clone(), volume(String::new(), target, driver));
        }
    }
    Ok(points.into_values().collect())
}

/// The short and the long form, which must not name one target twice.
fn own(host_config: &HostConfig, data_root: &Path) -> Result<BTreeMap<String, MountPoint>, InvalidMount> {
    let mut points = BTreeMap::new();
    let short = host_config.binds.iter().flatten().map(|bind| short_form(bind, &host_config.volume_driver));
    for point in short.chain(host_config.mounts.iter().map(long_form)) {
        let mut point = point?;
        if point.kind == MountType::Bind {
            let asked = asked_propagation(&point, host_config);
            let_go_of_roots(&mut point, asked.as_deref(), data_root)?;
        }
        let in_tmpfs = host_config.tmpfs.contains_key(&point.destination);
        if in_tmpfs || points.contains_key(&point.destination) {
            return Err(InvalidMount::Duplicate(point.destination));
        }
        points.insert(point.destination.clone(), point);
    }
    Ok(points)
}

/// The propagation that a request names for a bind, if any.
pub(in crate::container) fn asked_propagation(
    point: &MountPoint,
    host_config: &HostConfig,
) -> Option<String> {
    let long = || {
        let mount = host_config.mounts.iter().find(|mount| clean(&mount.target) == point.destination)?;
        Some(mount.bind_options.as_ref()?.propagation.as_str()).filter(|word| !word.is_empty())
    };
    point.mode.split(',').find(|word| PROPAGATIONS.contains(word)).or_else(long).map(str::to_owned)
}

/// A bind that shows the daemon's own files shows mounts as well, of other containers' roots among them: what is
/// unmounted on the host must go from there too, or nothing below it can be removed. `asked` is the propagation that
/// the request names.
fn let_go_of_roots(
    point: &mut MountPoint,
    asked: Option<&str>,
    data_root: &Path,
) -> Result<(), InvalidMount> {
    let from = &point.source;
    if !from.starts_with(data_root) && !data_root.starts_with(from) {
        return Ok(());
    }
    match asked {
        None => point.propagation = "rslave".to_owned(),
        Some("rslave" | "rshared") => {}
        Some(asked) => {
            let (root, from) = (data_root.to_owned(), from.clone());
            return Err(InvalidMount::KeepsRoots { root, from, asked: asked.to_owned() });
        }
    }
    Ok(())
}

/// `VOLUME` paths come from images: they must stay inside the container (CVE-2022-23648).
fn volume_target(target: &str) -> Result<String, InvalidMount> {
    let absolute = format!("/{}", target.trim_start_matches('/'));
    match clean(&absolute) {
        root if root == "/" => Err(InvalidMount::Specification(target.to_owned())),
        path => Ok(path),
    }
}

/// `SOURCE:TARGET[:MODE]`, `VOLUME:TARGET[:MODE]`, `TARGET`.
fn short_form(spec: &str, driver: &str) -> Result<MountPoint, InvalidMount> {
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        // A target alone has no mode.
        [_, mode] if Modes::parse(mode).is_ok() => return Err(InvalidMount::Specification(spec.to_owned())),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(InvalidMount::Specification(spec.to_owned())),
    };
    if !target.starts_with('/') {
        let problem = format!("invalid mount path: '{target}' mount path must be absolute");
        return Err(InvalidMount::Bind { spec: spec.to_owned(), kind: kind_of(source).1, problem });
    }
    let destination = clean(target);
    if destination == "/" {
        let problem = "invalid specification: destination can't be '/'".to_owned();
        return Err(InvalidMount::Bind { spec: spec.to_owned(), kind: kind_of(source).1, problem });
    }
    if parts.len() > 1 && source.is_empty() && mode.is_empty() {
        return Err(InvalidMount::Specification(spec.to_owned()));
    }
    let modes = Modes::parse(mode)?;
    let (kind, _) = kind_of(source);
    if kind == MountType::Bind && modes.no_copy {
        let problem = "field VolumeOptions must not be specified".to_owned();
        return Err(InvalidMount::Bind { spec: spec.to_owned(), kind: "bind", problem });
    }
    let mut point = match kind {
        MountType::Bind => MountPoint {
            kind,
            name: String::new(),
            source: PathBuf::from(clean(source)),
            destination,
            driver: String::new(),
            mode: mode.to_owned(),
            rw: true,
            propagation: modes.propagation.unwrap_or("rprivate").to_owned(),
            subpath: String::new(),
            options: vec![],
            recursive: true,
            anonymous: false,
            read_only: ReadOnly::default(),
            image: None,
        },
        _ => MountPoint {
            mode: mode.to_owned(),
            ..volume(source.to_owned(), destination, driver_name(driver))
        },
    };
    if point.mode.is_empty() && point.kind == MountType::Volume {
        point.mode = "z".to_owned();
    }
    point.rw = modes.writable;
    if modes.no_copy {
        point.options.push(NO_COPY.to_owned());
    }
    Ok(point)
}

fn kind_of(source: &str) -> (MountType, &'static str) {
    if source.starts_with('/') { (MountType::Bind, "bind") } else { (MountType::Volume, "volume") }
}

struct Modes {
    writable: bool,
    no_copy: bool,
    propagation: Option<&'static str>,
}

impl Modes {
    /// Words between commas, each kind at most once.
    fn parse(mode: &str) -> Result<Self, InvalidMount> {
        let mut modes = Self { writable: true, no_copy: false, propagation: None };
        let (mut access, mut label, mut copy, mut consistency) = (0, 0, 0, 0);
        let invalid = || InvalidMount::Mode(mode.to_owned());
        for word in mode.split(',').filter(|_| !mode.is_empty()) {
            match word {
                "rw" => access += 1,
                "ro" => {
                    access += 1;
                    modes.writable = false;
                }
                "z" | "Z" => label += 1,
                "nocopy" => {
                    copy += 1;
                    modes.no_copy = true;
                }
                "consistent" | "cached" | "delegated" => consistency += 1,
                other => {
                    let known = PROPAGATIONS.into_iter().find(|known| *known == other).ok_or_else(invalid)?;
                    if modes.propagation.replace(known).is_some() {
                        return Err(invalid());
                    }
                }
            }
        }
        match [access, label, copy, consistency].into_iter().all(|count| count <= 1) {
            true => Ok(modes),
            false => Err(invalid()),
        }
    }
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

fn long_form(mount: &Mount) -> Result<MountPoint, InvalidMount> {
    let refuse =
        |problem: &str| InvalidMount::Mount { kind: mount.kind.clone(), problem: problem.to_owned() };
    if mount.target.is_empty() {
        return Err(refuse("field Target must not be empty"));
    }
    if !mount.target.starts_with('/') {
        return Err(refuse(&format!("invalid mount path: '{}' mount path must be absolute", mount.target)));
    }
    let destination = clean(&mount.target);
    if destination == "/" {
        return Err(refuse("invalid specification: destination can't be '/'"));
    }
    let kind = MountType::try_from(mount.kind.clone()).map_err(|unknown| refuse(&unknown.to_string()))?;
    for (given, name, own) in [
        (mount.bind_options.is_some(), "BindOptions", MountType::Bind),
        (mount.volume_options.is_some(), "VolumeOptions", MountType::Volume),
        (mount.tmpfs_options.is_some(), "TmpfsOptions", MountType::Tmpfs),
        (mount.image_options.is_some(), "ImageOptions", MountType::Image),
    ] {
        if given && kind != own {
            return Err(refuse(&format!("field {name} must not be specified")));
        }
    }
    let base = volume(String::new(), destination, String::new());
    let base = MountPoint { kind, rw: !mount.read_only, mode: String::new(), anonymous: false, ..base };
    match kind {
        MountType::Bind => long_bind(mount, base, refuse),
        MountType::Volume => long_volume(mount, base, refuse),
        MountType::Tmpfs if !mount.source.is_empty() => Err(refuse("field Source must not be specified")),
        MountType::Tmpfs => long_tmpfs(mount, base, refuse),
        MountType::Image => long_image(mount, base, refuse),
        MountType::Npipe | MountType::Cluster => Err(refuse(&UnknownMountType.to_string())),
    }
}

fn long_bind(
    mount: &Mount,
    base: MountPoint,
    refuse: impl Fn(&str) -> InvalidMount,
) -> Result<MountPoint, InvalidMount> {
    let options = mount.bind_options.clone().unwrap_or_default();
    if mount.source.is_empty() {
        return Err(refuse("field Source must not be empty"));
    }
    if !mount.source.starts_with('/') {
        return Err(refuse(&format!("invalid mount path: '{}' mount path must be absolute", mount.source)));
    }
    if !options.create_mountpoint && !Path::new(&mount.source).exists() {
        return Err(refuse(&format!("bind source path does not exist: {}", mount.source)));
    }
    let propagation = match options.propagation.as_str() {
        "" => "rprivate",
        known if PROPAGATIONS.contains(&known) => known,
        other => return Err(refuse(&format!("invalid propagation mode: {other}"))),
    };
    Ok(MountPoint {
        source: PathBuf::from(clean(&mount.source)),
        propagation: propagation.to_owned(),
        recursive: !options.non_recursive,
        read_only: read_only(mount, &options, refuse)?,
        ..base
    })
}

fn read_only(
    mount: &Mount,
    options: &BindOptions,
    refuse: impl Fn(&str) -> InvalidMount,
) -> Result<ReadOnly, InvalidMount> {
    match (options.read_only_non_recursive, options.read_only_force_recursive) {
        (false, false) => Ok(ReadOnly::IfPossible),
        (true, true) => Err(refuse("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")),
        (true, false) if !mount.read_only => {
            Err(refuse("mount options conflict: !ReadOnly && ReadOnlyNonRecursive"))
        }
        (false, true) if !mount.read_only => {
            Err(refuse("mount options conflict: !ReadOnly && ReadOnlyForceRecursive"))
        }
        (true, false) => Ok(ReadOnly::Topmost),
        (false, true) => Ok(ReadOnly::Recursive),
    }
}

fn long_volume(
    mount: &Mount,
    base: MountPoint,
    refuse: impl Fn(&str) -> InvalidMount,
) -> Result<MountPoint, InvalidMount> {
    let options = mount.volume_options.clone().unwrap_or_default();
    let anonymous = mount.source.is_empty();
    match (options.subpath.as_str(), anonymous) {
        ("", _) => {}
        (_, true) => return Err(refuse("must not set Subpath when using anonymous volumes")),
        (path, false) if !is_local(path) => {
            return Err(refuse("subpath must be a relative path within the volume"));
        }
        _ => {}
    }
    if anonymous && mount.read_only {
        return Err(refuse("must not set ReadOnly mode when using anonymous volumes"));
    }
    let driver = options.driver_config.map(|driver| driver.name).unwrap_or_default();
    Ok(MountPoint {
        name: mount.source.clone(),
        driver: driver_name(&driver),
        mode: "z".to_owned(),
        subpath: options.subpath,
        options: if options.no_copy { vec![NO_COPY.to_owned()] } else { vec![] },
        anonymous,
        ..base
    })
}

/// An image is shown for reading only, whatever is asked for. Which one the name stands for is found out later.
fn long_image(
    mount: &Mount,
    base: MountPoint,
    refuse: impl Fn(&str) -> InvalidMount,
) -> Result<MountPoint, InvalidMount> {
    if mount.source.is_empty() {
        return Err(refuse("field Source must not be empty"));
    }
    let options = mount.image_options.clone().unwrap_or_default();
    if !options.subpath.is_empty() && !is_local(&options.subpath) {
        return Err(refuse("subpath must be a relative path within the volume"));
    }
    Ok(MountPoint {
        name: mount.source.clone(),
        rw: false,
        propagation: "rprivate".to_owned(),
        subpath: options.subpath,
        ..base
    })
}

/// Whether a path stays, without its links being looked at, in the directory it is taken from.
fn is_local(path: &str) -> bool {
    let mut depth = 0_i32;
    for part in Path::new(path).components() {
        depth += match part {
            Component::Normal(_) => 1,
            Component::CurDir => 0,
            Component::ParentDir => -1,
            Component::RootDir | Component::Prefix(_) => return false,
        };
        if depth < 0 {
            return false;
        }
    }
    true
}

fn long_tmpfs(
    mount: &Mount,
    base: MountPoint,
    refuse: impl Fn(&str) -> InvalidMount,
) -> Result<MountPoint, InvalidMount> {
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    let mut list = Vec::new();
    if mount.read_only {
        list.push("ro".to_owned());
    }
    if options.mode != 0 {
        list.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes != 0 {
        list.push(format!("size={}", options.size_bytes));
    }
    for words in &options.options {
        match words.as_slice() {
            [] | [_, _, _, ..] => return Err(refuse("invalid option array length")),
            [name, ..] if !matches!(name.as_str(), "exec" | "noexec") => {
                return Err(refuse(&format!("invalid option: {name}")));
            }
            _ => list.push(words.join("=")),
        }
    }
    Ok(MountPoint { options: list, ..base })
}

/// A volume without a name is made for its container.
fn volume(name: String, destination: String, driver: String) -> MountPoint {
    MountPoint {
        kind: MountType::Volume,
        anonymous: name.is_empty(),
        name,
        source: PathBuf::new(),
        destination,
        driver,
        mode: String::new(),
        rw: true,
        propagation: String::new(),
        subpath: String::new(),
        options: vec![],
        recursive: true,
        read_only: ReadOnly::default(),
        image: None,
    }
}

fn driver_name(given: &str) -> String {
    if given.is_empty() { "local".to_owned() } else { given.to_owned() }
}

#[cfg(test)]
mod properties;
