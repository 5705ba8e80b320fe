//! Whether a bind can have the propagation that its creator asks for: a mount that is private on the host passes
//! nothing on, and would be shown without a word as if nothing had been asked.

use std::io;
use std::path::Path;

use super::create::asked_propagation;
use super::error::ContainerError;
use super::record::{MountPoint, Record};
use crate::base::sys::mount::{self, MountPoint as HostMount};

/// Refuses, in dockerd's words, what cannot be had.
pub(super) async fn check(record: &Record, point: &MountPoint) -> Result<(), ContainerError> {
    let asked = asked_propagation(point, &record.host_config).unwrap_or_default();
    let wanted = match asked.trim_start_matches('r') {
        "shared" => Wanted::Shared,
        "slave" => Wanted::SharedOrSlave,
        _ => return Ok(()),
    };
    let source = point.source.clone();
    let looked = tokio::task::spawn_blocking(move || problem(&source, wanted)).await;
    let problem = looked.unwrap_or_else(|error| Err(io::Error::other(error)));
    match problem.map_err(|error| ContainerError::system(&error))? {
        Some(problem) => Err(ContainerError::system(&problem)),
        None => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    Shared,
    SharedOrSlave,
}

fn problem(source: &Path, wanted: Wanted) -> io::Result<Option<String>> {
    let real = source.canonicalize()?;
    let mounts = mount::mounts()?;
    Ok(lies_on(&real, &mounts).filter(|mount| !has(mount, wanted)).map(|mount| {
        let kind = match wanted {
            Wanted::Shared => "a shared mount",
            Wanted::SharedOrSlave => "a shared or slave mount",
        };
        let (path, target) = (source.display(), mount.target.display());
        format!("path {path} is mounted on {target} but it is not {kind}")
    }))
}

/// The innermost mount that a path is on; of several on one place the last.
fn lies_on<'m>(path: &Path, mounts: &'m [HostMount]) -> Option<&'m HostMount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.target))
        .max_by_key(|mount| mount.target.components().count())
}

fn has(mount: &HostMount, wanted: Wanted) -> bool {
    let is = |kind: &str| mount.propagation.split(' ').any(|word| word.starts_with(kind));
    is("shared:") || (wanted == Wanted::SharedOrSlave && is("master:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(target: &str, propagation: &str) -> HostMount {
        HostMount {
            id: 1,
            parent: 0,
            root: "/".into(),
            target: target.into(),
            options: String::new(),
            propagation: propagation.to_owned(),
            kind: String::new(),
            source: String::new(),
            super_options: String::new(),
        }
    }

    #[test]
    fn a_path_has_what_its_innermost_mount_has() {
        let mounts = [
            mounted("/", "shared:1"),
            mounted("/a", ""),
            mounted("/a/b", "master:1"),
            mounted("/a/b", "shared:2 master:1"),
            mounted("/c", "master:3 propagate_from:1"),
        ];
        for (path, shared, slave) in [
            ("/", true, true),
            ("/x/y", true, true),
            ("/ab", true, true),
            ("/a/x", false, false),
            ("/a/b/x", true, true),
            ("/c", false, true),
        ] {
            let on = lies_on(Path::new(path), &mounts).unwrap();
            assert_eq!((has(on, Wanted::Shared), has(on, Wanted::SharedOrSlave)), (shared, slave), "{path}");
        }
    }
}
