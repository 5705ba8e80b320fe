//! The house rules that a compiler does not check: the direction of imports, where unsafe code may be, how long a
//! module may get, and that no test file is forgotten. Nothing here needs an engine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The layers from the top: each may import those below it, none its neighbours in the same line.
const LAYERS: &[&[&str]] = &[
    &["server"],
    &["api"],
    &["engine"],
    &["container", "build", "cluster"],
    &["image", "volume", "network"],
    &["content", "snapshot", "registry", "runtime"],
    &["logs"],
    &["config"],
    &["events"],
    &["base"],
];

/// What the shim may import: it stays small and has no tokio.
const SHIM: &[&str] = &["shim", "base", "logs", "runtime::protocol", "crash_point"];

/// Lines of a module.
const LONGEST: usize = 600;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Everything before the tests at the end, without comments.
    fn code(&self) -> String {
        let code = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    }

    fn is_test(&self) -> bool {
        let name = self.path.file_stem().unwrap().to_string_lossy();
        let below = self.path.components().any(|part| part.as_os_str() == "tests");
        below || name.ends_with("tests") || name == "testing" || name == "properties"
    }

    /// The module directly under the crate that this file belongs to.
    fn module(&self) -> String {
        let relative = self.path.strip_prefix(root().join("src")).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path, text });
            }
        }
    }
    found
}

fn expect_none(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

/// `crate::` paths, each as its first two parts; groups in braces directly after `crate::` are taken apart.
fn imports(text: &str) -> BTreeSet<String> {
    let path = Regex::new(r"crate::([a-z_]+)(::([a-z_]+))?").unwrap();
    let group = Regex::new(r"crate::\{([^;]*)\};").unwrap();
    let mut found = BTreeSet::new();
    for captures in path.captures_iter(text) {
        let second = captures.get(3).map(|second| format!("::{}", second.as_str())).unwrap_or_default();
        found.insert(format!("{}{second}", &captures[1]));
    }
    let first = Regex::new(r"(^|[,{]\s*)([a-z_]+)(::([a-z_]+))?").unwrap();
    for captures in group.captures_iter(text) {
        for part in first.captures_iter(&captures[1]) {
            let second = part.get(4).map(|second| format!("::{}", second.as_str())).unwrap_or_default();
            found.insert(format!("{}{second}", &part[2]));
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn imports_point_one_way() {
    let mut broken = Vec::new();
    for source in sources("src") {
        let module = source.module();
        let Some(from) = layer(&module) else { continue };
        for import in imports(&source.text) {
            let target = import.split("::").next().unwrap();
            let fine = target == module || layer(target).is_none_or(|to| to > from);
            if !fine && target != "shim" {
                broken.push(format!("{}: crate::{import}", source.path.display()));
            }
        }
    }
    expect_none("imports against the direction server → … → base", broken);
}

#[test]
fn the_shim_imports_little_and_no_tokio() {
    let mut broken = Vec::new();
    for source in sources("src").iter().filter(|source| source.module() == "shim") {
        let foreign = imports(&source.text)
            .into_iter()
            .filter(|import| !SHIM.iter().any(|may| import.starts_with(may)));
        broken.extend(foreign.map(|import| format!("{}: crate::{import}", source.path.display())));
        if source.code().contains("tokio") {
            broken.push(format!("{}: tokio", source.path.display()));
        }
    }
    expect_none("the shim imports base, logs and runtime's protocol", broken);
}

#[test]
fn unsafe_code_is_in_base_sys_and_the_shim() {
    let word = Regex::new(r"\bunsafe\s*(\{|fn|impl|extern)").unwrap();
    let allowed = |path: &Path| {
        // The last asks the kernel for what no library asks it for.
        ["src/base/sys", "src/shim", "compat-tests/harness/seccomp.rs"]
            .iter()
            .any(|place| path.starts_with(root().join(place)))
    };
    let all = sources("src").into_iter().chain(sources("compat-tests"));
    let elsewhere = all.filter(|source| !allowed(&source.path) && word.is_match(&source.code()));
    expect_none("unsafe code elsewhere", elsewhere.map(|source| source.path.display().to_string()).collect());
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut broken = Vec::new();
    for source in sources("src") {
        let lines: Vec<_> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let opens = line.contains("unsafe {") || line.contains("unsafe impl");
            let before = &lines[index.saturating_sub(6)..=index];
            if opens && !before.iter().any(|line| line.contains("SAFETY:")) {
                broken.push(format!("{}:{}", source.path.display(), index + 1));
            }
        }
    }
    expect_none("unsafe without a SAFETY comment", broken);
}

#[test]
fn modules_are_short() {
    let all = sources("src").into_iter().chain(sources("compat-tests")).chain(sources("api-spec"));
    let long = all.filter(|source| source.text.lines().count() > LONGEST);
    expect_none("longer than 600 lines", long.map(|source| source.path.display().to_string()).collect());
}

#[test]
fn modules_say_what_they_own() {
    let all = sources("src").into_iter().chain(sources("compat-tests"));
    let silent = all.filter(|source| !source.is_test() && !source.text.starts_with("//!"));
    expect_none("no //! header", silent.map(|source| source.path.display().to_string()).collect());
}

#[test]
fn no_source_file_is_forgotten() {
    let mut forgotten = Vec::new();
    for source in sources("src").iter().chain(&sources("compat-tests")) {
        let name = source.path.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = source.path.parent().unwrap();
        if matches!(name.as_str(), "main" | "lib" | "build") {
            continue;
        }
        let (owner, name) = if name == "mod" {
            (folder.parent().unwrap(), folder.file_name().unwrap().to_string_lossy().into_owned())
        } else {
            (folder, name)
        };
        let declares =
            |path: PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("mod {name};")));
        let beside = owner.with_extension("rs");
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|file| owner.join(file));
        if !parents.into_iter().chain([beside]).any(declares) {
            forgotten.push(source.path.display().to_string());
        }
    }
    expect_none("declared by no module", forgotten);
}

#[test]
fn nothing_unfinished_and_no_careless_unwrap() {
    let words = ["todo!(", "unimplemented!(", ".unwrap()", "dbg!("];
    let mut broken = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_test()) {
        let code = source.code();
        broken.extend(
            words
                .iter()
                .filter(|word| code.contains(**word))
                .map(|word| format!("{}: {word}", source.path.display())),
        );
    }
    expect_none("not for production code", broken);
}
