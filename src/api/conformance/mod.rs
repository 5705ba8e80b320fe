//! Holds responses against the specification's schema of the request's version. Only tests call it: those of the
//! views beside them, and the compatibility suite for every response that it sees.
//!
//! Fields of other versions are fine: removed ones are kept on purpose, newer ones harm no client. What no version
//! has, a wrong type, a missing required field and an unknown word of an enumeration are violations.

#[cfg(test)]
mod round_trip;
mod schema;

use std::fmt;

use serde_json::Value;

use crate::api::routing;
use crate::api::versions::{self, ApiVersion};
use schema::{Check, Facts};

/// One place where a response differs from its schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The operation's id and the way to the value: `ContainerInspect.State.Pid`, `ContainerList[].Names`.
    pub at: String,
    pub fault: Fault,
}

/// What is wrong there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The request reaches no operation.
    NoOperation,
    /// The specification does not have this status code.
    Status(u16),
    /// The body is not JSON though the schema says what it contains.
    NotJson(String),
    /// The type is another.
    Type { expected: String, found: String },
    /// The value is not one of the enumeration's.
    Enumeration { found: String },
    /// The text is no RFC 3339 time.
    Time { found: String },
    /// A required field is absent.
    Missing,
    /// A field that no version has.
    Unknown,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        match &self.fault {
            Fault::NoOperation => f.write_str("no such operation"),
            Fault::Status(status) => write!(f, "status {status} is not in the specification"),
            Fault::NotJson(error) => write!(f, "not JSON: {error}"),
            Fault::Type { expected, found } => write!(f, "{expected} expected, found {found}"),
            Fault::Enumeration { found } => write!(f, "{found} is not in the enumeration"),
            Fault::Time { found } => write!(f, "{found:?} is not an RFC 3339 time"),
            Fault::Missing => f.write_str("required and missing"),
            Fault::Unknown => f.write_str("no version has this field"),
        }
    }
}

/// Differences that dockerd has too, by the end of the place: clients know dockerd, not the specification.
const KNOWN: &[(&str, &str)] = &[
    ("HostConfig.OomKillDisable", "null where the kernel cannot do it (cgroup v2)"),
    ("HostConfig.MemorySwappiness", "null is unset"),
    ("ExecInspect.ExitCode", "null until the process has ended"),
    ("SystemEvents.status", "dockerd sends it before 1.52, no specification has it"),
    ("SystemEvents.id", "dockerd sends it before 1.52, no specification has it"),
    ("SystemEvents.from", "dockerd sends it before 1.52, no specification has it"),
    ("SystemDataUsage.BuilderSize", "dockerd sends it before 1.42, no specification has it"),
    ("ImageInspect.Storage", "newest dockerd sends it; the specification knows it of containers only"),
    ("HostConfig.Init", "null is the daemon's default"),
    ("HostConfig.PidsLimit", "null is unset"),
    ("HostConfig.RestartPolicy.Name", "`no` in every version; specifications before 1.42 leave it out"),
    ("ContainerInspect.ExecIDs", "null or a list in every version; specifications before 1.38 say text"),
    ("NetworkSettings.Ports", "a map in every version; specifications before 1.32 say list"),
];

/// Checks the response to `method` and `target` (path with version prefix and query). Streams of JSON documents are
/// checked document by document; bodies without a schema pass.
pub fn validate(method: &str, target: &str, status: u16, body: &[u8]) -> Vec<Violation> {
    let path = target.split('?').next().unwrap_or_default();
    let (version, rest) = versions::split_prefix(path);
    let version = version.map_or(Ok(ApiVersion::NEWEST), ApiVersion::parse);
    let (Ok(version), Some(matched)) = (version, routing::find(method, rest)) else {
        return refused(method, path, status, body);
    };
    // A redirection (301) is the router's, before any operation: Go's does the same.
    if method == "HEAD" || matches!(status, 301 | 304 | 204) {
        return Vec::new();
    }
    validate_operation(matched.route.name, version, status, body)
}

/// Checks the response of the operation with this id.
pub fn validate_operation(name: &str, version: ApiVersion, status: u16, body: &[u8]) -> Vec<Violation> {
    let facts = Facts::get();
    if status >= 400 && name == "ContainerAttach" {
        // As text in the stream's own type, which is dockerd's doing too.
        return Vec::new();
    }
    if status >= 400 {
        return check_documents(
            name,
            body,
            &|value, check| check.definition("ErrorResponse", value),
            version,
        );
    }
    let Some(responses) = facts.responses(name) else { return Vec::new() };
    let Some(shape) = responses.get(status.to_string()) else {
        return vec![Violation { at: name.to_owned(), fault: Fault::Status(status) }];
    };
    if !facts.is_json(shape, version) {
        return Vec::new();
    }
    check_documents(name, body, &|value, check| check.value(shape, value), version)
}

