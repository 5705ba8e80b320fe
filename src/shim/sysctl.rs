//! Which of a container's kernel parameters cannot be set. The runtime library only says that there is one.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

/// The file of the first parameter that cannot be opened in the container's network, and why. The calling process,
/// which must have one thread and end soon, is in that network afterwards: each has parameters of its own.
pub fn closed(dir: &Path) -> Option<(PathBuf, io::Error)> {
    let spec = Spec::load(dir.join("config.json")).ok()?;
    let linux = spec.linux().as_ref()?;
    if let Some(network) = network(linux) {
        setns(File::open(network).ok()?, CloneFlags::CLONE_NEWNET).ok()?;
    }
    let mut files: Vec<_> = linux.sysctl().iter().flatten().map(|(name, _)| file(name)).collect();
    files.sort();
    files.into_iter().find_map(|file| {
        let error = OpenOptions::new().write(true).open(&file).err()?;
        Some((file, error))
    })
}

fn network(linux: &Linux) -> Option<&Path> {
    let mut all = linux.namespaces().iter().flatten();
    all.find(|namespace| namespace.typ() == LinuxNamespaceType::Network)?.path().as_deref()
}

/// Where the kernel has the parameter.
pub fn file(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_that_cannot_be_set_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let found = |sysctl: &str| {
            let spec = format!(r#"{{"ociVersion":"1.0.2","linux":{{"sysctl":{sysctl}}}}}"#);
            std::fs::write(dir.path().join("config.json"), spec).unwrap();
            closed(dir.path()).map(|(file, error)| (file, error.raw_os_error()))
        };
        assert_eq!(found(r#"{"kernel.hostname":"x"}"#), None);
        let all = r#"{"net.foo":"1","kernel.hostname":"x","kernel.no.such":"1"}"#;
        assert_eq!(found(all), Some((PathBuf::from("/proc/sys/kernel/no/such"), Some(libc::ENOENT))));
        assert_eq!(found(r#"{"kernel":"x"}"#).unwrap().1, Some(libc::EISDIR));
    }
}
