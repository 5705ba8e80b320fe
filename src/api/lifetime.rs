//! How long a handler runs: to its end, or as long as its client is there.
//!
//! Every handler runs in a task of its own, so that a panic ends in a 500 and a hijacked connection's handler goes
//! on when the connection has left HTTP.

use axum::response::Response;
use tokio::task::{AbortHandle, JoinError};

use crate::api::bind;
use crate::api::call::Incoming;
use crate::api::error::ApiError;
use crate::api::hijack::Connection;
use crate::api::spec::Operation;

/// What the end of a client means to its handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lifetime {
    /// The handler is cancelled: it only reads, or its work is of no use to others.
    Client,
    /// The handler finishes: what it began to change is never left half done.
    Work,
}

impl Lifetime {
    /// That of an operation: what only reads, waits or streams ends with the client.
    pub fn of(operation: Operation) -> Self {
        use Operation::{
            ContainerAttach, ContainerWait, ExecStart, Grpc, ImageBuild, ImageCreate, ImageLoad, ImagePush,
            PluginPull, PluginPush, PluginUpgrade, Session,
        };
        match operation {
            ContainerAttach | ContainerWait | ExecStart | Grpc | ImageBuild | ImageCreate | ImageLoad
            | ImagePush | PluginPull | PluginPush | PluginUpgrade | Session => Self::Client,
            other if matches!(other.route().method, "GET" | "HEAD") => Self::Client,
            _ => Self::Work,
        }
    }
}

/// Runs the handler of a request. Its failure is a response too.
pub async fn run(incoming: Incoming) -> Response {
    let operation = incoming.operation;
    let connection = incoming.connection.clone();
    let engine = incoming.engine.clone();
    let task = tokio::spawn(async move {
        // Everybody may know at once that there is a daemon; what it has is known a moment later.
        if !matches!(operation, Operation::SystemPing | Operation::SystemPingHead | Operation::SystemVersion)
        {
            engine.listed().await;
        }
        bind::call(incoming).await
    });
    let guard = match Lifetime::of(operation) {
        Lifetime::Client => Some(CancelOnDrop { task: task.abort_handle(), connection }),
        Lifetime::Work => None,
    };
    let outcome = task.await.unwrap_or_else(|error| Err(broken(operation, error)));
    drop(guard);
    outcome.unwrap_or_else(|error| error.response_of(operation))
}

fn broken(operation: Operation, error: JoinError) -> ApiError {
    tracing::error!(?operation, %error, "a handler broke off");
    ApiError::internal(format!("internal error in {operation:?}"))
}

/// Cancels a handler when its connection ends, unless the handler has taken the connection.
struct CancelOnDrop {
    task: AbortHandle,
    connection: Option<Connection>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.connection.as_ref().is_some_and(Connection::is_taken) {
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_things_outlives_its_client() {
        for (operation, lifetime) in [
            (Operation::ContainerStart, Lifetime::Work),
            (Operation::ContainerDelete, Lifetime::Work),
            (Operation::ContainerCreate, Lifetime::Work),
            (Operation::ContainerList, Lifetime::Client),
            (Operation::ContainerWait, Lifetime::Client),
            (Operation::ImageCreate, Lifetime::Client),
        ] {
            assert_eq!(Lifetime::of(operation), lifetime, "{operation:?}");
        }
    }
}
