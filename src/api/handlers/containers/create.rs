//! `POST /containers/create`

use http::StatusCode;
use serde_json::json;

use crate::api::adapt;
use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::respond;
use crate::api::spec::params;
use crate::container::create::CreateBody;
use crate::engine::CreateRequest;

/// `POST /containers/create`
pub async fn create(mut call: Call<params::ContainerCreate>) -> Outcome {
    let mut body: CreateBody = call.json().await?;
    let cgroups = call.engine.host.cgroups.version;
    let mut warnings = adapt::create(&mut body, call.version, cgroups)?;
    let platform = call.params.platform.as_deref().map(str::parse).transpose();
    let request = CreateRequest {
        name: call.params.name.as_deref().map(|name| name.trim_start_matches('/').to_owned()),
        platform: platform.map_err(|error: crate::registry::platform::InvalidPlatform| {
            ApiError::invalid(error.to_string())
        })?,
        body,
    };
    let created = call.engine.create_container(request).await?;
    warnings.extend(created.warnings);
    Ok(respond::json(StatusCode::CREATED, &json!({ "Id": created.id, "Warnings": warnings })))
}
