//! `POST /commit`

use http::StatusCode;
use serde_json::json;

use super::load::name;
use crate::api::call::{Call, Outcome};
use crate::api::respond;
use crate::api::spec::params;
use crate::container::config::ContainerConfig;
use crate::engine::{CommitOptions, Pause};

/// `POST /commit`
pub async fn commit(mut call: Call<params::ImageCommit>) -> Outcome {
    let config: ContainerConfig = call.json_or_default().await?;
    let params::ImageCommit { author, changes, comment, container, pause, repo, tag } = call.params;
    let options = CommitOptions {
        container: container.unwrap_or_default(),
        name: name(&repo.unwrap_or_default(), &tag.unwrap_or_default())?,
        author: author.unwrap_or_default(),
        comment: comment.unwrap_or_default(),
        config: (config != ContainerConfig::default()).then_some(config),
        changes,
        pause: if pause { Pause::Yes } else { Pause::No },
    };
    let id = call.engine.commit(options).await?;
    Ok(respond::json(StatusCode::CREATED, &json!({ "Id": id.to_string() })))
}
