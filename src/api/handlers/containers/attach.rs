//! Connecting a client to a container's streams, over its own socket or in WebSocket frames.

use std::sync::Arc;

use http::StatusCode;
use tokio::net::UnixStream;

use crate::api::call::{Call, Framing, Outcome};
use crate::api::error::ApiError;
use crate::api::hijack::{ClientSocket, HijackError};
use crate::api::spec::params;
use crate::api::versions::Feature;
use crate::api::view::log::Style;
use crate::api::websocket::{self, Kind};
use crate::api::{detach_keys, respond};
use crate::container::state::Phase;
use crate::container::{Handle, Published};
use crate::engine::Engine;
use crate::runtime::Attachment;
use crate::runtime::protocol::{self, Streams};

/// `POST /containers/{id}/attach`
pub async fn attach(call: Call<params::ContainerAttach>) -> Outcome {
    let params::ContainerAttach { logs, stream, stdin, stdout, stderr, .. } = call.params;
    let (handle, now) = attachable(&call.engine, &call.params.id)?;
    let keys = detach_keys::parse(call.params.detach_keys.as_deref())?;
    let framing = if now.record.config.tty { Framing::Raw } else { Framing::Multiplexed };
    let wanted = Wanted { logs, stream, stdin, stdout, stderr, keys, framing };
    let attaching = handle.attaching().await;
    let client = call.hijack(framing).await?;
    serve(&call.engine, &handle, &now, wanted, client).await;
    drop(attaching);
    Ok(respond::empty(StatusCode::OK))
}

/// `GET /containers/{id}/attach/ws`
pub async fn attach_websocket(call: Call<params::ContainerAttachWebsocket>) -> Outcome {
    let params::ContainerAttachWebsocket { logs, stream, stdin, stdout, stderr, .. } = call.params;
    let (handle, now) = attachable(&call.engine, &call.params.id)?;
    let keys = detach_keys::parse(call.params.detach_keys.as_deref())?;
    let head = websocket::accept(&call.headers)?;
    let all = !call.version.has(Feature::WebSocketStreams);
    let kind = if call.version.has(Feature::WebSocketBinary) { Kind::Binary } else { Kind::Text };
    // Frames of the one protocol are enough: there are none of the other inside them.
    let framing = Framing::Raw;
    let wanted = Wanted {
        stdin: stdin || all,
        stdout: stdout || all,
        stderr: stderr || all,
        ..Wanted { logs, stream, stdin, stdout, stderr, keys, framing }
    };
    let attaching = handle.attaching().await;
    let (ours, theirs) = UnixStream::pair().map_err(HijackError::from)?;
    let socket = theirs.into_std().map_err(HijackError::from)?.into();
    let taken = call.upgrade(head).await?;
    let carrying = tokio::spawn(websocket::carry(taken, ours, kind));
    serve(&call.engine, &handle, &now, wanted, ClientSocket { socket, buffered: Vec::new() }).await;
    drop(attaching);
    // The end of the stream is carried over; a panic in there has been reported.
    let _ = carrying.await;
    Ok(respond::empty(StatusCode::OK))
}

/// What a client is to be connected to, and how.
struct Wanted {
    logs: bool,
    stream: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    keys: Vec<u8>,
    framing: Framing,
}

fn attachable(engine: &Engine, term: &str) -> Result<(Handle, Arc<Published>), ApiError> {
    let handle = engine.containers.resolve(term)?;
    let now = handle.snapshot();
    refuse(&now)?;
    Ok((handle, now))
}

/// The log, if asked for, then the streams. The client has been answered.
async fn serve(engine: &Engine, handle: &Handle, now: &Published, wanted: Wanted, client: ClientSocket) {
    let Wanted { logs, stream, stdin, stdout, stderr, keys, framing } = wanted;
    handle.report_attach(engine.parts());
    if logs {
        let style = Style { framing, timestamps: false, details: false, stdout, stderr };
        super::query::replay(engine, now, style, &client.socket).await;
    }
    if !stream {
        return;
    }
    let config = &now.record.config;
    let streams = Streams {
        stdin: stdin && config.open_stdin,
        stdout,
        stderr,
        framing: wire_framing(framing),
        detach_keys: if config.tty { keys } else { Vec::new() },
        buffered: client.buffered,
    };
    connect(handle, Attachment { streams, client: client.socket }).await;
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
