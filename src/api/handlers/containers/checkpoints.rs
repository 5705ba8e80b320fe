//! Checkpoints of containers.

use std::path::PathBuf;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::call::{Call, Outcome};
use crate::api::respond;
use crate::api::spec::params;
use crate::container::checkpoints::{self, Wanted};
use crate::runtime::Afterwards;

/// The body of `POST /containers/{id}/checkpoints`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct CreateBody {
    #[serde(rename = "CheckpointID")]
    name: Option<String>,
    #[serde(rename = "CheckpointDir")]
    dir: Option<String>,
    #[serde(rename = "Exit")]
    exit: Option<bool>,
}

/// `POST /containers/{id}/checkpoints`
pub async fn create_checkpoint(mut call: Call<params::CheckpointCreate>) -> Outcome {
    let body: CreateBody = call.json_or_default().await?;
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let afterwards = if body.exit == Some(true) { Afterwards::End } else { Afterwards::GoOn };
    let wanted = wanted(&call.params.id, body.name.unwrap_or_default(), body.dir);
    handle.checkpoint(call.engine.parts(), &wanted, afterwards).await?;
    Ok(respond::empty(StatusCode::CREATED))
}

/// `GET /containers/{id}/checkpoints`
pub async fn list_checkpoints(call: Call<params::CheckpointList>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let dir = given(call.params.dir).unwrap_or_else(|| call.engine.parts().paths.checkpoints(handle.id()));
    let names = checkpoints::list(dir).await?;
    let list: Vec<Value> = names.into_iter().map(|name| json!({ "Name": name })).collect();
    Ok(respond::json(StatusCode::OK, &list))
}

/// `DELETE /containers/{id}/checkpoints/{checkpoint}`
pub async fn delete_checkpoint(call: Call<params::CheckpointDelete>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let wanted = wanted(&call.params.id, call.params.checkpoint, call.params.dir);
    handle.remove_checkpoint(call.engine.parts(), &wanted).await?;
    Ok(respond::no_content())
}

fn wanted(term: &str, name: String, dir: Option<String>) -> Wanted {
    Wanted { term: term.to_owned(), name, dir: given(dir) }
}

fn given(dir: Option<String>) -> Option<PathBuf> {
    dir.filter(|dir| !dir.is_empty()).map(PathBuf::from)
}
