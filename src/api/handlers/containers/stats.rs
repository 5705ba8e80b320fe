//! `GET /containers/{id}/stats`

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::api::call::{Call, Outcome};
use crate::api::respond;
use crate::api::spec::params;
use crate::api::view;
use crate::container::stats::{Sample, Sampler};
use crate::container::{Handle, Published};
use crate::engine::Engine;

/// The time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// `GET /containers/{id}/stats`
pub async fn stats(call: Call<params::ContainerStats>) -> Outcome {
    let engine = call.engine.clone();
    let handle = engine.containers.resolve(&call.params.id)?;
    if call.params.stream {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(follow(engine, handle, sender));
        return Ok(respond::channel("application/json", receiver));
    }
    let (mut sampler, mut before) = (Sampler::new(handle.clone()), None);
    if !call.params.one_shot && handle.snapshot().is_running() {
        before = sampler.sample(engine.parts()).await;
        tokio::time::sleep(INTERVAL).await;
    }
    let sample = sampler.sample(engine.parts()).await;
    Ok(respond::json(StatusCode::OK, &reply(&handle, sample.as_ref(), before.as_ref())))
}

/// Samples until the client or the container is gone. A container that does not run has empty samples.
async fn follow(engine: Arc<Engine>, handle: Handle, sender: mpsc::Sender<Bytes>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let (mut sampler, mut before) = (Sampler::new(handle.clone()), None);
    let mut transitions = handle.watch();
    loop {
        tokio::select! {
            biased;
            () = sender.closed() => return,
            () = removal(&mut transitions) => return,
            _ = ticks.tick() => {}
        }
        let sample = sampler.sample(engine.parts()).await;
        let line = format!("{}\n", reply(&handle, sample.as_ref(), before.as_ref()));
        if sender.send(line.into()).await.is_err() {
            return;
        }
        before = sample;
    }
}

/// Ends when the container is gone; an error means that nobody is left who could say so.
async fn removal(transitions: &mut watch::Receiver<Arc<Published>>) {
    let _ = transitions.wait_for(|now| now.is_removed()).await;
}

fn reply(handle: &Handle, sample: Option<&Sample>, before: Option<&Sample>) -> Value {
    let now = handle.snapshot();
    view::stats::stats(handle.id().as_str(), &now.record.name, sample, before)
}
