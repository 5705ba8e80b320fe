//! `POST /containers/{id}/wait`

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use serde_json::json;

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::respond;
use crate::api::spec::params;
use crate::api::versions::{ApiVersion, Feature};
use crate::container::{WaitCondition, WaitResult};

/// `POST /containers/{id}/wait`
pub async fn wait(call: Call<params::ContainerWait>) -> Outcome {
    let version = call.version;
    let condition = condition(&call.params.condition, version)?;
    let waiter = call.engine.containers.resolve(&call.params.id)?.waiter(condition);
    if !version.has(Feature::WaitCondition) {
        return Ok(respond::bytes(StatusCode::OK, "application/json", reply(waiter.wait().await, version)));
    }
    // `docker run` starts the container only when these headers have come: they go out before the body is known.
    let body = stream::once(async move { Ok::<_, Infallible>(reply(waiter.wait().await, version)) });
    Ok(respond::raw_stream("application/json", body))
}

fn condition(text: &str, version: ApiVersion) -> Result<WaitCondition, ApiError> {
    match text {
        "not-running" => Ok(WaitCondition::NotRunning),
        "next-exit" => Ok(WaitCondition::NextExit),
        "removed" => Ok(WaitCondition::Removed),
        _ if !version.has(Feature::StrictWaitCondition) => Ok(WaitCondition::NotRunning),
        other => Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
    }
}

fn reply(result: WaitResult, version: ApiVersion) -> Bytes {
    let mut reply = json!({ "StatusCode": result.exit_code });
    match result.error {
        // Older clients learn of a failed removal only by an empty answer.
        Some(_) if !version.has(Feature::WaitRemovalError) => return Bytes::new(),
        Some(error) => reply["Error"] = json!({ "Message": error }),
        None => {}
    }
    format!("{reply}\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_checked_from_1_42_on() {
        assert_eq!(condition("removed", ApiVersion::NEWEST), Ok(WaitCondition::Removed));
        assert_eq!(condition("x", ApiVersion::NEWEST).unwrap_err().message, "invalid condition: \"x\"");
        assert_eq!(condition("x", ApiVersion::of_minor(41)), Ok(WaitCondition::NotRunning));
    }

    #[test]
    fn a_failed_removal_is_told_from_1_34_on() {
        let failed = WaitResult { exit_code: 1, error: Some("busy".to_owned()) };
        assert_eq!(reply(failed.clone(), ApiVersion::of_minor(33)), "");
        let told = reply(failed, ApiVersion::of_minor(34));
        assert_eq!(told, "{\"Error\":{\"Message\":\"busy\"},\"StatusCode\":1}\n");
    }
}
