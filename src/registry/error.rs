//! What can go wrong with a registry.

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("failed to resolve reference {reference:?}: {reference}: not found")]
    NotFound { reference: String },
}
