//! Operations of the tag Exec.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::containers::{size, wire_framing};
use crate::api::call::{Call, Framing, Outcome};
use crate::api::spec::params;
use crate::api::versions::Feature;
use crate::api::{detach_keys, respond};
use crate::base::sys::socket;
use crate::container::exec::{Exec, ExecConfig, ExecPhase};
use crate::container::{ContainerError, Handle};
use crate::engine::Engine;
use crate::logs::frame::{self, Channel};
use crate::runtime::{Attachment, ExecOutput, ShimError, Size, Streams};

/// `POST /containers/{id}/exec`
pub async fn create(mut call: Call<params::ContainerExec>) -> Outcome {
    let mut config: ExecConfig = call.json().await?;
    if !call.version.has(Feature::ConsoleSize) {
        config.console_size = None;
    }
    detach_keys::parse(Some(&config.detach_keys))?;
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let exec = handle.add_exec(call.engine.parts(), config)?;
    Ok(respond::json(StatusCode::CREATED, &json!({ "Id": exec.id })))
}

/// Body of `POST /exec/{id}/start`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct StartRequest {
    detach: Option<bool>,
    /// Whether the client wants the output as it is. What the exec itself has does not count, as for dockerd.
    tty: Option<bool>,
    console_size: Option<[u16; 2]>,
}

/// `POST /exec/{id}/start`
pub async fn start(mut call: Call<params::ExecStart>) -> Outcome {
    let request: StartRequest = call.json_or_default().await?;
    let engine = call.engine.clone();
    let (handle, exec) = engine.containers.exec(&call.params.id)?;
    let keys = detach_keys::parse(Some(&exec.config.detach_keys))?;
    handle.check_exec(&exec)?;
    let raw = request.tty.unwrap_or_default();
    let console = request.console_size.filter(|_| raw && call.version.has(Feature::ConsoleSize));
    let console = console.or(exec.config.console_size).map(|[rows, columns]| Size { rows, columns });
    if request.detach.unwrap_or_default() {
        handle.run_exec(engine.parts(), &exec, ExecOutput::Nowhere, console).await?;
        return Ok(respond::empty(StatusCode::OK));
    }
    let framing = if raw { Framing::Raw } else { Framing::Multiplexed };
    let client = match call.hijack(framing).await {
        Ok(client) => client,
        Err(error) => {
            exec.ended(GONE);
            return Err(error);
        }
    };
    let config = &exec.config;
    let streams = Streams {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        // Without frames it could not be told from standard output, and is dropped.
        stderr: config.attach_stderr && !raw,
        framing: wire_framing(framing),
        detach_keys: if config.tty { keys } else { Vec::new() },
        buffered: client.buffered,
    };
    run(&engine, &handle, &exec, Attachment { streams, client: client.socket }, console, framing).await;
    Ok(respond::empty(StatusCode::OK))
}

/// `ExitCode` of an exec whose client went before it ran.
const GONE: i32 = 128;

/// The answer has been sent: what goes wrong now is told in the stream, as dockerd does.
async fn run(
    engine: &Engine,
    handle: &Handle,
    exec: &Exec,
    attachment: Attachment,
    console: Option<Size>,
    framing: Framing,
) {
    let client = attachment.client.try_clone().ok();
    if let Err(error) = handle.run_exec(engine.parts(), exec, ExecOutput::Client(attachment), console).await
        && let Some(client) = client
    {
        tell(client, framing, &error).await;
    }
}

async fn tell(client: OwnedFd, framing: Framing, error: &ContainerError) {
    // The shim has told its own failures already.
    if matches!(error, ContainerError::Shim { source: ShimError::Start { .. }, .. }) {
        return;
    }
    let text = format!("{error}\r\n");
    let mut bytes = Vec::new();
    match framing {
        Framing::Multiplexed => frame::append(&mut bytes, Channel::Stdout, text.as_bytes()),
        Framing::Raw => bytes.extend_from_slice(text.as_bytes()),
    }
    // A client that is gone does not hear of it.
    let _ = socket::write_all(client.as_fd(), &bytes).await;
}

/// `POST /exec/{id}/resize`
pub async fn resize(call: Call<params::ExecResize>) -> Outcome {
    let (handle, exec) = call.engine.containers.exec(&call.params.id)?;
    handle.resize_exec(&exec, size(call.params.h, call.params.w)).await?;
    Ok(respond::empty(StatusCode::OK))
}

/// Where an exec is, once it is known whether it could be started: its client learns of a failure from the shim, by
/// the stream, and may ask here before the shim's word has come to us.
async fn settled(exec: &Exec) -> ExecPhase {
    let deadline = Instant::now() + Duration::from_secs(2);
    while exec.phase() == ExecPhase::Starting && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    exec.phase()
}

/// `GET /exec/{id}/json`
pub async fn inspect(call: Call<params::ExecInspect>) -> Outcome {
    let exec = call.engine.containers.find_exec(&call.params.id)?;
    let config = &exec.config;
    let (running, code, pid) = match settled(&exec).await {
        ExecPhase::Created | ExecPhase::Starting => (false, None, 0),
        ExecPhase::Running { pid } => (true, None, pid),
        ExecPhase::Ended { code, pid, .. } => (false, Some(code), pid),
    };
    let (entrypoint, arguments) =
        config.cmd.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
    // As bytes, which Go writes so.
    let keys = match config.detach_keys.as_str() {
        "" => String::new(),
        text => STANDARD.encode(detach_keys::parse(Some(text))?),
    };
    let mut process = json!({
        "tty": config.tty,
        "entrypoint": entrypoint,
        "arguments": arguments,
        "privileged": config.privileged,
    });
    if !config.user.is_empty() {
        process["user"] = json!(config.user);
    }
    let reply = json!({
        "ID": exec.id,
        "Running": running,
        "ExitCode": code,
        "ProcessConfig": process,
        "OpenStdin": config.attach_stdin,
        "OpenStdout": config.attach_stdout,
        "OpenStderr": config.attach_stderr,
        "CanRemove": false,
        "ContainerID": exec.container,
        "DetachKeys": keys,
        "Pid": pid,
    });
    Ok(respond::json(StatusCode::OK, &reply))
}
