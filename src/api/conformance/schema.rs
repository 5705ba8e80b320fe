//! Walks a JSON value along its schema in `api-spec/engine-api.json`, whose form `scripts/api-facts` describes.

use std::sync::OnceLock;

use chrono::DateTime;
use serde_json::{Map, Value};

use super::{Fault, Violation};
use crate::api::versions::ApiVersion;

/// The specification's facts.
pub struct Facts(Value);

impl Facts {
    /// Read once per process.
    pub fn get() -> &'static Self {
        static FACTS: OnceLock<Facts> = OnceLock::new();
        FACTS.get_or_init(|| {
            let text = include_str!("../../../api-spec/engine-api.json");
            Self(serde_json::from_str(text).expect("build.rs has read this file too"))
        })
    }

    /// The responses by status code of the operation with this id; those beyond the specification have none.
    pub fn responses(&self, operation: &str) -> Option<&Value> {
        let operations = self.0["operations"].as_array()?;
        Some(&operations.iter().find(|one| one["id"] == operation)?["responses"])
    }

    /// Whether a shape says what the JSON looks like; archives, raw streams and plain text do not.
    pub fn is_json(&self, shape: &Value, version: ApiVersion) -> bool {
        let shape = variant(shape, version);
        shape.get("ref").is_some() || shape.get("all").is_some() || matches!(kind(shape), "object" | "array")
    }

    pub(super) fn definition(&self, name: &str) -> Option<&Value> {
        self.0["definitions"].get(name)
    }
}

/// The shape that is valid in `version`, or else the one of the nearest version.
fn variant(shapes: &Value, version: ApiVersion) -> &Value {
    let Some(list) = shapes.as_array() else { return shapes };
    let distance = |shape: &Value| {
        let (from, until) = (minor(shape, "from", 0), minor(shape, "until", u16::MAX));
        from.saturating_sub(version.minor()).max(version.minor().saturating_sub(until))
    };
    list.iter().min_by_key(|shape| distance(shape)).unwrap_or(&Value::Null)
}

fn is_valid_in(shape: &Value, version: ApiVersion) -> bool {
    // 1.24 has no specification of its own and is checked as 1.25.
    (minor(shape, "from", 0)..=minor(shape, "until", u16::MAX)).contains(&version.minor().max(25))
}

