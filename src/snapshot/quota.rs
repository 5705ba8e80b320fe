//! Limits of what containers write, by project quotas: a container's own directories are a project of the file system.
//!
//! Nothing is written down: the directories know their project, the kernel which projects are in use. A container
//! reaches its upper directory, and may give it another project; so it is the working directory that is believed.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::Writable;
use crate::base::sys::project_quota::ProjectDir;

/// Whether the file system of `dir` limits what a directory takes.
pub fn can_limit(dir: &Path) -> bool {
    ProjectDir::open(dir).is_ok_and(|dir| dir.can_limit())
}

/// Takes the limit of a container's directories away, once nothing has them mounted; none is fine. What is in them
/// counts until it is deleted, and only then another container can have their project.
pub fn lift_limit(writable: &Writable) -> io::Result<()> {
    let work = match ProjectDir::open(&writable.work) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    match own_project(&work, writable)? {
        Some(project) => work.limit(project, 0),
        None => Ok(()),
    }
}

/// The next project to try, of those of one file system.
#[derive(Debug, Default)]
pub(super) struct Projects(Mutex<u32>);

impl Projects {
    /// Puts both directories, empty or in a project of their own before, into one project, without a limit as yet:
    /// of a container that has used up its own no overlay could be mounted but a read-only one, since the kernel
    /// makes a directory first.
    pub(super) fn join(&self, writable: &Writable) -> io::Result<Project> {
        let (work, upper) = (ProjectDir::open(&writable.work)?, ProjectDir::open(&writable.upper)?);
        let id = match own_project(&work, writable)? {
            Some(project) => project,
            None => self.join_new(&work, project_around(writable)?)?,
        };
        work.limit(id, 0)?;
        upper.set_project(id)?;
        Ok(Project { work, id })
    }

    /// Puts a directory into a project that nothing else is in, above that of its surroundings, as dockerd does.
    fn join_new(&self, dir: &ProjectDir, around: u32) -> io::Result<u32> {
        // Held until the directory is in the project: from then on the kernel says that it is in use.
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let project = dir.first_free((*next).max(around.saturating_add(1)))?;
        dir.set_project(project)?;
        *next = project.saturating_add(1);
        Ok(project)
    }
}

/// A container's own project.
#[derive(Debug)]
pub(super) struct Project {
    work: ProjectDir,
    id: u32,
}

impl Project {
    /// Limits what its files take, in bytes.
    pub(super) fn limit(&self, bytes: u64) -> io::Result<()> {
        self.work.limit(self.id, bytes)
    }
}

/// The project that is the container's alone, if it has one: an administrator may have put the whole data root into
/// a project, which its directories inherit.
fn own_project(work: &ProjectDir, writable: &Writable) -> io::Result<Option<u32>> {
    match work.project() {
        Ok(0) => Ok(None),
        Ok(project) => Ok((project != project_around(writable)?).then_some(project)),
        // A file system without projects.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn project_around(writable: &Writable) -> io::Result<u32> {
    let parent = writable.work.parent().ok_or_else(|| io::Error::other("a directory without a parent"))?;
    ProjectDir::open(parent)?.project()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_project_quotas_nothing_is_limited_and_nothing_to_lift() {
        // This file system has none, whatever the temporary directory's has.
        assert!(!can_limit(Path::new("/proc")));
        let dir = tempfile::tempdir().unwrap();
        let writable = Writable { upper: dir.path().join("upper"), work: dir.path().join("work") };
        lift_limit(&writable).unwrap();
        std::fs::create_dir(&writable.work).unwrap();
        lift_limit(&writable).unwrap();
    }
}
