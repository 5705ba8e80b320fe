//! Dockerfile instructions that change how a container is run: `import --change` and later `commit --change`.

mod health;

use std::collections::BTreeMap;

use super::config::RunConfig;
use super::error::ImageError;

/// An instruction that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    #[error("{0} is not a valid change command")]
    Instruction(String),
    #[error("{0} requires at least one argument")]
    Missing(String),
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    Pair(String),
    #[error("Syntax error - a quote is not closed in {0:?}")]
    Quote(String),
    #[error("Unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthType(String),
    #[error("Unknown flag: {0}")]
    HealthFlag(String),
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthCommand,
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthNone,
    #[error("time: invalid duration {0:?}")]
    Duration(String),
    #[error("Interval {0:?} cannot be less than 1ms")]
    ShortDuration(String),
    #[error("strconv.ParseInt: parsing {0:?}: invalid syntax")]
    Retries(String),
    #[error("--retries cannot be negative: {0}")]
    NegativeRetries(i64),
}

/// What the instructions make of an empty configuration.
pub fn apply(changes: &[String]) -> Result<RunConfig, ImageError> {
    let mut config = RunConfig::default();
    apply_to(&mut config, changes)?;
    Ok(config)
}

/// Changes a configuration as the instructions say.
pub fn apply_to(config: &mut RunConfig, changes: &[String]) -> Result<(), ImageError> {
    for line in
        changes.iter().flat_map(|change| change.lines()).map(str::trim).filter(|line| !line.is_empty())
    {
        one(config, line).map_err(ImageError::Change)?;
    }
    Ok(())
}

