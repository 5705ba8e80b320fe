//! Dockerfile instructions that change how a container is run: `import --change` and `commit --change`.
//!
//! As dockerd takes them: all lines are read before one is followed, then all must be instructions that are allowed
//! here, then the arguments of all must be right. What fails first is what a client is told.

mod expand;
mod health;
mod lines;
mod ports;
mod syntax;

use expand::{Expander, Unreadable};
use ports::InvalidPort;
use syntax::{Arguments, Line};

use super::config::{Healthcheck, RunConfig};
use super::error::ImageError;
use crate::base::path::clean;
use crate::base::signal;

/// The shell of commands that are no list, unless the configuration names another.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// An instruction that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    #[error("file with no instructions")]
    Nothing,
    #[error("dockerfile line greater than max allowed size of {0}")]
    Long(usize),
    #[error("invalid escape token '{0}' does not match ` or \\")]
    Escape(String),
    #[error("only one {0} parser directive can be used")]
    SecondDirective(String),
    #[error("{0} is not a valid change command")]
    Instruction(String),
    #[error("{0} requires at least one argument")]
    Missing(&'static str),
    #[error("{0} requires exactly one argument")]
    NotOne(&'static str),
    #[error("{0} must have two arguments")]
    OneArgument(String),
    #[error("{0} names can not be blank")]
    Blank(&'static str),
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    Pair(String),
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    #[error("failed to process {word:?}: {cause}")]
    Word { word: String, cause: Unreadable },
    #[error(transparent)]
    Port(#[from] InvalidPort),
    #[error("invalid signal: {0}")]
    Signal(String),
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    #[error("cannot normalize nothing")]
    EmptyDirectory,
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    Chain,
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    Trigger(String),
    #[error("unknown flag: {0}")]
    Flag(String),
    #[error("duplicate flag specified: {0}")]
    SecondFlag(String),
    #[error("missing a value on flag: {0}")]
    FlagValue(String),
    #[error("Unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthType(String),
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthCommand,
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthNone,
    #[error("time: {problem} {text:?}")]
    Duration { problem: String, text: String },
    #[error("Interval {0:?} cannot be less than 1ms")]
    ShortDuration(&'static str),
    #[error("strconv.ParseInt: parsing {text:?}: {problem}")]
    Retries { text: String, problem: &'static str },
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i32),
}

/// An instruction whose arguments are right, as far as that can be said before variables have their values.
#[derive(Debug)]
enum Change {
    Cmd(Command),
    Entrypoint(Command),
    Env(Vec<(String, String)>),
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<(String, String)>),
    OnBuild(String),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    WorkDir(String),
}

/// A command as it is run, or as a shell is to read it.
#[derive(Debug)]
enum Command {
    Exec(Vec<String>),
    Shell(Option<String>),
}

/// What the instructions make of an empty configuration.
pub fn apply(changes: &[String]) -> Result<RunConfig, ImageError> {
    let mut config = RunConfig::default();
    apply_to(&mut config, changes)?;
    Ok(config)
}

/// Changes a configuration as the instructions say, of which each may have several lines.
pub fn apply_to(config: &mut RunConfig, changes: &[String]) -> Result<(), ImageError> {
    if changes.is_empty() {
        return Ok(());
    }
    follow_all(config, &changes.join("\n")).map_err(ImageError::Change)
}

fn follow_all(config: &mut RunConfig, text: &str) -> Result<(), InvalidChange> {
    let source = lines::read(text)?;
    let lines: Vec<Line<'_>> =
        source.lines.iter().map(|line| Line::read(line, source.escape)).collect::<Result<_, _>>()?;
    let names = lines.into_iter().map(|line| match known(line.word) {
        Some(name) => Ok((name, line)),
        None => Err(InvalidChange::Instruction(line.word.to_owned())),
    });
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    let changes = names.into_iter().map(|(name, line)| Change::check(name, line));
    let changes: Vec<_> = changes.collect::<Result<_, _>>()?;
    let mut has_command = false;
    for change in changes {
        // A new program takes no arguments that were for another.
        match &change {
            Change::Cmd(command) => has_command |= command.says_something(),
            Change::Entrypoint(_) if !has_command => config.cmd = None,
            _ => {}
        }
        change.follow(config, source.escape)?;
    }
    Ok(())
}

fn known(word: &str) -> Option<&'static str> {
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
    KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(word))
}

impl Change {
    fn check(name: &'static str, line: Line<'_>) -> Result<Self, InvalidChange> {
        if name == "HEALTHCHECK" {
            return health::parse(&line.flags, line.arguments).map(Self::Healthcheck);
        }
        if let Some(flag) = line.flags.first() {
            let flag = flag.split('=').next().unwrap_or(flag);
            return Err(InvalidChange::Flag(flag.to_owned()));
        }
        Ok(match name {
            "CMD" => Self::Cmd(Command::of(line.arguments)),
            "ENTRYPOINT" => Self::Entrypoint(Command::of(line.arguments)),
            "ENV" => Self::Env(line.arguments.pairs(name)?),
            "LABEL" => Self::Label(line.arguments.pairs(name)?),
            "EXPOSE" => Self::Expose(line.arguments.some(name)?),
            "ONBUILD" => Self::OnBuild(trigger(line)?),
            "STOPSIGNAL" => Self::StopSignal(line.arguments.one(name)?),
            "USER" => Self::User(line.arguments.one(name)?),
            "VOLUME" => Self::Volume(volumes(line.arguments.some(name)?)?),
            "WORKDIR" => Self::WorkDir(line.arguments.one(name)?),
            other => return Err(InvalidChange::Instruction(other.to_owned())),
        })
    }

    fn follow(self, config: &mut RunConfig, escape: char) -> Result<(), InvalidChange> {
        // Variables that an instruction sets have their values in those after it.
        let env = config.env.clone();
        let read = Expander { env: &env, escape };
        let pair = |(name, value): (String, String)| -> Result<_, InvalidChange> {
            Ok((read.text(&name)?, read.text(&value)?))
        };
        let all = |pairs: Vec<(String, String)>| pairs.into_iter().map(pair).collect::<Result<Vec<_>, _>>();
        match self {
            Self::Cmd(command) => config.cmd = Some(command.words(&config.shell)),
            Self::Entrypoint(command) => config.entrypoint = command.program(&config.shell),
            Self::Env(pairs) => all(pairs)?.into_iter().for_each(|(name, value)| set(config, &name, &value)),
            Self::Label(pairs) => config.labels.extend(all(pairs)?),
            Self::Expose(ports) => {
                for word in ports.iter().map(|port| read.words(port)).collect::<Result<Vec<_>, _>>()?.concat()
                {
                    config.exposed_ports.extend(ports::exposed(&word)?);
                }
            }
            Self::Healthcheck(probe) => config.healthcheck = Some(probe),
            Self::OnBuild(line) => config.on_build.push(line),
            Self::StopSignal(name) => config.stop_signal = stop_signal(read.text(&name)?)?,
            Self::User(user) => config.user = read.text(&user)?,
            Self::Volume(paths) => {
                let paths = paths.iter().map(|path| read.text(path)).collect::<Result<Vec<_>, _>>()?;
                config.volumes.extend(volumes(paths)?);
            }
            Self::WorkDir(dir) => config.working_dir = joined(&config.working_dir, read.text(&dir)?)?,
        }
        Ok(())
    }
}

impl Command {
    fn of(arguments: Arguments) -> Self {
        match arguments {
            Arguments::Json(list) => Self::Exec(list),
            Arguments::Words(words) => Self::Shell(words.into_iter().next()),
            Arguments::Pairs(_) => Self::Shell(None),
        }
    }

    fn words(self, shell: &[String]) -> Vec<String> {
        match self {
            Self::Exec(list) => list,
            Self::Shell(text) if shell.is_empty() => {
                SHELL.map(str::to_owned).into_iter().chain(text).collect()
            }
            Self::Shell(text) => shell.iter().cloned().chain(text).collect(),
        }
    }

    /// None for an empty one, which says nothing.
    fn program(self, shell: &[String]) -> Option<Vec<String>> {
        self.says_something().then(|| self.words(shell))
    }

    fn says_something(&self) -> bool {
        match self {
            Self::Exec(list) => !list.is_empty(),
            Self::Shell(text) => text.is_some(),
        }
    }
}

/// The first of two equal names keeps its place.
fn set(config: &mut RunConfig, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match config.env.iter_mut().find(|entry| entry.split('=').next() == Some(name)) {
        Some(earlier) => *earlier = entry,
        None => config.env.push(entry),
    }
}

/// The line that is followed when another image is built of this one.
fn trigger(line: Line<'_>) -> Result<String, InvalidChange> {
    let word = line.arguments.some("ONBUILD")?.concat().to_ascii_uppercase();
    match word.as_str() {
        "ONBUILD" => Err(InvalidChange::Chain),
        "MAINTAINER" | "FROM" => Err(InvalidChange::Trigger(word)),
        _ => Ok(line.rest.to_owned()),
    }
}

fn volumes(paths: Vec<String>) -> Result<Vec<String>, InvalidChange> {
    match paths.iter().any(|path| path.trim().is_empty()) {
        true => Err(InvalidChange::EmptyVolume),
        false => Ok(paths.iter().map(|path| path.trim().to_owned()).collect()),
    }
}

fn stop_signal(name: String) -> Result<String, InvalidChange> {
    if signal::parse(&name).is_none() { Err(InvalidChange::Signal(name)) } else { Ok(name) }
}

/// A relative directory is one below the present one; an absolute one stays as it is written.
fn joined(present: &str, dir: String) -> Result<String, InvalidChange> {
    if dir.is_empty() {
        return Err(InvalidChange::EmptyDirectory);
    }
    if dir.starts_with('/') {
        return Ok(dir);
    }
    Ok(clean(&format!("{present}/{dir}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn changes_are_followed_as_in_a_dockerfile() {
        let lines = [
            "CMD [\"a\", \"b\"]",
            "entrypoint run it",
            "ENV A=1 B=\"two words\" C=x\\ y D='$A'",
            "ENV A the \"rest\" of it",
            "LABEL k=$B \\",
            "  x=y",
            "LABEL l=${C:-no} m=${X:-yes}",
            "EXPOSE 80 53/udp",
            "ENV P=\"90 91\"\nEXPOSE $P",
            "VOLUME /a /b",
            "USER 1000:1000",
            "WORKDIR /w/../v",
            "STOPSIGNAL SIGINT",
            "ONBUILD  RUN x ",
            "# nothing",
            "WORKDIR sub/../dir",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD test -f /x",
        ];
        let config = apply(&lines.map(str::to_owned)).unwrap();
        assert_eq!(config.cmd, Some(strings(&["a", "b"])));
        assert_eq!(config.entrypoint, Some(strings(&["/bin/sh", "-c", "run it"])));
        assert_eq!(config.env, strings(&["A=the rest of it", "B=two words", "C=x y", "D=$A", "P=90 91"]));
        let label = |name: &str| config.labels[name].as_str();
        assert_eq!([label("k"), label("x"), label("l"), label("m")], ["two words", "y", "x y", "yes"]);
        assert_eq!(config.exposed_ports.iter().collect::<Vec<_>>(), ["53/udp", "80/tcp", "90/tcp", "91/tcp"]);
        assert_eq!(config.volumes.len(), 2);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/v/dir"));
        assert_eq!((config.stop_signal.as_str(), config.on_build), ("SIGINT", strings(&["RUN x "])));
        let health = config.healthcheck.unwrap();
        assert_eq!(health.test, strings(&["CMD-SHELL", "test -f /x"]));
        assert_eq!((health.interval, health.retries), (90_000_000_000, 2));
    }

    #[test]
    fn a_program_takes_no_command_of_another() {
        let commands = |changes: &[&str]| {
            let mut config =
                RunConfig { cmd: Some(strings(&["old"])), shell: strings(&["ash"]), ..RunConfig::default() };
            apply_to(&mut config, &strings(changes)).unwrap();
            (config.cmd, config.entrypoint)
        };
        assert_eq!(commands(&[]), (Some(strings(&["old"])), None));
        assert_eq!(commands(&["ENTRYPOINT [\"e\"]"]), (None, Some(strings(&["e"]))));
        assert_eq!(commands(&["CMD", "ENTRYPOINT e"]), (None, Some(strings(&["ash", "e"]))));
        assert_eq!(commands(&["CMD c", "ENTRYPOINT"]), (Some(strings(&["ash", "c"])), None));
        assert_eq!(commands(&["ENTRYPOINT []", "CMD []"]), (Some(Vec::new()), None));
    }

    #[test]
    fn what_cannot_be_followed_is_told_in_dockerd_s_words() {
        let chain = format!("ONBUILD {}RUN x", "ONBUILD ".repeat(8000));
        for (text, message) in [
            ("RUN x", "RUN is not a valid change command"),
            ("RUN x\nENV A", "ENV must have two arguments"),
            ("EXPOSE\nRUN x", "RUN is not a valid change command"),
            ("EXPOSE x\nUSER", "USER requires exactly one argument"),
            ("CMD[\"a\"]", "CMD[\"a\"] is not a valid change command"),
            ("CMD [\"a\", 1]", "when using JSON array syntax, arrays must be comprised of strings only"),
            ("CMD --x=1 a", "unknown flag: --x"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A=1 B", "Syntax error - can't find = in \"B\". Must be of the form: name=value"),
            ("ENV =1", "ENV names can not be blank"),
            (
                "ENV A=\"1",
                "failed to process \"\\\"1\": unexpected end of statement while looking for matching double-quote",
            ),
            ("EXPOSE 80/x", "invalid proto: x"),
            ("label a", "LABEL must have two arguments"),
            ("ONBUILD", "ONBUILD requires at least one argument"),
            (&chain, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
            ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
            ("ONBUILD ENV A", "ENV must have two arguments"),
            ("STOPSIGNAL BOGUS", "invalid signal: BOGUS"),
            ("VOLUME []", "VOLUME requires at least one argument"),
            ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
            ("VOLUME $X", "VOLUME specified can not be an empty string"),
            ("WORKDIR ''", "cannot normalize nothing"),
            ("", "file with no instructions"),
        ] {
            assert_eq!(apply(&[text.to_owned()]).unwrap_err().to_string(), message, "{text:.40}");
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
            let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            let quoted = |value: &String| match single && !value.contains('\'') {
                true => format!("'{value}'"),
                false => format!("\"{}\"", escaped(value)),
            };
            let line: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
            let config = apply(&[format!("LABEL {}", line.join(" \t"))]);
            // Lines end where they end, in quotes too.
            prop_assume!(pairs.values().all(|value| !value.contains('\n')));
            prop_assert_eq!(config.unwrap().labels, pairs);
        }

        #[test]
        fn a_working_directory_is_absolute(dirs in prop::collection::vec("[a./]{1,8}", 1..4)) {
            let lines: Vec<_> = dirs.iter().map(|dir| format!("WORKDIR {dir}")).collect();
            let dir = apply(&lines).unwrap().working_dir;
            prop_assert!(dir.starts_with('/'), "{}", dir);
        }

        #[test]
        fn any_line_is_followed_or_refused(
            line in "(ENV|cmd|LABEL|HEALTHCHECK|EXPOSE|VOLUME|ONBUILD|#escape=`|x) ?\
                    ([a=\"'\\\\ \\[\\],\n$:{}1-]|--interval=|CMD |1s){0,12}",
        ) {
            let _ = apply(&[line]);
        }
    }
}
