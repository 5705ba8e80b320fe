//! The mode of a tmpfs that is mounted in a container: that of the directory which it hides, as in runc, so that a
//! `/root` stays private and a `/var` is not everybody's to write. What its options say counts more. A directory that
//! was not there is open to all, as the kernel makes a tmpfs; one that was made for it keeps that for the next start.

use std::io;
use std::path::Path;

use ::oci_spec::runtime::Mount;
use rustix::fs::{Mode, OFlags};

use crate::base::sys::root_fs::Root;

/// The kernel's own (tmpfs(5)).
const OPEN_TO_ALL: u32 = 0o1777;

/// What was at a mount's place before that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory of this mode.
    Directory(u32),
    Nothing,
}

impl Place {
    /// What `path` leads to inside `root`.
    pub(super) fn look(root: &Root, path: &Path) -> Self {
        let stat = root.dir(path).and_then(|dir| Ok(rustix::fs::fstat(&dir)?));
        stat.map_or(Self::Nothing, |stat| Self::Directory(stat.st_mode & 0o7777))
    }
}

/// Gives `mount`, whose destination is settled, the mode that it is to have if it is a tmpfs that names none. The
/// mounts `before` it come first and may hold its place; otherwise that was `there` in `root`.
pub(super) fn settle(root: &Root, before: &[Mount], mount: &mut Mount, there: Place) -> io::Result<()> {
    let mut options = mount.options().clone().unwrap_or_default();
    if mount.typ().as_deref() != Some("tmpfs") || options.iter().any(|option| option.starts_with("mode=")) {
        return Ok(());
    }
    let destination = mount.destination();
    let depth = |mount: &&Mount| mount.destination().components().count();
    let holder =
        before.iter().filter(|earlier| destination.starts_with(earlier.destination())).max_by_key(depth);
    let place = match holder {
        Some(holder) => within(holder, destination),
        None if there == Place::Nothing => {
            let dir = root.open_in(destination, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(OPEN_TO_ALL))?;
            Place::Nothing
        }
        None => there,
    };
    if let Place::Directory(mode) = place {
        options.push(format!("mode={mode:o}"));
        mount.set_options(Some(options));
    }
    Ok(())
}

/// What is at `destination` in what another mount shows there.
fn within(holder: &Mount, destination: &Path) -> Place {
    let shown = holder.source().as_ref().filter(|_| holder.typ().as_deref() == Some("bind"));
    let inner = destination.strip_prefix(holder.destination()).unwrap_or(Path::new(""));
    let root = shown.and_then(|source| Root::open(source).ok());
    root.map_or(Place::Nothing, |root| Place::look(&root, inner))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    fn mount(kind: &str, source: &Path, destination: &str, options: &[&str]) -> Mount {
        let mount = json!({ "type": kind, "source": source, "destination": destination, "options": options });
        serde_json::from_value(mount).unwrap()
    }

    fn make(path: PathBuf, mode: u32) {
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_tmpfs_has_the_mode_of_what_it_hides_unless_it_names_one() {
        let (top, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(top.path().join("root"), 0o700);
        make(top.path().join("new"), 0o755);
        make(top.path().join("data/inner"), 0o755);
        make(volume.path().join("inner"), 0o2750);
        make(volume.path().join("inner/x"), 0o710);
        make(volume.path().join("deeper/x"), 0o701);
        let root = Root::open(top.path()).unwrap();
        let before = [
            mount("bind", volume.path(), "/data", &["rbind"]),
            // Its source is only a name, though there is something of that name here.
            mount("tmpfs", volume.path(), "/dev", &["mode=755"]),
            mount("bind", &volume.path().join("inner"), "/data/deeper", &["rbind"]),
        ];
        for (kind, destination, options, there, expected) in [
            ("tmpfs", "/root", &["nosuid"][..], Place::Directory(0o700), &["nosuid", "mode=700"][..]),
            ("tmpfs", "/root", &["mode=711"], Place::Directory(0o700), &["mode=711"]),
            ("proc", "/root", &[], Place::Directory(0o700), &[]),
            ("tmpfs", "/new", &[], Place::Nothing, &[]),
            ("tmpfs", "/data/inner", &[], Place::Directory(0o755), &["mode=2750"]),
            ("tmpfs", "/data/other", &[], Place::Directory(0o755), &[]),
            ("tmpfs", "/data/deeper/x", &[], Place::Nothing, &["mode=710"]),
            ("tmpfs", "/dev/inner", &[], Place::Directory(0o755), &[]),
        ] {
            let mut settled = mount(kind, Path::new("x"), destination, options);
            settle(&root, &before, &mut settled, there).unwrap();
            assert_eq!(settled.options().as_deref().unwrap(), expected, "{destination} {options:?}");
        }
        assert_eq!(Place::look(&root, Path::new("/new")), Place::Directory(0o1777));
        assert_eq!(Place::look(&root, Path::new("/nowhere")), Place::Nothing);
    }
}