/// What matches no operation must be an error.
fn refused(method: &str, path: &str, status: u16, body: &[u8]) -> Vec<Violation> {
    let at = format!("{method} {path}");
    match status {
        301 | 200 if method == "OPTIONS" || status == 301 => Vec::new(),
        404 if method == "HEAD" => Vec::new(),
        404 => {
            check_documents(&at, body, &|v, check| check.definition("ErrorResponse", v), ApiVersion::NEWEST)
        }
        // The two version errors; old clients get theirs as text.
        400 => Vec::new(),
        _ => vec![Violation { at, fault: Fault::NoOperation }],
    }
}

type CheckOne<'a> = &'a dyn Fn(&Value, &mut Check);

fn check_documents(name: &str, body: &[u8], check_one: CheckOne<'_>, version: ApiVersion) -> Vec<Violation> {
    let mut found = check_version(name, body, check_one, version);
    if found.iter().any(|violation| violation.fault == Fault::Unknown) {
        // Newer fields in older responses are fine, also where the older schema says nothing of the newer object.
        let newest = check_version(name, body, check_one, ApiVersion::NEWEST);
        found.retain(|violation| violation.fault != Fault::Unknown || newest.contains(violation));
    }
    found.retain(|violation| !KNOWN.iter().any(|(place, _)| violation.at.ends_with(place)));
    found
}

fn check_version(name: &str, body: &[u8], check_one: CheckOne<'_>, version: ApiVersion) -> Vec<Violation> {
    let mut check = Check::new(name, version);
    for document in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        match document {
            Ok(value) => check_one(&value, &mut check),
            // A stream may be cut at any place by the test that listens to it.
            Err(error) if error.is_eof() => break,
            Err(error) => {
                check.found.push(Violation { at: name.to_owned(), fault: Fault::NotJson(error.to_string()) });
                break;
            }
        }
    }
    check.found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn violations(target: &str, body: &Value) -> Vec<String> {
        let method = if target.ends_with("/create") { "POST" } else { "GET" };
        let status = if target.ends_with("/create") { 201 } else { 200 };
        let found = validate(method, target, status, body.to_string().as_bytes());
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wrong_types_missing_and_unknown_fields_are_found() {
        let created = "/v1.44/containers/create";
        assert_eq!(violations(created, &json!({"Id": "x", "Warnings": []})), [""; 0]);
        assert_eq!(
            violations(created, &json!({"Id": 1, "Nonsense": []})),
            [
                "ContainerCreate.Id: string expected, found 1",
                "ContainerCreate.Nonsense: no version has this field",
                "ContainerCreate.Warnings: required and missing",
            ]
        );
    }

    #[test]
    fn fields_of_other_versions_are_fine_but_typed() {
        let list = |settings: Value| json!([{"NetworkSettings": {"Networks": {"bridge": settings}}}]);
        assert_eq!(violations("/v1.24/containers/json", &list(json!({"DNSNames": ["a"]}))), [""; 0]);
        assert_eq!(
            violations("/v1.24/containers/json", &list(json!({"DNSNames": "a"}))),
            ["ContainerList[].NetworkSettings.Networks{}.DNSNames: array expected, found \"a\""]
        );
    }

    #[test]
    fn streams_are_checked_document_by_document() {
        let stream = b"{\"Type\":\"container\",\"time\":1}\n{\"Type\":\"spoon\"}\n{\"Type\":";
        let found = validate("GET", "/v1.52/events?since=1", 200, stream);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].to_string(), "SystemEvents.Type: \"spoon\" is not in the enumeration");
    }

    #[test]
    fn errors_have_a_message_and_statuses_are_those_of_the_specification() {
        assert!(
            validate("GET", "/containers/x/json", 404, br#"{"message":"No such container: x"}"#).is_empty()
        );
        assert_eq!(validate("GET", "/containers/x/json", 404, b"gone")[0].at, "ContainerInspect");
        assert_eq!(validate("GET", "/info", 203, b"{}")[0].fault, Fault::Status(203));
        assert_eq!(validate("GET", "/nowhere", 200, b"")[0].fault, Fault::NoOperation);
        assert!(validate("GET", "/_ping", 200, b"OK").is_empty());
    }
}
