//! Errors as a client sees them. The only place that chooses status codes: each error of the domain has one `From`
//! here, with one wildcard-free match.

use axum::response::Response;
use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};

use crate::api::auth_header::InvalidAuth;
use crate::api::body::BodyError;
use crate::api::decode::DecodeError;
use crate::api::detach_keys::InvalidKeys;
use crate::api::filters::InvalidFilters;
use crate::api::hijack::HijackError;
use crate::api::moment::InvalidMoment;
use crate::api::respond;
use crate::api::spec::{Operation, Tag};
use crate::api::versions::UnsupportedVersion;
use crate::api::websocket::BadHandshake;
use crate::base::errno::told_in_gos_words;
use crate::container::checkpoints::CheckpointError;
use crate::container::create::Invalid;
use crate::container::exec::ExecError;
use crate::container::files::FilesError;
use crate::container::state::Refusal;
use crate::container::update::UpdateError;
use crate::container::{ContainerError, LookupError, NameError, StartFailure};
use crate::engine::{CommitError, CreateError};
use crate::image::ImageError;
use crate::network::NetworkError;
use crate::registry::RegistryError;
use crate::volume::VolumeError;

/// A status code and dockerd's text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: told_in_gos_words(message.into()) }
    }

    /// 400
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 409
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 500
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 404 for a path that means nothing.
    pub fn no_such_page() -> Self {
        Self::not_found("page not found")
    }

    /// The answer of an operation that is still to come. Those of the swarm say what dockerd says when it is off.
    pub fn not_yet(operation: Operation) -> Self {
        let route = operation.route();
        match (operation, route.tag) {
            (Operation::SwarmLeave, _) => Self::new(StatusCode::SERVICE_UNAVAILABLE, NOT_IN_A_SWARM),
            (Operation::SwarmInit | Operation::SwarmJoin, _) => {
                Self::to_come(route.name, route.method, route.path)
            }
            (_, Tag::Swarm | Tag::Node | Tag::Service | Tag::Task | Tag::Secret | Tag::Config) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, NO_SWARM_MANAGER)
            }
            _ => Self::to_come(route.name, route.method, route.path),
        }
    }

    fn to_come(name: &str, method: &str, path: &str) -> Self {
        let message = format!("slipway does not support {name} ({method} {path}) yet");
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// The response of an operation. An attach is answered in the stream's own type: its client has let go of HTTP.
    pub fn response_of(self, operation: Operation) -> Response {
        if operation != Operation::ContainerAttach {
            return self.into_response();
        }
        let mut response = respond::bytes(self.status, respond::RAW_STREAM, format!("{}\r\n", self.message));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// The response: JSON, or for 304 nothing.
    pub fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return respond::empty(StatusCode::NOT_MODIFIED);
        }
        respond::json(self.status, &serde_json::json!({ "message": self.message }))
    }
}

const NO_SWARM_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
                                to connect this node to swarm and try again.";
const NOT_IN_A_SWARM: &str = "This node is not part of a swarm";

