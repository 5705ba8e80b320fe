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

#[cfg(test)]
mod properties {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::options::Meaning;
    use super::super::read;
    use super::*;
    use crate::base::testing::cases;

    /// Read only where TLS is on, or of two types.
    const EXCEPTIONS: [&str; 4] = ["tlscacert", "tlscert", "tlskey", "default-shm-size"];

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-3..5i64).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::sample::select(vec![
                "",
                "a=b",
                "10.0.0.0/8",
                "::1",
                "unix://",
                "https://m",
                "1g",
                "base",
                "native.cgroupdriver=cgroupfs"
            ])
            .prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let key = prop_oneof!["[a-z]{1,4}", "path|base|size|Soft|Hard|runc|runtimeArgs"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..3).prop_map(|map| json!(map)),
            ]
        })
    }

    fn is_of(kind: Kind, value: &Value) -> bool {
        let is_text = |value: &Value| value.is_string();
        match kind {
            _ if value.is_null() => true,
            Kind::Bool => value.is_boolean(),
            Kind::Int => value.is_i64(),
            Kind::Text => is_text(value),
            Kind::List => value.as_array().is_some_and(|list| list.iter().all(is_text)),
            Kind::Map => value.as_object().is_some_and(|map| map.values().all(is_text)),
            Kind::Structure => value.is_object() || value.is_array(),
        }
    }

    proptest! {
        #![proptest_config(cases(2000))]

        #[test]
        fn a_value_of_another_type_is_an_error(option in 0..OPTIONS.len(), value in value()) {
            let option = &OPTIONS[option];
            let file = json!({ option.key: value }).to_string();
            let read = parse(file.as_bytes()).and_then(|raw| read::config(&raw));
            let checked = option.meaning == Meaning::Used && !EXCEPTIONS.contains(&option.key);
            if checked && !is_of(option.kind, &value) {
                prop_assert!(read.is_err(), "{}", file);
            }
        }

        #[test]
        fn any_file_is_read_or_refused(
            text in r#"[{}\[\]":,a-z1 ]{0,20}|.{0,20}"#,
            values in prop::collection::vec((0..OPTIONS.len(), value()), 0..5),
        ) {
            let _ = parse(text.as_bytes());
            let file: Value = values.into_iter().map(|(at, value)| (OPTIONS[at].key.to_owned(), value)).collect();
            if let Ok(raw) = parse(file.to_string().as_bytes()) {
                let _ = read::config(&raw);
                let _ = read::live(&raw);
                let _ = options::merge(raw.clone(), raw);
            }
        }
    }
}
