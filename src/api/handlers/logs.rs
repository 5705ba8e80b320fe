//! What `GET /containers/{id}/logs` sends.

use std::future::Future;
use std::path::PathBuf;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::mpsc;

use crate::api::call::{Call, Framing, Outcome};
use crate::api::error::ApiError;
use crate::api::spec::params;
use crate::api::view::log::{Style, Text};
use crate::api::{moment, respond};
use crate::base::time::Timestamp;
use crate::logs::follow;
use crate::logs::frame::{self, Channel};
use crate::logs::reader::{Mode, ReadOptions, Reader};

/// Batches that may wait for a slow client.
const AHEAD: usize = 4;

/// A container's log, as far as this operation needs to know the container.
pub struct Source<F> {
    /// `None` if its driver keeps nothing that can be read.
    pub path: Option<PathBuf>,
    pub tty: bool,
    /// Ends when its process has ended; at once if it has none.
    pub stopped: F,
}

/// What is wrong with the parameters alone; dockerd says so before it looks for the container.
pub fn check(params: &params::ContainerLogs) -> Result<(), ApiError> {
    match params.stdout || params.stderr {
        true => Ok(()),
        false => Err(ApiError::invalid("must specify at least one of 'stdout' or 'stderr'")),
    }
}

/// Answers at once, then sends what there is and, if asked for, what comes.
pub async fn stream<F>(call: Call<params::ContainerLogs>, source: Source<F>) -> Outcome
where
    F: Future<Output = ()> + Send + 'static,
{
    let options = options(&call.params)?;
    let Some(path) = source.path else {
        let message = "configured logging driver does not support reading";
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, message));
    };
    let framing = if source.tty { Framing::Raw } else { Framing::Multiplexed };
    let params::ContainerLogs { timestamps, details, stdout, stderr, .. } = call.params;
    let style = Style { framing, timestamps, details, stdout, stderr };
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let opened = tokio::task::spawn_blocking(move || Reader::open(&path, options)).await;
        let sent = match opened.map_err(std::io::Error::other).flatten() {
            Ok(reader) => follow::send(reader, Text::new(style), source.stopped, &sender).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            // A client that is gone does not hear of it.
            let _ = sender.send(trouble(&error, framing)).await;
        }
    });
    Ok(respond::channel(call.stream_type(framing), receiver))
}

/// dockerd's way to tell of an error after the status has been sent.
fn trouble(error: &std::io::Error, framing: Framing) -> Bytes {
    let message = format!("Error grabbing logs: {error}\n");
    let mut out = Vec::new();
    match framing {
        Framing::Multiplexed => frame::append(&mut out, Channel::System, message.as_bytes()),
        Framing::Raw => out.extend_from_slice(message.as_bytes()),
    }
    out.into()
}

fn options(params: &params::ContainerLogs) -> Result<ReadOptions, ApiError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let since = given(&params.since).map(|text| moment::unix(&text)).transpose()?;
    let until = given(&params.until).map(|text| moment::unix(&text)).transpose()?;
    // Zero is the default that clients send for "not set".
    let set = |time: &Timestamp| *time != Timestamp::from_nanos(0);
    let mode = if params.follow { Mode::Follow } else { Mode::Once };
    Ok(ReadOptions {
        tail: params.tail.parse().ok(),
        since: since.filter(set),
        until: until.filter(set),
        mode,
    })
}
