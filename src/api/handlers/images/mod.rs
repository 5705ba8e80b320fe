//! Operations of the tag Image.

mod commit;
mod create;
mod list;
mod load;
mod progress;

pub use commit::commit;
pub use create::create;
pub use list::{list, prune};
pub use load::load;

use http::StatusCode;

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::respond;
use crate::api::spec::params;
use crate::api::view;
use crate::base::json;
use crate::image::{ImageError, RemoveMode};
use crate::registry::{Platform, Reference};

/// `GET /images/{name}/json`
pub async fn inspect(call: Call<params::ImageInspect>) -> Outcome {
    let images = &call.engine.images;
    let (image, state) = match platform(call.params.platform.as_deref())? {
        Some(platform) => (images.resolve_for(&call.params.name, &platform)?, images.state()),
        None => (images.resolve(&call.params.name)?, images.state()),
    };
    let reply = view::image::inspect(&state, &image, call.version, call.params.manifests);
    Ok(respond::json(StatusCode::OK, &reply))
}

/// `GET /images/{name}/history`
pub async fn history(call: Call<params::ImageHistory>) -> Outcome {
    let images = &call.engine.images;
    let image = match platform(call.params.platform.as_deref())? {
        Some(platform) => images.resolve_for(&call.params.name, &platform)?,
        None => images.resolve(&call.params.name)?,
    };
    let reply = view::image::history(&images.state(), &image, images.snapshots());
    Ok(respond::json(StatusCode::OK, &reply))
}

/// `POST /images/{name}/tag`
pub async fn tag(call: Call<params::ImageTag>) -> Outcome {
    let repository: Reference =
        call.params.repo.as_deref().unwrap_or_default().parse().map_err(ImageError::from)?;
    if repository.digest().is_some() {
        return Err(ImageError::TagWithDigest.into());
    }
    let name = match call.params.tag.as_deref().filter(|tag| !tag.is_empty()) {
        Some(tag) => repository.with_tag(tag).map_err(ImageError::from)?,
        None => repository.or_latest(),
    };
    let (engine, source) = (call.engine.clone(), call.params.name);
    blocking(move || engine.images.tag(&source, &name)).await?;
    Ok(respond::empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`
pub async fn delete(call: Call<params::ImageDelete>) -> Outcome {
    let mode = if call.params.force { RemoveMode::Forced } else { RemoveMode::Careful };
    let (engine, name) = (call.engine.clone(), call.params.name);
    let removed =
        blocking(move || engine.images.remove(&name, mode, &|image| engine.image_users(image))).await?;
    Ok(respond::json(StatusCode::OK, &view::image::removed(&removed)))
}

/// Runs what blocks on the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ApiError> {
    let result = tokio::task::spawn_blocking(work).await.map_err(|_| ImageError::Worker)?;
    Ok(result?)
}

/// A platform as these operations take it: JSON of an OCI platform. The CLI's own form is let through as well.
fn platform(text: Option<&str>) -> Result<Option<Platform>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let read = match text.starts_with('{') {
        true => {
            json::from_slice(text.as_bytes()).map_err(|_| ApiError::invalid("failed to parse platform"))?
        }
        false => text.parse::<Platform>().map_err(ImageError::from)?,
    };
    if read.os.is_empty() || read.architecture.is_empty() {
        return Err(ApiError::invalid("both OS and Architecture must be provided"));
    }
    Ok(Some(read))
}
