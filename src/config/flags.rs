//! The command line, with the syntax of Go's pflag: `--flag=value`, `--flag value`, `-f value`, `-fvalue`; a Boolean
//! takes its value only after `=`.

use std::path::PathBuf;

use serde_json::{Map as Object, Value};

use super::ConfigError;
use super::options::{self, Kind, OPTIONS, Raw, Spec};
use super::values;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Run,
    Validate,
    Help,
    Version,
}

/// A command line that was understood.
pub struct Parsed {
    pub action: Action,
    pub file: Option<PathBuf>,
    pub raw: Raw,
}

/// Flags about the command line itself.
static OWN: &[Spec] = &[
    own("config-file", None, Kind::Text, "Daemon configuration file (default \"/etc/docker/daemon.json\")"),
    own("help", Some('h'), Kind::Bool, "Print usage"),
    own("validate", None, Kind::Bool, "Validate daemon configuration and exit"),
    own("version", Some('v'), Kind::Bool, "Print version information and quit"),
];

const fn own(flag: &'static str, short: Option<char>, kind: Kind, help: &'static str) -> Spec {
    Spec { flag, short, key: "", kind, meaning: options::Meaning::Used, help }
}

/// Reads the arguments after the program's name.
pub fn parse(args: &[String]) -> Result<Parsed, ConfigError> {
    let mut parsed = Parsed { action: Action::Run, file: None, raw: Raw::default() };
    let mut args = args.iter();
    while let Some(word) = args.next() {
        let (spec, value) = match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(""), _) => match args.next() {
                Some(argument) => return Err(ConfigError::Argument(argument.clone())),
                None => break,
            },
            (Some(long), _) => long_flag(long)?,
            (None, Some(shorts)) if !shorts.is_empty() => {
                let Some(last) = short_flags(shorts, &mut parsed)? else { continue };
                last
            }
            _ => return Err(ConfigError::Argument(word.clone())),
        };
        let value = match (value, spec.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".to_owned(),
            (None, _) => args.next().cloned().ok_or(ConfigError::MissingArgument(spec.flag))?,
        };
        apply(&mut parsed, spec, &value)?;
    }
    Ok(parsed)
}

fn all() -> impl Iterator<Item = &'static Spec> {
    OPTIONS.iter().chain(OWN)
}

fn long_flag(word: &str) -> Result<(&'static Spec, Option<String>), ConfigError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    let spec =
        all().find(|spec| spec.flag == name && !name.is_empty()).ok_or_else(|| ConfigError::UnknownFlag {
            flag: name.to_owned(),
            nearest: options::nearest(name, all().map(|spec| spec.flag)),
        })?;
    Ok((spec, value))
}

/// Applies the Booleans of `-Dl debug`; gives back the last flag if it takes a value.
fn short_flags(
    word: &str,
    parsed: &mut Parsed,
) -> Result<Option<(&'static Spec, Option<String>)>, ConfigError> {
    for (at, flag) in word.char_indices() {
        let unknown = || ConfigError::UnknownShorthand { flag, word: word.to_owned() };
        let spec = all().find(|spec| spec.short == Some(flag)).ok_or_else(unknown)?;
        let rest = &word[at + flag.len_utf8()..];
        if let Some(value) = rest.strip_prefix('=') {
            return Ok(Some((spec, Some(value.to_owned()))));
        }
        if spec.kind != Kind::Bool {
            return Ok(Some((spec, (!rest.is_empty()).then(|| rest.to_owned()))));
        }
        apply(parsed, spec, "true")?;
    }
    Ok(None)
}

