//! Operations of the tag Plugin. No plugin can be installed yet, so the list is empty and every name unknown.

use http::StatusCode;

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::respond;
use crate::api::spec::params;

/// `GET /plugins`
pub async fn list(call: Call<params::PluginList>) -> Outcome {
    call.params.filters.allow(&["enabled", "capability"])?;
    call.params.filters.boolean("enabled")?;
    Ok(respond::json(StatusCode::OK, &[(); 0]))
}

/// `GET /plugins/{name}/json`
pub async fn inspect(call: Call<params::PluginInspect>) -> Outcome {
    Err(unknown(&call.params.name))
}

/// `DELETE /plugins/{name}`
pub async fn delete(call: Call<params::PluginDelete>) -> Outcome {
    Err(unknown(&call.params.name))
}

/// `POST /plugins/{name}/enable`
pub async fn enable(call: Call<params::PluginEnable>) -> Outcome {
    Err(unknown(&call.params.name))
}

/// `POST /plugins/{name}/disable`
pub async fn disable(call: Call<params::PluginDisable>) -> Outcome {
    Err(unknown(&call.params.name))
}

/// `POST /plugins/{name}/push`
pub async fn push(call: Call<params::PluginPush>) -> Outcome {
    Err(unknown(&call.params.name))
}

/// `POST /plugins/{name}/set`
pub async fn set(call: Call<params::PluginSet>) -> Outcome {
    Err(unknown(&call.params.name))
}

/// `POST /plugins/{name}/upgrade`
pub async fn upgrade(call: Call<params::PluginUpgrade>) -> Outcome {
    Err(unknown(&call.params.name))
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("plugin \"{name}\" not found"))
}
