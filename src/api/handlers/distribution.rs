//! Operations of the tag Distribution.

use http::StatusCode;
use serde_json::json;

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::respond;
use crate::api::spec::params;
use crate::image::ImageError;
use crate::registry::{AnyReference, Credentials};

/// `GET /distribution/{name}/json`
pub async fn inspect(call: Call<params::DistributionInspect>) -> Outcome {
    let name: AnyReference = call.params.name.parse().map_err(ImageError::from)?;
    let AnyReference::Named(reference) = name else {
        return Err(ApiError::invalid(format!("unknown image reference format: {}", call.params.name)));
    };
    // Credentials that cannot be read are none: dockerd does not mind either.
    let credentials = call.registry_auth().map(Credentials::from).unwrap_or_default();
    let remote = call.engine.images.remote(&reference.or_latest(), credentials).await?;
    Ok(respond::json(
        StatusCode::OK,
        &json!({ "Descriptor": remote.descriptor, "Platforms": remote.platforms }),
    ))
}
