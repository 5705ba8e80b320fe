//! The README's first session: its commands are run and give the output that is printed there.

use std::fs;
use std::path::PathBuf;

use regex::Regex;

use crate::harness::daemon::Daemon;
use crate::harness::images::{Packing, busybox};
use crate::harness::record::normalised;
use crate::harness::registry::ScriptedRegistry;
use crate::harness::scenario::{Setup, scenario};

const BEGIN: &str = "```console\n";
const PROMPT: &str = "/ # ";

/// A command and the lines printed below it.
struct Step {
    command: String,
    printed: String,
}

fn readme() -> PathBuf {
    let root = std::env::var_os("COMPAT_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(root).join("README.md")
}

/// The text before the session, its steps, and the text after it.
fn session(text: &str) -> (String, Vec<Step>, String) {
    let (before, rest) = text.split_once(BEGIN).expect("the README has a session");
    let (session, after) = rest.split_once("```").unwrap();
    let steps = session.split("\n$ ").map(|step| {
        let (command, printed) = step.split_once('\n').unwrap_or((step, ""));
        let printed = if printed.is_empty() { String::new() } else { format!("{}\n", printed.trim_end()) };
        Step { command: command.trim_start_matches("$ ").to_owned(), printed }
    });
    (before.to_owned(), steps.collect(), after.to_owned())
}

fn outcome(d: &Daemon, step: &Step) -> String {
    if step.command.contains(" -it ") {
        return on_terminal(d, step);
    }
    let ended = d.sh(&format!("{{ {}; }} 2>&1", step.command));
    assert_eq!(ended.code, 0, "{ended}");
    ended.stdout
}

/// Types what stands after each prompt.
fn on_terminal(d: &Daemon, step: &Step) -> String {
    let mut terminal = d.terminal(&step.command);
    let typed = step.printed.lines().filter_map(|line| line.strip_prefix(PROMPT));
    for (earlier, typed) in typed.enumerate() {
        crate::harness::poll::eventually("a prompt", || terminal.output().matches(PROMPT).count() > earlier);
        terminal.types(&format!("{typed}\n"));
    }
    assert_eq!(terminal.exit_code(), 0, "{}", terminal.output());
    // the shell asks the terminal where its cursor is
    let escapes = Regex::new("\x1b\\[[0-9;]*[A-Za-z]").unwrap();
    escapes.replace_all(&terminal.output().replace('\r', ""), "").into_owned()
}

scenario!(
    the_readme_s_session_is_what_happens,
    Setup::new().without_image().slipway_only().flags(&["--registry-mirror", "http://127.0.0.1:5001"]),
    |d| {
        let hub = ScriptedRegistry::start(d, "127.0.0.1:5001", Box::new(|_| None));
        hub.hold("library/busybox:latest", busybox().pack(Packing::Gzip));
        let text = fs::read_to_string(readme()).unwrap();
        let (before, steps, after) = session(&text);
        let done: Vec<_> = steps.iter().map(|step| (step, outcome(d, step))).collect();
        if std::env::var_os("COMPAT_WRITE_README").is_some() {
            let written: String =
                done.iter().map(|(step, output)| format!("$ {}\n{output}", step.command)).collect();
            fs::write(readme(), format!("{before}{BEGIN}{written}```{after}")).unwrap();
            return;
        }
        for (step, output) in done {
            assert_eq!(normalised(&output), normalised(&step.printed), "$ {}", step.command);
        }
    }
);
