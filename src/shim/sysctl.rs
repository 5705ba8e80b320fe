//! Which of a container's kernel parameters is none. The runtime library only says that there is one.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

/// The file of the first parameter that the container's network has not. The calling process, which must have one
/// thread and end soon, is in that network afterwards: each has parameters of its own.
pub fn missing(dir: &Path) -> Option<PathBuf> {
    let spec = Spec::load(dir.join("config.json")).ok()?;
    let linux = spec.linux().as_ref()?;
    if let Some(network) = network(linux) {
        setns(File::open(network).ok()?, CloneFlags::CLONE_NEWNET).ok()?;
    }
    let mut files: Vec<_> = linux.sysctl().iter().flatten().map(|(name, _)| file(name)).collect();
    files.sort();
    files.into_iter().find(|file| !file.exists())
}

fn network(linux: &Linux) -> Option<&Path> {
    let mut all = linux.namespaces().iter().flatten();
    all.find(|namespace| namespace.typ() == LinuxNamespaceType::Network)?.path().as_deref()
}

fn file(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_that_is_not_there_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let found = |sysctl: &str| {
            let spec = format!(r#"{{"ociVersion":"1.0.2","linux":{{"sysctl":{sysctl}}}}}"#);
            std::fs::write(dir.path().join("config.json"), spec).unwrap();
            missing(dir.path())
        };
        assert_eq!(found(r#"{"kernel.ostype":"x"}"#), None);
        let all = r#"{"net.foo":"1","kernel.ostype":"x","kernel.no.such":"1"}"#;
        assert_eq!(found(all).as_deref(), Some(Path::new("/proc/sys/kernel/no/such")));
    }
}
