//! Turns `engine-api.json` (facts from the upstream specification) and `additions.json` (what dockerd serves beyond
//! it) into Rust: `enum Operation`, the `ROUTES` table and one parameter struct with decoder per operation.
//! `src/api/spec.rs` includes the result.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use serde::Deserialize;

#[derive(Deserialize)]
struct Facts {
    #[serde(default)]
    newest: String,
    operations: Vec<Operation>,
}

#[derive(Deserialize)]
struct Additions {
    operations: Vec<Operation>,
    parameters: BTreeMap<String, BTreeMap<String, Parameter>>,
}

#[derive(Deserialize)]
struct Operation {
    id: String,
    tag: String,
    method: String,
    path: String,
    #[serde(default)]
    from: Option<String>,
    parameters: BTreeMap<String, Shapes>,
    #[serde(default)]
    body: Option<serde_json::Value>,
}

/// A parameter, or its shapes in the course of the versions, oldest first.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shapes {
    One(Parameter),
    Many(Vec<Parameter>),
}

#[derive(Deserialize, Clone)]
struct Parameter {
    #[serde(rename = "in")]
    place: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    default: Option<serde_json::Value>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    until: Option<String>,
    /// Words before the number in the message about an invalid one.
    #[serde(default)]
    invalid: Option<String>,
}