impl From<UnsupportedVersion> for ApiError {
    fn from(error: UnsupportedVersion) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<Invalid> for ApiError {
    fn from(error: Invalid) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<InvalidFilters> for ApiError {
    fn from(error: InvalidFilters) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<InvalidMoment> for ApiError {
    fn from(error: InvalidMoment) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<InvalidAuth> for ApiError {
    fn from(error: InvalidAuth) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let status = match &error {
            BodyError::NoContentType
            | BodyError::ContentType { .. }
            | BodyError::Json(_)
            | BodyError::Trailing
            | BodyError::Interrupted(_) => StatusCode::BAD_REQUEST,
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        Self::new(registry_status(&error), error.to_string())
    }
}

fn registry_status(error: &RegistryError) -> StatusCode {
    match error {
        RegistryError::NotFound { .. } | RegistryError::Denied { .. } => StatusCode::NOT_FOUND,
        RegistryError::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
        RegistryError::Address(_) => StatusCode::BAD_REQUEST,
        RegistryError::Resolve { source, .. } => registry_status(source),
        RegistryError::TooManyRequests { .. }
        | RegistryError::Request { .. }
        | RegistryError::Login { .. }
        | RegistryError::Status { .. }
        | RegistryError::Answer(_)
        | RegistryError::TooLarge { .. }
        | RegistryError::Mismatch { .. }
        | RegistryError::Certificates(_)
        | RegistryError::Proxy(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<ImageError> for ApiError {
    fn from(error: ImageError) -> Self {
        Self::new(image_status(&error), with_causes(&error))
    }
}

/// 401 is for logging in alone: told it of a pull, the CLI would ask its user for a name.
fn pull_status(error: &RegistryError) -> StatusCode {
    match registry_status(error) {
        StatusCode::UNAUTHORIZED => StatusCode::INTERNAL_SERVER_ERROR,
        status => status,
    }
}

fn image_status(error: &ImageError) -> StatusCode {
    match error {
        ImageError::Shared(inner) => image_status(inner),
        ImageError::Registry(error) => pull_status(error),
        ImageError::Reference(_)
        | ImageError::Platform(_)
        | ImageError::TagWithDigest
        | ImageError::Change(_)
        | ImageError::LayerType { .. } => StatusCode::BAD_REQUEST,
        ImageError::NotFound(_)
        | ImageError::Ambiguous
        | ImageError::WrongPlatform { .. }
        | ImageError::NoManifestFor { .. } => StatusCode::NOT_FOUND,
        ImageError::Conflict { .. } | ImageError::PruneRunning => StatusCode::CONFLICT,
        ImageError::Archive(_)
        | ImageError::Document(_)
        | ImageError::Config(_)
        | ImageError::LayerCount { .. }
        | ImageError::WrongDiffId { .. }
        | ImageError::Unreadable { .. }
        | ImageError::Content(_)
        | ImageError::Snapshot(_)
        | ImageError::Database(_)
        | ImageError::Record(_)
        | ImageError::Pack(_)
        | ImageError::Cancelled
        | ImageError::Worker => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error and its causes in one line, as Go's wrapped errors read.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

impl From<NetworkError> for ApiError {
    fn from(error: NetworkError) -> Self {
        let status = match &error {
            NetworkError::NotFound(_) | NetworkError::UnknownDriver(_) => StatusCode::NOT_FOUND,
            NetworkError::Ambiguous { .. }
            | NetworkError::AddressOutOfRange { .. }
            | NetworkError::BridgeDisabled
            | NetworkError::InvalidConfig(_)
            | NetworkError::BadExtraHost(_)
            | NetworkError::NotLinkLocal(_)
            | NetworkError::EndpointOption(_)
            | NetworkError::InvalidMac(_)
            | NetworkError::GroupMac { .. } => StatusCode::BAD_REQUEST,
            NetworkError::NameInUse(_)
            | NetworkError::PruneRunning
            | NetworkError::NoSuchSandbox(_)
            | NetworkError::ForeignUsers(_)
            | NetworkError::AlreadyConnected(_) => StatusCode::CONFLICT,
            NetworkError::Predefined(_)
            | NetworkError::RemovePredefined(_)
            | NetworkError::ActiveEndpoints { .. }
            | NetworkError::PoolOverlap
            | NetworkError::AddressInUse
            | NetworkError::OneInstance(_)
            | NetworkError::NoSwarm => StatusCode::FORBIDDEN,
            NetworkError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            NetworkError::NoFreePool
            | NetworkError::NoFreeAddress { .. }
            | NetworkError::NoHostGateway
            | NetworkError::Publish { .. }
            | NetworkError::Kernel { .. }
            | NetworkError::Record(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<VolumeError> for ApiError {
    fn from(error: VolumeError) -> Self {
        Self::new(volume_status(&error), error.to_string())
    }
}

fn volume_status(error: &VolumeError) -> StatusCode {
    match error {
        VolumeError::NotFound(_) | VolumeError::UnknownDriver { .. } => StatusCode::NOT_FOUND,
        VolumeError::Create { .. } => StatusCode::BAD_REQUEST,
        VolumeError::InUse { .. } | VolumeError::PruneRunning => StatusCode::CONFLICT,
        VolumeError::Mount { .. }
        | VolumeError::Unmount { .. }
        | VolumeError::CopyUp { .. }
        | VolumeError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> Self {
        let status = match &error {
            LookupError::NotFound(_) => StatusCode::NOT_FOUND,
            LookupError::Ambiguous(_) | LookupError::Empty => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        let status = match &error {
            NameError::Invalid(_) | NameError::Empty | NameError::Unchanged => StatusCode::BAD_REQUEST,
            NameError::InUse { .. } => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ContainerError> for ApiError {
    fn from(error: ContainerError) -> Self {
        Self::new(container_status(&error), error.to_string())
    }
}

fn container_status(error: &ContainerError) -> StatusCode {
    match error {
        ContainerError::Lookup(error) => ApiError::from(error.clone()).status,
        ContainerError::Name(error) | ContainerError::NewName { source: error } => {
            ApiError::from(error.clone()).status
        }
        ContainerError::Refused(_, refusal) => refusal_status(refusal),
        ContainerError::StartFailed { kind, .. } => match kind {
            StartFailure::CommandNotFound | StartFailure::CommandNotExecutable | StartFailure::BadRequest => {
                StatusCode::BAD_REQUEST
            }
            StartFailure::System => StatusCode::INTERNAL_SERVER_ERROR,
            StartFailure::Cancelled => StatusCode::CONFLICT,
        },
        ContainerError::Volume(error) => volume_status(error),
        ContainerError::Kill { source, .. } => container_status(source),
        ContainerError::Update { source: UpdateError::Conflict(_), .. } => StatusCode::CONFLICT,
        ContainerError::Update { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        ContainerError::InvalidSignal(_) => StatusCode::BAD_REQUEST,
        ContainerError::Gone(_) => StatusCode::NOT_FOUND,
        // dockerd gives it no kind, though its words do.
        ContainerError::OwnName | ContainerError::LinkParent { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        ContainerError::StillAlive | ContainerError::Io { .. } | ContainerError::Shim { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl From<CheckpointError> for ApiError {
    fn from(error: CheckpointError) -> Self {
        let status = match &error {
            CheckpointError::Container(error) => container_status(error),
            CheckpointError::StartElsewhere => StatusCode::FORBIDDEN,
            CheckpointError::RelativeDirectory(_) => StatusCode::BAD_REQUEST,
            // dockerd gives these no kind.
            CheckpointError::NotRunning(_)
            | CheckpointError::Terminal
            | CheckpointError::Name(_)
            | CheckpointError::Exists { .. }
            | CheckpointError::Missing { .. }
            | CheckpointError::Shim { .. }
            | CheckpointError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<FilesError> for ApiError {
    fn from(error: FilesError) -> Self {
        let status = match &error {
            FilesError::NotFound { .. } => StatusCode::NOT_FOUND,
            FilesError::NotADirectory | FilesError::RootReadOnly | FilesError::VolumeReadOnly => {
                StatusCode::BAD_REQUEST
            }
            FilesError::Busy { .. } => StatusCode::CONFLICT,
            // dockerd's own slip.
            FilesError::Outside { .. } | FilesError::Entry { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            FilesError::Stat { .. }
            | FilesError::User(_)
            | FilesError::Snapshot(_)
            | FilesError::Volume(_)
            | FilesError::ImageMount(_)
            | FilesError::Io(_)
            | FilesError::Worker => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, with_causes(&error))
    }
}

/// A container that is as asked for already is no failure: 304.
fn refusal_status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::AlreadyRunning => StatusCode::NOT_MODIFIED,
        // dockerd's own slip, which clients know.
        Refusal::NotPaused => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::StartPaused
        | Refusal::StartRemoving
        | Refusal::NotRunning
        | Refusal::AlreadyPaused
        | Refusal::Restarting
        | Refusal::RemoveNotStopped(_)
        | Refusal::AlreadyRemoving => StatusCode::CONFLICT,
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Name(error) => error.into(),
            CreateError::Image(error) => error.into(),
            CreateError::Invalid(error) => error.into(),
            CreateError::Volume(error) => error.into(),
            // dockerd's own slip.
            CreateError::WorkingDir(_) | CreateError::Save(_) | CreateError::Worker => {
                Self::internal(error.to_string())
            }
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Lookup(error) => error.into(),
            CommitError::Container(error) => error.into(),
            CommitError::Files(error) => error.into(),
            CommitError::Image(error) => error.into(),
        }
    }
}

impl From<ExecError> for ApiError {
    fn from(error: ExecError) -> Self {
        let status = match &error {
            ExecError::NotFound(_) => StatusCode::NOT_FOUND,
            ExecError::NoCommand => StatusCode::BAD_REQUEST,
            ExecError::AlreadyRun(_)
            | ExecError::AlreadyRunning(_)
            | ExecError::Paused(_)
            | ExecError::Restarting(_)
            | ExecError::NotRunning(_) => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<InvalidKeys> for ApiError {
    fn from(error: InvalidKeys) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<BadHandshake> for ApiError {
    fn from(error: BadHandshake) -> Self {
        match error {
            BadHandshake::NotWebSocket | BadHandshake::Version | BadHandshake::Key => {
                Self::invalid(error.to_string())
            }
        }
    }
}

impl From<HijackError> for ApiError {
    fn from(error: HijackError) -> Self {
        match error {
            HijackError::NotPossible | HijackError::Gone | HijackError::Io(_) => {
                Self::internal(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swarm_operations_say_that_there_is_no_swarm() {
        for (operation, status) in [
            (Operation::SwarmInspect, 503),
            (Operation::NodeList, 503),
            (Operation::SecretCreate, 503),
            (Operation::SwarmLeave, 503),
            (Operation::SwarmInit, 501),
            (Operation::ImageBuild, 501),
        ] {
            assert_eq!(ApiError::not_yet(operation).status, status, "{operation:?}");
        }
        assert_eq!(
            ApiError::not_yet(Operation::ImageBuild).message,
            "slipway does not support ImageBuild (POST /build) yet"
        );
    }

    #[test]
    fn a_pull_that_a_token_server_refuses_does_not_make_the_cli_ask_for_a_name() {
        let refused = || RegistryError::Unauthorized { url: "http://h/v2/".into(), message: "no".into() };
        let text = "Get \"http://h/v2/\": unauthorized: no";
        for error in [
            ImageError::Registry(refused()),
            ImageError::Shared(std::sync::Arc::new(ImageError::Registry(refused()))),
        ] {
            let answer = ApiError::from(error);
            assert_eq!((answer.status.as_u16(), answer.message.as_str()), (500, text));
        }
        assert_eq!(ApiError::from(refused()).status, 401);
    }
}