fn one(config: &mut RunConfig, line: &str) -> Result<(), InvalidChange> {
    let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (instruction, rest) = (instruction.to_ascii_uppercase(), rest.trim());
    if rest.is_empty() {
        return Err(match is_known(&instruction) {
            true => InvalidChange::Missing(instruction),
            false => InvalidChange::Instruction(instruction),
        });
    }
    match instruction.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            for (name, value) in pairs(rest)? {
                config.env.retain(|entry| entry.split('=').next() != Some(&name));
                config.env.push(format!("{name}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest)?),
        "EXPOSE" => {
            let port = |text: &str| if text.contains('/') { text.to_owned() } else { format!("{text}/tcp") };
            config.exposed_ports.extend(rest.split_whitespace().map(port));
        }
        "VOLUME" => config.volumes.extend(json_list(rest).unwrap_or_else(|| words(rest))),
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => config.working_dir = joined(&config.working_dir, rest),
        "HEALTHCHECK" => config.healthcheck = Some(health::parse(rest)?),
        "STOPSIGNAL" => config.stop_signal = rest.to_owned(),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        _ => return Err(InvalidChange::Instruction(instruction)),
    }
    Ok(())
}

fn is_known(instruction: &str) -> bool {
    const KNOWN: [&str; 11] = [
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    KNOWN.contains(&instruction)
}

/// A relative directory is one below the present one.
fn joined(present: &str, dir: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let all = if dir.starts_with('/') { dir.to_owned() } else { format!("{present}/{dir}") };
    for part in all.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A JSON list is the command itself, anything else is for a shell.
fn command(text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| ["/bin/sh", "-c", text].map(str::to_owned).to_vec())
}

fn json_list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `name=value name2="a b"`, or the old `name all the rest`.
fn pairs(text: &str) -> Result<BTreeMap<String, String>, InvalidChange> {
    let tokens = tokens(text)?;
    if tokens.first().is_some_and(|first| !first.contains('=')) {
        let (name, value) =
            text.split_once(char::is_whitespace).ok_or_else(|| InvalidChange::Pair(text.to_owned()))?;
        return Ok([(name.to_owned(), value.trim().to_owned())].into());
    }
    tokens
        .into_iter()
        .map(|token| match token.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(InvalidChange::Pair(token)),
        })
        .collect()
}

/// Words as a shell would split them: quotes and backslashes are understood and taken away.
fn tokens(text: &str) -> Result<Vec<String>, InvalidChange> {
    let (mut tokens, mut current, mut started, mut quote) = (Vec::new(), String::new(), false, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => (quote, started) = (Some(letter), true),
            (Some('"') | None, '\\') => {
                current.extend(letters.next());
                started = true;
            }
            (None, letter) if letter.is_whitespace() => {
                if std::mem::take(&mut started) {
                    tokens.push(std::mem::take(&mut current));
                }
            }
            (_, letter) => {
                current.push(letter);
                started = true;
            }
        }
    }
    if quote.is_some() {
        return Err(InvalidChange::Quote(text.to_owned()));
    }
    if started {
        tokens.push(current);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_followed_as_in_a_dockerfile() {
        let lines = [
            "CMD [\"a\", \"b\"]",
            "entrypoint run it",
            "ENV A=1 B=\"two words\" C=x\\ y",
            "ENV A the rest of it",
            "LABEL k=v",
            "EXPOSE 80 53/udp",
            "VOLUME /a /b",
            "USER 1000:1000",
            "WORKDIR /w",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
            "WORKDIR sub/../dir",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD test -f /x",
        ];
        let config = apply(&lines.map(str::to_owned)).unwrap();
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(config.cmd, Some(strings(&["a", "b"])));
        assert_eq!(config.entrypoint, Some(strings(&["/bin/sh", "-c", "run it"])));
        assert_eq!(config.env, strings(&["B=two words", "C=x y", "A=the rest of it"]));
        assert_eq!(config.labels["k"], "v");
        assert_eq!(config.exposed_ports.iter().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.volumes.len(), 2);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/w/dir"));
        let health = config.healthcheck.unwrap();
        assert_eq!(health.test, strings(&["CMD-SHELL", "test -f /x"]));
        assert_eq!((health.interval, health.retries), (90_000_000_000, 2));
        for (line, message) in [
            ("RUN x", "RUN is not a valid change command"),
            ("CMD", "CMD requires at least one argument"),
            ("ENV A=1 B", "Syntax error - can't find = in \"B\". Must be of the form: name=value"),
            ("ENV A=\"1", "Syntax error - a quote is not closed in \"A=\\\"1\""),
        ] {
            assert_eq!(apply(&[line.to_owned()]).unwrap_err().to_string(), message);
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn values_in_quotes_arrive_whole(
            pairs in prop::collection::btree_map("[A-Z]{1,3}", any::<String>(), 1..4),
            single in any::<bool>(),
        ) {
            // Single quotes know no escapes: what has one itself must be in double quotes.
            let quoted = |value: &String| match single && !value.contains('\'') {
                true => format!("'{value}'"),
                false => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
            };
            let line: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
            let config = apply(&[format!("LABEL {}", line.join(" \t"))]);
            // Lines end where they end, in quotes too.
            prop_assume!(pairs.values().all(|value| !value.contains(['\n', '\r'])));
            prop_assert_eq!(config.unwrap().labels, pairs);
        }

        #[test]
        fn a_working_directory_is_absolute_and_plain(dirs in prop::collection::vec("[a./]{1,8}", 1..4)) {
            let lines: Vec<_> = dirs.iter().map(|dir| format!("WORKDIR {dir}")).collect();
            let dir = apply(&lines).unwrap().working_dir;
            prop_assert!(dir.starts_with('/') && !dir.split('/').any(|part| matches!(part, "." | "..")), "{}", dir);
        }

        #[test]
        fn any_line_is_followed_or_refused(
            line in "(ENV|cmd|LABEL|HEALTHCHECK|EXPOSE|VOLUME|x) ?([a=\"'\\\\ \\[\\],]|--interval=|CMD |1s){0,12}",
        ) {
            let _ = apply(&[line]);
        }
    }
}
