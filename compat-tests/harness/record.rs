//! Writes down what the user would have seen, with everything that differs from run to run replaced, so that two
//! engines can be compared (`scripts/compare-with-dockerd`).

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use regex::Regex;

use super::shell::Ended;

/// Appends to the record of one scenario; does nothing unless `COMPAT_RECORD` names a directory.
pub struct Record {
    file: Option<PathBuf>,
    dir: String,
}

impl Record {
    pub fn new(scenario: &str, dir: &Path) -> Self {
        let file =
            std::env::var_os("COMPAT_RECORD").map(|to| Path::new(&to).join(scenario.replace("::", ".")));
        if let Some(file) = &file {
            let _ = std::fs::remove_file(file);
        }
        Self { file, dir: dir.display().to_string() }
    }

    /// A command and how it ended.
    pub fn command(&self, ended: &Ended) {
        self.write(&format!("{ended}\n"));
    }

    fn write(&self, text: &str) {
        let Some(path) = &self.file else { return };
        let text = normalised(&text.replace(&self.dir, "<dir>"));
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

/// `text` with ids, times, durations and sizes of the moment replaced by their kind.
pub fn normalised(text: &str) -> String {
    static RULES: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let rules = RULES.get_or_init(|| {
        let rules = [
            (r"\b[0-9a-f]{64}\b", "<id>"),
            (r"\b[0-9a-f]{12}\b", "<short id>"),
            (r"/proc/\d+", "/proc/<pid>"),
            (r"\b(net|ipc|pid|uts|mnt):\[\d+\]", "$1:[<inode>]"),
            (r"\$ kill \d+", "$$ kill <pid>"),
            (r"\b1[6-9]\d{8}\b", "<seconds>"),
            (r"(?m)^(\w+) +\d+ +\d+ +\d+ +\d\d:\d\d +(\?|pts/\d+) +\d\d:\d\d:\d\d ", "$1 <process> "),
            (r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)", "<time>"),
            (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4} \w+", "<time>"),
            (r"(Less than a|About an?|\d+) (second|minute|hour|day|week)s?", "<duration>"),
            (r"\b[a-z]+_[a-z]+\d?\b", "<name>"),
            (r"\b(\d+\.)?\d+(B|kB|MB|GB|KiB|MiB)\b", "<size>"),
            (r" +", " "),
            (r"(?m)[ \t]+$", ""),
        ];
        rules.into_iter().map(|(rule, by)| (Regex::new(rule).unwrap(), by)).collect()
    });
    rules.iter().fold(text.to_owned(), |text, (rule, by)| rule.replace_all(&text, *by).into_owned())
}
