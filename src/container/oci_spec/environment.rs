//! The variables of a container's processes, in the order in which dockerd and runc have them: its own first, each in
//! its place whoever gives it a value, and `HOME` last where nobody does.

use std::collections::HashSet;

use super::SpecInput;
use crate::container::exec::ExecConfig;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Those of the container's program.
pub(super) fn of_container(input: &SpecInput<'_>) -> Vec<String> {
    let terminal = input.record.config.tty.then_some(TERMINAL);
    finished(inherited(input, terminal), input)
}

/// Those of an exec: the container's, but for what tells of its terminal, replaced and extended by its own.
pub(super) fn of_exec(input: &SpecInput<'_>, config: &ExecConfig) -> Vec<String> {
    let terminal = config.tty.then_some(TERMINAL);
    finished(replaced(inherited(input, terminal), &config.env), input)
}

const TERMINAL: &str = "TERM=xterm";

fn inherited(input: &SpecInput<'_>, terminal: Option<&str>) -> Vec<String> {
    let config = &input.record.config;
    let mut all = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    all.extend(terminal.map(str::to_owned));
    all.extend(input.links.iter().cloned());
    replaced(all, config.env.as_deref().unwrap_or_default())
}

/// `entries` in the place of those before that have their names, and after them. One without `=` takes a variable
/// away. Of two that are new both stay, until [`finished`].
fn replaced(before: Vec<String>, entries: &[String]) -> Vec<String> {
    let names: Vec<String> = before.iter().map(|entry| name(entry).to_owned()).collect();
    let mut all: Vec<Option<String>> = before.into_iter().map(Some).collect();
    for entry in entries {
        let value = entry.contains('=').then(|| entry.clone());
        match names.iter().rposition(|known| known == name(entry)) {
            Some(at) => all[at] = value,
            None => all.extend(value.map(Some)),
        }
    }
    all.into_iter().flatten().collect()
}

/// `--env-file` and then `-e` may both give one: the last counts, while getenv(3) would find the first.
fn finished(all: Vec<String>, input: &SpecInput<'_>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut last: Vec<String> =
        all.into_iter().rev().filter(|entry| seen.insert(name(entry).to_owned())).collect();
    last.reverse();
    let home = format!("HOME={}", input.user.home);
    if !seen.contains("HOME") {
        last.push(home);
    } else if let Some(empty) = last.iter_mut().find(|entry| *entry == "HOME=") {
        // To runc it is none.
        *empty = home;
    }
    last
}

fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}
