//! Giving a container another name.

use super::Engine;
use crate::container::{ContainerError, NameError, names};

impl Engine {
    /// Renames the container that `term` stands for. The new name is taken before the old one is given back, so that
    /// no other container can come between.
    pub async fn rename_container(&self, term: &str, name: &str) -> Result<(), ContainerError> {
        if term.is_empty() || name.is_empty() {
            return Err(NameError::Empty.into());
        }
        let new = name.strip_prefix('/').unwrap_or(name);
        let handle = self.containers.resolve(term)?;
        let refused = |source| ContainerError::NewName { source };
        names::check(&format!("/{new}")).map_err(refused)?;
        let old = handle.snapshot().record.plain_name().to_owned();
        if old == new {
            return Err(NameError::Unchanged.into());
        }
        self.containers.reserve_name(new, handle.id()).map_err(refused)?;
        let renamed = handle.rename(new.to_owned()).await;
        let given_back = if renamed.is_ok() { &old } else { new };
        self.containers.release_name(given_back, handle.id());
        renamed
    }
}
