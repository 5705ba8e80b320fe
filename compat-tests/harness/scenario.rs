//! What a scenario is: a name, what it needs, and a body that gets a running engine.

use serde_json::Value;

use super::daemon::Daemon;
use super::engine::Engine;

/// What a scenario needs of its engine.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub image: Image,
    pub engines: Engines,
    /// Further flags of the daemon.
    pub flags: Vec<String>,
    /// The content of daemon.json.
    pub file: Option<Value>,
    /// Names in an `/etc/hosts` of the sandbox's own, each after its address; none for the host's `/etc`.
    pub names: Vec<(String, String)>,
    /// Lines that the files of an `/etc` of the sandbox's own have more than the host's.
    pub etc: Vec<(String, String)>,
}

/// Whether the engine has an image at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Image {
    /// `busybox:latest` is loaded.
    #[default]
    Busybox,
    None,
}

/// Which engines the scenario is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engines {
    /// What Docker's users rely on: Debian's dockerd passes it too.
    #[default]
    Both,
    /// What dockerd 20.10 lacks or does otherwise on purpose; the scenario says why.
    Slipway,
}

impl Setup {
    /// Everything by default: both engines, busybox loaded.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn without_image(self) -> Self {
        Self { image: Image::None, ..self }
    }

    pub fn slipway_only(self) -> Self {
        Self { engines: Engines::Slipway, ..self }
    }

    pub fn flags(self, flags: &[&str]) -> Self {
        Self { flags: flags.iter().map(|&flag| flag.to_owned()).collect(), ..self }
    }

    /// An [`Etc`](super::etc::Etc) of the sandbox's own in which these names stand for these addresses.
    pub fn names(self, names: &[(&str, &str)]) -> Self {
        let names = names.iter().map(|&(address, name)| (address.to_owned(), name.to_owned()));
        Self { names: names.collect(), ..self }
    }

    /// An [`Etc`](super::etc::Etc) of the sandbox's own, to whose files these lines are added.
    pub fn etc(self, lines: &[(&str, &str)]) -> Self {
        let etc = lines.iter().map(|&(file, line)| (file.to_owned(), line.to_owned()));
        Self { etc: etc.collect(), ..self }
    }

    pub fn file(self, file: Value) -> Self {
        Self { file: Some(file), ..self }
    }
}

/// Runs one scenario: start, body, nothing left behind, orderly stop.
///
/// What Slipway is known not to do yet is listed with its reason in `compat-tests/to-come.txt`: such a scenario runs
/// too and shows its failure, but does not fail the suite.
pub fn run(name: &str, setup: Setup, body: impl Fn(&Daemon)) {
    let engine = Engine::chosen();
    if setup.engines == Engines::Slipway && engine == Engine::Dockerd {
        return;
    }
    let whole = || {
        let daemon = Daemon::start(name, setup.clone());
        body(&daemon);
        daemon.finish();
    };
    let Some(reason) = to_come(name).filter(|_| engine == Engine::Slipway) else { return whole() };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(whole)) {
        Ok(()) => panic!("{name} passes: take its line out of to-come.txt ({reason})"),
        Err(_) => eprintln!("{name}: still to come: {reason}"),
    }
}

/// Why a scenario is known not to pass on Slipway.
fn to_come(name: &str) -> Option<&'static str> {
    let lines = include_str!("../to-come.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(" | "))
        .find(|(listed, _)| name.ends_with(listed))
        .map(|(_, reason)| reason)
}

/// Declares a scenario: a test that is handed a running engine.
///
/// `scenario!(its_behaviour, |d| { … })` or `scenario!(its_behaviour, Setup::new().flags(&["--init"]), |d| { … })`
macro_rules! scenario {
    ($name:ident, |$daemon:ident| $body:block) => {
        scenario!($name, $crate::harness::scenario::Setup::new(), |$daemon| $body);
    };
    ($name:ident, $setup:expr, |$daemon:ident| $body:block) => {
        #[test]
        fn $name() {
            let name = concat!(module_path!(), "::", stringify!($name));
            $crate::harness::scenario::run(name, $setup, |$daemon: &$crate::harness::daemon::Daemon| $body);
        }
    };
}
pub(crate) use scenario;
