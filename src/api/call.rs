//! What a handler gets: the engine, the version, the decoded parameters and the rest of the request.

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::HeaderMap;
use http::header::UPGRADE;
use serde::de::DeserializeOwned;

use crate::api::COMMON_HEADERS;
use crate::api::auth_header::RegistryAuth;
use crate::api::body::{self, Absent};
use crate::api::body_reader::BodyReader;
use crate::api::decode::{Decode, Decoder, Form};
use crate::api::error::ApiError;
use crate::api::handlers::containers::Lists;
use crate::api::hijack::{ClientSocket, Connection, HijackError, Taken};
use crate::api::respond::{MULTIPLEXED_STREAM, RAW_STREAM};
use crate::api::spec::Operation;
use crate::api::transfers::Turn;
use crate::api::versions::{ApiVersion, Feature};
use crate::engine::Engine;

/// What a handler returns.
pub type Outcome = Result<Response, ApiError>;

/// A request whose operation is known and whose parameters are not decoded yet.
pub struct Incoming {
    pub engine: Arc<Engine>,
    pub version: ApiVersion,
    pub operation: Operation,
    /// The names in the path, from left to right.
    pub names: Vec<String>,
    pub form: Form,
    pub headers: HeaderMap,
    pub body: Body,
    pub connection: Option<Connection>,
    pub lists: Arc<Lists>,
}

/// One call of the operation with the parameters `P`.
pub struct Call<P> {
    pub engine: Arc<Engine>,
    pub version: ApiVersion,
    pub params: P,
    pub headers: HeaderMap,
    /// Lists of containers that were sent lately.
    pub lists: Arc<Lists>,
    body: Body,
    connection: Option<Connection>,
}

impl Incoming {
    /// Decodes the parameters.
    pub fn decode<P: Decode>(self) -> Result<Call<P>, ApiError> {
        let params = P::decode(&mut Decoder::new(self.names, &self.form, self.version))?;
        let Self { engine, version, headers, body, connection, lists, .. } = self;
        Ok(Call { engine, version, params, headers, lists, body, connection })
    }
}

/// How the bytes of a hijacked connection are arranged, which its content type announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// A terminal's bytes as they are.
    Raw,
    /// Frames that say which stream they belong to.
    Multiplexed,
}

impl<P> Call<P> {
    /// The JSON body; an absent one is an error.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let body = std::mem::take(&mut self.body);
        Ok(body::json(&self.headers, body, Absent::Refused).await?)
    }

    /// The JSON body; an absent one is the same as `{}`.
    pub async fn json_or_default<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let body = std::mem::take(&mut self.body);
        Ok(body::json(&self.headers, body, Absent::Empty).await?)
    }

    /// The body for a thread that blocks, such as an archive that is unpacked, when it is its turn.
    pub async fn body_reader(&mut self) -> BodyReader {
        let turn = Turn::take().await;
        BodyReader::new(std::mem::take(&mut self.body), None).in_turn(turn)
    }

    /// The same for a handler that says nothing before all is read: nothing is sent while the thread does not read.
    pub async fn upload(&mut self) -> BodyReader {
        let turn = Turn::take().await;
        BodyReader::new(std::mem::take(&mut self.body), self.connection.clone()).in_turn(turn)
    }

    /// The credentials of `X-Registry-Auth`, empty if there are none.
    pub fn registry_auth(&self) -> Result<RegistryAuth, ApiError> {
        let header =
            self.headers.get("X-Registry-Auth").map(|value| String::from_utf8_lossy(value.as_bytes()));
        Ok(RegistryAuth::parse(&header.unwrap_or_default())?)
    }

    /// Whether the client asked for an upgrade, so that it expects 101.
    pub fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    /// The content type of a stream that is not hijacked, such as logs.
    pub fn stream_type(&self, framing: Framing) -> &'static str {
        match framing {
            Framing::Multiplexed if self.version.has(Feature::MultiplexedContentType) => MULTIPLEXED_STREAM,
            Framing::Multiplexed | Framing::Raw => RAW_STREAM,
        }
    }

    /// Takes the connection out of HTTP: answers 101 or 200 and gives the client's socket once the client has read
    /// the answer. All errors that are to be answered with a status must be found before. What the handler returns
    /// afterwards goes nowhere: [`crate::api::respond::empty`] will do.
    pub fn hijack(
        &self,
        framing: Framing,
    ) -> impl Future<Output = Result<ClientSocket, ApiError>> + Send + use<P> {
        let (connection, head) = (self.connection.clone(), self.hijack_head(framing));
        async move { Ok(connection.ok_or(HijackError::NotPossible)?.take(&head).await?) }
    }

    /// Takes the connection out of HTTP and answers with `head`, as [`hijack`](Self::hijack) does; the handler talks
    /// to the client itself.
    pub fn upgrade(&self, head: String) -> impl Future<Output = Result<Taken, ApiError>> + Send + use<P> {
        let connection = self.connection.clone();
        async move { Ok(connection.ok_or(HijackError::NotPossible)?.take_stream(&head).await?) }
    }

    fn hijack_head(&self, framing: Framing) -> String {
        let common = COMMON_HEADERS.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        match self.wants_upgrade() {
            true => format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{common}\r\n",
                self.stream_type(framing)
            ),
            false => format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW_STREAM}\r\n{common}\r\n"),
        }
    }
}
