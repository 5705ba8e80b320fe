//! CDI (Container Device Interface): devices that files in certain directories describe, by what must be changed of a
//! container that gets them. The files are the administrator's; one that is wrong is reported and changes nothing for
//! the devices of the others. They are read when somebody asks, so what is changed there counts at once.

mod check;
mod name;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

pub use spec::{Device, DeviceNode, Edits, Encoding, Hook, IntelRdt, Mount, SpecFile};

/// A specification that a tool has written is some 100 KB.
const LARGEST: u64 = 4 << 20;
/// Files of one directory.
const MOST_FILES: usize = 1000;

/// All devices there are.
#[derive(Debug, Default)]
pub struct Catalogue {
    files: Vec<Loaded>,
    /// Which file and which of its devices, by full name.
    devices: BTreeMap<String, (usize, usize)>,
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    /// The place of its directory: later ones come before earlier ones.
    priority: usize,
    spec: SpecFile,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    pub text: String,
}

/// Names that stand for no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unresolvable CDI devices {}", .0.join(", "))]
pub struct Unresolvable(pub Vec<String>);

impl Catalogue {
    /// Reads the files in these directories; one that is not there has none. Blocks.
    pub fn read(dirs: &[PathBuf]) -> Self {
        let mut catalogue = Self::default();
        for (priority, dir) in dirs.iter().enumerate() {
            for path in spec_files(dir) {
                match load(&path) {
                    Ok(spec) => catalogue.files.push(Loaded { path, priority, spec }),
                    Err(text) => {
                        let text = format!("failed to load CDI Spec {text}");
                        catalogue.problems.push(Problem { path, text });
                    }
                }
            }
        }
        catalogue.index();
        catalogue
    }

    /// Of two devices of one name that of the later directory counts, and within one directory neither.
    fn index(&mut self) {
        let mut conflicts = BTreeSet::new();
        for (number, file) in self.files.iter().enumerate() {
            for (place, device) in file.spec.devices.iter().enumerate() {
                let name = format!("{}={}", file.spec.kind, device.name);
                let other = self.devices.get(&name).map(|(other, _)| &self.files[*other]);
                if let Some(other) = other.filter(|other| other.priority == file.priority) {
                    let text = format!(
                        "conflicting device {name:?} (specs {:?}, {:?})",
                        file.path.display().to_string(),
                        other.path.display().to_string()
                    );
                    for path in [&file.path, &other.path] {
                        self.problems.push(Problem { path: path.clone(), text: text.clone() });
                    }
                    conflicts.insert(name);
                    continue;
                }
                self.devices.insert(name, (number, place));
            }
        }
        self.devices.retain(|name, _| !conflicts.contains(name));
    }

    /// Full names of all devices, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// What is wrong with the files.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether a vendor has described anything.
    pub fn has_vendor(&self, vendor: &str) -> bool {
        self.files.iter().any(|file| name::split_kind(&file.spec.kind).0 == vendor)
    }

    /// What these devices change: what a file says of all of its devices comes once, before the first of them.
    pub fn edits(&self, names: &[String]) -> Result<Edits, Unresolvable> {
        let (mut edits, mut files, mut unknown) = (Edits::default(), BTreeSet::new(), Vec::new());
        for name in names {
            let Some((number, place)) = self.devices.get(name) else {
                unknown.push(name.clone());
                continue;
            };
            let spec = &self.files[*number].spec;
            if files.insert(number) {
                edits.append(&spec.container_edits);
            }
            edits.append(&spec.devices[*place].container_edits);
        }
        if unknown.is_empty() { Ok(edits) } else { Err(Unresolvable(unknown)) }
    }
}

/// The specifications in a directory, by name.
fn spec_files(dir: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(dir = %dir.display(), %error, "CDI specifications cannot be read");
            }
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| encoding(path).is_some()).collect();
    paths.sort();
    if paths.len() > MOST_FILES {
        tracing::warn!(dir = %dir.display(), most = MOST_FILES, "not all CDI specifications are read");
        paths.truncate(MOST_FILES);
    }
    paths
}

fn encoding(path: &Path) -> Option<Encoding> {
    match path.extension()?.to_str()? {
        "json" => Some(Encoding::Json),
        "yaml" => Some(Encoding::Yaml),
        _ => None,
    }
}

fn load(path: &Path) -> Result<SpecFile, String> {
    let shown = path.display().to_string();
    let text = read_file(path).map_err(|error| format!("failed to read CDI Spec {shown:?}: {error}"))?;
    let encoding = encoding(path).unwrap_or(Encoding::Yaml);
    let spec = SpecFile::parse(&text, encoding)
        .map_err(|error| format!("failed to parse CDI Spec {shown:?}: {error}"))?;
    check::check(&spec).map_err(|error| format!("invalid CDI Spec: {error}"))?;
    Ok(spec)
}

