//! Registries: names of images, documents that describe them, and the HTTP protocol that hands them out
//! (OCI distribution-spec). Stores nothing; knows no local image.

mod error;
pub mod manifest;
pub mod platform;
pub mod reference;

pub use error::RegistryError;
pub use platform::Platform;
pub use reference::{AnyReference, InvalidReference, Reference};
