//! What only looks at containers: list, inspect, logs, top.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use tokio::sync::mpsc;

use super::around::Around;
use super::lists::{Question, Term, World};
use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::handlers::logs;
use crate::api::respond;
use crate::api::spec::params;
use crate::api::view::container::{self as view, Place, Selection, Shown, Size};
use crate::api::view::log::{Style, Text};
use crate::base::sys::socket;
use crate::base::time::Timestamp;
use crate::container::apparmor;
use crate::container::links::LinkNames;
use crate::container::{Handle, Published, request};
use crate::engine::Engine;
use crate::logs::follow;
use crate::logs::options::{LogTarget, is_readable};
use crate::logs::reader::{Mode, ReadOptions, Reader};

/// `GET /containers/json`
pub async fn list(call: Call<params::ContainerList>) -> Outcome {
    let Call { engine, params, version, .. } = &call;
    let made = Timestamp::now();
    let world = World::of(engine);
    let question = Question { params: params.clone(), version: *version };
    if !params.size
        && let Some(body) = call.lists.find(&question, &world, made)
    {
        return Ok(respond::bytes(StatusCode::OK, respond::JSON, body));
    }
    let created = |term: &str| Ok(engine.containers.resolve(term)?.snapshot().record.created);
    let selection = Selection::read(params, created)?;
    let all: Vec<Arc<Published>> = engine.containers.all().iter().map(Handle::snapshot).collect();
    let links = LinkNames::given_by(all.iter().map(Arc::as_ref));
    let around = Around { engine, now: made };
    let selected = selection.of(all.iter().map(|now| (shown(now), now)), &around);
    let unreadable = |error: serde_json::Error| ApiError::internal(error.to_string());
    if params.size {
        // Sizes change without anybody being told: nothing of this is kept.
        let mut summaries = Vec::with_capacity(selected.len());
        for (one, now) in selected {
            let size = file_system_size(engine, now).await;
            summaries.push(view::summary(one, links.of(&now.record.id), Some(size), &around, *version));
        }
        let body = respond::json_line(&summaries, b"\n").map_err(unreadable)?;
        return Ok(respond::bytes(StatusCode::OK, respond::JSON, body));
    }
    let mut entries = call.lists.entries(&world, *version);
    let listed = entries.list(selected.iter().map(|(_, now)| *now), &links, made, |now, links| {
        let one = shown(now);
        let json = serde_json::to_vec(&view::summary(one, links, None, &around, *version))?;
        Ok((json, view::changes_at(one.state, made)))
    });
    drop(entries);
    let (body, until) = listed.map_err(unreadable)?;
    call.lists.keep(question, world, Term { made, until }, body.clone());
    Ok(respond::bytes(StatusCode::OK, respond::JSON, body))
}

/// A container as the views take it.
pub fn shown(now: &Published) -> Shown<'_> {
    Shown { record: &now.record, state: &now.state, sandbox: now.sandbox.as_deref() }
}

/// Bytes of a container's file system.
pub async fn file_system_size(engine: &Engine, now: &Published) -> Size {
    let writable = engine.container_size(now).await;
    let layers = now.record.chain.iter().map(|layer| engine.images.snapshots().usage(layer)).sum::<u64>();
    Size { writable, total: writable + layers }
}

/// `GET /containers/{id}/json`
pub async fn inspect(call: Call<params::ContainerInspect>) -> Outcome {
    let engine = &call.engine;
    let handle = engine.containers.resolve(&call.params.id)?;
    let now = handle.snapshot();
    let parts = engine.parts();
    let log = shown_log(engine, &now);
    let place = Place {
        dir: &parts.paths.container(handle.id()),
        rootfs: &parts.paths.rootfs(handle.id()),
        log: log.as_deref(),
        execs: &handle.running_execs(),
        size: if call.params.size { Some(file_system_size(engine, &now).await) } else { None },
        app_armor_profile: app_armor_profile(engine, &now),
    };
    let inspected =
        view::inspect(shown(&now), &place, &Around { engine, now: Timestamp::now() }, call.version);
    Ok(respond::json(StatusCode::OK, &inspected))
}

/// What it asks for, until it is started for the first time.
fn app_armor_profile<'a>(engine: &Engine, now: &'a Published) -> Option<&'a str> {
    let host_config = &now.record.host_config;
    let defaults = &engine.parts().defaults;
    match defaults.apparmor && !now.state.started_at.is_unset() {
        true => apparmor::of(host_config, defaults.apparmor_profile),
        false => apparmor::asked(host_config),
    }
}

fn log_path(engine: &Engine, now: &Published) -> Option<std::path::PathBuf> {
    match request::log_target(engine.parts(), &now.record).ok()? {
        LogTarget::None => None,
        LogTarget::JsonFile { path, .. } | LogTarget::Forwarded { path, .. } => Some(path),
    }
}

/// The log, if its driver lets it be read.
fn readable_log(engine: &Engine, now: &Published) -> Option<std::path::PathBuf> {
    let log = &now.record.host_config.log_config;
    if is_readable(&log.driver, &log.options) { log_path(engine, now) } else { None }
}

/// The file that inspect shows: only that of `json-file` is meant for others.
fn shown_log(engine: &Engine, now: &Published) -> Option<std::path::PathBuf> {
    let is_shown = now.record.host_config.log_config.driver == "json-file";
    if is_shown { log_path(engine, now) } else { None }
}

/// `GET /containers/{id}/logs`
pub async fn logs(call: Call<params::ContainerLogs>) -> Outcome {
    logs::check(&call.params)?;
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let now = handle.snapshot();
    let mut changes = handle.watch();
    let stopped = async move {
        let _ = changes.wait_for(|now| !now.is_running()).await;
    };
    let source = logs::Source { path: readable_log(&call.engine, &now), tty: now.record.config.tty, stopped };
    logs::stream(call, source).await
}

/// Sends what the log has to a client that attaches and asks for it. Errors end the replay: the answer is on its way.
pub async fn replay(engine: &Engine, now: &Published, style: Style, client: &OwnedFd) {
    let Some(path) = readable_log(engine, now) else { return };
    let options = ReadOptions { tail: None, since: None, until: None, mode: Mode::Once };
    let Ok(Ok(reader)) = tokio::task::spawn_blocking(move || Reader::open(&path, options)).await else {
        return;
    };
    let (sender, mut receiver) = mpsc::channel::<Bytes>(4);
    // The sender goes with the reading: its end is the end for the writing.
    let reading = async move {
        let _ = follow::send(reader, Text::new(style), std::future::ready(()), &sender).await;
    };
    let writing = async {
        while let Some(bytes) = receiver.recv().await {
            if socket::write_all(client.as_fd(), &bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// `GET /containers/{id}/top`
pub async fn top(call: Call<params::ContainerTop>) -> Outcome {
    let handle = call.engine.containers.resolve(&call.params.id)?;
    let table = handle.processes(call.engine.parts(), &call.params.ps_args).await?;
    Ok(respond::json(StatusCode::OK, &json!({ "Titles": table.titles, "Processes": table.rows })))
}
