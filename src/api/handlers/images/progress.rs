//! Progress streams: as long as nothing was said, a failure is a status; afterwards it is the last message.

use std::future::Future;

use axum::response::Response;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::api::call::Outcome;
use crate::api::error::ApiError;
use crate::api::respond;
use crate::api::view::image::Message;
use crate::image::Progress;

const DEPTH: usize = 32;

/// Runs `work`, which reports to the sender it is given, and streams what it says. The work is cancelled when the
/// client goes.
pub async fn stream<W, F>(work: W) -> Outcome
where
    W: FnOnce(mpsc::Sender<Progress>) -> F,
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (mut said, mut running) = begin(work);
    let Some(first) = said.recv().await else {
        ended(&mut running).await?;
        return Ok(respond::json_stream(mpsc::channel::<Message>(1).1));
    };
    Ok(streamed(Some(first), said, running))
}

/// The same for a request whose failures are told in the stream in any case, as those of `docker load` by dockerd:
/// docker-py looks for them nowhere else.
pub async fn stream_with_failures<W, F>(work: W) -> Outcome
where
    W: FnOnce(mpsc::Sender<Progress>) -> F,
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (mut said, running) = begin(work);
    let first = said.recv().await;
    Ok(streamed(first, said, running))
}

type Running = JoinSet<Result<(), ApiError>>;

/// The work's drop is its cancellation.
fn begin<W, F>(work: W) -> (mpsc::Receiver<Progress>, Running)
where
    W: FnOnce(mpsc::Sender<Progress>) -> F,
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (send, said) = mpsc::channel(DEPTH);
    let mut running = JoinSet::new();
    running.spawn(work(send));
    (said, running)
}

fn streamed(first: Option<Progress>, mut said: mpsc::Receiver<Progress>, mut running: Running) -> Response {
    let (out, receiver) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        tokio::select! {
            () = out.closed() => {}
            () = forward(first, &mut said, &mut running, &out) => {}
        }
    });
    respond::json_stream(receiver)
}

async fn forward(
    first: Option<Progress>,
    said: &mut mpsc::Receiver<Progress>,
    running: &mut Running,
    out: &mpsc::Sender<Message>,
) {
    let mut next = first;
    while let Some(progress) = next {
        if out.send(Message::from(progress)).await.is_err() {
            return;
        }
        next = said.recv().await;
    }
    if let Err(error) = ended(running).await {
        let _ = out.send(Message::error(error.message)).await;
    }
}

async fn ended(running: &mut Running) -> Result<(), ApiError> {
    match running.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(_)) | None => Err(ApiError::internal("the operation broke off")),
    }
}
