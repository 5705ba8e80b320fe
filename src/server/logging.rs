//! The daemon's own log: to standard error, which systemd keeps.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, LogFormat};

/// Changes the level while the daemon runs.
pub struct Control(reload::Handle<Targets, Registry>);

/// Starts logging as the configuration says.
pub fn start(config: &Config) -> Control {
    let (filter, control) = reload::Layer::new(filter(config));
    let ansi = !config.raw_logs && std::io::stderr().is_terminal();
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let format = match config.log_format {
        LogFormat::Text => format.boxed(),
        LogFormat::Json => format.json().boxed(),
    };
    // Fails only where a subscriber exists already; then that one logs.
    let _ = Registry::default().with(filter).with(format).try_init();
    Control(control)
}

impl Control {
    /// Takes over the level that a reload has brought.
    pub fn set(&self, config: &Config) {
        if let Err(error) = self.0.reload(filter(config)) {
            tracing::error!(%error, "cannot change the log level");
        }
    }
}

/// Libraries speak only of trouble, unless everything is asked for.
fn filter(config: &Config) -> Targets {
    let level = if config.live().debug { config.log_level.max(Level::DEBUG) } else { config.log_level };
    let others = if level == Level::TRACE { Level::TRACE } else { level.min(Level::WARN) };
    Targets::new().with_default(others).with_target("slipway", level)
}
