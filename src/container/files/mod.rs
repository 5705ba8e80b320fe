//! A container's files for those outside of it: copying out and in, exporting, telling what changed. Running or not.
//!
//! Nothing of the container is executed, and no path of it is ever resolved by its name on the host: every look-up
//! starts at a handle on the container's root and stays below ([`view`]).

mod changes;
mod error;
mod extract;
mod find;
mod view;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use changes::is_left_behind;
pub use error::FilesError;
pub use extract::{ExtractRequest, Ownership};
pub use find::PathStat;
pub use view::View;

use super::handle::Handle;
use super::parts::Parts;
use super::report::Reporter;
use super::state::Phase;
use crate::snapshot::{Marks, pack, pack_object};
use view::{Extent, Purpose};

/// Something of a container that is about to be archived. Holds the container's files in place.
pub struct Archive {
    view: View,
    object: OwnedFd,
    name: Vec<u8>,
}

/// A container's root that is about to be archived.
pub struct Export(View);

impl Handle {
    /// What a path of the container stands for. `term` is how the client calls the container.
    pub async fn stat_path(
        &self,
        parts: &Arc<Parts>,
        path: String,
        term: String,
    ) -> Result<PathStat, FilesError> {
        let view = self.view(parts, Purpose::Read, Extent::Everything).await?;
        blocking(move || Ok(view.find(&path, &term)?.stat)).await
    }

    /// Finds what is to be archived, with its description.
    pub async fn archive_path(
        &self,
        parts: &Arc<Parts>,
        path: String,
        term: String,
    ) -> Result<(PathStat, Archive), FilesError> {
        let view = self.view(parts, Purpose::Read, Extent::Everything).await?;
        let found = blocking(move || {
            let found = view.find(&path, &term)?;
            let name = found.stat.name.clone().into_bytes();
            Ok((found.stat, Archive { view, object: found.object, name }))
        });
        let found = found.await?;
        self.report(parts, "archive-path");
        Ok(found)
    }

    /// Makes ready to archive the container's root without what is mounted over it.
    pub async fn export(&self, parts: &Arc<Parts>) -> Result<Export, FilesError> {
        self.expect_present("export")?;
        let view = self.view(parts, Purpose::Read, Extent::RootOnly).await?;
        self.report(parts, "export");
        Ok(Export(view))
    }

    /// Refuses for a container that is being taken apart.
    pub fn expect_present(&self, doing: &'static str) -> Result<(), FilesError> {
        let phase = match self.snapshot().state.phase {
            Phase::Dead => "Dead",
            Phase::Removing => "being removed",
            _ => return Ok(()),
        };
        Err(FilesError::Busy { doing, id: self.id().clone(), phase })
    }

    /// Tells that it has become an image.
    pub fn report_commit(&self, parts: &Parts, comment: String, image: String, reference: String) {
        let record = &self.snapshot().record;
        let attributes = [("comment", comment), ("imageID", image), ("imageRef", reference)];
        Reporter { events: &parts.events, record }.with("commit", attributes);
    }

    fn report(&self, parts: &Parts, action: &'static str) {
        Reporter { events: &parts.events, record: &self.snapshot().record }.plain(action);
    }
}

impl Archive {
    /// Writes the archive. Blocks.
    pub fn write_to<W: Write>(self, sink: W) -> Result<W, FilesError> {
        let written = pack_object(&self.object, &self.name, self.view.root().ids(), sink)?;
        drop(self.view);
        Ok(written)
    }
}

impl Export {
    /// Writes the archive. Blocks.
    pub fn write_to<W: Write>(self, sink: W) -> Result<W, FilesError> {
        let root = self.0.root().dir("/".as_ref())?;
        Ok(pack(&root, Marks::Plain, self.0.root().ids(), |_, _| false, sink)?)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, FilesError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| FilesError::Worker)?
}
