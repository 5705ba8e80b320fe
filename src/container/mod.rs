//! Containers: their records, their life, and what turns a record into a running process.

pub mod apparmor;
pub mod cdi;
pub mod checkpoints;
pub mod commit;
pub mod config;
pub mod create;
mod device_requests;
mod ending;
pub mod error;
pub mod exec;
mod execs;
pub mod files;
pub mod furnishing;
pub mod handle;
pub mod health;
pub mod host_config;
mod host_devices;
mod image_mounts;
mod launch;
pub mod lenient;
pub mod links;
mod mount_points;
mod mounts;
pub mod names;
pub mod oci_spec;
mod owner;
pub mod partners;
pub mod parts;
mod processes;
mod propagation;
pub mod published;
pub mod record;
pub mod registry;
mod removal;
mod report;
pub mod request;
pub mod seccomp;
mod shm;

mod spawn;
pub mod state;
pub mod stats;
pub mod storage;
pub mod subpaths;
mod teardown;
mod tmpfs_mode;
pub mod update;
pub mod users;
mod volumes;
mod volumes_from;
pub mod wait;
mod working_dir;

pub use error::{ContainerError, LookupError, NameError, StartFailure};
pub use handle::{Handle, RemoveOptions, StopOptions};
pub use image_mounts::{find as find_mounted_images, users as image_users};
pub use parts::Parts;
pub use processes::ProcessTable;
pub use published::Published;
pub use record::Record;
pub use registry::Containers;
pub use spawn::{create, recover};
pub use state::Volumes;
pub use teardown::lift_limit;
pub use volumes::{
    abandon as abandon_volumes, clear_scratch, hold as hold_volumes, prepare as prepare_volumes,
    settle as settle_volumes,
};
pub use volumes_from::{VolumesFromError, inherited};
pub use wait::{WaitCondition, WaitResult};
pub use working_dir::{WorkingDirError, check as check_working_dir};
