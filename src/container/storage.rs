//! The files of a container: where they are, how they are written and read.
//!
//! `<data root>/containers/<id>/` holds `config.json` (the record: synced), `state.json` (each transition: renamed,
//! not synced), the writable layer, the log and the files for its `/etc`; `<exec root>/containers/<id>/` what
//! lives as long as its process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::published::Published;
use super::record::Record;
use super::state::State;
use crate::base::durable;
use crate::base::id::ContainerId;
use crate::network::Sandbox;

const RECORD: &str = "config.json";
const STATE: &str = "state.json";

/// Where the daemon keeps containers.
#[derive(Clone, Debug)]
pub struct Paths {
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
}

impl Paths {
    /// The directory of all containers' durable files.
    pub fn containers(&self) -> PathBuf {
        self.data_root.join("containers")
    }

    /// Where a new container's image is mounted while its volumes are filled: gone after a crash, as all that is
    /// being torn down.
    pub fn scratch(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(format!("{}fill-{id}", durable::GONE))
    }

    /// A container's durable files.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// Where a container's checkpoints are, unless a client wants one elsewhere.
    pub fn checkpoints(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("checkpoints")
    }

    /// The directory of all containers' run-time files.
    pub fn runs(&self) -> PathBuf {
        self.exec_root.join("containers")
    }

    /// What lives as long as a container's process: bundle, socket of the shim, exit record.
    pub fn run(&self, id: &ContainerId) -> PathBuf {
        self.runs().join(id.as_str())
    }

    /// The directory of all mounted root file systems: apart from what shims clean up, so that nothing that deletes a
    /// tree can ever meet a mounted root.
    pub fn roots(&self) -> PathBuf {
        self.exec_root.join("roots")
    }

    /// Where a container's root file system is mounted.
    pub fn rootfs(&self, id: &ContainerId) -> PathBuf {
        self.roots().join(id.as_str())
    }

    /// The directory of all `/dev/shm` that containers may share, apart as the roots are.
    pub fn shms(&self) -> PathBuf {
        self.exec_root.join("shm")
    }

    /// The directory of all parts of volumes that containers show, apart as the roots are.
    pub fn all_subpaths(&self) -> PathBuf {
        self.exec_root.join("subpaths")
    }

    /// Where the parts of volumes are mounted that a container shows.
    pub fn subpaths(&self, id: &ContainerId) -> PathBuf {
        self.all_subpaths().join(id.as_str())
    }

    /// The directory of all images that containers mount, apart as the roots are.
    pub fn all_image_mounts(&self) -> PathBuf {
        self.exec_root.join("images")
    }

    /// Where the images are mounted that a container shows.
    pub fn image_mounts(&self, id: &ContainerId) -> PathBuf {
        self.all_image_mounts().join(id.as_str())
    }

    /// Where a container's `/dev/shm` is mounted if others may share it.
    pub fn shm(&self, id: &ContainerId) -> PathBuf {
        self.shms().join(id.as_str())
    }
}

/// What is written at each transition.
#[derive(Serialize, Deserialize)]
struct StateFile {
    /// The machine's boot this was written in: processes and kernel objects of an earlier one are gone.
    boot_id: String,
    state: State,
    sandbox: Option<Sandbox>,
}

/// What is read back of a container.
pub struct Stored {
    pub record: Record,
    pub state: State,
    pub sandbox: Option<Sandbox>,
}

/// Writes the record of an existing container, durably.
pub async fn save_record(paths: &Paths, record: &Record) -> io::Result<()> {
    let path = paths.container(&record.id).join(RECORD);
    let content = serde_json::to_vec(record)?;
    tokio::task::spawn_blocking(move || durable::write_config(&path, &content)).await?
}

/// Writes the record into a directory that is being built.
pub fn write_record(dir: &Path, record: &Record) -> io::Result<()> {
    durable::write_config(&dir.join(RECORD), &serde_json::to_vec(record)?)
}

/// Writes the state of this instant; survives the daemon, not the machine.
pub fn save_state(paths: &Paths, id: &ContainerId, now: &Published) -> io::Result<()> {
    let file =
        StateFile { boot_id: boot_id(), state: now.state.clone(), sandbox: now.sandbox.as_deref().cloned() };
    durable::write_state(&paths.container(id).join(STATE), &serde_json::to_vec(&file)?)
}

/// Reads a container. A missing or unreadable state counts as "never ran"; one of an earlier boot keeps what was
/// remembered but has no process and no network any more.
pub fn load(dir: &Path) -> io::Result<Stored> {
    let record = serde_json::from_slice(&fs::read(dir.join(RECORD))?)?;
    let file: Option<StateFile> =
        fs::read(dir.join(STATE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(file) = file else {
        return Ok(Stored { record, state: State::default(), sandbox: None });
    };
    let sandbox = if file.boot_id == boot_id() { file.sandbox } else { None };
    Ok(Stored { record, state: file.state, sandbox })
}

/// The kernel's id of the running boot; empty where `/proc` does not tell.
fn boot_id() -> String {
    use std::sync::OnceLock;
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    })
    .clone()
}
