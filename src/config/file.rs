//! `daemon.json`: keys are checked against the table, values only when they are read.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::ConfigError;
use super::options::{self, Kind, OPTIONS, Raw};

/// Reads the file. An empty one is an empty configuration.
pub fn read(path: &Path) -> Result<Raw, ConfigError> {
    let bytes = std::fs::read(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => ConfigError::Io(e),
    })?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Raw, ConfigError> {
    // Editors on Windows put a byte order mark before UTF-8; dockerd takes it off.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii();
    if bytes.is_empty() {
        return Ok(Raw::default());
    }
    let Value::Object(object) = serde_json::from_slice(bytes)? else { return Err(ConfigError::NotAnObject) };
    let mut raw = Raw::default();
    let mut unknown = Vec::new();
    for (key, value) in object {
        match (options::by_key(&key), value) {
            (Some(spec), value) => raw.set(spec, value),
            // Groups such as "proxies": dockerd looks into every object that is not an option.
            (None, Value::Object(group)) => {
                for (key, value) in group {
                    put(&mut raw, key, value, &mut unknown);
                }
            }
            (None, value) => put(&mut raw, key, value, &mut unknown),
        }
    }
    if !unknown.is_empty() {
        return Err(ConfigError::UnknownKeys(unknown));
    }
    if raw.get("host-gateway-ip").is_some() && raw.get("host-gateway-ips").is_some() {
        return Err(ConfigError::GatewayTwice);
    }
    Ok(raw)
}

fn put(raw: &mut Raw, key: String, value: Value, unknown: &mut Vec<(String, Option<&'static str>)>) {
    match options::by_key(&key) {
        Some(spec) => raw.set(spec, value),
        None => {
            let nearest = options::nearest(&key, OPTIONS.iter().map(|spec| spec.key));
            unknown.push((key, nearest));
        }
    }
}

/// What JSON calls the type of a value, and what an option's kind wants.
pub fn type_names(value: &Value, kind: Kind) -> (&'static str, &'static str) {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let wanted = match kind {
        Kind::Bool => "bool",
        Kind::Int => "int",
        Kind::Text => "string",
        Kind::List => "[]string",
        Kind::Map => "map[string]string",
        Kind::Structure => "object",
    };
    (found, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_or_named_with_the_nearest() {
        let raw = parse(b"\xEF\xBB\xBF {\"debug\": true, \"proxies\": {\"no-proxy\": \"x\"}, \"features\": {\"a\": true}}");
        let raw = raw.unwrap();
        assert_eq!(raw.get("no-proxy"), Some(&"x".into()));
        assert_eq!(raw.get("features"), Some(&serde_json::json!({"a": true})));
        assert!(parse(b" \n").unwrap().get("debug").is_none());
        assert_eq!(
            parse(br#"{"insecure-registry": [], "zzzzzz": 1}"#).unwrap_err().to_string(),
            "the following directives don't match any configuration option: insecure-registry (did you mean \
             insecure-registries?), zzzzzz"
        );
        assert!(parse(b"[]").is_err());
        assert!(parse(b"{").is_err());
    }

    #[test]
    fn an_option_in_flags_and_file_is_a_conflict_in_dockerds_words() {
        let flags =
            super::super::flags::parse(&["-D".into(), "--label=a=b".into(), "--add-runtime=x=/x".into()]);
        let file = parse(br#"{"debug": false, "labels": ["c=d", "e=f"], "runtimes": {"y": {"path": "/y"}}}"#)
            .unwrap();
        assert_eq!(
            options::merge(flags.unwrap().raw, file).unwrap_err().to_string(),
            "the following directives are specified both as a flag and in the configuration file: \
             debug: (from flag: true, from file: false), labels: (from flag: [a=b], from file: [c=d e=f])"
        );
    }
}