fn minor(shape: &Value, key: &str, default: u16) -> u16 {
    let text = shape.get(key).and_then(Value::as_str);
    text.and_then(|text| text.strip_prefix("1.")).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn kind(shape: &Value) -> &str {
    shape.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// One response being checked.
pub struct Check {
    at: String,
    version: ApiVersion,
    pub found: Vec<Violation>,
}

impl Check {
    pub fn new(operation: &str, version: ApiVersion) -> Self {
        Self { at: operation.to_owned(), version, found: Vec::new() }
    }

    /// Checks a value against a definition.
    pub fn definition(&mut self, name: &str, value: &Value) {
        if let Some(shapes) = Facts::get().definition(name) {
            self.value(shapes, value);
        }
    }

    /// Checks a value against a shape or the fitting one of several.
    pub fn value(&mut self, shapes: &Value, value: &Value) {
        let shape = variant(shapes, self.version);
        // Go writes an absent list or map as null, and so does dockerd wherever it has none.
        if value.is_null() && (shape.get("nullable").is_some() || self.is_compound(shape)) {
            return;
        }
        if let Some(name) = shape.get("ref").and_then(Value::as_str) {
            return self.definition(name, value);
        }
        if let Some([only]) = shape.get("all").and_then(Value::as_array).map(Vec::as_slice)
            && shape.get("fields").is_none()
        {
            return self.value(only, value);
        }
        match kind(shape) {
            "array" => self.array(shape, value),
            "object" => self.object(shapes, value),
            "" if shape.get("all").is_some() || shape.get("fields").is_some() => self.object(shapes, value),
            _ => self.scalar(shape, value),
        }
    }

    fn is_compound(&self, shape: &Value) -> bool {
        match shape.get("ref").and_then(Value::as_str).and_then(|name| Facts::get().definition(name)) {
            Some(shapes) => {
                let shape = variant(shapes, self.version);
                shape.get("nullable").is_some() || self.is_compound(shape)
            }
            None => matches!(kind(shape), "array" | "object") || shape.get("all").is_some(),
        }
    }

    fn array(&mut self, shape: &Value, value: &Value) {
        let Some(items) = value.as_array() else { return self.wrong_type("array", value) };
        if let Some(shapes) = shape.get("items") {
            for item in items {
                self.inside("[]", |check| check.value(shapes, item));
            }
        }
    }

    fn object(&mut self, shapes: &Value, value: &Value) {
        let Some(object) = value.as_object() else { return self.wrong_type("object", value) };
        let shape = variant(shapes, self.version);
        let mut fields = Fields::default();
        fields.collect(shapes, self.version);
        for (name, member) in object {
            match (fields.shapes(name), shape.get("values")) {
                (Some(shapes), _) => self.inside(&format!(".{name}"), |check| check.value(shapes, member)),
                (None, Some(values)) => self.inside("{}", |check| check.value(values, member)),
                (None, None) if fields.is_empty() => {}
                (None, None) => self.inside(&format!(".{name}"), |check| check.push(Fault::Unknown)),
            }
        }
        self.required(&fields, object);
    }

    fn required(&mut self, fields: &Fields<'_>, object: &Map<String, Value>) {
        for (name, shapes) in &fields.current {
            let shape = variant(shapes, self.version);
            let required = shape.get("required").is_some() && is_valid_in(shape, self.version);
            if required && !object.contains_key(*name) {
                self.inside(&format!(".{name}"), |check| check.push(Fault::Missing));
            }
        }
    }

    fn scalar(&mut self, shape: &Value, value: &Value) {
        let fits = match kind(shape) {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            _ => true,
        };
        if !fits {
            return self.wrong_type(kind(shape), value);
        }
        let words = shape.get("enum").and_then(Value::as_array);
        if words.is_some_and(|words| !words.contains(value)) {
            self.push(Fault::Enumeration { found: value.to_string() });
        }
        let is_time = matches!(shape.get("format").and_then(Value::as_str), Some("dateTime" | "date-time"));
        if let Some(text) = value.as_str().filter(|_| is_time)
            && DateTime::parse_from_rfc3339(text).is_err()
        {
            self.push(Fault::Time { found: text.to_owned() });
        }
    }

    fn wrong_type(&mut self, expected: &str, value: &Value) {
        let mut found = value.to_string();
        found.truncate(found.floor_char_boundary(80));
        self.push(Fault::Type { expected: expected.to_owned(), found });
    }

    fn push(&mut self, fault: Fault) {
        let violation = Violation { at: self.at.clone(), fault };
        if !self.found.contains(&violation) {
            self.found.push(violation);
        }
    }

    fn inside(&mut self, step: &str, check: impl FnOnce(&mut Self)) {
        let length = self.at.len();
        self.at.push_str(step);
        check(self);
        self.at.truncate(length);
    }
}

/// The fields of an object, out of all parts that apply to it.
#[derive(Default)]
struct Fields<'a> {
    /// Those of the shape that fits the version.
    current: Vec<(&'a str, &'a Value)>,
    /// Those of the shapes of other versions.
    other: Vec<(&'a str, &'a Value)>,
}

impl<'a> Fields<'a> {
    fn collect(&mut self, shapes: &'a Value, version: ApiVersion)
    where
        'static: 'a,
    {
        let current = variant(shapes, version);
        self.add(current, version);
        for shape in shapes.as_array().into_iter().flatten().filter(|shape| !std::ptr::eq(*shape, current)) {
            let mut fields = Fields::default();
            fields.add(shape, version);
            self.other.extend(fields.current);
            self.other.extend(fields.other);
        }
    }

    fn add(&mut self, shape: &'a Value, version: ApiVersion) {
        if let Some(shapes) =
            shape.get("ref").and_then(Value::as_str).and_then(|name| Facts::get().definition(name))
        {
            self.collect(shapes, version);
        }
        for part in shape.get("all").and_then(Value::as_array).into_iter().flatten() {
            self.add(part, version);
        }
        let fields = shape.get("fields").and_then(Value::as_object);
        self.current.extend(fields.into_iter().flatten().map(|(name, shapes)| (name.as_str(), shapes)));
    }

    fn shapes(&self, name: &str) -> Option<&'a Value> {
        self.current.iter().chain(&self.other).find(|(known, _)| *known == name).map(|(_, shapes)| *shapes)
    }

    fn is_empty(&self) -> bool {
        self.current.is_empty() && self.other.is_empty()
    }
}