/// A FIFO would never end, and a device has no size.
fn read_file(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    fs::File::from(fd).take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("larger than {LARGEST} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: &str, common: &str, devices: &[(&str, &str)]) -> String {
        let devices: Vec<_> = devices
            .iter()
            .map(|(name, env)| serde_json::json!({"name": name, "containerEdits": {"env": [env]}}))
            .collect();
        let edits = if common.is_empty() { vec![] } else { vec![common] };
        serde_json::json!({"cdiVersion": "0.6.0", "kind": kind, "containerEdits": {"env": edits}, "devices": devices})
            .to_string()
    }

    fn catalogue(files: &[(&str, String)]) -> (tempfile::TempDir, Catalogue) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let dirs = ["etc", "missing", "run"].map(|name| dir.path().join(name));
        let catalogue = Catalogue::read(&dirs);
        (dir, catalogue)
    }

    fn environment(catalogue: &Catalogue, names: &[&str]) -> Result<Vec<String>, Unresolvable> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        catalogue.edits(&names).map(|edits| edits.env)
    }

    #[test]
    fn what_a_file_says_of_all_devices_comes_once_before_them() {
        let (_dir, catalogue) =
            catalogue(&[("etc/a.json", spec("v.com/c", "ALL=1", &[("x", "X=1"), ("y", "Y=1")]))]);
        assert_eq!(catalogue.names().collect::<Vec<_>>(), ["v.com/c=x", "v.com/c=y"]);
        let found = environment(&catalogue, &["v.com/c=y", "v.com/c=x"]).unwrap();
        assert_eq!(found, ["ALL=1", "Y=1", "X=1"]);
        let error = environment(&catalogue, &["v.com/c=z", "v.com/c=x", "gpu"]).unwrap_err();
        assert_eq!(error.to_string(), "unresolvable CDI devices v.com/c=z, gpu");
        assert!(catalogue.has_vendor("v.com") && !catalogue.has_vendor("c"));
    }

    #[test]
    fn the_later_directory_wins_and_within_one_nobody() {
        let (_dir, catalogue) = catalogue(&[
            ("etc/a.json", spec("v.com/c", "", &[("x", "X=etc"), ("y", "Y=etc"), ("z", "Z=etc")])),
            ("etc/b.json", spec("v.com/c", "", &[("z", "Z=other")])),
            ("run/c.json", spec("v.com/c", "RUN=1", &[("x", "X=run")])),
        ]);
        let found = environment(&catalogue, &["v.com/c=x", "v.com/c=y"]).unwrap();
        assert_eq!(found, ["RUN=1", "X=run", "Y=etc"]);
        assert!(environment(&catalogue, &["v.com/c=z"]).is_err());
        let problems: Vec<_> = catalogue.problems().iter().map(|problem| &problem.text).collect();
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("conflicting device \"v.com/c=z\" (specs "), "{problems:?}");
    }

    #[test]
    fn a_file_that_is_wrong_is_told_of_and_harms_no_other() {
        let (dir, _) = catalogue(&[
            ("etc/a.json", spec("v.com/c", "", &[("x", "X=1")])),
            ("etc/bad.yaml", "devices: [".to_owned()),
            ("etc/empty.json", String::new()),
            ("etc/invalid.json", spec("v.com/c", "", &[])),
            ("etc/notes.txt", "no specification".to_owned()),
            ("etc/large.json", " ".repeat(LARGEST as usize + 1)),
            ("etc/sub/ignored.json", spec("v.com/c", "", &[("hidden", "X=1")])),
            ("etc/binary.json", "\u{0}\u{1}".to_owned()),
        ]);
        let etc = dir.path().join("etc");
        nix::unistd::mkfifo(&etc.join("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", etc.join("zero.json")).unwrap();
        let catalogue = Catalogue::read(std::slice::from_ref(&etc));
        assert_eq!(catalogue.names().collect::<Vec<_>>(), ["v.com/c=x"]);
        let wrong: Vec<_> = catalogue
            .problems()
            .iter()
            .map(|problem| problem.path.file_name().unwrap().to_str().unwrap())
            .collect();
        let expected = ["bad.yaml", "binary.json", "empty.json", "fifo.json", "invalid.json", "large.json"];
        assert_eq!(wrong, [&expected[..], &["zero.json"]].concat());
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
        fn only_plain_names_pass_the_check(
            kind in "[a/._é-]{0,5}|[a-c]/[a-c.]{1,3}",
            name in "[a0:._é=-]{0,4}",
            variable in "A=|[A=é]{0,3}",
        ) {
            let text = serde_json::json!({
                "cdiVersion": "1.0.0",
                "kind": kind,
                "devices": [{ "name": name, "containerEdits": { "env": [variable] } }],
            });
            let spec = SpecFile::parse(&text.to_string(), Encoding::Json).unwrap();
            if check::check(&spec).is_ok() {
                let is_plain = |text: &str| {
                    let ends = [text.chars().next(), text.chars().next_back()];
                    ends.iter().all(|end| end.is_some_and(|end| end.is_ascii_alphanumeric())) && text.is_ascii()
                };
                prop_assert!(is_plain(&name) && !name.contains(['=', '/']), "{}", name);
                prop_assert!(kind.split('/').count() == 2 && kind.split('/').all(is_plain), "{}", kind);
                prop_assert!(variable.find('=').is_some_and(|at| at > 0), "{}", variable);
            }
        }
    }
}
