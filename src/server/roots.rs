//! The daemon's two directories: made with the right modes, and locked against a second daemon.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::StartError;
use crate::base::id_map::Owner;
use crate::config::Config;

/// Locks held for the daemon's life.
pub struct Roots {
    _data: Flock<File>,
    _exec: Flock<File>,
}

const LOCK: &str = "slipwayd.lock";
/// What only dockerd has in its data root.
const FOREIGN: [&str; 2] = ["engine-id", "image/overlay2"];

/// Makes and locks both roots. Their mode lets the daemon's group, or that of remapped containers' root, look up paths
/// and nobody else: in the one are layers and volumes, in the other the mounted roots of running containers, with
/// set-user-id files in both (CVE-2021-41091).
pub fn prepare(config: &Config) -> Result<Roots, StartError> {
    let foreign = |name: &&str| config.data_root.join(name).exists() && !config.data_root.join(LOCK).exists();
    if FOREIGN.iter().any(foreign) {
        return Err(StartError::ForeignRoot(config.data_root.clone()));
    }
    let owner = config.ids.root();
    if owner != Owner::ROOT {
        prepare_top(&config.data_root, owner)?;
    }
    let roots = Roots { _data: claim(&config.data_root, owner)?, _exec: claim(&config.exec_root, owner)? };
    for root in [&config.data_root, &config.exec_root].into_iter().filter(|_| owner != Owner::ROOT) {
        if root.ancestors().skip(1).any(|dir| !may_pass(dir, owner)) {
            return Err(StartError::HiddenRoot(root.clone()));
        }
    }
    Ok(roots)
}

/// The directory above the data root of remapped containers: their root must be able to pass it.
fn prepare_top(data_root: &Path, owner: Owner) -> Result<(), StartError> {
    let Some(top) = data_root.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o711).create(top);
    made.and_then(|()| chown(top, None, Some(owner.gid)))
        .and_then(|()| std::fs::set_permissions(top, Permissions::from_mode(0o710)))
        .map_err(failed(top))
}

/// Whether somebody may look up names in a directory, as far as its mode says.
fn may_pass(dir: &Path, who: Owner) -> bool {
    let Ok(meta) = dir.metadata() else { return false };
    let passes = |bit: u32| meta.mode() & bit != 0;
    passes(0o001) || (meta.uid() == who.uid && passes(0o100)) || (meta.gid() == who.gid && passes(0o010))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Root { path: path.clone(), source }
}

fn claim(root: &Path, owner: Owner) -> Result<Flock<File>, StartError> {
    let failed = failed(root);
    DirBuilder::new().recursive(true).mode(0o710).create(root).map_err(&failed)?;
    chown(root, None, Some(owner.gid)).map_err(&failed)?;
    std::fs::set_permissions(root, Permissions::from_mode(0o710)).map_err(&failed)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(root.join(LOCK));
    Flock::lock(lock.map_err(&failed)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => StartError::RootInUse(root.to_owned()),
        errno => failed(io::Error::from(errno)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails when either root is 0711.
    #[test]
    fn a_root_belongs_to_one_daemon_and_to_no_other_engine() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::default_for(&dir.path().join("data"), &dir.path().join("exec"));
        let held = prepare(&config).unwrap();
        for root in [&config.data_root, &config.exec_root] {
            assert_eq!(std::fs::metadata(root).unwrap().permissions().mode() & 0o777, 0o710);
        }
        assert!(matches!(prepare(&config), Err(StartError::RootInUse(_))));
        drop(held);
        let foreign = Config::default_for(&dir.path().join("docker"), &dir.path().join("exec"));
        std::fs::create_dir_all(foreign.data_root.join("image/overlay2")).unwrap();
        assert!(matches!(prepare(&foreign), Err(StartError::ForeignRoot(_))));
    }
}
