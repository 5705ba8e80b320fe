//! No field of a request to create a container is lost: each is kept in the record and echoed by inspect.
//!
//! The request has every field that the specification of the newest version has, and goes through bollard's generated
//! model first, so that the test does not share our own types' mistakes.

use serde_json::{Map, Value, json};

use super::schema::Facts;
use crate::container::create::CreateBody;

/// A value of a shape, with all fields of the newest version.
fn sample(name: &str, shapes: &Value) -> Value {
    let shape = shapes.as_array().and_then(|list| list.last()).unwrap_or(shapes);
    let special = match name {
        "PortBindings" => Some(json!({ "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "8080" }] })),
        "ExposedPorts" => Some(json!({ "80/tcp": {}, "53/udp": {} })),
        "Volumes" => Some(json!({ "/data": {} })),
        "ConsoleSize" => Some(json!([24, 80])),
        "Type" if shape.get("all").is_some() => Some(json!("bind")),
        _ => None,
    };
    if let Some(special) = special {
        return special;
    }
    if let Some(reference) = shape.get("ref").and_then(Value::as_str) {
        return sample(name, Facts::get().definition(reference).expect("the sample is valid"));
    }
    if let Some(word) = shape["enum"].as_array().and_then(|words| words.iter().find(|word| *word != "")) {
        return word.clone();
    }
    match shape["type"].as_str().unwrap_or("object") {
        "string" => json!("text"),
        "boolean" => json!(true),
        "integer" | "number" => json!(7),
        "array" => json!([sample("", &shape["items"])]),
        _ => object(shape),
    }
}

fn object(shape: &Value) -> Value {
    let mut fields = Map::new();
    for part in shape["all"].as_array().into_iter().flatten() {
        if let Value::Object(part) = sample("", part) {
            fields.extend(part);
        }
    }
    for (name, shapes) in shape["fields"].as_object().into_iter().flatten() {
        let newest = shapes.as_array().and_then(|list| list.last()).unwrap_or(shapes);
        if newest.get("until").is_none() {
            fields.insert(name.clone(), sample(name, shapes));
        }
    }
    if let Some(values) = shape.get("values") {
        fields.insert("key".to_owned(), sample("", values));
    }
    Value::Object(fields)
}

/// What of `sent` is not the same in `kept`.
fn missing(at: &str, sent: &Value, kept: &Value, found: &mut Vec<String>) {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(kept)) => {
            for (name, value) in sent {
                missing(&format!("{at}.{name}"), value, kept.get(name).unwrap_or(&Value::Null), found);
            }
        }
        (sent, kept) if sent == kept => {}
        _ => found.push(format!("{at}: sent {sent}, kept {kept}")),
    }
}

#[test]
fn every_field_of_a_request_is_kept() {
    let definition = |name| sample("", Facts::get().definition(name).expect("the sample is valid"));
    let (mut body, host_config) = (definition("ContainerConfig"), definition("HostConfig"));
    body["HostConfig"] = host_config;
    let model: bollard_stubs::models::ContainerCreateBody =
        serde_json::from_value(body).expect("the sample is valid");
    let sent = serde_json::to_value(&model).expect("the sample is valid");
    let ours: CreateBody = serde_json::from_value(sent.clone()).expect("the sample is valid");
    let mut kept = serde_json::to_value(&ours.config).expect("the sample is valid");
    kept["HostConfig"] = serde_json::to_value(ours.host_config.as_ref().expect("the sample is valid"))
        .expect("the sample is valid");
    let mut found = Vec::new();
    missing("", &sent, &kept, &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(
        sent["HostConfig"].as_object().expect("the sample is valid").len() > 60,
        "the sample has all fields"
    );
}

#[test]
fn null_missing_and_empty_are_accepted_wherever_a_value_is_optional() {
    let definition = |name| sample("", Facts::get().definition(name).expect("the sample is valid"));
    let (mut body, host_config) = (definition("ContainerConfig"), definition("HostConfig"));
    body["HostConfig"] = host_config;
    for (place, fields) in [("", body.clone()), ("/HostConfig", body["HostConfig"].clone())] {
        for name in fields.as_object().expect("the sample is valid").keys() {
            let mut body = body.clone();
            body.pointer_mut(place).expect("the sample is valid")[name] = Value::Null;
            let read = serde_json::from_value::<CreateBody>(body);
            assert!(read.is_ok(), "{place}/{name}: {:?}", read.err());
        }
    }
}
