//! `POST /images/load`, and the importing half of `POST /images/create`: archives in the body.

use super::progress;
use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::spec::params;
use crate::image::archive::LoadOptions;
use crate::image::import::ImportRequest;
use crate::image::{ImageError, Progress};
use crate::registry::{Platform, Reference};

/// `POST /images/load`
pub async fn load(mut call: Call<params::ImageLoad>) -> Outcome {
    if call.params.platform.len() > 1 {
        return Err(ApiError::invalid("loading several platforms at once is not supported"));
    }
    let options =
        LoadOptions { platform: super::platform(call.params.platform.first().map(String::as_str))? };
    let mut archive = call.body_reader().await;
    let engine = call.engine.clone();
    progress::stream_with_failures(move |report| async move {
        super::blocking(move || {
            let mut tell = |message| drop(report.blocking_send(message));
            engine.images.load(&mut archive, &options, &mut tell).map(drop)
        })
        .await
    })
    .await
}

/// `POST /images/create?fromSrc=-`
pub async fn import(mut call: Call<params::ImageCreate>, platform: Option<Platform>) -> Outcome {
    let source = call.params.from_src.as_deref().unwrap_or_default();
    if source != "-" {
        return Err(ApiError::invalid(format!(
            "importing from {source:?} is not supported: send the archive itself"
        )));
    }
    let request = ImportRequest {
        name: name(
            call.params.repo.as_deref().unwrap_or_default(),
            call.params.tag.as_deref().unwrap_or_default(),
        )?,
        message: call.params.message.clone().unwrap_or_default(),
        changes: call.params.changes.clone(),
        platform: platform.unwrap_or_else(Platform::host),
    };
    let mut archive = call.body_reader().await;
    let engine = call.engine.clone();
    progress::stream(move |report| async move {
        super::blocking(move || {
            let id = engine.images.import(&mut archive, &request)?;
            drop(report.blocking_send(Progress::status(id.to_string())));
            Ok(())
        })
        .await
    })
    .await
}

pub(super) fn name(repository: &str, tag: &str) -> Result<Option<Reference>, ApiError> {
    if repository.is_empty() {
        return Ok(None);
    }
    let name: Reference = repository.parse().map_err(ImageError::from)?;
    if name.digest().is_some() {
        return Err(ApiError::invalid("cannot import digest reference"));
    }
    let name = if tag.is_empty() { name } else { name.with_tag(tag).map_err(ImageError::from)? };
    Ok(Some(name.or_latest()))
}
