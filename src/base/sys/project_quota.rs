//! Project quotas: directories whose files count together against one limit (xfs_quota(8), quotactl(2)).
//!
//! XFS and ext4 share the interface: ioctls put a directory into a project, which what is made in it inherits, and
//! the XFS commands of quotactl(2) limit the project.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// `PRJQUOTA` (linux/quota.h).
const PROJECTS: i32 = 2;
/// Commands (linux/dqblk_xfs.h), of which the next one's is that of Linux 4.6.
const SET_LIMIT: i32 = XFS | 4;
const GET_STATE: i32 = XFS | 5;
const GET_NEXT: i32 = XFS | 9;
const XFS: i32 = (b'X' as i32) << 8;
/// `FS_QUOTA_PDQ_ACCT` and `FS_QUOTA_PDQ_ENFD`: projects are counted, and their limits hold.
const COUNTED_AND_LIMITED: u16 = 1 << 4 | 1 << 5;
/// `FS_DQUOT_VERSION`, `FS_PROJ_QUOTA`, `FS_DQ_BSOFT | FS_DQ_BHARD`.
const VERSION: i8 = 1;
const OF_A_PROJECT: i8 = 2;
const BLOCKS: u16 = 1 << 2 | 1 << 3;
/// The unit of limits in bytes.
const BLOCK: u64 = 512;
/// More than any file system holds; ext4 takes no larger limit.
const MOST: u64 = i64::MAX as u64 / BLOCK;
/// `FS_XFLAG_PROJINHERIT` (linux/fs.h): what is made in the directory is of its project.
const INHERIT: u32 = 0x200;

/// `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    pad: [u8; 8],
}

nix::ioctl_read!(get_attributes, b'X', 31, Attributes);
nix::ioctl_write_ptr!(set_attributes, b'X', 32, Attributes);

/// `struct fs_disk_quota` (linux/dqblk_xfs.h).
#[repr(C)]
#[derive(Default)]
struct Quota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    hard_blocks: u64,
    soft_blocks: u64,
    /// Limits and counts of files, times and warnings, and those of the realtime volume.
    rest: [u64; 11],
}

/// `struct fs_quota_stat` (linux/dqblk_xfs.h).
#[repr(C)]
#[derive(Default)]
struct QuotaState {
    version: i8,
    flags: u16,
    rest: [u64; 9],
}

/// A directory of a file system that may have project quotas.
#[derive(Debug)]
pub struct ProjectDir(File);

impl ProjectDir {
    /// Opens a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        Ok(Self(File::options().read(true).custom_flags(flags).open(path)?))
    }

    /// Whether its file system counts what projects take and holds them to their limits.
    pub fn can_limit(&self) -> bool {
        let mut state = QuotaState { version: VERSION, ..QuotaState::default() };
        let asked = self.control(GET_STATE, 0, &mut state);
        asked.is_ok() && state.flags & COUNTED_AND_LIMITED == COUNTED_AND_LIMITED && self.project().is_ok()
    }

    /// The project it is in; 0 is none.
    pub fn project(&self) -> io::Result<u32> {
        Ok(self.attributes()?.project)
    }

    /// Puts it into a project, with all that is made in it from now on.
    pub fn set_project(&self, project: u32) -> io::Result<()> {
        let attributes = self.attributes()?;
        let attributes = Attributes { project, flags: attributes.flags | INHERIT, ..attributes };
        // SAFETY: the descriptor is open, and the kernel only reads the structure, which is its own (linux/fs.h).
        unsafe { set_attributes(self.0.as_raw_fd(), &attributes) }?;
        Ok(())
    }

    /// Limits what a project takes on this file system, in bytes; 0 is no limit. The unit is 512 bytes.
    pub fn limit(&self, project: u32, bytes: u64) -> io::Result<()> {
        let blocks = bytes.div_ceil(BLOCK).min(MOST);
        let mut quota = Quota {
            version: VERSION,
            flags: OF_A_PROJECT,
            fields: BLOCKS,
            id: project,
            hard_blocks: blocks,
            soft_blocks: blocks,
            ..Quota::default()
        };
        self.control(SET_LIMIT, project, &mut quota)
    }

    /// The first project from `project` on that neither has files on this file system nor a limit.
    pub fn first_free(&self, mut project: u32) -> io::Result<u32> {
        loop {
            let mut quota = Quota::default();
            match self.control(GET_NEXT, project, &mut quota) {
                Ok(()) if quota.id == project => project = project.checked_add(1).ok_or_else(none_left)?,
                Ok(()) => return Ok(project),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(project),
                Err(error) => return Err(error),
            }
        }
    }

    fn attributes(&self) -> io::Result<Attributes> {
        let mut attributes = Attributes::default();
        // SAFETY: the descriptor is open, and the kernel fills in the structure, which is its own (linux/fs.h).
        unsafe { get_attributes(self.0.as_raw_fd(), &mut attributes) }?;
        Ok(attributes)
    }

    /// quotactl(2). Kernels before 5.14 know no file systems by descriptor: there it is the block device that names
    /// one, by the link to it that udev makes.
    fn control<T>(&self, command: i32, project: u32, data: &mut T) -> io::Result<()> {
        let command = command << 8 | PROJECTS;
        // SAFETY: the descriptor is open; `data` is of the command's type (linux/dqblk_xfs.h).
        let done = unsafe {
            libc::syscall(libc::SYS_quotactl_fd, self.0.as_raw_fd(), command, project, &raw mut *data)
        };
        match succeeded(done) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                self.control_device(command, project, data).map_err(|_| error)
            }
            other => other,
        }
    }

    fn control_device<T>(&self, command: i32, project: u32, data: &mut T) -> io::Result<()> {
        let device = self.0.metadata()?.dev();
        let device = CString::new(format!("/dev/block/{}:{}", libc::major(device), libc::minor(device)))?;
        // SAFETY: as above, and the path is a C string that lives as long as the call.
        let done =
            unsafe { libc::syscall(libc::SYS_quotactl, command, device.as_ptr(), project, &raw mut *data) };
        succeeded(done)
    }
}

fn succeeded(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn none_left() -> io::Error {
    io::Error::other("every project of the file system is in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernel_s() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<Quota>(), 112);
        assert_eq!(size_of::<QuotaState>(), 80);
    }

    #[test]
    fn a_file_system_without_project_quotas_limits_nothing() {
        let proc = ProjectDir::open(Path::new("/proc")).unwrap();
        assert!(!proc.can_limit());
        assert!(proc.limit(7, 1 << 20).is_err());
        assert!(proc.first_free(1).is_err());
        assert!(ProjectDir::open(Path::new("/proc/self")).is_err());
    }
}