fn apply(parsed: &mut Parsed, spec: &'static Spec, value: &str) -> Result<(), ConfigError> {
    let invalid =
        |reason: String| ConfigError::InvalidArgument { value: value.to_owned(), flag: spec.flag, reason };
    let action = match spec.flag {
        "config-file" => {
            parsed.file = Some(value.into());
            return Ok(());
        }
        "help" => Some(Action::Help),
        "validate" => Some(Action::Validate),
        "version" => Some(Action::Version),
        _ => None,
    };
    if let Some(action) = action {
        if values::boolean(value).map_err(invalid)? {
            parsed.action = action;
        }
        return Ok(());
    }
    match spec.kind {
        Kind::Bool => parsed.raw.set(spec, values::boolean(value).map_err(invalid)?.into()),
        Kind::Int => parsed.raw.set(spec, values::integer(value).map_err(invalid)?.into()),
        Kind::Text => parsed.raw.set(spec, value.into()),
        Kind::List => push(parsed.raw.entry(spec, Value::Array(Vec::new())), value.into()),
        Kind::Map => insert(parsed.raw.entry(spec, empty()), values::pair(value)),
        Kind::Structure => values::structure(spec, &mut parsed.raw, value).map_err(invalid)?,
    }
    Ok(())
}

fn empty() -> Value {
    Value::Object(Object::new())
}

fn push(list: &mut Value, value: Value) {
    if let Value::Array(list) = list {
        list.push(value);
    }
}

fn insert(map: &mut Value, (name, value): (&str, &str)) {
    if let Value::Object(map) = map {
        map.insert(name.to_owned(), value.into());
    }
}

/// What `--help` prints.
pub fn usage() -> String {
    let mut rows: Vec<&Spec> = all().filter(|spec| !spec.flag.is_empty()).collect();
    rows.sort_by_key(|spec| spec.flag);
    let mut text =
        "\nUsage:\tslipwayd [OPTIONS]\n\nA self-sufficient runtime for containers.\n\nOptions:\n".to_owned();
    for spec in rows {
        let short = spec.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let kind = match spec.kind {
            Kind::Bool => "",
            Kind::Int => " int",
            Kind::Text => " string",
            Kind::List => " list",
            Kind::Map => " map",
            Kind::Structure => " value",
        };
        let flag = format!("{short}--{}{kind}", spec.flag);
        text.push_str(&format!("  {flag:<44}{}\n", spec.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, ConfigError> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn all_of_pflags_forms_are_understood() {
        let line =
            "-D -H unix:///a -Hfd:// --host=tcp://b --mtu 1400 --icc=false -lwarn --log-opt a=b=c --pidfile=";
        let raw = parsed(line).unwrap().raw;
        assert_eq!(raw.get("debug"), Some(&true.into()));
        assert_eq!(raw.get("hosts"), Some(&serde_json::json!(["unix:///a", "fd://", "tcp://b"])));
        assert_eq!(raw.get("mtu"), Some(&1400.into()));
        assert_eq!(raw.get("icc"), Some(&false.into()));
        assert_eq!(raw.get("log-level"), Some(&"warn".into()));
        assert_eq!(raw.get("log-opts"), Some(&serde_json::json!({"a": "b=c"})));
        assert_eq!(raw.get("pidfile"), Some(&"".into()));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, text) in [
            ("--hots unix:///a", "unknown flag: --hots (did you mean --host?)"),
            ("-Dz", "unknown shorthand flag: 'z' in -Dz"),
            ("--mtu", "flag needs an argument: --mtu"),
            (
                "--mtu x",
                "invalid argument \"x\" for \"--mtu\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "--icc=x",
                "invalid argument \"x\" for \"--icc\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            ("run", "slipwayd accepts no arguments: \"run\""),
        ] {
            assert_eq!(parsed(line).err().unwrap().to_string(), text);
        }
    }

    #[test]
    fn help_version_and_validate_are_actions() {
        for (line, action) in [
            ("--help", Action::Help),
            ("-v", Action::Version),
            ("--validate --config-file /x", Action::Validate),
            ("--validate=false", Action::Run),
        ] {
            assert_eq!(parsed(line).unwrap().action, action);
        }
        assert!(usage().contains("-H, --host list"));
    }
}
