//! `POST /containers/{id}/attach`

use http::StatusCode;

use crate::api::call::{Call, Framing, Outcome};
use crate::api::error::ApiError;
use crate::api::spec::params;
use crate::api::view::log::Style;
use crate::api::{detach_keys, respond};
use crate::container::state::Phase;
use crate::container::{Handle, Published};
use crate::runtime::Attachment;
use crate::runtime::protocol::{self, Streams};

/// `POST /containers/{id}/attach`
pub async fn attach(call: Call<params::ContainerAttach>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let now = handle.snapshot();
    refuse(&now)?;
    let tty = now.record.config.tty;
    let keys = detach_keys::parse(call.params.detach_keys.as_deref())?;
    let framing = if tty { Framing::Raw } else { Framing::Multiplexed };
    let attaching = handle.attaching().await;
    let client = call.hijack(framing).await?;
    handle.report_attach(call.engine.parts());
    if call.params.logs {
        let params::ContainerAttach { stdout, stderr, .. } = call.params;
        let style = Style { framing, timestamps: false, details: false, stdout, stderr };
        super::query::replay(&call.engine, &now, style, &client.socket).await;
    }
    if !call.params.stream {
        return Ok(respond::empty(StatusCode::OK));
    }
    let streams = Streams {
        stdin: call.params.stdin && now.record.config.open_stdin,
        stdout: call.params.stdout,
        stderr: call.params.stderr,
        framing: wire_framing(framing),
        detach_keys: if tty { keys } else { Vec::new() },
        buffered: client.buffered,
    };
    connect(&handle, Attachment { streams, client: client.socket }).await;
    drop(attaching);
    Ok(respond::empty(StatusCode::OK))
}

/// The answer has been sent: a failure is only for the log, and the client sees its connection closed.
async fn connect(handle: &Handle, attachment: Attachment) {
    if let Err(error) = handle.attach(attachment).await {
        tracing::warn!(container = %handle.id(), %error, "a client could not be attached");
    }
}

fn refuse(now: &Published) -> Result<(), ApiError> {
    let id = &now.record.id;
    match now.state.phase {
        Phase::Paused => {
            Err(ApiError::conflict(format!("container {id} is paused, unpause the container before attach")))
        }
        Phase::Restarting => Err(ApiError::conflict(format!(
            "container {id} is restarting, wait until the container is running"
        ))),
        Phase::Created | Phase::Starting | Phase::Running | Phase::Exited | Phase::Removing | Phase::Dead => {
            Ok(())
        }
    }
}

/// The shim's word for it.
pub fn wire_framing(framing: Framing) -> protocol::Framing {
    match framing {
        Framing::Raw => protocol::Framing::Raw,
        Framing::Multiplexed => protocol::Framing::Multiplexed,
    }
}