fn main() {
    println!("cargo:rerun-if-changed=api-spec");
    let facts: Facts = read("api-spec/engine-api.json");
    let additions: Additions = read("api-spec/additions.json");
    let mut operations = facts.operations;
    assert_eq!(operations.len(), 108, "operations in the specification");
    correct(&mut operations, additions.parameters);
    operations.extend(additions.operations);

    let mut code = String::new();
    version(&mut code, &facts.newest);
    operation_enum(&mut code, &operations);
    routes(&mut code, &operations);
    code.push_str("/// The decoded parameters of each operation; absent and empty texts are both `None`.\npub mod params {\n");
    code.push_str("use super::{Decode, DecodeError, Decoder};\nuse crate::api::filters::Filters;\n");
    for operation in &operations {
        parameters(&mut code, operation);
    }
    code.push_str("}\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("engine_api.rs"), code).expect("OUT_DIR is writable");
}

fn read<T: serde::de::DeserializeOwned>(path: &str) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Lets the hand-written parameters replace those of the specification.
fn correct(operations: &mut [Operation], mut additions: BTreeMap<String, BTreeMap<String, Parameter>>) {
    for operation in operations {
        for (name, parameter) in additions.remove(&operation.id).unwrap_or_default() {
            operation.parameters.insert(name, Shapes::One(parameter));
        }
    }
    assert!(additions.is_empty(), "additions.json names unknown operations: {:?}", additions.keys());
}

fn version(code: &mut String, newest: &str) {
    writeln!(code, "/// The newest API version of the specification.").expect("a String grows");
    writeln!(code, "pub const NEWEST_VERSION: &str = {newest:?};").expect("a String grows");
    writeln!(code, "/// The minor number of the newest API version of the specification.")
        .expect("a String grows");
    writeln!(code, "pub const NEWEST_MINOR: u16 = {};", minor(newest)).expect("a String grows");
}

fn operation_enum(code: &mut String, operations: &[Operation]) {
    code.push_str("/// Everything that a client can ask for.\n");
    code.push_str("#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]\npub enum Operation {\n");
    for Operation { id, method, path, .. } in operations {
        writeln!(code, "    /// `{method} {path}`\n    {id},").expect("a String grows");
    }
    code.push_str("}\n");
}

/// Rows of method, text before and after the parameter of the path, operation and its group.
fn routes(code: &mut String, operations: &[Operation]) {
    writeln!(code, "/// All routes in the order of the specification.\npub const ROUTES: &[Route] = &[")
        .expect("a String grows");
    for operation in operations {
        let Operation { id, tag, method, path, .. } = operation;
        let since = operation.from.as_deref().map_or(0, minor);
        let body = operation.body.is_some();
        writeln!(
            code,
            "    Route {{ operation: Operation::{id}, name: {id:?}, tag: Tag::{tag}, method: {method:?}, \
             path: {path:?}, since: {since}, has_body: {body} }},"
        )
        .expect("a String grows");
    }
    code.push_str("];\n");
    let mut tags: Vec<_> = operations.iter().map(|operation| operation.tag.as_str()).collect();
    tags.sort_unstable();
    tags.dedup();
    code.push_str("/// The group of an operation; each has its file in `handlers/`.\n");
    code.push_str("#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]\npub enum Tag {\n");
    for tag in tags {
        writeln!(code, "    {tag},").expect("a String grows");
    }
    code.push_str("}\n");
}

fn parameters(code: &mut String, operation: &Operation) {
    let Operation { id, method, path, .. } = operation;
    let mut fields = String::new();
    let mut decoded = String::new();
    // The order of the path counts: a route's names are decoded from left to right.
    let mut used: Vec<_> = operation.parameters.iter().map(|(name, shapes)| (name, joined(shapes))).collect();
    used.retain(|(_, parameter)| parameter.place != "header");
    used.sort_by_key(|(name, parameter)| match parameter.place.as_str() {
        "path" => path.find(&format!("{{{name}}}")),
        _ => Some(usize::MAX),
    });
    for (name, parameter) in used {
        let field = field_name(name);
        let (kind, expression) = decoder(name, &parameter);
        writeln!(fields, "        pub {field}: {kind},").expect("a String grows");
        writeln!(decoded, "                {field}: {expression},").expect("a String grows");
    }
    let source = if decoded.is_empty() { "_source" } else { "source" };
    write!(
        code,
        "    /// Parameters of `{method} {path}`.\n    #[derive(Clone, PartialEq, Debug)]\n    pub struct {id} {{\n{fields}    }}\n    \
         impl Decode for {id} {{\n        fn decode({source}: &mut Decoder<'_>) -> Result<Self, DecodeError> {{\n            \
         Ok(Self {{\n{decoded}            }})\n        }}\n    }}\n"
    )
    .expect("a String grows");
}

/// One parameter out of its shapes: the newest one, valid in all versions that have any.
fn joined(shapes: &Shapes) -> Parameter {
    match shapes {
        Shapes::One(parameter) => parameter.clone(),
        Shapes::Many(list) => {
            let newest = list.last().expect("a list of shapes has one").clone();
            let first = list.first().expect("a list of shapes has one");
            // Texts become lists, never the other way round; a type that was wrong in an old file is of no interest.
            Parameter { from: first.from.clone(), until: newest.until.clone(), ..newest }
        }
    }
}

/// The Rust type of a parameter and the expression that decodes it.
fn decoder(name: &str, parameter: &Parameter) -> (&'static str, String) {
    if parameter.place == "path" {
        return ("String", "source.path()".to_owned());
    }
    let since = parameter.from.as_deref().map_or(0, minor);
    let until = parameter.until.as_deref().map_or(u16::MAX, minor);
    let span = format!("{name:?}, {since}..={until}");
    let default = parameter.default.as_ref();
    match parameter.kind.as_str() {
        "boolean" => {
            let default = default.and_then(serde_json::Value::as_bool).unwrap_or(false);
            ("bool", format!("source.boolean({span}, {default})"))
        }
        "integer" => match default.and_then(serde_json::Value::as_i64) {
            Some(default) => ("i64", format!("source.integer({span})?.unwrap_or({default})")),
            None => ("Option<i64>", format!("source.integer({span})?")),
        },
        "size" => {
            let words = parameter.invalid.as_deref().expect("a size says what an invalid one is called");
            ("u32", format!("source.size({span}, {words:?})?"))
        }
        "array" => ("Vec<String>", format!("source.texts({span})")),
        "string" if name == "filters" => ("Filters", format!("source.filters({span})?")),
        "string" => match default.and_then(serde_json::Value::as_str) {
            Some(default) if !default.is_empty() => {
                ("String", format!("source.text({span}).unwrap_or_else(|| {default:?}.to_owned())"))
            }
            _ if parameter.required => ("String", format!("source.text({span}).unwrap_or_default()")),
            _ => ("Option<String>", format!("source.text({span})")),
        },
        other => panic!("parameter {name} has the unknown type {other}"),
    }
}

/// `noOverwriteDirNonDir` → `no_overwrite_dir_non_dir`, `one-shot` → `one_shot`, `copyUIDGID` → `copy_uidgid`.
fn field_name(name: &str) -> String {
    let mut field = String::new();
    let mut after_lower = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && after_lower {
            field.push('_');
        }
        after_lower = letter.is_ascii_lowercase();
        field.push(if letter == '-' { '_' } else { letter.to_ascii_lowercase() });
    }
    if field == "type" { "types".to_owned() } else { field }
}

fn minor(version: &str) -> u16 {
    let number = version.strip_prefix("1.").and_then(|minor| minor.parse().ok());
    number.unwrap_or_else(|| panic!("{version} is not an API version"))
}
